"""The law: subjects × verifiers = accepted + rejected + abstained + errored + skipped, for every run."""

from __future__ import annotations

import pytest

from draftproof.errors import IntegrityError
from draftproof.store.records import Conservation, PlannedVerifier, RunStatus, Skip
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, WHOLE, made_traces, made_verdict, step_pair
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Outcome, Proposition

TRACES = made_traces(5, steps=3)
BOTH = [ARITHMETIC, WHOLE]


def counts(total: Conservation) -> tuple[int, ...]:
    return (total.subjects, total.accepted, total.rejected, total.abstained, total.errored, total.skipped)


def test_every_pair_is_somewhere(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=BOTH)
    store.add_traces(run.id, TRACES)
    pairs = store.missing(TRACES, BOTH)
    assert len(pairs) == 5 * 3 + 5
    outcomes = [*Outcome] * 5
    store.add([made_verdict(pair, outcomes[i]) for i, pair in enumerate(pairs[:-2])], run.id)
    store.record_skips(run.id, [Skip(pair, "budget_spent") for pair in pairs[-2:]])
    totals = store.finish_run(run.id)
    assert [total.verifier for total in totals] == [ARITHMETIC.identity, WHOLE.identity]
    assert [sum(counts(total)[1:]) for total in totals] == [15, 5]
    assert sum(total.skipped for total in totals) == 2
    assert all(total.settled and total.planned for total in totals)
    assert store.run(run.id).status is RunStatus.FINISHED


def test_what_an_earlier_run_judged_counts_for_this_one(store: VerdictStore) -> None:
    first = store.begin_run("first", verifiers=[ARITHMETIC])
    store.add_traces(first.id, TRACES)
    store.add([made_verdict(pair) for pair in store.missing(TRACES, [ARITHMETIC])], first.id)
    second = store.begin_run("second", verifiers=[ARITHMETIC])
    store.add_traces(second.id, TRACES[:2])
    assert store.missing(TRACES, [ARITHMETIC]) == []
    (total,) = store.finish_run(second.id)
    assert counts(total) == (6, 6, 0, 0, 0, 0)


def test_a_finished_run_with_a_missing_pair_breaks_the_law(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES)
    pairs = store.missing(TRACES, [ARITHMETIC])
    store.add([made_verdict(pair) for pair in pairs[1:]], run.id)
    with pytest.raises(IntegrityError, match=r"of 15 pairs of arithmetic@1#0123456789ab, 1 are unaccounted for"):
        store.finish_run(run.id)
    assert store.run(run.id).status is RunStatus.FAILED


def test_a_verdict_about_a_step_that_is_not_there_breaks_the_law(store: VerdictStore) -> None:
    """It must not stand in for one that is missing."""
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES[:1])
    store.add([made_verdict(step_pair(TRACES[0], position)) for position in (0, 1, 3)], run.id)
    (total,) = store.conservation(run.id)
    assert (total.accepted, total.missing, total.strays) == (2, 1, 1)
    store.add([made_verdict(step_pair(TRACES[0], 2))], run.id)
    with pytest.raises(IntegrityError, match="1 verdicts are about no step"):
        store.finish_run(run.id)


def test_an_interrupted_run_may_miss_pairs(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES)
    (total,) = store.finish_run(run.id, RunStatus.INTERRUPTED, counts={"lines": 5})
    assert (total.subjects, total.missing) == (15, 15)
    assert store.run(run.id).status is RunStatus.INTERRUPTED
    assert store.run(run.id).counts == {"lines": 5}


def test_a_trace_met_twice_is_judged_once(store: VerdictStore) -> None:
    (trace,) = made_traces(1)
    again = trace.model_copy(update={"id": "the same, elsewhere"})
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, [trace, again])
    (total,) = store.conservation(run.id)
    assert total.subjects == len(trace.steps)


