"""How fast the verification kernels are on a GPU, beside straightforward torch and the multi-pass way of servers.

    python benchmarks/bench_kernels.py [--repeats 30] [--quick] > benchmarks/results/kernels.jsonl

One JSON line a measurement. Before anything is measured, every kernel must decide on the device as the torch
definition decides on the CPU, on random inputs, near-ties aside; a red check ends the run with status 1. Times are
medians over `--repeats`, with the L2 cache overwritten between them, of the whole call (`eager_us`, what Python pays
for its launches included) and of its launches alone, replayed from a CUDA graph (`graph_us`). `bandwidth_share` is the
bytes that must be read at the least, over the graph's time, as a share of what a large copy on the same device reaches.

Without a GPU nothing is measured: one line says so, and the status is 0. Needs torch and Triton only; started from a
checkout, the package need not be installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

try:
    import draftproof.kernels
except ImportError:  # an uninstalled checkout: the folders of the root are sub-packages of `draftproof`
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import draftproof

    draftproof.__path__.append(str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import kernel_peers as peers

from draftproof.kernels.compact import compact, compact_torch
from draftproof.kernels.decide_block import decide_block, decide_block_torch
from draftproof.kernels.decide_match import decide_match, decide_match_torch
from draftproof.kernels.decide_siblings import decide_siblings, decide_siblings_torch
from draftproof.kernels.decide_token import decide_token, decide_token_torch
from draftproof.kernels.drafted import Decided, Drafted, DraftRows
from draftproof.kernels.row_stats import RowStats, row_stats, row_stats_torch
from draftproof.kernels.walk import walk

VOCABULARIES = (32_000, 128_256, 256_000)
BATCHES = (1, 8, 64)
LENGTHS = (3, 5, 8)
TOLERATED = 0.01
"""Share of requests that may differ from the definition: near-ties, where rounding decides."""
L2_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Workload:
    logits: Tensor
    """[B (k+1), V] bfloat16."""
    inv_temp: Tensor
    drafted: Drafted
    q: DraftRows
    """Float32 probabilities."""
    uniform: Tensor
    """[B, k], for the peers."""

    @property
    def shape(self) -> tuple[int, int, int]:
        requests, length = self.drafted.tokens.shape
        return requests, length, self.logits.shape[1]

    @property
    def stacked(self) -> Tensor:
        requests, length, vocab = self.shape
        return self.logits.view(requests, length + 1, vocab)

    @property
    def stacked_q(self) -> Tensor:
        return self.q.values.view(*self.shape)

    def to(self, device: torch.device) -> Workload:
        drafted = {name: value.to(device) for name, value in vars(self.drafted).items() if value is not None}
        return Workload(
            self.logits.to(device),
            self.inv_temp.to(device),
            Drafted(**drafted),
            DraftRows(self.q.values.to(device), self.q.of.to(device)),
            self.uniform.to(device),
        )


def workload(requests: int, length: int, vocab: int, seed: int, device: torch.device) -> Workload:
    """Rows with a few likely tokens among many, and drafts that overlap them by three quarters."""
    g = torch.Generator(device=device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, device=device)

    logits = (4.0 * normal(requests, length + 1, vocab)).bfloat16()
    q = (logits[:, :-1].float() + 0.7 * normal(requests, length, vocab)).softmax(-1)
    tokens = (q / torch.empty_like(q).exponential_(generator=g)).argmax(-1)
    each = torch.arange(requests, device=device)
    return Workload(
        logits=logits.view(-1, vocab),
        inv_temp=torch.ones(requests * (length + 1), device=device),
        drafted=Drafted(
            tokens=tokens,
            cu_rows=torch.arange(requests + 1, device=device) * (length + 1),
            seeds=each * 12_345_678_901 + seed,
            positions=each * 1000 + 7,
        ),
        q=DraftRows(q.reshape(-1, vocab), torch.arange(requests * length, device=device).view(requests, length)),
        uniform=torch.rand(requests, length, generator=g, device=device),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the verification kernels; JSON lines on stdout.")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only the middle of each range")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        say("No GPU: the kernels were not run. Their definitions and the interpreter are covered by the tests.")
        emit({"benchmark": "kernels", "run": False, "reason": "no CUDA device"})
        return 0
    device = torch.device("cuda")
    facts = {
        "benchmark": "kernels",
        "run": True,
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "seed": options.seed,
        "repeats": options.repeats,
    }
    wrong = list(failures(device, options.seed))
    for line in wrong:
        emit(facts | {"check": line})
    if wrong:
        say("The kernels do not decide as their definitions do; nothing was measured.")
        return 1
    copy = copy_bandwidth(device, options.repeats)
    emit(facts | {"measure": "copy", "bytes_per_second": round(copy)})
    for vocab in VOCABULARIES[1:2] if options.quick else VOCABULARIES:
        for requests in BATCHES[1:2] if options.quick else BATCHES:
            for length in LENGTHS[1:2] if options.quick else LENGTHS:
                case = {"vocab": vocab, "batch": requests, "draft_length": length, "dtype": "bfloat16"}
                for line in measured(workload(requests, length, vocab, options.seed, device), copy, options.repeats):
                    emit(facts | case | line)
                torch.cuda.empty_cache()
    return 0


def failures(device: torch.device, seed: int, vocabularies: Sequence[int] = (97, 32_000)) -> Iterator[dict[str, Any]]:
    """What differs between the kernels on the device and the definitions on the CPU, by more than near-ties."""
    for vocab in vocabularies:
        here = workload(32, 5, vocab, seed, torch.device("cpu"))
        there = here.to(device)
        rows = here.logits.shape[0]
        k, p = torch.full((rows,), 50), torch.full((rows,), 0.9)
        for name, options in (("plain", {}), ("top-k", {"top_k": k}), ("top-k, top-p", {"top_k": k, "top_p": p})):
            one = row_stats_torch(here.logits, here.inv_temp, **options)
            other = row_stats(there.logits, there.inv_temp, **{n: v.to(device) for n, v in options.items()})
            off = {
                field: int((getattr(one, field) != getattr(other, field).cpu()).sum())
                for field in ("argmax", "bad", "threshold")
            }
            off["lse"] = int(((one.lse - other.lse.cpu()).abs() > 1e-4).sum())
            off["entropy"] = int(((one.entropy - other.entropy.cpu()).abs() > 1e-3).sum())
            if any(count > TOLERATED * rows for count in off.values()) or off["argmax"] or off["bad"]:
                yield {"kernel": "row_stats", "case": name, "vocab": vocab, "differing_rows": off}
        stats, stats_there = row_stats_torch(here.logits, here.inv_temp), row_stats(there.logits, there.inv_temp)
        tree = replace(here.drafted, parent=torch.tensor([[-1, -1, 0, 0, 2]]).expand(32, -1).contiguous())
        first = here.q.of[:, :1]
        shared = replace(here.q, of=torch.cat([first, first, first + 1, first + 1, first + 2], 1))
        pairs: list[tuple[str, Decided, Decided]] = [
            (
                "match",
                decide_match_torch(here.logits, here.inv_temp, None, here.drafted),
                decide_match(there.logits, there.inv_temp, None, there.drafted),
            ),
            (
                "token",
                decide_token_torch(here.logits, stats, here.drafted, here.q),
                decide_token(there.logits, stats_there, there.drafted, there.q),
            ),
            (
                "block",
                decide_block_torch(here.logits, stats, here.drafted, here.q),
                decide_block(there.logits, stats_there, there.drafted, there.q),
            ),
            (
                "siblings",
                decide_siblings_torch(here.logits, stats, tree, shared),
                decide_siblings(
                    there.logits,
                    stats_there,
                    replace(there.drafted, parent=tree.parent.to(device) if tree.parent is not None else None),
                    replace(there.q, of=shared.of.to(device)),
                ),
            ),
        ]
        for name, one, other in pairs:
            differing = int((one.out != other.out.cpu()).any(1).sum())
            if differing > max(1, TOLERATED * 32):
                yield {"kernel": name, "vocab": vocab, "differing_requests": differing, "of": 32}
    caches = [torch.randn(4, 8, 64, 128) for _ in range(6)]
    moved = [cache.to(device) for cache in caches]
    lengths, slots = (
        torch.tensor([5, 9, 0, 30]),
        torch.tensor([[0, 2, 5, 9], [1, 3, -1, -1], [0, 1, 2, 3], [7, -1, -1, -1]]),
    )
    compact_torch(caches, lengths, slots)
    compact(moved, lengths.to(device), slots.to(device))
    if not all(torch.equal(one, other.cpu()) for one, other in zip(caches, moved, strict=True)):
        yield {"kernel": "compact"}


def measured(load: Workload, copy: float, repeats: int) -> Iterator[dict[str, Any]]:
    """Every kernel of one shape, and its peers. Bytes are those of the rows that must be read."""
    requests, length, vocab = load.shape
    logit, prob = load.logits.element_size(), 4
    all_rows = requests * (length + 1) * vocab * logit
    one_pair = requests * vocab * (logit + prob)
    per_request = load.inv_temp[:requests]
    p = torch.full_like(load.inv_temp, 0.9)
    stats = row_stats(load.logits, load.inv_temp)
    stacked, tokens, given = load.stacked, load.drafted.tokens, (load.stacked_q, load.drafted.tokens, load.uniform)

    def statistics_of() -> RowStats:
        return row_stats(load.logits, load.inv_temp)

    def token() -> Decided:
        return decide_token(load.logits, statistics_of(), load.drafted, load.q)

    def token_alone() -> Decided:
        return decide_token(load.logits, stats, load.drafted, load.q)

    def block() -> Decided:
        return decide_block(load.logits, statistics_of(), load.drafted, load.q)

    cases: list[tuple[str, str, int, Callable[[], object]]] = [
        ("greedy", "draftproof", all_rows, lambda: walk(statistics_of().argmax, load.drafted)),
        ("greedy", "torch", all_rows, lambda: peers.torch_greedy(stacked, tokens)),
        ("match", "draftproof", all_rows, lambda: decide_match(load.logits, load.inv_temp, None, load.drafted)),
        ("match", "torch", all_rows, lambda: peers.torch_match(stacked, per_request, tokens)),
        ("token", "draftproof", all_rows + one_pair, token),
        ("token", "draftproof, statistics known", one_pair, token_alone),
        ("token", "torch", all_rows + one_pair, lambda: peers.torch_token(stacked, per_request, *given)),
        ("token", "multi-pass", all_rows + one_pair, lambda: peers.multi_pass_token(stacked, per_request, *given)),
        ("block", "draftproof", all_rows + requests * (length - 1) * vocab * (logit + prob) + one_pair, block),
        ("top-p statistics", "draftproof", all_rows, lambda: row_stats(load.logits, load.inv_temp, top_p=p)),
        ("top-p statistics", "torch, sort", all_rows, lambda: peers.torch_top_p(load.logits, load.inv_temp, p)),
    ]
    for kernel, by, needed, run in cases:
        try:
            eager, graph = timed(run, repeats), graphed(run, repeats)
        except torch.cuda.OutOfMemoryError:
            yield {"kernel": kernel, "by": by, "out_of_memory": True}
            continue
        yield {
            "kernel": kernel,
            "by": by,
            "eager_us": round(eager * 1e6, 1),
            "graph_us": None if graph is None else round(graph * 1e6, 1),
            "bytes_needed": needed,
            "bandwidth_share": None if graph is None else round(needed / graph / copy, 3),
        }


def timed(run: Callable[[], object], repeats: int) -> float:
    """Median seconds on the device, the L2 cache overwritten before each."""
    for _ in range(3):
        run()
    flush = torch.empty(L2_BYTES, dtype=torch.int8, device="cuda")
    seconds = []
    for _ in range(repeats):
        flush.zero_()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        run()
        after.record()
        torch.cuda.synchronize()
        seconds.append(before.elapsed_time(after) / 1e3)
    return statistics.median(seconds)


def graphed(run: Callable[[], object], repeats: int) -> float | None:
    """The same for the launches alone; None where the call cannot be captured."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return timed(graph.replay, repeats)


def copy_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes read and written a second by a copy of a gibibyte."""
    source = torch.zeros(2**30, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / timed(lambda: target.copy_(source), repeats)


def emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
