"""Every filter finds what it names and nothing else, in the order and the number asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from draftproof.errors import UnknownNameError, UsageError
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Pair, StoredVerdict
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, WHOLE, made_traces, made_verdict, made_verdicts, step_pair
from draftproof.subject import Granularity
from draftproof.trace import StepLabel
from draftproof.verdict import Guarantee, Outcome, Proposition

EARLY = made_traces(2, steps=3, seed=1)
LATE = made_traces(2, steps=3, seed=2, generator="other model")


@pytest.fixture
def filled(store: VerdictStore) -> VerdictStore:
    """Two runs of two traces and two verifiers; in each run the step at position 1 is rejected."""
    for name, traces in (("early", EARLY), ("late", LATE)):
        run = store.begin_run(name, verifiers=[ARITHMETIC, WHOLE])
        store.add_traces(run.id, traces)
        store.add([_verdict(pair) for pair in store.missing(traces, [ARITHMETIC, WHOLE])], run.id)
    return store


def _verdict(pair: Pair):  # type: ignore[no-untyped-def]
    if pair.verifier == WHOLE.identity:
        return made_verdict(pair, proposition=Proposition.LEADS_TO_ANSWER, guarantee=Guarantee.OPINION, reason="votes")
    return made_verdict(pair, Outcome.REJECT if pair.subject.position == 1 else Outcome.ACCEPT)


def found(store: VerdictStore, **fields: object) -> list[StoredVerdict]:
    where = VerdictFilter(**fields)  # type: ignore[arg-type]
    rows = list(store.iter_verdicts(where))
    assert sum(store.count_verdicts(where).values()) == len(rows)
    return rows


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 16),
        ({"verifier": "arithmetic"}, 12),
        ({"verifier": "arithmetic@1"}, 12),
        ({"verifier": ARITHMETIC.identity}, 12),
        ({"verifier": "arith"}, 0),
        ({"verifier": "arithmetic@11"}, 0),
        ({"verifier": "%"}, 0),
        ({"outcome": Outcome.REJECT}, 4),
        ({"outcome": Outcome.ERROR}, 0),
        ({"reason": "false_equation"}, 4),
        ({"reason": "' OR '1'='1"}, 0),
        ({"granularity": Granularity.TRACE}, 4),
        ({"position": 2}, 4),
        ({"position": 0}, 8),
        ({"proposition": Proposition.LEADS_TO_ANSWER}, 4),
        ({"guarantee": Guarantee.EXACT}, 12),
        ({"generator": "other model"}, 8),
        ({"source_file": "made-1.jsonl"}, 8),
        ({"source_file": "made-1.jsonl", "generator": "other model"}, 0),
        ({"trace": "made-1-0"}, 4),
        ({"trace": EARLY[1].digest}, 4),
        ({"trace": EARLY[1].digest[7:25], "outcome": Outcome.REJECT}, 1),
        ({"trace": "nothing"}, 0),
        ({"author": "Ada"}, 0),
    ],
    ids=str,
)
def test_a_filter_finds_what_it_names(filled: VerdictStore, fields: dict[str, object], expected: int) -> None:
    rows = found(filled, **fields)
    assert len(rows) == expected
    for row in rows:
        for name in ("outcome", "reason", "proposition", "guarantee", "generator", "source_file"):
            assert name not in fields or getattr(row, name) == fields[name]


def test_by_run(filled: VerdictStore) -> None:
    late, early = filled.runs()
    rows = found(filled, run=early.id[:8])
    assert {row.subject.trace_digest for row in rows} == {trace.digest for trace in EARLY}
    assert len(rows) == len(found(filled, recorded_by=late.id)) == 8
    with pytest.raises(UnknownNameError):
        found(filled, run="zzz")


def test_a_run_has_the_verdicts_it_found_done(filled: VerdictStore) -> None:
    again = filled.begin_run("again", verifiers=[ARITHMETIC])
    filled.add_traces(again.id, [EARLY[0], LATE[0]])
    assert len(found(filled, run=again.id)) == 6
    assert found(filled, recorded_by=again.id) == []


def test_by_time(filled: VerdictStore) -> None:
    rows = found(filled)
    first = datetime.fromisoformat(rows[0].recorded_at)
    second = datetime.fromisoformat(rows[-1].recorded_at)
    assert len(found(filled, since=second)) == len(found(filled, until=second)) == 8
    assert len(found(filled, since=first, until=second + timedelta(microseconds=1))) == 16
    elsewhere = second.astimezone(timezone(timedelta(hours=9)))
    assert len(found(filled, since=elsewhere)) == 8
    assert len(found(filled, since=second.replace(tzinfo=None))) == 8  # without a zone: UTC
    assert found(filled, since=datetime(9999, 1, 1, tzinfo=UTC)) == []


def test_verdicts_that_contradict_their_label(store: VerdictStore) -> None:
    (trace,) = made_traces(1, steps=5)
    labels = (StepLabel.CORRECT, StepLabel.CORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN, StepLabel.UNKNOWN)
    run = store.begin_run("test")
    outcomes = [Outcome.ACCEPT, Outcome.REJECT, Outcome.ACCEPT, Outcome.REJECT, Outcome.ACCEPT]
    store.add([made_verdict(step_pair(trace, i), outcome) for i, outcome in enumerate(outcomes)], run.id)
    store.add_traces(run.id, [trace])
    assert found(store, label_mismatch=True) == []  # nobody said anything yet
    store.add_traces(run.id, [trace.model_copy(update={"step_labels": labels})])
    rows = found(store, label_mismatch=True)
    assert [row.subject.position for row in rows] == [1, 2]


def test_order_limit_and_offset(filled: VerdictStore) -> None:
    ids = [row.id for row in filled.iter_verdicts()]
    assert ids == sorted(ids)
    assert [row.id for row in filled.iter_verdicts(order="newest")] == ids[::-1]
    assert [row.id for row in filled.iter_verdicts(limit=3, offset=2)] == ids[2:5]
    assert [row.id for row in filled.iter_verdicts(offset=14)] == ids[14:]
    assert list(filled.iter_verdicts(limit=0)) == []
    subjects = [
        (row.subject.trace_digest, row.verifier, row.subject.position) for row in filled.iter_verdicts(order="subject")
    ]
    assert subjects == sorted(subjects)


def test_verdicts_without_a_stored_trace_are_found(store: VerdictStore) -> None:
    run = store.begin_run("pipeline")
    store.add([made_verdict(step_pair(EARLY[0]))], run.id)
    (row,) = found(store, run=run.id)
    assert (row.trace_id, row.source_file) == (None, None)
    assert found(store, trace=EARLY[0].digest[7:15]) == [row]


def test_a_short_digest_may_mean_many_traces(store: VerdictStore) -> None:
    """All of them: a filter that stopped at some number would answer wrongly."""
    run = store.begin_run("test")
    traces = [f"sha256:ab{i:062x}" for i in range(700)] + [f"sha256:ac{i:062x}" for i in range(3)]
    pair = step_pair(EARLY[0])
    subjects = [pair.subject.model_copy(update={"trace_digest": digest}) for digest in traces]
    store.add([made_verdict(pair, subject=subject) for subject in subjects], run.id)
    assert [len(found(store, trace=start)) for start in ("ab", "a", "sha256:ac", "ad", "")] == [700, 703, 3, 0, 703]


def test_an_erased_payload_leaves_its_row(filled: VerdictStore) -> None:
    filled._database.write(
        lambda c: c.exec_driver_sql("UPDATE verdicts SET payload = NULL, salt = NULL WHERE position = 1")
    )
    rows = found(filled, outcome=Outcome.REJECT)
    assert [(row.payload, row.salt, row.intact) for row in rows] == [(None, None, False)] * 4
    with pytest.raises(ValueError, match="was erased"):
        _ = rows[0].verdict
    with pytest.raises(UsageError, match="was erased"):
        filled.override(rows[0].id, Outcome.ACCEPT, author="Ada", note="x")


def test_a_changed_payload_is_not_intact(filled: VerdictStore) -> None:
    filled._database.write(
        lambda c: c.exec_driver_sql("UPDATE verdicts SET payload = replace(payload, 'reject', 'accept')")
    )
    assert {row.outcome for row in found(filled) if not row.intact} == {Outcome.REJECT}


def test_one_may_write_while_reading(filled: VerdictStore) -> None:
    """A stream shows the state at its first row, however long it is read."""
    run = filled.runs()[0]
    stream = filled.iter_verdicts()
    seen = [next(stream)]
    filled.add([made_verdict(step_pair(trace)) for trace in made_traces(2500, steps=1, seed=7)], run.id)
    assert len(seen + list(stream)) == 16
    assert len(found(filled)) == 2516


def test_a_stream_may_be_left_early(filled: VerdictStore) -> None:
    for _ in range(50):  # more than the pool holds
        next(filled.iter_verdicts())
    assert len(found(filled)) == 16


def test_reading_holds_few_rows(tmp_path: Path, open_store: Callable[..., VerdictStore]) -> None:
    store = open_store(str(tmp_path / "a.db"))
    run = store.begin_run("test")
    sizes = [(trace.digest, 8) for trace in made_traces(750)]
    store.add(list(made_verdicts(store.missing(sizes, [ARITHMETIC]))), run.id)

    def peak(read: Callable[[], int]) -> int:
        tracemalloc.start()
        try:
            assert read() == 6_000
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    streamed = peak(lambda: sum(1 for _ in store.iter_verdicts()))
    assert streamed * 2 < peak(lambda: len(list(store.iter_verdicts())))
