"""The benchmark measures what it says: its peers decide alike given the same numbers, its checks run and can fail."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from draftproof.kernels.decide_token import coin, decide_token_torch
from draftproof.kernels.row_stats import row_stats_torch


@pytest.fixture(scope="module")
def bench(request):
    folder = request.config.rootpath / "benchmarks"
    modules = {}
    for name in ("kernel_peers", "bench_kernels"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        sys.modules[name] = modules[name]
        path = list(sys.path)
        spec.loader.exec_module(modules[name])
        sys.path[:] = path
    yield modules["bench_kernels"]
    for name in modules:
        del sys.modules[name]


def test_peers_accept_what_the_definition_accepts(bench):
    load = bench.workload(8, 3, 97, 0, torch.device("cpu"))
    chains = load.drafted
    numbers = [
        [coin(int(chains.seeds[b]), int(chains.positions[b]) + step, step) for step in range(3)] for b in range(8)
    ]
    uniform = torch.tensor(numbers)
    stats = row_stats_torch(load.logits, load.inv_temp)
    accepted = (decide_token_torch(load.logits, stats, chains, load.q).path >= 0).sum(1)
    assert 0 < accepted.sum() < 24
    arguments = (load.stacked, load.inv_temp[:8], load.stacked_q, chains.tokens, uniform)
    assert torch.equal(bench.peers.torch_token(*arguments)[0].long(), accepted)
    found, out = bench.peers.multi_pass_token(*arguments, top_p=torch.ones(8))
    assert torch.equal(found.long(), accepted)
    assert ((out >= 0).sum(1) == accepted + 1).all()
    assert (out < 97).all()


def test_peers_find_the_same_top_p_and_arg_max(bench):
    load = bench.workload(2, 2, 97, 1, torch.device("cpu"))
    p = torch.full((6,), 0.9)
    stats = row_stats_torch(load.logits, load.inv_temp, top_p=p)
    threshold, lse = bench.peers.torch_top_p(load.logits, load.inv_temp, p)
    assert torch.equal(threshold, stats.threshold)
    assert torch.allclose(lse, stats.lse)
    accepted, following = bench.peers.torch_greedy(load.stacked, load.drafted.tokens)
    rows = torch.arange(2) * 3 + accepted
    assert torch.equal(following, stats.argmax[rows])


def test_the_check_before_measuring_passes_and_can_fail(bench, monkeypatch):
    assert list(bench.failures(torch.device("cpu"), 0, (97,))) == []
    right = bench.decide_token
    monkeypatch.setattr(
        bench, "decide_token", lambda *given: replace(right(*given), out=right(*given).out.roll(1, dims=0))
    )
    assert [line["kernel"] for line in bench.failures(torch.device("cpu"), 0, (97,))] == ["token"]


def test_every_measurement_runs(bench, monkeypatch):
    monkeypatch.setattr(bench, "timed", lambda run, repeats: run() and 1.0)
    monkeypatch.setattr(bench, "graphed", lambda run, repeats: 0.5)
    lines = list(bench.measured(bench.workload(2, 3, 97, 0, torch.device("cpu")), 1e9, 1))
    assert {line["kernel"] for line in lines} == {"greedy", "match", "token", "block", "top-p statistics"}
    assert all(line["bandwidth_share"] >= 0 for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_it_says_so(checkout):
    done = subprocess.run(
        [sys.executable, str(checkout / "benchmarks" / "bench_kernels.py")], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"benchmark": "kernels", "run": False, "reason": "no CUDA device"}
    assert "No GPU" in done.stderr
