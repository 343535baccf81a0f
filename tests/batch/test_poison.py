"""Verifiers that hang, die, eat memory or lie: one error verdict for the subject that did it, and the run goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import draftproof as dp
from draftproof.batch.pool import Limits
from draftproof.batch.run import FIRST_TASK
from draftproof.errors import ContractError, DisagreementError, DraftproofError, UsageError
from draftproof.store.verdict_store import VerdictStore
from draftproof.verdict import ErrorEvidence, Outcome, Verdict

pytestmark = pytest.mark.usefixtures("plugins")

IMPATIENT = Limits(subject_seconds=0.5)
TIGHT = Limits(subject_seconds=30, worker_bytes=400 << 20)


def children() -> Iterator[int]:
    """Processes of this one that judge."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"draftproof.batch.worker" in command:
            yield int(stat.parent.name)


def error_of(verdict: Verdict) -> ErrorEvidence:
    (evidence,) = verdict.evidence
    assert isinstance(evidence, ErrorEvidence)
    return evidence


@pytest.mark.parametrize(
    ("deed", "reason", "kind", "attempts"),
    [
        pytest.param("hang", "timeout", "timeout", 2, id="hangs"),
        pytest.param("hang on", "timeout", "timeout", 2, id="hangs-and-ignores-signals"),
        pytest.param("exit", "worker_lost", "worker_lost", 2, id="ends-its-process"),
        pytest.param("kill", "worker_lost", "worker_lost", 2, id="kills-itself"),
        pytest.param("eat", "out_of_memory", "out_of_memory", 2, id="eats-memory"),
        pytest.param("leave", "verifier_crashed", "SystemExit", 1, id="calls-sys-exit"),
        pytest.param("raise", "verifier_crashed", "ValueError", 1, id="raises"),
        pytest.param("recurse", "verifier_crashed", "RecursionError", 1, id="recurses-forever"),
        pytest.param("answer for another", "contract_violation", "ContractError", 1, id="answers-for-another-subject"),
    ],
)
def test_a_poisonous_step_ends_as_one_error_verdict_among_judged_neighbours(
    deed: str,
    reason: str,
    kind: str,
    attempts: int,
    trace_file: Callable[..., Path],
    sqlite_url: str,
) -> None:
    file = trace_file(["a", "b", "c"], ["d", deed, "e"], ["f", "g"])
    limits = IMPATIENT if reason == "timeout" else TIGHT
    result = dp.verify(file, ["poison"], sqlite_url, workers=2, limits=limits)

    by_place = {(v.subject.trace_digest, v.subject.position): v for v in result.verdicts}
    assert len(result.verdicts) == len(by_place) == 8
    (poisoned,) = (v for v in by_place.values() if v.outcome is not Outcome.ACCEPT)
    assert poisoned.subject.position == 1
    assert (poisoned.outcome, poisoned.reason, poisoned.score) == (Outcome.ERROR, reason, None)
    assert (error_of(poisoned).type, error_of(poisoned).attempts) == (kind, attempts)
    (total,) = result.conservation
    assert (total.subjects, total.accepted, total.errored, total.missing) == (8, 7, 1, 0)
    assert total.settled
    assert list(children()) == []


@pytest.mark.parametrize(
    "deed",
    [
        pytest.param("print", id="prints-garbage-to-the-pipe-of-answers"),
        pytest.param("read", id="reads-from-the-pipe-of-tasks"),
    ],
)
def test_a_verifier_that_uses_standard_streams_harms_nothing(
    deed: str, trace_file: Callable[..., Path], sqlite_url: str
) -> None:
    result = dp.verify(trace_file([deed, "b"], ["c", deed]), ["poison"], sqlite_url, workers=1, limits=TIGHT)
    assert [verdict.outcome for verdict in result.verdicts] == [Outcome.ACCEPT] * 4
    assert result.progress.restarts == 0


def test_last_words_are_about_the_step_that_was_lost(trace_file: Callable[..., Path], sqlite_url: str) -> None:
    """One worker: what it printed over its first task does not explain the loss of the second."""
    file = trace_file(["print", *(f"{number}" for number in range(FIRST_TASK - 1))], ["exit"])
    result = dp.verify(file, ["poison"], sqlite_url, workers=1, limits=TIGHT)
    (lost,) = (verdict for verdict in result.verdicts if verdict.outcome is Outcome.ERROR)
    assert error_of(lost).message == "the worker process ended (worker_lost)"
    assert error_of(lost).attempts == 1


