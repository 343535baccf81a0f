"""A pipeline run that is killed, or told to stop, at any point: run again, it ends as if nobody had stopped it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from draftproof.batch.courses import solved_of_run
from draftproof.batch.pipeline_run import run_pipeline
from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore
from tests.batch.stub_models import counted, create, rows_of

PROCESS = Path(__file__).parent / "pipeline_process.py"
FEW = 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], VerdictStore]]:
    """Stores in which so many problems were solved in one go."""
    with ExitStack() as stack:

        @cache
        def solved(problems: int) -> VerdictStore:
            store = stack.enter_context(VerdictStore.open(str(tmp_path_factory.mktemp("undisturbed") / "a.db")))
            list(run_pipeline(create(), counted(problems), store=store, workers=4, command="test"))
            return store

        yield solved


def start(url: str, problems: int, *, seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", str(PROCESS), url, str(problems), "4", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def assert_as_if_nothing_had_happened(url: str, undisturbed: VerdictStore, problems: int, told: int) -> None:
    """Ends the run, and compares it with the undisturbed one. `told`: solutions that were printed before."""
    with VerdictStore.open(url) as store:
        run = run_pipeline(create(), counted(problems), store=store, workers=4, command="test")
        solved = list(run)
        assert told <= run.tally.known < problems  # what was printed is stored, and there was something left to do
        assert rows_of(store) == rows_of(undisturbed)
        (planned,) = (total for total in run.conservation if total.planned)
        assert (planned.subjects, planned.missing, planned.strays) == (problems, 0, 0)
        (whole,) = undisturbed.runs()
        expected = {one.problem.id: (one.text, one.correct, one.counts) for one in solved_of_run(undisturbed, whole)}
        assert {one.problem.id: (one.text, one.correct, one.counts) for one in solved} == expected


@pytest.mark.parametrize(
    ("seed", "problems"), [(1, FEW), *(pytest.param(seed, 500, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_kill_9_loses_nothing_and_doubles_nothing(
    seed: int, problems: int, tmp_path: Path, undisturbed: Callable[[int], VerdictStore]
) -> None:
    url, told = str(tmp_path / "killed.db"), 0
    chance = random.Random(seed)
    for _ in range(2):
        process = start(url, problems)
        told = len(first_lines(process, chance.randint(told + 1, told + problems // 4)))
        time.sleep(chance.uniform(0.0, 0.05))  # in the midst of whatever it is doing
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    assert_as_if_nothing_had_happened(url, undisturbed(problems), problems, told)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
def test_a_signal_stops_it_in_order(
    number: signal.Signals, status: int, tmp_path: Path, undisturbed: Callable[[int], VerdictStore]
) -> None:
    url = str(tmp_path / "stopped.db")
    process = start(url, FEW, seconds=0.002)
    told = len(first_lines(process, 5))
    process.send_signal(number)
    assert process.stdout is not None
    told += len(process.stdout.read().splitlines())
    assert process.wait(30) == status
    process.stdout.close()
    with VerdictStore.open(url) as store:
        (run,) = store.runs()
        assert run.status is RunStatus.INTERRUPTED
        assert run.counts["finished"] == told
        assert run.counts["remaining"] > 0
    assert_as_if_nothing_had_happened(url, undisturbed(FEW), FEW, told)
