"""The verifier: what it reads, what its outcome means, and that nothing unknown is kept on its word."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from draftproof.errors import InputError, UsageError
from draftproof.language_model import Ability
from draftproof.registry import create_verifier
from draftproof.subject import Granularity, Subject, SubjectKey, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import FeatureEvidence, Outcome, Proposition, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.routers.logistic import LogisticModel
from draftproof.verifiers.routers.router import RouterVerifier
from draftproof.verifiers.routers.rows import Pair
from draftproof.verifiers.routers.stored import save_router
from tests.verifiers.routers.made_rows import PAIR


class Written(Subject):
    """As pipelines hand a step over: `draftproof.pipelines.step_features.StepSubject`."""

    features: dict[str, float]
    writers: tuple[str, ...]
    pair: tuple[str, str]


def written(**changed: Any) -> Written:
    given: dict[str, Any] = {
        "key": SubjectKey(trace_digest="sha256:0", granularity=Granularity.STEP, position=1),
        "problem": "Ben has 3 eggs.",
        "text": "So Ben has 4 eggs.\n\n",
        "context": ("First.\n\n",),
        "writers": ("draft",),
        "pair": PAIR,
        "features": {"mean_logprob": -0.5, "tokens": 7.0, "unused": 1.0},
    }
    return Written.model_construct(**(given | changed))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A router whose logit is `-2 · mean_logprob - 1`; at mean_logprob -0.5 it is 0, the probability ½."""
    model = LogisticModel((0.0, 0.0), (1.0, 1.0), (-2.0, 0.0), -1.0)
    out = tmp_path / "router.json"
    save_router(out, pair=Pair(*PAIR), features=("mean_logprob", "tokens"), model=model, base_rate=0.4, report={})
    return out


class Log(list[Verdict]):
    def add(self, verdicts: Any) -> None:
        self.extend(verdicts)


def judged(router: RouterVerifier, *subjects: Subject) -> list[Verdict]:
    log = Log()
    verdicts = run_verifier(router, subjects, log=log)
    assert log == verdicts
    return verdicts


def test_equality_keeps_the_draft_and_the_score_is_of_the_target_being_better(file: Path) -> None:
    router = RouterVerifier(str(file))
    unsure, surely, hopeless = judged(
        router,
        written(),
        written(features={"mean_logprob": -0.1, "tokens": 1.0}),
        written(features={"mean_logprob": -9.0, "tokens": 1.0}),
    )
    assert (unsure.score, unsure.outcome, unsure.reason) == (0.5, Outcome.REJECT, "advantage_unlikely")
    assert (surely.outcome, hopeless.outcome, hopeless.reason) == (Outcome.REJECT, Outcome.ACCEPT, "advantage_likely")
    assert (surely.score or 1.0) < 0.5 < (hopeless.score or 0.0)
    assert unsure.proposition is Proposition.TARGET_BETTER
    (below,) = judged(RouterVerifier(str(file), threshold=0.4999), written())
    assert (below.outcome, below.score) == (Outcome.ACCEPT, 0.5)
    assert below.raw == {"threshold": 0.4999, "base_rate": 0.4}


def test_thresholds_at_the_ends_keep_all_and_none(file: Path) -> None:
    steps = [written(features={"mean_logprob": value, "tokens": 1.0}) for value in (-900.0, -1.0, -0.001)]
    assert {each.outcome for each in judged(RouterVerifier(str(file), 1.0), *steps)} == {Outcome.REJECT}
    assert {each.outcome for each in judged(RouterVerifier(str(file), 0.0), *steps)} == {Outcome.ACCEPT}


def test_the_evidence_is_what_was_read_and_nothing_else(file: Path) -> None:
    (verdict,) = judged(RouterVerifier(str(file)), written())
    assert verdict.evidence == (FeatureEvidence(values={"mean_logprob": -0.5, "tokens": 7.0}),)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"pair": (PAIR[0], "else#ccc")}, "unknown_pair", id="other-target"),
        pytest.param({"pair": (PAIR[1], PAIR[0])}, "unknown_pair", id="turned-round"),
        pytest.param({"pair": ()}, "unknown_pair", id="no-pair"),
        pytest.param({"features": {"tokens": 7.0}}, "missing_features", id="a-feature-missing"),
        pytest.param({"features": {"mean_logprob": math.nan, "tokens": 1.0}}, "missing_features", id="nan"),
        pytest.param({"features": {"mean_logprob": -math.inf, "tokens": 1.0}}, "missing_features", id="infinite"),
        pytest.param({"writers": ()}, "missing_features", id="writers-missing"),
        pytest.param({"writers": ("nobody",)}, "missing_features", id="unknown-writer"),
    ],
)
def test_what_is_not_known_is_an_abstention(file: Path, changed: dict[str, Any], reason: str) -> None:
    unknown, known = judged(RouterVerifier(str(file), threshold=1.0), written(**changed), written())
    assert (unknown.outcome, unknown.reason, unknown.score) == (Outcome.ABSTAIN, reason, None)
    assert known.outcome is Outcome.REJECT


def test_a_step_of_a_plain_trace_has_no_features(file: Path) -> None:
    subjects = list(step_subjects(Trace(problem="p", steps=(Step(text="a"), Step(text="b")))))
    assert [each.reason for each in judged(RouterVerifier(str(file)), *subjects)] == ["missing_features"] * 2


def test_numbers_too_large_to_add_are_an_abstention(tmp_path: Path) -> None:
    model = LogisticModel((0.0, 0.0), (1.0, 1.0), (1e308, -1e308), 0.0)
    out = tmp_path / "router.json"
    save_router(out, pair=Pair(*PAIR), features=("a", "b"), model=model, base_rate=0.4, report={})
    (verdict,) = judged(RouterVerifier(str(out)), written(features={"a": 1e10, "b": 1e10}))
    assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "no_finite_score")
    (certain,) = judged(RouterVerifier(str(out)), written(features={"a": 1e10, "b": 0.0}))
    assert (certain.outcome, certain.score) == (Outcome.ACCEPT, 1.0)


def test_the_user_may_call_the_models_what_they_like(file: Path) -> None:
    (verdict,) = judged(RouterVerifier(str(file)), written(pair=("mine#sha256:aaa", "yours#sha256:bbb")))
    assert verdict.outcome is Outcome.REJECT


def test_it_is_made_by_name_and_its_identity_holds_what_it_was_fitted_to(file: Path, tmp_path: Path) -> None:
    router = create_verifier("router", {"file": str(file), "threshold": 0.25})
    assert isinstance(router, RouterVerifier)
    assert create_verifier("router", router.arguments) == router
    assert (router.pair, router.needs) == (PAIR, {Ability.LOGPROBS})
    before = identity(router)
    model = LogisticModel((0.0,), (1.0,), (3.0,), -1.0)
    save_router(file, pair=Pair(*PAIR), features=("tokens",), model=model, base_rate=0.4, report={})
    again = RouterVerifier(str(file), 0.25)
    assert identity(again) != before
    assert again.needs == frozenset()


def test_a_router_that_cannot_be_read_is_told_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no router"):
        create_verifier("router", {"file": str(tmp_path / "none.json")})
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="holds no router"):
        create_verifier("router", {"file": str(tmp_path / "bad.json")})


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, "0.5", None])
def test_a_threshold_is_a_probability(file: Path, threshold: Any) -> None:
    with pytest.raises(UsageError, match="threshold of a router"):
        RouterVerifier(str(file), threshold)
