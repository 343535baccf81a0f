"""Steps that nobody could judge are told apart from those that were judged and found bad."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from draftproof.batch.courses import solved_of_run
from draftproof.batch.pipeline_run import PipelineRun, run_pipeline
from draftproof.batch.problems import Problem
from draftproof.batch.route_counts import RouteCounts, count_routes, counts_of_course, unjudged_line
from draftproof.cli.run_summary import summary_lines
from draftproof.language_model import FirstToken
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.pipelines.solve_detect_verify import create_solve_detect_verify
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Subject
from draftproof.verdict import Outcome, Verdict
from tests.batch.stub_models import CountingJudge, CountingModel, counted, create


@dataclass(frozen=True)
class Speechless(CountingJudge):
    """Has nothing to say about any step."""

    def _one(self, subject: Subject) -> Verdict:
        verdict = super()._one(subject)
        return verdict.model_copy(update={"outcome": Outcome.ABSTAIN, "score": None, "reason": "not_my_kind"})


@dataclass(frozen=True)
class Broken(CountingJudge):
    def check(self, subjects: object) -> list[Verdict]:
        raise TimeoutError("down")


def solved(store: VerdictStore, judge: CountingJudge, count: int = 6) -> PipelineRun:
    run = run_pipeline(create(verifier=judge), counted(count), store=store, workers=3)
    assert len(list(run)) == count
    return run


@pytest.mark.parametrize(
    ("judge", "route", "reason"),
    [
        pytest.param(Speechless(), "verifier_abstained_on_draft", "not_my_kind", id="abstains"),
        pytest.param(Broken(), "verifier_failed_on_draft", "verifier_crashed", id="fails"),
    ],
)
def test_a_run_in_which_nothing_could_be_judged_says_so(
    store: VerdictStore, judge: CountingJudge, route: str, reason: str
) -> None:
    run = solved(store, judge)
    steps = run.tally.counts["judge_calls"]
    assert steps > 6
    assert run.tally.acceptance == 0.0, "as if every draft had been judged and found bad"
    assert (run.tally.routes.reasons, run.tally.routes.unjudged) == ({route: steps}, {reason: steps})
    said = f"{steps} of {steps} steps could not be judged: {reason} {steps}"
    assert said in summary_lines(run.tally, 0)
    told = run.tally.as_json()
    assert (told["routes"], told["unjudged"]) == ({route: steps}, {reason: steps})
    assert run.record.counts["unjudged"] == {reason: steps}


def test_what_was_judged_is_not_called_unjudged(store: VerdictStore) -> None:
    run = solved(store, CountingJudge())
    assert run.tally.routes.unjudged == {}
    assert set(run.tally.routes.reasons) == {"reward_reaches_threshold", "reward_below_threshold"}
    assert run.tally.routes.decided == run.tally.counts["judge_calls"]
    assert not any("judged" in line for line in summary_lines(run.tally, 0))


def test_what_an_earlier_run_solved_is_counted_alike(store: VerdictStore) -> None:
    first = solved(store, Speechless())
    again = solved(store, Speechless())
    assert again.tally.known == 6
    assert again.tally.routes == first.tally.routes


def test_a_handed_over_answer_was_judged(store: VerdictStore) -> None:
    """Its own verdict abstains, and says nothing about the probe before it."""
    draft, target = CountingModel("draft"), CountingModel("target")
    make = lambda log: create_glimp_router(draft, target, log=log, threshold=9.0)  # noqa: E731
    run = run_pipeline(make, counted(3), store=store, workers=2)
    list(run)
    assert run.tally.routes.reasons == {"first_token_certain": run.tally.counts["probe_calls"]}
    assert run.tally.routes.unjudged == {}


def test_probes_that_say_nothing_are_unjudged(store: VerdictStore) -> None:
    class Curt(CountingModel):
        def first_token(self, contexts: object, top: int = 20) -> list[FirstToken]:
            return [FirstToken(0.0, 1, (("So", 0.05),))]

    make = lambda log: create_glimp_router(Curt("draft"), CountingModel("target"), log=log)  # noqa: E731
    run = run_pipeline(make, counted(3), store=store, workers=2)
    list(run)
    assert run.tally.routes.unjudged == {"probe_gave_no_entropy": run.tally.routes.decided}


def test_what_a_solution_is_checked_to_be_is_counted_and_shown(store: VerdictStore) -> None:
    for number, (judge, outcome, words) in enumerate(
        [
            (CountingJudge(), "accept", "accepted"),
            (Speechless(), "abstain", "could not judge"),
            (Broken(), "error", "failed on"),
        ]
    ):
        model = CountingModel(f"target{number}")
        make = lambda log, model=model, judge=judge: create_solve_detect_verify(model, log=log, fast=judge)  # noqa: E731
        run = run_pipeline(make, counted(3), store=store, workers=2)
        assert [one.outcome for one in run] == [outcome] * 3
        assert run.tally.outcomes == run.tally.as_json()["outcomes"] == {outcome: 3}
        assert f"of the solutions, its own check {words} 3" in summary_lines(run.tally, 0)
        assert run.tally.routes.unjudged == {}, "no step was up for decision"
        (planned,) = (total for total in run.conservation if total.planned)
        assert planned.accepted == (3 if outcome == "accept" else 0)


def test_pipelines_without_a_check_tell_of_none(store: VerdictStore) -> None:
    run = solved(store, CountingJudge())
    assert run.tally.outcomes == {}
    assert not any("check" in line for line in summary_lines(run.tally, 0))


def test_as_known_count_ends_that_another_run_stored(store: VerdictStore) -> None:
    first, again = solved(store, CountingJudge(), 4), solved(store, CountingJudge(), 6)
    assert [one.known for one in solved_of_run(store, first.record)] == [False] * 4
    assert [one.known for one in solved_of_run(store, again.record)] == [True] * 4 + [False] * 2


def test_counts_are_sums_and_a_line(store: VerdictStore) -> None:
    run = solved(store, Speechless(), 2)
    parts = [counts_of_course(store, one.opening) for one in solved_of_run(store, run.record)]
    assert sum(parts, RouteCounts()) == run.tally.routes
    assert count_routes([]) == RouteCounts()
    assert unjudged_line(3, {}) is None
    assert unjudged_line(1200, {"a": 1, "b": 1000}) == "1,001 of 1,200 steps could not be judged: b 1,000, a 1"


def test_of_two_candidates_the_one_that_was_not_judged_is_the_reason(store: VerdictStore) -> None:
    draft, target = CountingModel("draft"), CountingModel("target")
    make = lambda log: create_arbitrage(draft, target, log=log, policy="oracle", verifier=Speechless())  # noqa: E731
    run = run_pipeline(make, counted(1), store=store, workers=1)
    list(run)
    assert run.tally.routes.unjudged == {"not_my_kind": run.tally.routes.decided}


def test_texts_that_no_separator_divides_are_told_where_all_are(store: VerdictStore) -> None:
    said = "every text is a single step: the separator was never written"
    whole = [Problem(f"0 steps, problem {i}", f"w{i}") for i in range(3)]
    for problems, undivided in ((whole, 3), ([*whole, *counted(1)], 3), (counted(2), 0)):
        run = run_pipeline(create(), problems, store=store, workers=2)
        assert len(list(run)) == len(problems)
        assert run.tally.as_json()["undivided"] == undivided
        assert (said in summary_lines(run.tally, 0)) is (undivided == len(problems))


def test_a_pipeline_of_one_model_has_no_acceptance(store: VerdictStore) -> None:
    run = solved(store, CountingJudge())
    assert any(line.startswith("acceptance") for line in summary_lines(run.tally, 0))
    assert not any(line.startswith("acceptance") for line in summary_lines(run.tally, 0, alone=True))
