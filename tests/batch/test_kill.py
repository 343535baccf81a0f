"""`kill -9` at random moments: the store ends as if nobody had killed the run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import draftproof as dp
from draftproof.store.workloads import made_traces

HARNESS = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_harness.py"
DATA = Path(os.environ.get("DRAFTPROOF_DATA") or HARNESS.parents[1] / "data")
GSM8K = DATA / "gsm8k" / "example_model_solutions.jsonl.gz"

pytestmark = pytest.mark.skipif(not HARNESS.is_file(), reason="the benchmarks are not installed with the package")


def run_harness(*arguments: str | Path) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-P", str(HARNESS), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    print(run.stdout)
    line: dict[str, Any] = json.loads(run.stdout)
    return line


def assert_nothing_lost(line: dict[str, Any], kills: int) -> None:
    wrong = {name: line[name] for name in ("lost", "doubled", "different", "unsettled", "orphans")}
    assert wrong == dict.fromkeys(wrong, 0)
    assert line["kills"] == kills
    landed = [line[f"landed_{where}"] for where in ("before_the_first_verdict", "between_writes", "inside_a_write")]
    assert sum(landed) == kills


@pytest.mark.usefixtures("plugins")
def test_a_few_kills_lose_nothing(trace_file: Callable[..., Path]) -> None:
    traces = made_traces(200, steps=8)
    file = trace_file(*([step.text for step in trace.steps] for trace in traces))
    slow = ("-v", "slow:seconds=0.003", "-v", "arithmetic")  # so that there is time to be killed in
    assert_nothing_lost(run_harness("--input", file, *slow, "--kills", "5", "--workers", "2", "--seed", "3"), 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not GSM8K.is_file(), reason=f"no data sets at {DATA}; DRAFTPROOF_DATA names their folder")
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_hundred_kills_lose_nothing(database: str, request: pytest.FixtureRequest) -> None:
    server = ["--postgres", request.getfixturevalue("postgres_server")] if database == "postgres" else []
    line = run_harness("--input", GSM8K, "--kills", "100", "--seed", "1", *server)
    assert_nothing_lost(line, 100)
    assert line["landed_inside_a_write"] >= 20
    assert line["landed_between_writes"] >= 10


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_harness", HARNESS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_harness"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_harness_would_notice_a_loss(harness: ModuleType, sqlite_url: str) -> None:
    dp.verify(made_traces(3, steps=2), ["arithmetic"], sqlite_url, workers=0)
    expected = harness.contents(sqlite_url)

    clean = harness.Tally()
    clean.compare(expected, sqlite_url)
    assert (clean.lost, clean.doubled, clean.different, clean.unsettled) == (0, 0, 0, 0)

    wanting_one_more = harness.Tally()
    wanting_one_more.compare({**expected, ("sha256:ff", 0, "arithmetic@1#0", 0): {}}, sqlite_url)
    assert wanting_one_more.lost == 1

    wanting_another = harness.Tally()
    key, verdict = next(iter(expected.items()))
    wanting_another.compare({**expected, key: {**verdict, "outcome": "reject"}}, sqlite_url)
    assert wanting_another.different == 1


def test_the_harness_would_notice_a_verdict_given_twice(
    harness: ModuleType, sqlite_url: str, trace_file: Callable[..., Path], plugins: None
) -> None:
    file = trace_file(["raise"])
    for _ in range(2):
        dp.verify(file, ["poison"], sqlite_url, workers=0, retry_errors=True)  # each error is a row of its own
    tally = harness.Tally()
    tally.compare(harness.contents(sqlite_url), sqlite_url)
    assert tally.doubled == 1


def test_the_harness_would_notice_a_run_that_is_not_settled(harness: ModuleType, sqlite_url: str) -> None:
    from draftproof.registry import create_verifier
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(sqlite_url) as store:
        run = store.begin_run("cut short", verifiers=[create_verifier("arithmetic")])
        store.add_traces(run.id, made_traces(1))
    tally = harness.Tally()
    tally.compare({}, sqlite_url)
    assert tally.unsettled == 1


def test_the_harness_sees_a_transaction_that_is_open(harness: ModuleType, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    database = harness.SqliteFile(tmp_path / "x.db")
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        assert not database.writing()
        writer.execute("BEGIN IMMEDIATE")
        assert database.writing()
        writer.execute("COMMIT")
        assert not database.writing()