def test_each_sample_is_a_pair(store: VerdictStore) -> None:
    sampled = PlannedVerifier("judge@1#00", Granularity.STEP, Proposition.CORRECT, Guarantee.OPINION, samples=3)
    run = store.begin_run("test", verifiers=[sampled])
    store.add_traces(run.id, TRACES[:1])
    pairs = store.missing(TRACES[:1], [sampled])
    assert [(pair.subject.position, pair.sample) for pair in pairs[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    store.add([made_verdict(pair) for pair in pairs], run.id)
    (total,) = store.finish_run(run.id)
    assert counts(total) == (9, 9, 0, 0, 0, 0)


def test_an_override_moves_a_pair_and_does_not_double_it(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES[:1])
    pairs = store.missing(TRACES[:1], [ARITHMETIC])
    store.add([made_verdict(pair, Outcome.ERROR) for pair in pairs], run.id)
    first = next(store.iter_verdicts())
    store.override(first.id, Outcome.REJECT, author="Ada", note="wrong")
    store.add([made_verdict(pairs[1])], run.id, retry_errors=True)
    (total,) = store.finish_run(run.id)
    assert counts(total) == (3, 1, 1, 0, 1, 0)


def test_a_skip_gives_way_to_a_verdict(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES[:1])
    pairs = store.missing(TRACES[:1], [ARITHMETIC])
    skips = [Skip(pair, "after_first_error") for pair in pairs]
    assert (store.record_skips(run.id, skips), store.record_skips(run.id, skips)) == (3, 0)
    store.add([made_verdict(pairs[0])], run.id)
    (total,) = store.finish_run(run.id)
    assert counts(total) == (3, 1, 0, 0, 0, 2)


def test_a_skip_about_no_step_is_a_stray(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES[:1])
    store.record_skips(run.id, [Skip(step_pair(TRACES[0], 3), "x")])
    assert store.conservation(run.id)[0].strays == 1


def test_skips_of_one_run_are_not_those_of_another(store: VerdictStore) -> None:
    """Only a verdict settles a pair for everybody."""
    runs = [store.begin_run("test", verifiers=[ARITHMETIC]) for _ in range(2)]
    for run in runs:
        store.add_traces(run.id, TRACES[:1])
    store.record_skips(runs[0].id, [Skip(pair, "x") for pair in store.missing(TRACES[:1], [ARITHMETIC])])
    assert [store.conservation(run.id)[0].missing for run in runs] == [0, 3]


def test_subjects_that_come_into_being_on_the_way_are_counted_as_recorded(store: VerdictStore) -> None:
    run = store.begin_run("pipeline", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES[:1])
    drafted = made_traces(2, seed=9)
    verdicts = [made_verdict(pair) for pair in store.missing(TRACES[:1], [ARITHMETIC])]
    verdicts += [made_verdict(step_pair(trace), Outcome.REJECT) for trace in drafted]
    routed = step_pair(drafted[0], verifier="router@1#00")
    route = routed.subject.model_copy(update={"granularity": Granularity.ROUTE})
    verdicts.append(made_verdict(routed, subject=route))
    store.add(verdicts, run.id)
    store.record_skips(run.id, [Skip(step_pair(drafted[1], 1), "too_late"), Skip(step_pair(drafted[1], 0), "judged")])
    planned, drafts, routes = store.finish_run(run.id)
    assert (planned.planned, counts(planned)) == (True, (3, 3, 0, 0, 0, 0))
    assert (drafts.planned, counts(drafts)) == (False, (3, 0, 2, 0, 0, 1))
    assert (routes.granularity, counts(routes)) == (Granularity.ROUTE, (1, 1, 0, 0, 0, 0))


def test_the_view_says_the_same_of_all_runs(store: VerdictStore) -> None:
    """`conservation` is there for people with a database client; the store sums one run's entries itself."""
    for number, outcome in enumerate(Outcome):
        run = store.begin_run("test", verifiers=BOTH)
        traces = made_traces(3, steps=2, seed=number)
        store.add_traces(run.id, traces)
        pairs = store.missing(traces, BOTH)
        store.add([made_verdict(pair, outcome) for pair in pairs[number:]], run.id)
        store.record_skips(run.id, [Skip(pair, "x") for pair in pairs[:1]])
    columns = "planned, subjects, accepted, rejected, abstained, errored, skipped, strays"
    for run in store.runs():
        with store._database.reading() as connection:
            rows = connection.exec_driver_sql(
                f"SELECT verifier, {columns} FROM conservation WHERE run = {run.number} ORDER BY ordinal"
            ).all()
        totals = store.conservation(run.id)
        assert [tuple(row) for row in rows] == [(total.verifier, 1, *counts(total), total.strays) for total in totals]
        assert sum(total.subjects for total in totals) == 9


def test_a_run_without_traces_is_settled(store: VerdictStore) -> None:
    run = store.begin_run("test", verifiers=BOTH)
    assert [counts(total) for total in store.finish_run(run.id)] == [(0,) * 6, (0,) * 6]


def test_a_trace_without_steps_has_only_itself_to_judge(store: VerdictStore) -> None:
    traces = made_traces(1, steps=0)
    run = store.begin_run("test", verifiers=BOTH)
    store.add_traces(run.id, traces)
    assert [total.subjects for total in store.conservation(run.id)] == [0, 1]


def test_the_first_ending_of_a_run_stays(store: VerdictStore) -> None:
    run = store.begin_run("test")
    store.finish_run(run.id, RunStatus.INTERRUPTED)
    ended = store.run(run.id)
    store.finish_run(run.id)
    assert store.run(run.id) == ended
