"""Bounds that hold on finite samples: by hand, by simulation over many calibration sets, and what breaks them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof import registry
from draftproof.errors import UsageError
from draftproof.registry import Listing, parse_verifier
from draftproof.verdict import FeatureEvidence, Guarantee, Outcome, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.combining.conformal import (
    Bounds,
    Conformal,
    ConformalThresholds,
    accept_above,
    fit_conformal,
    one_per_trace,
    reject_below,
)
from draftproof.verifiers.combining.labelled import Labelled
from draftproof.verifiers.combining.precision import clopper_pearson_upper, precision_threshold
from tests.verifiers.combining.scripted import Log, Scripted, labelled, subjects

ROUNDS = 4000


def false_accepts(n: int, alpha: float, threshold: Callable[[Any, float], float | None]) -> float:
    """P(accept | wrong), over many calibration sets of n uniform scores: exact for each set."""
    draw = np.random.default_rng(n)
    rates = []
    for _ in range(ROUNDS):
        above = threshold(draw.uniform(size=n), alpha)
        rates.append(0.0 if above is None else 1.0 - above)
    return float(np.mean(rates))


def margin(n: int) -> float:
    """Four standard errors: the rate of one set is Beta-distributed, with a deviation of at most 1/(2√(n+2))."""
    return 4 / (2 * math.sqrt(n + 2) * math.sqrt(ROUNDS))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [1, 9, 19, 50])
def test_wrong_subjects_are_accepted_at_most_that_often(n: int, alpha: float) -> None:
    k = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    expected = 0.0 if k > n else 1 - k / (n + 1)
    found = false_accepts(n, alpha, accept_above)
    assert expected <= alpha + 1e-12
    assert found == pytest.approx(expected, abs=margin(n))


def test_the_plain_quantile_breaks_the_bound() -> None:
    """The negative control: what one would write without thinking of finite samples."""
    n, alpha = 9, 0.1
    plug_in = false_accepts(n, alpha, lambda scores, a: float(np.quantile(scores, 1 - a)))
    assert plug_in > alpha + margin(n) + 0.03


def test_the_thresholds_by_hand() -> None:
    wrong = [i / 100 for i in range(1, 20)]  # n = 19: k = ⌈20 · 0.95⌉ = 19
    assert accept_above(wrong, 0.05) == 0.19
    assert accept_above(wrong[::-1], 0.1) == 0.18
    assert accept_above(wrong[:18], 0.05) is None  # k = 19 > 18
    assert reject_below(wrong, 0.05) == 0.01
    assert reject_below(wrong, 0.1) == 0.02
    assert reject_below(wrong[:18], 0.05) is None
    assert accept_above([], 0.5) is None


def test_alpha_is_what_is_written_and_not_its_binary_neighbour() -> None:
    # (9 + 1) · (1 − 0.7) is 3.0000000000000004 in floats, which rounds up to a fourth
    assert accept_above([i / 10 for i in range(9)], 0.7) == 0.2


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_levels_outside_are_refused(alpha: float) -> None:
    with pytest.raises(UsageError):
        accept_above([0.5], alpha)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_a_stricter_level_never_accepts_or_rejects_more(scores: list[float], a: float, b: float) -> None:
    strict, lax = sorted((a, b))

    def above(alpha: float) -> float:
        found = accept_above(scores, alpha)
        return 2.0 if found is None else found

    def below(alpha: float) -> float:
        found = reject_below(scores, alpha)
        return -1.0 if found is None else found

    assert above(strict) >= above(lax)
    assert below(strict) <= below(lax)
    share = np.mean([s > above(lax) for s in scores]) if scores else 0.0
    assert share <= lax + 1e-9  # not even on the calibration set itself


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.02, 0.9))
def test_rejecting_mirrors_accepting(scores: list[float], alpha: float) -> None:
    mirrored = accept_above([1.0 - s for s in scores], alpha)
    below = reject_below(scores, alpha)
    assert (below is None) == (mirrored is None)
    if below is not None and mirrored is not None:
        assert 1.0 - mirrored == pytest.approx(below, abs=1e-12)


def test_one_of_a_trace_is_drawn_the_same_whatever_the_order() -> None:
    examples = [(f"t{i % 7}", i) for i in range(50)]
    drawn = one_per_trace(examples, lambda e: e[0])
    assert [trace for trace, _ in drawn] == [f"t{i}" for i in range(7)]
    assert one_per_trace(examples, lambda e: e[0], seed=1) != drawn
    positions = {one_per_trace(examples, lambda e: e[0], seed=s)[0][1] for s in range(60)}
    assert positions == {i for i in range(50) if i % 7 == 0}  # every one has its chance


def correlated(traces: int, seed: int, generator: str = "g", truth: bool = False) -> list[Any]:
    """Traces whose ten steps all have nearly one score: one fact each, and not ten."""
    draw = np.random.default_rng(seed)
    return [
        labelled(float(np.clip(level + noise, 0, 1)), truth, trace=f"{truth}{i}", position=step, problem=f"p{i}",
                 generator=generator)
        for i, level in enumerate(draw.uniform(0.05, 0.95, traces))
        for step, noise in enumerate(draw.normal(0, 0.001, 10))
    ]  # fmt: skip


def test_steps_of_a_trace_are_one_fact_and_taking_them_for_ten_breaks_the_bound() -> None:
    alpha, mine, naive = 0.1, [], []
    for seed in range(400):
        examples = correlated(6, seed)
        everything = accept_above([e.verdict.score for e in examples], alpha)
        naive.append(1.0 - everything if everything is not None else 0.0)
        chosen = one_per_trace(examples, lambda e: e.trace)
        above = accept_above([e.verdict.score for e in chosen], alpha)
        mine.append(1.0 - above if above is not None else 0.0)
    assert np.mean(mine) <= alpha
    assert np.mean(naive) > alpha + 0.04


def fitted(alpha: float = 0.1) -> ConformalThresholds:
    draw = np.random.default_rng(0)
    examples = [
        labelled(float(np.clip(draw.normal(0.7 if truth else 0.3, 0.2), 0, 1)), truth, trace=f"{g}{truth}{i}",
                 generator=g)
        for g, count in (("weak", 60), ("strong", 5))
        for truth in (True, False)
        for i in range(count)
    ]  # fmt: skip
    return fit_conformal(Scripted(), examples, alpha_accept=alpha)


def check(verifier: Conformal, *texts: str) -> list[Verdict]:
    return run_verifier(verifier, subjects(*texts), log=Log())


def test_the_verifier_accepts_rejects_or_is_silent() -> None:
    thresholds = fitted()
    bounds = thresholds.generators["weak"]
    log = Log()
    verifier = Conformal(Scripted(), thresholds, generator="weak", log=log)
    high, low, middle = check(verifier, "0.99", "0.01", "0.5")
    assert [v.outcome for v in (high, low, middle)] == [Outcome.ACCEPT, Outcome.REJECT, Outcome.ABSTAIN]
    assert high.guarantee is Guarantee.STATISTICAL
    (evidence,) = high.evidence
    assert isinstance(evidence, FeatureEvidence)
    assert evidence.values["alpha_accept"] == 0.1
    assert evidence.values["accept_above"] == bounds.accept_above
    assert (bounds.wrong, bounds.right) == (60, 60)
    assert len(log.of(Scripted())) == 3
    (at,) = check(verifier, repr(bounds.accept_above))
    assert at.outcome is Outcome.ABSTAIN  # the bound is for scores above it


def test_another_generator_has_no_bound_and_gets_no_answer() -> None:
    thresholds = fitted()
    for generator in ("", "unheard of"):
        (found,) = check(Conformal(Scripted(), thresholds, generator=generator), "0.99")
        assert (found.outcome, found.reason) == (Outcome.ABSTAIN, "generator_not_in_calibration")
        assert found.guarantee is Guarantee.OPINION


def test_a_generator_with_few_traces_is_neither_accepted_nor_rejected() -> None:
    thresholds = fitted(alpha=0.1)  # five traces: k = ⌈6 · 0.9⌉ = 6
    assert thresholds.generators["strong"].accept_above is None
    found = check(Conformal(Scripted(), thresholds, generator="strong"), "1.0", "0.0")
    assert {v.outcome for v in found} == {Outcome.ABSTAIN}


def test_silence_and_errors_stay_what_they_are() -> None:
    silent, unsure, broken = check(Conformal(Scripted(), fitted(), generator="weak"), "-", "~0.99", "!")
    assert (silent.outcome, silent.score) == (Outcome.ABSTAIN, None)
    assert unsure.outcome is Outcome.ABSTAIN
    assert (broken.outcome, broken.score) == (Outcome.ERROR, None)


def test_estimates_beside_abstentions_move_no_threshold() -> None:
    decided = [labelled(0.2, False, trace=f"w{i}") for i in range(19)]
    unsure = [labelled(0.4, False, trace=f"u{i}") for i in range(200)]
    abstaining = [
        Labelled(e.verdict.model_copy(update={"outcome": Outcome.ABSTAIN}), e.truth, e.problem) for e in unsure
    ]
    bounds = fit_conformal(Scripted(), [*decided, *abstaining]).generators[""]
    assert (bounds.accept_above, bounds.wrong) == (0.2, 19)


def test_between_separated_classes_nothing_is_settled() -> None:
    bounds = Bounds(accept_above=0.2, reject_below=0.8, wrong=99, right=99)
    assert [bounds.decide(s)[0] for s in (0.9, 0.5, 0.1)] == [Outcome.ACCEPT, Outcome.ABSTAIN, Outcome.REJECT]
    assert bounds.decide(0.5)[1] == "unlike_both_classes"
    assert bounds.decide(0.8)[0] is Outcome.ACCEPT
    assert bounds.decide(0.2)[0] is Outcome.REJECT


def test_too_few_traces_for_any_bound_are_refused() -> None:
    examples = [labelled(0.5, truth, trace=f"{truth}{i}") for i in range(18) for truth in (True, False)]
    with pytest.raises(UsageError, match="19 traces"):
        fit_conformal(Scripted(), examples, alpha_accept=0.05)
    more = [*examples, labelled(0.5, False, trace="one more")]
    assert fit_conformal(Scripted(), more, alpha_accept=0.05).generators[""].accept_above == 0.5
    with pytest.raises(UsageError, match="give no thresholds"):
        fit_conformal(Scripted(edition=2), more)
    with pytest.raises(UsageError):
        fit_conformal(Scripted(), [])


def test_thresholds_belong_to_one_version_and_survive_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thresholds = fitted()
    with pytest.raises(UsageError, match="fitted for"):
        Conformal(Scripted(edition=2), thresholds)
    path = tmp_path / "c.json"
    thresholds.save(path)
    assert ConformalThresholds.load(path) == thresholds
    ours = (
        Listing("scripted", "tests.verifiers.combining.scripted:Scripted", ""),
        Listing("conformal", "draftproof.verifiers.combining.conformal:conformal", ""),
    )
    kept = tuple(each for each in registry._BUILT_IN if each.name != "conformal")
    monkeypatch.setattr(registry, "_BUILT_IN", (*kept, *ours))
    made = parse_verifier(f"conformal:file={path},generator=weak")
    assert isinstance(made, Conformal)
    assert check(made, "0.99")[0].outcome is Outcome.ACCEPT
    assert identity(registry.create_verifier("conformal", made.arguments)) == identity(made)


def test_clopper_pearson_is_scipys_beta_quantile() -> None:
    stats = pytest.importorskip("scipy.stats")
    for errors, accepted in [(0, 1), (0, 59), (1, 100), (7, 30), (299, 300), (40, 5000)]:
        for delta in (0.01, 0.05, 0.5):
            expected = stats.beta.ppf(1 - delta, errors + 1, accepted - errors)
            assert clopper_pearson_upper(errors, accepted, delta) == pytest.approx(expected, rel=1e-9)
    assert clopper_pearson_upper(3, 3, 0.05) == 1.0
    assert clopper_pearson_upper(0, 10, 0.05) == pytest.approx(1 - 0.05 ** (1 / 10))
    with pytest.raises(UsageError):
        clopper_pearson_upper(4, 3, 0.05)


def precision_rounds(choose: Callable[[Any, Any], float | None], rounds: int) -> float:
    """How often the true error rate among accepted subjects is above 0.1. P(right | score) is the score."""
    missed = 0
    for seed in range(rounds):
        draw = np.random.default_rng(seed)
        scores = draw.uniform(0.5, 1.0, 150)
        threshold = choose(draw.uniform(size=150) < scores, scores)
        missed += threshold is not None and (1 - threshold) / 2 > 0.1 + 1e-12
    return missed / rounds


def test_the_precision_that_was_asked_for_is_missed_at_most_as_often_as_allowed() -> None:
    def walked(truths: Any, scores: Any) -> float | None:
        found = precision_threshold(truths, scores, epsilon=0.1, delta=0.1, grid=[i / 20 for i in range(20, 9, -1)])
        return None if found is None else found.accept_at

    def best_looking(truths: Any, scores: Any) -> float | None:
        """The negative control: the laxest threshold with few errors on the same data."""
        for threshold in (i / 20 for i in range(10, 21)):
            chosen = scores >= threshold
            if chosen.any() and np.mean(~truths[chosen]) <= 0.1:
                return float(threshold)
        return None

    assert precision_rounds(walked, 300) <= 0.1 + 4 * math.sqrt(0.1 * 0.9 / 300)
    assert precision_rounds(best_looking, 300) > 0.2


def test_the_walk_stops_at_the_first_failure() -> None:
    scores = [0.95] * 40 + [0.85] * 10 + [0.75] * 500
    truths = [1] * 40 + [0] * 10 + [1] * 500
    found = precision_threshold(truths, scores, epsilon=0.1, delta=0.05, grid=[0.9, 0.8, 0.7])
    assert found is not None
    assert (found.accept_at, found.accepted, found.errors) == (0.9, 40, 0)
    # taken alone, the laxest would pass
    lax = precision_threshold(truths, scores, epsilon=0.1, delta=0.05, grid=[0.7])
    assert lax is not None
    assert lax.accepted == 550


def test_a_threshold_that_accepts_too_few_to_test_is_passed_over() -> None:
    found = precision_threshold([1] * 40, [1.0] + [0.6] * 39, epsilon=0.1, delta=0.05, grid=[1.0, 0.5])
    assert found is not None
    assert found.accept_at == 0.5
    assert precision_threshold([1] * 28, [0.6] * 28, epsilon=0.1, delta=0.05) is None  # 29 are needed
    assert precision_threshold([1] * 29, [0.6] * 29, epsilon=0.1, delta=0.05) is not None
    with pytest.raises(UsageError, match="fall"):
        precision_threshold([1], [0.5], epsilon=0.1, grid=[0.5, 0.9])
    with pytest.raises(UsageError):
        precision_threshold([1], [math.nan], epsilon=0.1)