def test_many_poisons_at_once_are_told_apart(
    draftproof: Callable[..., Any], trace_file: Callable[..., Path], sqlite_url: str
) -> None:
    deeds = {"hang": "timeout", "exit": "worker_lost", "kill": "worker_lost", "raise": "verifier_crashed",
             "recurse": "verifier_crashed", "answer for another": "contract_violation"}  # fmt: skip
    file = trace_file(*([f"before {deed}", deed, f"after {deed}"] for deed in deeds), ["fine"] * 6)
    ended = draftproof(
        "verify", file, "-v", "poison", "-v", "arithmetic", "--store", sqlite_url, "--workers", "2", "--timeout", "1",
        "--json",
    )  # fmt: skip

    assert ended.status == 3
    poison, arithmetic = ended.json["verifiers"]
    assert (poison["subjects"], poison["accepted"], poison["errored"]) == (24, 18, 6)
    assert (arithmetic["subjects"], arithmetic["errored"]) == (24, 0)
    assert poison["settled"]
    assert arithmetic["settled"]
    with VerdictStore.open(sqlite_url) as store:
        errors = {row.verdict.reason for row in store.iter_verdicts() if row.outcome is Outcome.ERROR}
        reasons = [row.reason for row in store.iter_verdicts() if row.outcome is Outcome.ERROR]
    assert errors == set(deeds.values())
    assert sorted(reasons) == sorted(deeds.values())


def test_a_step_that_hangs_costs_a_few_deadlines_and_not_one_for_each_halving(
    trace_file: Callable[..., Path], sqlite_url: str, diary: Callable[[], list[str]]
) -> None:
    """A lost task is cut in sixteen: three losses of a worker find one step among 32, or among 256."""
    file = trace_file(["exit"], *([f"{number}.{step}" for step in range(10)] for number in range(20)))
    result = dp.verify(file, ["poison"], sqlite_url, workers=1, limits=TIGHT)
    (total,) = result.conservation
    assert (total.accepted, total.errored) == (200, 1)
    assert result.progress.restarts == 3


def test_a_verifier_made_by_a_function_is_judged_in_workers_too(
    trace_file: Callable[..., Path], sqlite_url: str
) -> None:
    result = dp.verify(trace_file(["a", "exit"]), ["function-made"], sqlite_url, workers=1, limits=TIGHT)
    assert [v.reason for v in result.verdicts] == ["did_not_look", "worker_lost"]


def test_a_verifier_of_whole_traces_gives_one_verdict_a_trace(trace_file: Callable[..., Path], sqlite_url: str) -> None:
    file = trace_file(["a", "b", "c"], ["d"])
    first = dp.verify(file, ["whole"], sqlite_url, workers=1)
    again = dp.verify(file, ["whole"], sqlite_url, workers=1)
    assert (first.progress.judged, first.progress.known) == (2, 0)
    assert (again.progress.judged, again.progress.known) == (0, 2)
    assert [v.subject.granularity.value for v in again.verdicts] == ["trace", "trace"]


@pytest.mark.parametrize("workers", [pytest.param(0, id="in-this-process"), pytest.param(2, id="in-workers")])
def test_exact_verifiers_that_disagree_end_the_run_loudly(
    workers: int, trace_file: Callable[..., Path], sqlite_url: str
) -> None:
    with pytest.raises(DisagreementError, match="proved by one and refuted by the other"):
        dp.verify(trace_file(["a", "disagree"]), ["poison"], sqlite_url, workers=workers)
    with VerdictStore.open(sqlite_url) as store:
        (run,) = store.runs()
    assert run.status == "failed"


# Workers that never get as far as judging


def test_a_worker_that_dies_at_its_start_ends_the_run_with_its_last_words(
    draftproof: Callable[..., Any], trace_file: Callable[..., Path], sqlite_url: str
) -> None:
    ended = draftproof("verify", trace_file(["a"]), "-v", "dies-in-workers", "--store", sqlite_url, "--json")
    assert ended.status == 1
    assert "cannot start" in ended.json["error"]["message"]
    assert "the licence server said no" in ended.json["error"]["message"]
    assert ended.json["error"]["remedy"]


def test_a_verifier_that_workers_cannot_make_is_a_clear_error(trace_file: Callable[..., Path], sqlite_url: str) -> None:
    with pytest.raises(UsageError, match="no device is left"):
        dp.verify(trace_file(["a"]), ["refuses-in-workers"], sqlite_url, workers=2)


def test_a_worker_that_hangs_at_its_start_is_a_clear_error(trace_file: Callable[..., Path], sqlite_url: str) -> None:
    limits = Limits(start_seconds=1)
    with pytest.raises(DraftproofError, match=r"cannot start \(timeout\)"):
        dp.verify(trace_file(["a"]), ["hangs-in-workers"], sqlite_url, workers=1, limits=limits)
    assert list(children()) == []


def test_a_worker_that_made_another_verifier_is_not_trusted(trace_file: Callable[..., Path], sqlite_url: str) -> None:
    """Its fingerprint differs in every process, so nobody could say what a stored verdict was given by."""
    with pytest.raises(ContractError, match="a worker made"):
        dp.verify(trace_file(["a"]), ["changeling"], sqlite_url, workers=1)


def test_no_worker_outlives_a_command_that_was_killed(
    draftproof: Any, trace_file: Callable[..., Path], sqlite_url: str, diary: Callable[[], list[str]]
) -> None:
    process = draftproof.start(
        "verify", trace_file(["a", "b", "hang"]), "-v", "poison", "--store", sqlite_url, "--workers", "2"
    )
    await_until(lambda: bool(diary()))
    workers = [pid for pid in _pids() if _parent(pid) == process.pid]
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    await_until(lambda: not any(_alive(pid) for pid in workers))


def await_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
