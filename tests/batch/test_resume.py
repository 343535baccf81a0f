"""Re-running a command is its continuation: nothing is judged twice, nothing is left out, on both databases."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import draftproof as dp
from draftproof.batch.run import CHUNK_STEPS, Progress, verify_batch
from draftproof.errors import UsageError
from draftproof.registry import create_verifier
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import made_traces
from draftproof.trace import Step, Trace
from draftproof.verdict import Outcome

pytestmark = pytest.mark.usefixtures("plugins")


def contents(url: str) -> Counter[tuple[str, int, str, str]]:
    """What the store says of each pair, and how often."""
    with VerdictStore.open(url, create=False) as store:
        return Counter(
            (row.subject.trace_digest, row.subject.position, row.verifier, row.outcome.value)
            for row in store.iter_verdicts(VerdictFilter(history=True))
        )


def once_each(url: str) -> set[tuple[str, int, str]]:
    found = contents(url)
    assert max(found.values(), default=1) == 1, "a pair was judged twice"
    return {key[:3] for key in found}


def test_a_second_run_judges_nothing(url: str, diary: Callable[[], list[str]]) -> None:
    traces = made_traces(70, steps=3)
    first = dp.verify(traces, ["accepting"], url, workers=2)
    second = dp.verify(traces, ["accepting"], url, workers=2)

    assert (first.progress.judged, first.progress.known) == (210, 0)
    assert (second.progress.judged, second.progress.known) == (0, 210)
    assert Counter(diary()).most_common(1)[0][1] == 1
    assert len(diary()) == 210
    assert second.conservation == first.conservation
    assert len(once_each(url)) == 210
    assert second.verdicts == first.verdicts


def test_another_verifier_judges_only_the_pairs_that_are_missing(url: str, diary: Callable[[], list[str]]) -> None:
    traces = made_traces(10, steps=3)
    dp.verify(traces, ["accepting"], url, workers=1)
    result = dp.verify(traces, ["accepting", "poison"], url, workers=1)
    assert (result.progress.judged, result.progress.known) == (30, 30)
    assert Counter(line.split()[0] for line in diary()) == {"accepting": 30, "poison": 30}
    assert [(total.subjects, total.accepted) for total in result.conservation] == [(30, 30), (30, 30)]


def test_more_traces_are_judged_and_the_old_ones_are_not(url: str, diary: Callable[[], list[str]]) -> None:
    traces = made_traces(10, steps=3)
    dp.verify(traces[:4], ["accepting"], url, workers=1)
    result = dp.verify(traces, ["accepting"], url, workers=1)
    assert (result.progress.judged, result.progress.known) == (18, 12)
    assert len(diary()) == len(set(diary())) == 30


@pytest.mark.parametrize("workers", [pytest.param(0, id="in-this-process"), pytest.param(2, id="in-workers")])
def test_a_trace_that_comes_twice_is_judged_once(workers: int, sqlite_url: str, diary: Callable[[], list[str]]) -> None:
    traces = made_traces(20, steps=4)
    doubled = [*traces, *traces, *traces[:3]]
    random.Random(7).shuffle(doubled)
    renamed = [trace.model_copy(update={"id": f"copy-{number}"}) for number, trace in enumerate(doubled)]
    result = dp.verify(renamed * 4, ["accepting"], sqlite_url, workers=workers)
    assert result.progress.judged == len(diary()) == len(set(diary())) == 80
    (total,) = result.conservation
    assert (total.subjects, total.accepted, total.missing) == (80, 80, 0)


def test_errors_are_judged_again_only_when_asked(
    url: str, trace_file: Callable[..., Path], diary: Callable[[], list[str]]
) -> None:
    file = trace_file(["a", "raise", "b"], ["err", "c"])
    first = dp.verify(file, ["poison"], url, workers=1)
    assert [total.errored for total in first.conservation] == [2]

    again = dp.verify(file, ["poison"], url, workers=1)
    assert (again.progress.judged, [total.errored for total in again.conservation]) == (0, [2])

    before = len(diary())
    retried = dp.verify(file, ["poison"], url, workers=1, retry_errors=True)
    assert retried.progress.judged == 2
    assert {line.split()[2] for line in diary()[before:]} <= {"1", "0"}
    (total,) = retried.conservation
    assert (total.subjects, total.accepted, total.errored, total.missing) == (5, 3, 2, 0)
    with VerdictStore.open(url) as store:
        now = store.count_verdicts()
        ever = store.count_verdicts(VerdictFilter(history=True))
    assert now[Outcome.ERROR] == 2
    assert ever[Outcome.ERROR] == 4


def test_an_empty_input_is_a_finished_run_with_nothing_in_it(url: str) -> None:
    result = dp.verify([], ["accepting"], url, workers=1)
    assert result.run.status is RunStatus.FINISHED
    assert [(total.subjects, total.settled) for total in result.conservation] == [(0, True)]
    assert result.verdicts == []


def test_a_trace_longer_than_a_chunk_is_judged_whole(sqlite_url: str) -> None:
    """More steps than fit in one task, and than the input of a pipe holds."""
    steps = tuple(Step(text=f"step {number} {'x' * 40}") for number in range(2 * CHUNK_STEPS + 37))
    result = dp.verify([Trace(id="long", problem="p", steps=steps)], ["accepting"], sqlite_url, workers=2)
    (total,) = result.conservation
    assert (total.subjects, total.accepted, total.settled) == (len(steps), len(steps), True)
    assert [verdict.subject.position for verdict in result.verdicts] == list(range(len(steps)))


def test_a_small_input_is_shared_among_the_workers(sqlite_url: str, diary: Any) -> None:
    result = dp.verify(made_traces(12, steps=5), ["slow:seconds=0.05"], sqlite_url, workers=2)
    assert result.progress.judged == 60
    assert len(diary.processes()) == 2


def test_the_same_verifier_twice_is_refused(sqlite_url: str) -> None:
    with pytest.raises(UsageError, match="given twice"):
        dp.verify(made_traces(1), ["accepting", "accepting"], sqlite_url, workers=1)


def test_progress_adds_up_to_what_the_store_says(sqlite_url: str) -> None:
    seen: list[Progress] = []
    traces = made_traces(150, steps=3)
    with VerdictStore.open(sqlite_url) as store:
        result = verify_batch(
            traces, [create_verifier("accepting"), create_verifier("poison")], store, command="test", workers=2,
            observe=seen.append,
        )  # fmt: skip
    assert seen[-1] == result.progress
    assert result.progress.judged == result.progress.planned == 900
    assert result.progress.outcomes == {Outcome.ACCEPT: 900}
    for before, after in pairwise(seen):
        assert after.judged >= before.judged
        assert after.judged <= after.planned
    assert result.run.counts["judged"] == 900
    assert result.run.counts["traces"] == 150


def test_an_input_that_fails_half_way_leaves_what_was_judged_and_a_failed_run(url: str) -> None:
    traces = made_traces(200, steps=3)

    def broken() -> Iterator[Trace]:
        yield from traces[:150]
        raise OSError("the network file system went away")

    with pytest.raises(OSError, match="went away"):
        dp.verify(broken(), ["accepting"], url, workers=2)
    with VerdictStore.open(url) as store:
        (run,) = store.runs()
    assert run.status is RunStatus.FAILED
    stored = len(once_each(url))
    assert stored <= 450

    result = dp.verify(traces, ["accepting"], url, workers=2)
    assert result.progress.known == stored
    assert len(once_each(url)) == 600


def test_two_runs_at_once_on_one_store_judge_every_pair_and_store_each_once(
    draftproof: Any, trace_file: Callable[..., Path], url: str
) -> None:
    traces = made_traces(120, steps=5)
    file = trace_file(*([step.text for step in trace.steps] for trace in traces))
    command = ("verify", file, "-v", "slow:seconds=0.002", "-v", "arithmetic", "--store", url, "--json", "-w", "1")
    draftproof("db", "init", "--store", url)
    both = [draftproof.start(*command) for _ in range(2)]
    results: list[tuple[str, str]] = [("", "")] * 2

    def collect(index: int) -> None:
        results[index] = both[index].communicate(timeout=100)

    threads = [threading.Thread(target=collect, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [process.returncode for process in both] == [0, 0], results
    assert len(once_each(url)) == 1200
    alone = draftproof(*command)
    assert (alone.json["judged"], alone.json["known"]) == (0, 1200)
    for total in alone.json["verifiers"]:
        assert (total["subjects"], total["accepted"], total["missing"]) == (600, 600, 0)


def test_a_verifier_object_of_ones_own_is_judged_in_this_process(
    sqlite_url: str, plugin_folder: Path, diary: Callable[[], list[str]]
) -> None:
    from draftproof_poison import Accepting  # type: ignore[import-not-found]  # found through the fixture

    own = Accepting(name="nobody-knows-this-name")
    result = dp.verify(made_traces(3, steps=2), [own, "arithmetic"], sqlite_url, workers=2)
    assert [(t.verifier.partition("@")[0], t.accepted) for t in result.conservation] == [
        ("nobody-knows-this-name", 6),
        ("arithmetic", 6),
    ]
    assert len(diary()) == 6
