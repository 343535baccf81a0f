"""Two runs, or two verifiers, side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from draftproof.errors import UnknownNameError
from draftproof.store.records import PlannedVerifier, Run
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, WHOLE, made_traces, made_verdict, step_pair
from draftproof.trace import Trace
from draftproof.verdict import Outcome

NEXT = replace(ARITHMETIC, identity="arithmetic@2#0123456789ab")
TRACES = made_traces(4, steps=3)


def judged(store: VerdictStore, verifier: PlannedVerifier, traces: list[Trace], *outcomes: Outcome) -> Run:
    """A finished run in which the first steps of the first trace get `outcomes`, the rest is accepted."""
    run = store.begin_run("test", verifiers=[verifier])
    store.add_traces(run.id, traces)
    pairs = store.missing(traces, [verifier])
    given = [*outcomes, *[Outcome.ACCEPT] * len(pairs)]
    store.add([made_verdict(pair, given[i]) for i, pair in enumerate(pairs)], run.id)
    store.finish_run(run.id)
    return store.run(run.id)


def test_a_run_does_not_differ_from_itself(store: VerdictStore) -> None:
    run = judged(store, ARITHMETIC, TRACES, Outcome.REJECT)
    assert list(store.diff(run.id, run.id)) == []


def test_versions_of_a_verifier_are_compared(store: VerdictStore) -> None:
    a = judged(store, ARITHMETIC, TRACES, Outcome.REJECT, Outcome.ABSTAIN)
    b = judged(store, NEXT, TRACES, Outcome.ACCEPT, Outcome.ABSTAIN, Outcome.REJECT)
    differences = {d.subject.position: d for d in store.diff(a.id[:8], b.id[:8])}
    assert set(differences) == {0, 2}
    first = differences[0]
    assert first.subject.trace_digest == TRACES[0].digest
    assert first.a is not None
    assert first.b is not None
    assert (first.a.outcome, first.b.outcome) == (Outcome.REJECT, Outcome.ACCEPT)
    assert (first.a.verifier, first.b.verifier) == (ARITHMETIC.identity, NEXT.identity)
    assert (first.a.reason, first.a.score) == ("false_equation", 0.0)
    assert store.verdict(first.a.id).outcome is Outcome.REJECT
    swapped = {d.subject.position: d for d in store.diff(b.id, a.id)}
    assert {k: (d.b, d.a) for k, d in swapped.items()} == {k: (d.a, d.b) for k, d in differences.items()}


def test_pairs_that_one_run_lacks(store: VerdictStore) -> None:
    a = judged(store, ARITHMETIC, TRACES[:3])
    b = judged(store, NEXT, TRACES[1:])
    sides = [(d.subject.trace_digest, d.a is None, d.b is None) for d in store.diff(a.id, b.id)]
    assert sorted(sides) == sorted([(TRACES[0].digest, False, True)] * 3 + [(TRACES[3].digest, True, False)] * 3)


def test_verifiers_without_a_counterpart(store: VerdictStore) -> None:
    a = judged(store, ARITHMETIC, TRACES[:1])
    b = judged(store, WHOLE, TRACES[:1])
    assert [(d.a is None, d.b is None) for d in store.diff(a.id, b.id)] == [(False, True)] * 3 + [(True, False)]


def test_a_retry_shows_between_the_run_before_and_the_run_after(store: VerdictStore) -> None:
    a = judged(store, ARITHMETIC, TRACES[:1], Outcome.ERROR)
    b = store.begin_run("again", verifiers=[ARITHMETIC])
    store.add_traces(b.id, TRACES[:1])
    store.add([made_verdict(step_pair(TRACES[0]))], b.id, retry_errors=True)
    for _ in range(2):  # while the second run goes on, and after it
        (only,) = store.diff(a.id, b.id)
        assert only.a is not None
        assert only.b is not None
        assert (only.a.outcome, only.b.outcome) == (Outcome.ERROR, Outcome.ACCEPT)
        store.finish_run(b.id)


def test_two_verifiers_over_the_whole_store(store: VerdictStore) -> None:
    judged(store, ARITHMETIC, TRACES[:2], Outcome.REJECT)
    judged(store, NEXT, TRACES[1:], Outcome.ACCEPT)
    differences = list(store.diff_verifiers(ARITHMETIC.identity, NEXT.identity))
    assert len(differences) == 9
    assert {d.subject.trace_digest for d in differences if d.b is None} == {TRACES[0].digest}
    assert list(store.diff_verifiers(NEXT.identity, NEXT.identity)) == []
    assert [d.b for d in store.diff_verifiers(NEXT.identity, "nobody")] == [None] * 9


def test_a_run_that_is_not_there(store: VerdictStore) -> None:
    with pytest.raises(UnknownNameError):
        list(store.diff("nothing", "nothing"))
