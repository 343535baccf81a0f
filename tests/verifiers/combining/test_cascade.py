"""Cascades: who is asked, who settles, what it costs, and how thresholds are chosen."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.combining.cascade import Cascade, Stage, Thresholds
from draftproof.verifiers.combining.cascade_thresholds import NEVER, choose_thresholds, order_of, replay
from tests.verifiers.combining.scripted import Log, Scripted, subjects

ALWAYS = Thresholds(0.5, 0.5)


def cascade(*thresholds: Thresholds, log: Log | None = None) -> tuple[Cascade, list[Scripted]]:
    verifiers = [Scripted(column=i) for i in range(len(thresholds))]
    stages = tuple(Stage(v, t) for v, t in zip(verifiers, thresholds, strict=True))
    return Cascade(stages, log or Log()), verifiers


def check(verifier: Cascade, *texts: str) -> list[Verdict]:
    return run_verifier(verifier, subjects(*texts), log=Log())


def test_a_stage_is_asked_only_about_what_is_open() -> None:
    log = Log()
    made, (cheap, dear) = cascade(Thresholds(0.2, 0.8), ALWAYS, log=log)
    sure, wrong, unsure = check(made, "0.9 0.1", "0.1 0.9", "0.5 0.9")
    assert cheap.asked == [3]
    assert dear.asked == [1]
    assert [v.outcome for v in (sure, wrong, unsure)] == [Outcome.ACCEPT, Outcome.REJECT, Outcome.ACCEPT]
    assert (sure.raw["settled_by"], sure.raw["skipped"]) == (identity(cheap), [identity(dear)])
    assert (unsure.raw["settled_by"], unsure.raw["skipped"]) == (identity(dear), [])
    assert (sure.reason, unsure.reason) == ("settled_by_stage_1", "settled_by_stage_2")
    assert (len(log.of(cheap)), len(log.of(dear))) == (3, 1)
    assert sure.guarantee is Guarantee.OPINION


def test_equality_settles_on_both_sides_and_accepting_wins() -> None:
    made, _ = cascade(Thresholds(0.2, 0.8), Thresholds(0.5, 0.5))
    assert [v.raw["settled_by"] is not None and v.reason for v in check(made, "0.8 0.1", "0.2 0.9")] == [
        "settled_by_stage_1"
    ] * 2
    (even,) = check(made, "0.5 0.5")
    assert even.outcome is Outcome.ACCEPT


def test_what_nobody_settles_is_an_abstention() -> None:
    made, _ = cascade(Thresholds(0.2, 0.8), Thresholds(0.3, 0.7))
    silent, unsure, broken = check(made, "- -", "0.5 0.5", "! !")
    assert {v.outcome for v in (silent, unsure, broken)} == {Outcome.ABSTAIN}
    assert (unsure.reason, unsure.raw["settled_by"], unsure.score) == ("no_stage_settled", None, 0.5)
    assert broken.score is None


def test_a_broken_stage_hands_on() -> None:
    made, _ = cascade(ALWAYS, ALWAYS)
    (found,) = check(made, "! 0.9")
    assert (found.outcome, found.reason) == (Outcome.ACCEPT, "settled_by_stage_2")
    assert [stage["outcome"] for stage in found.raw["stages"]] == ["error", "accept"]


def test_an_estimate_beside_an_abstention_settles_nothing() -> None:
    made, _ = cascade(ALWAYS, ALWAYS)
    handed_on, open_ = check(made, "~1.0 0.1", "~1.0 ~1.0")
    assert (handed_on.outcome, handed_on.reason) == (Outcome.REJECT, "settled_by_stage_2")
    assert open_.outcome is Outcome.ABSTAIN


def test_a_side_that_is_not_settled_is_handed_on() -> None:
    made, _ = cascade(Thresholds(0.1, None), ALWAYS)
    veto, passed = check(made, "0.0 0.9", "1.0 0.3")
    assert veto.outcome is Outcome.REJECT
    assert (passed.outcome, passed.reason) == (Outcome.REJECT, "settled_by_stage_2")


words = st.sampled_from(["-", "!", "0.0", "0.2", "0.5", "0.8", "1.0"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=6))
def test_when_all_defer_it_is_the_last_stage(rows: list[tuple[str, str, str]]) -> None:
    texts = [" ".join(row) for row in rows]
    made, (_, _, last) = cascade(NEVER, NEVER, ALWAYS)
    alone = run_verifier(last, subjects(*texts), log=Log())
    for ours, theirs in zip(check(made, *texts), alone, strict=True):
        expected = Outcome.ABSTAIN if theirs.outcome is Outcome.ERROR else theirs.outcome
        assert (ours.outcome, ours.score) == (expected, theirs.score)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_when_the_first_is_always_sure_nobody_else_is_asked_about_its_scores(rows: list[tuple[str, str]]) -> None:
    made, (first, second) = cascade(ALWAYS, ALWAYS)
    found = check(made, *(" ".join(row) for row in rows))
    scored = [row for row in rows if row[0] not in "-!"]
    assert sum(v.raw["settled_by"] == identity(first) for v in found) == len(scored)
    assert (second.asked == []) == (len(scored) == len(rows))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=8),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_the_replay_tells_what_the_cascade_does(
    rows: list[tuple[str, str, bool]], marks: tuple[float, float, float, float]
) -> None:
    stages = (Thresholds(*sorted(marks[:2])), Thresholds(*sorted(marks[2:])))
    made, verifiers = cascade(*stages)
    found = check(made, *(f"{a} {b}" for a, b, _ in rows))
    scores = [[None if w in "-!" else float(w) for w in row[:2]] for row in rows]
    truths = [row[2] for row in rows]
    told = replay(scores, truths, [1.0, 10.0], stages)
    decided = [v.outcome in (Outcome.ACCEPT, Outcome.REJECT) for v in found]
    wrong = [d and (v.outcome is Outcome.ACCEPT) != t for d, v, t in zip(decided, found, truths, strict=True)]
    reached = [len(v.raw["stages"]) for v in found]
    assert told.coverage == pytest.approx(np.mean(decided))
    assert told.error == pytest.approx(np.mean(wrong))
    assert told.reached == pytest.approx([1.0, np.mean([r == 2 for r in reached])])
    assert told.expected_cost == pytest.approx(1.0 + 10.0 * told.reached[1])
    assert sum(told.settled) == pytest.approx(told.coverage)
    assert verifiers[0].asked


def split(count: int = 400, seed: int = 0) -> tuple[list[list[float | None]], Any]:
    """A cheap judge that is right when it is sure, and a dear one that is nearly always right."""
    draw = np.random.default_rng(seed)
    truths = draw.uniform(size=count) < 0.5
    cheap = np.clip(np.where(truths, 0.7, 0.3) + draw.normal(0, 0.2, count), 0, 1)
    dear = np.clip(np.where(truths, 0.9, 0.1) + draw.normal(0, 0.1, count), 0, 1)
    rows: list[list[float | None]] = [[float(a), float(b)] for a, b in zip(cheap, dear, strict=True)]
    return rows, truths


def test_thresholds_save_most_of_the_cost_within_the_error() -> None:
    scores, truths = split()
    chosen, told = choose_thresholds(scores, truths, [1.0, 100.0], ALWAYS, max_error=0.02)
    assert told.error <= 0.02
    assert told.expected_cost < 60  # the dear judge alone is 101 with the cheap one asked in vain
    assert chosen[-1] == ALWAYS
    fresh_scores, fresh_truths = split(seed=1)
    fresh = replay(fresh_scores, fresh_truths, [1.0, 100.0], chosen)
    assert fresh.error < 0.05


def test_two_stages_are_searched_exhaustively() -> None:
    scores, truths = split(60)
    _, told = choose_thresholds(scores, truths, [1.0, 10.0], ALWAYS, max_error=0.05, grid=6)
    column = [row[0] for row in scores if row[0] is not None]
    marks = [None, *np.unique(np.quantile(column, np.linspace(0, 1, 6))).tolist()]
    pairs = [Thresholds(a, b) for a, b in product(marks, marks) if a is None or b is None or a < b]
    tried = [replay(scores, truths, [1.0, 10.0], (pair, ALWAYS)) for pair in pairs]
    assert told.expected_cost == min(each.expected_cost for each in tried if each.error <= 0.05)


def test_a_stricter_bound_never_costs_less() -> None:
    scores, truths = split()
    costs = [
        choose_thresholds(scores, truths, [1.0, 100.0], ALWAYS, max_error=e)[1].expected_cost
        for e in (0.0, 0.01, 0.05, 0.2, 0.6)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == 1.0  # with errors enough allowed, the cheap stage settles everything
    assert costs[0] > costs[-2]


def test_a_last_stage_that_errs_too_often_is_refused() -> None:
    with pytest.raises(UsageError, match="alone decides"):
        choose_thresholds([[0.9, 0.9], [0.1, 0.9]], [1, 0], [1, 2], ALWAYS, max_error=0.1)


def test_order_by_cost_a_settled_subject() -> None:
    assert order_of([1.0, 10.0, 1.0], [0.1, 0.9, 0.5]) == [2, 0, 1]
    assert order_of([1.0, 5.0], [0.0, 0.01]) == [1, 0]  # who settles nothing is asked last
    with pytest.raises(UsageError):
        order_of([1.0], [1.5])
    with pytest.raises(UsageError):
        order_of([math.nan], [0.5])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Thresholds(0.8, 0.2), id="lo-above-hi"),
        pytest.param(lambda: Thresholds(None, 1.2), id="no-probability"),
        pytest.param(lambda: Thresholds(math.nan, None), id="nan"),
        pytest.param(lambda: Cascade((), Log()), id="no-stage"),
        pytest.param(
            lambda: Cascade(
                (Stage(Scripted(), ALWAYS), Stage(Scripted(column=1, proposition=Proposition.EASY), ALWAYS)), Log()
            ),
            id="another-proposition",
        ),
        pytest.param(
            lambda: Cascade(
                (Stage(Scripted(), ALWAYS), Stage(Scripted(column=1, granularity=Granularity.TRACE), ALWAYS)), Log()
            ),
            id="another-granularity",
        ),
        pytest.param(
            lambda: Cascade((Stage(Scripted(proposition=Proposition.BEST_OF_GROUP), ALWAYS),), Log()),
            id="candidates-that-compete",
        ),
        pytest.param(lambda: replay([[math.nan]], [1], [1.0], [ALWAYS]), id="nan-in-place-of-none"),
        pytest.param(lambda: replay([[0.5]], [1, 0], [1.0], [ALWAYS]), id="a-label-without-scores"),
        pytest.param(lambda: replay([[0.5]], [1], [-1.0], [ALWAYS]), id="a-negative-cost"),
        pytest.param(lambda: replay([[0.5]], [1], [1.0], [ALWAYS, ALWAYS]), id="a-threshold-too-many"),
    ],
)
def test_what_makes_no_cascade_is_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()
