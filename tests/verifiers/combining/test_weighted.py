"""Weighted sums of evidence, vetoes, and what must never be combined."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from draftproof.errors import UsageError
from draftproof.metrics.classification import log_loss, roc_auc
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.combining.weighted import Weighted, Weights, fit_weights, naive_bayes
from tests.verifiers.combining.scripted import Log, Scripted, subjects

A, B = Scripted(column=0), Scripted(column=1)
EXACT = Scripted(column=2, guarantee=Guarantee.EXACT)
PROOF = Scripted(column=2, guarantee=Guarantee.PROOF)


def weighted(*verifiers: Any, base_rate: float = 0.5, log: Log | None = None) -> Weighted:
    return Weighted(verifiers, naive_bayes(verifiers, base_rate), log or Log())


def check(verifier: Weighted, *texts: str) -> list[Verdict]:
    return run_verifier(verifier, subjects(*texts), log=Log())


def test_naive_bayes_by_hand() -> None:
    (found,) = check(weighted(A, B, base_rate=0.8), "0.9 0.6")
    odds = (0.9 / 0.1) * (0.6 / 0.4) / (0.8 / 0.2)
    assert found.score == pytest.approx(odds / (1 + odds))
    assert not found.calibrated  # nobody has looked whether independence holds
    assert found.guarantee is Guarantee.OPINION


def test_who_says_the_base_rate_has_said_nothing() -> None:
    with_b, without_b = check(weighted(A, B, base_rate=0.7), "0.9 0.7", "0.9 -")
    assert with_b.score == pytest.approx(without_b.score)
    assert without_b.score == pytest.approx(0.9)


def test_silence_of_all_is_an_abstention_and_an_error_is_silence() -> None:
    silent, broken, half, unsure = check(weighted(A, B), "- -", "! -", "! 0.9", "~0.1 0.9")
    assert unsure.score == pytest.approx(0.9)  # an estimate beside an abstention is not weighed
    assert (silent.outcome, silent.score, silent.reason) == (Outcome.ABSTAIN, None, "no_scores")
    assert broken.outcome is Outcome.ABSTAIN
    assert half.score == pytest.approx(0.9)
    assert [part["outcome"] for part in half.raw["parts"]] == ["error", "accept"]


def test_equality_accepts() -> None:
    at, below = check(weighted(A, B), "0.5 0.5", "0.5 0.499")
    assert (at.score, at.outcome, below.outcome) == (0.5, Outcome.ACCEPT, Outcome.REJECT)


def test_certainty_is_worth_no_more_than_epsilon_allows() -> None:
    (found,) = check(weighted(A, B), "1.0 0.01")
    odds = 999 * (0.01 / 0.99)
    assert found.score == pytest.approx(odds / (1 + odds))


@pytest.mark.parametrize("hard", [EXACT, PROOF])
def test_an_exact_or_proved_rejection_is_a_veto(hard: Scripted) -> None:
    (found,) = check(weighted(A, B, hard), "0.999 0.999 0.0")
    assert (found.outcome, found.reason, found.score) == (Outcome.REJECT, "vetoed", 0.0)


def test_only_a_proof_accepts_by_itself() -> None:
    (proved,) = check(weighted(A, B, PROOF), "0.1 0.1 1.0")
    assert (proved.outcome, proved.reason) == (Outcome.ACCEPT, "proved")
    (computed,) = check(weighted(A, B, EXACT), "0.1 0.1 1.0")
    assert (computed.outcome, computed.reason) == (Outcome.REJECT, "below_threshold")
    (alone,) = check(weighted(A, B, EXACT), "- - 1.0")
    assert alone.outcome is Outcome.ABSTAIN  # right arithmetic does not make a right step


def test_a_veto_outweighs_a_proof_of_something_else() -> None:
    exact = Scripted(column=3, guarantee=Guarantee.EXACT)
    (found,) = check(weighted(A, PROOF, exact), "0.9 - 1.0 0.0")
    assert found.outcome is Outcome.REJECT


def test_a_hard_verifier_that_breaks_neither_vetoes_nor_proves() -> None:
    broken, silent = check(weighted(A, B, PROOF), "0.9 0.9 !", "0.9 0.9 -")
    assert broken.outcome is silent.outcome is Outcome.ACCEPT
    assert broken.reason == "at_or_above_threshold"


def test_every_part_is_logged_before_the_decision() -> None:
    log = Log()
    check(weighted(A, B, EXACT, log=log), "0.9 0.6 0.0", "0.9 0.6 -")
    assert [len(log.of(v)) for v in (A, B, EXACT)] == [2, 2, 2]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Scripted(column=1, proposition=Proposition.TARGET_BETTER), id="another-proposition"),
        pytest.param(Scripted(column=1, granularity=Granularity.TRACE), id="another-granularity"),
        pytest.param(Scripted(column=0), id="the-same-verifier-twice"),
    ],
)
def test_what_does_not_belong_together_is_not_combined(other: Scripted) -> None:
    weights = Weights(weights={identity(A): 1.0, identity(other): 1.0}, intercept=0.0, base_rate=0.5)
    with pytest.raises(UsageError, match=r"judges|twice"):
        Weighted((A, other), weights, Log())


def test_weights_of_other_verifiers_are_refused() -> None:
    with pytest.raises(UsageError, match="weights are for"):
        Weighted((A, Scripted(column=1, edition=2)), naive_bayes((A, B), 0.5), Log())
    with pytest.raises(UsageError, match="no weight"):
        naive_bayes((A,), 0.5).probability({"a stranger": 0.5})


def judges(count: int = 2000, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """Two noisy judges of which the second repeats the first, and a third of its own mind."""
    draw = np.random.default_rng(seed)
    truths = draw.uniform(size=count) < 0.6
    evidence = np.where(truths, 1.0, -1.0)

    def said(noise: Any) -> Any:
        return 1 / (1 + np.exp(-(evidence + noise)))

    shared = draw.normal(0, 1.5, count)
    return {
        "first": said(shared),
        "echo": said(shared + draw.normal(0, 0.05, count)),
        "third": said(draw.normal(0, 1.5, count)),
    }, truths


def probabilities(weights: Weights, scores: dict[str, Any]) -> list[float]:
    rows = zip(*(scores[name] for name in weights.weights), strict=True)
    found = [weights.probability(dict(zip(weights.weights, map(float, row), strict=True))) for row in rows]
    return [p for p in found if p is not None]


def test_fitted_weights_do_not_count_an_echo_double() -> None:
    scores, truths = judges()
    fitted = fit_weights(scores, truths)
    naive = Weights(weights=dict.fromkeys(scores, 1.0), intercept=fitted.intercept, base_rate=fitted.base_rate)
    test_scores, test_truths = judges(seed=1)
    ours, theirs = probabilities(fitted, test_scores), probabilities(naive, test_scores)
    assert fitted.weights["first"] + fitted.weights["echo"] == pytest.approx(fitted.weights["third"], rel=0.3)
    assert log_loss(test_truths, ours) < log_loss(test_truths, theirs)
    together, alone = roc_auc(test_truths, ours), roc_auc(test_truths, test_scores["first"])
    assert together is not None
    assert alone is not None
    assert together > alone + 0.03


def test_the_fit_is_scikit_learns() -> None:
    sk = pytest.importorskip("sklearn.linear_model")
    scores, truths = judges(400)
    ours = fit_weights(scores, truths, l2=2.0)
    prior = math.log(ours.base_rate / (1 - ours.base_rate))
    clipped = {name: np.clip(s, 1e-3, 1 - 1e-3) for name, s in scores.items()}
    design = np.column_stack([np.log(clipped[n] / (1 - clipped[n])) - prior for n in sorted(scores)])
    theirs = sk.LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(design, truths)
    assert [ours.weights[n] for n in sorted(scores)] == pytest.approx(list(theirs.coef_[0]), abs=1e-4)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_abstentions_in_the_fit_are_no_evidence() -> None:
    scores, truths = judges(600)
    half = {**scores, "third": [s if i % 2 else None for i, s in enumerate(scores["third"])]}
    fitted = fit_weights(half, truths)
    assert fitted.weights["third"] > 0.2
    neutral = [fitted.base_rate if s is None else s for s in half["third"]]
    assert fit_weights({**scores, "third": neutral}, truths).weights == pytest.approx(fitted.weights, abs=1e-6)
    with pytest.raises(UsageError, match="no score at all"):
        fit_weights({**scores, "third": [None] * 600}, truths)


@pytest.mark.parametrize(
    ("scores", "truths"),
    [
        pytest.param([math.nan] * 40, [0, 1] * 20, id="nan"),
        pytest.param([1.5] * 40, [0, 1] * 20, id="no-probabilities"),
        pytest.param([0.5] * 39, [0, 1] * 20, id="one-score-missing"),
        pytest.param([0.5] * 40, [1] * 40, id="one-class"),
        pytest.param([0.5] * 40, [1] * 31 + [0] * 9, id="too-few-wrong"),
    ],
)
def test_labels_and_scores_that_cannot_be_fitted_are_refused(scores: Any, truths: Any) -> None:
    with pytest.raises(UsageError):
        fit_weights({"a": scores}, truths)


def test_weights_survive_their_file(tmp_path: Path) -> None:
    scores, truths = judges(200)
    fitted = fit_weights(scores, truths)
    fitted.save(tmp_path / "w.json")
    assert Weights.load(tmp_path / "w.json") == fitted
    with pytest.raises(ValidationError):
        Weights(weights={"a": math.nan}, intercept=0.0, base_rate=0.5)
    with pytest.raises(ValidationError):
        naive_bayes((A,), 1.0)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_more_evidence_for_a_step_never_lowers_its_probability(a: float, b: float, c: float, rate: float) -> None:
    weights = naive_bayes((A, B), rate)
    low, high = sorted((b, c))
    below = weights.probability({identity(A): a, identity(B): low})
    above = weights.probability({identity(A): a, identity(B): high})
    assert below is not None
    assert above is not None
    assert 0.0 <= below <= above <= 1.0
