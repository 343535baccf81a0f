"""Re-running a command is its continuation: exactly the pairs that nobody judged are planned."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.store.records import Pair, PlannedVerifier
from draftproof.store.traces import CHUNK
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, WHOLE, made_traces, made_verdict, step_pair
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Outcome, Proposition


def test_everything_is_missing_from_an_empty_store_in_order(store: VerdictStore) -> None:
    traces = made_traces(2, steps=2)
    planned = store.missing(traces, [ARITHMETIC, WHOLE])
    keys = [(pair.subject.trace_digest, pair.verifier, pair.subject.position) for pair in planned]
    assert keys == [
        (trace.digest, identity, position)
        for trace in traces
        for identity, position in ((ARITHMETIC.identity, 0), (ARITHMETIC.identity, 1), (WHOLE.identity, 0))
    ]


def test_adding_a_verifier_plans_only_its_pairs(store: VerdictStore) -> None:
    traces = made_traces(3, steps=2)
    run = store.begin_run("test")
    store.add([made_verdict(pair) for pair in store.missing(traces, [ARITHMETIC])], run.id)
    planned = store.missing(traces, [ARITHMETIC, WHOLE])
    assert {pair.verifier for pair in planned} == {WHOLE.identity}
    assert len(planned) == 3


def test_an_errored_pair_is_settled_until_a_retry_is_asked_for(store: VerdictStore) -> None:
    (trace,) = made_traces(1, steps=3)
    run = store.begin_run("test")
    pairs = store.missing([trace], [ARITHMETIC])
    store.add([made_verdict(pair, Outcome.ERROR if i else Outcome.ACCEPT) for i, pair in enumerate(pairs)], run.id)
    assert store.missing([trace], [ARITHMETIC]) == []
    assert store.missing([trace], [ARITHMETIC], retry_errors=True) == pairs[1:]
    store.add([made_verdict(pairs[1])], run.id, retry_errors=True)
    assert store.missing([trace], [ARITHMETIC], retry_errors=True) == pairs[2:]


def test_more_traces_than_one_query_holds(store: VerdictStore) -> None:
    sizes = [(f"sha256:{i:064x}", 1) for i in range(2 * CHUNK + 7)]
    pairs = store.missing(sizes, [ARITHMETIC])
    assert len(pairs) == len(sizes)
    run = store.begin_run("test")
    store.add([made_verdict(pair) for pair in pairs[::2]], run.id)
    assert store.missing(sizes, [ARITHMETIC]) == pairs[1::2]


def test_a_trace_listed_twice_is_planned_once(store: VerdictStore) -> None:
    (trace,) = made_traces(1, steps=2)
    assert len(store.missing([trace, trace], [ARITHMETIC])) == 2


def test_a_trace_listed_twice_far_apart_is_planned_once(store: VerdictStore) -> None:
    sizes = [(f"sha256:{i:064x}", 1) for i in range(CHUNK)]
    assert len(store.missing([*sizes, sizes[0]], [ARITHMETIC])) == CHUNK


def test_verdicts_of_another_granularity_settle_nothing(store: VerdictStore) -> None:
    (trace,) = made_traces(1, steps=1)
    run = store.begin_run("test")
    pair = step_pair(trace)
    claim = pair.subject.model_copy(update={"granularity": Granularity.CLAIM})
    store.add([made_verdict(pair, subject=claim)], run.id)
    assert store.missing([trace], [ARITHMETIC]) == [pair]


def test_what_no_trace_lists_cannot_be_planned(store: VerdictStore) -> None:
    router = PlannedVerifier("router@1#00", Granularity.ROUTE, Proposition.EASY, Guarantee.STATISTICAL)
    with pytest.raises(UsageError, match="judges routes"):
        store.missing(made_traces(1), [router])


_seeds = count(100)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_planned_and_judged_are_everything(store: VerdictStore, data: st.DataObject) -> None:
    """Whatever subset was judged before, with whatever outcomes: the plan is its complement."""
    size, steps = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 4))
    traces = made_traces(size, steps=steps, seed=next(_seeds))  # one store for all examples: no trace comes twice
    verifiers = data.draw(st.sampled_from([[ARITHMETIC], [WHOLE], [ARITHMETIC, WHOLE]]))
    everything = store.missing(traces, verifiers)
    judged: dict[Pair, Outcome] = {}
    for pair in everything:
        outcome = data.draw(st.none() | st.sampled_from(Outcome))
        if outcome is not None and pair not in judged:
            judged[pair] = outcome
    run = store.begin_run("test", verifiers=verifiers)
    store.add_traces(run.id, traces)
    store.add([made_verdict(pair, outcome) for pair, outcome in judged.items()], run.id)
    assert store.missing(traces, verifiers) == [pair for pair in everything if pair not in judged]
    retried = store.missing(traces, verifiers, retry_errors=True)
    assert retried == [pair for pair in everything if judged.get(pair, Outcome.ERROR) is Outcome.ERROR]
    totals = store.conservation(run.id)
    assert sum(total.missing for total in totals) == len(everything) - len(judged)
