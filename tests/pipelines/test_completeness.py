"""Yes against no, where a server tells a few tokens only: what it does not tell must not be able to turn the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from draftproof.language_model import FirstToken
from draftproof.pipelines.completeness import CompletenessProbe
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Outcome, Verdict
from tests.pipelines.solvers import Solver

SUBJECT = Subject(
    key=SubjectKey(trace_digest="sha256:" + "0" * 64, granularity=Granularity.STEP, position=0),
    problem="2+2?",
    text="4",
)


@dataclass
class Told(Solver):
    """Tells these tokens, and no others."""

    top: tuple[tuple[str, float], ...] = ()

    def first_token(self, contexts: object, top: int = 20) -> list[FirstToken]:
        return [FirstToken(0.0, len(self.top), self.top)]


def judged(*top: tuple[str, float], threshold: float = 0.5) -> Verdict:
    (verdict,) = CompletenessProbe(Told([""], top=top), threshold).check([SUBJECT])
    return verdict


@pytest.mark.parametrize(
    ("top", "threshold", "outcome"),
    [
        pytest.param([("yes", 0.2)], 0.5, Outcome.ABSTAIN, id="a-yes-alone-and-the-rest-unseen"),
        pytest.param([("no", 0.2)], 0.5, Outcome.ABSTAIN, id="a-no-alone-and-the-rest-unseen"),
        pytest.param([("yes", 0.51)], 0.5, Outcome.ACCEPT, id="whatever-the-rest-is"),
        pytest.param([("yes", 0.49)], 0.5, Outcome.ABSTAIN, id="the-rest-could-be-noes"),
        pytest.param([("no", 0.51)], 0.5, Outcome.REJECT, id="whatever-the-rest-is-no"),
        pytest.param([("yes", 0.6), ("no", 0.1)], 0.7, Outcome.ABSTAIN, id="a-threshold-among-what-could-be"),
        pytest.param([("yes", 0.05), ("no", 0.01), ("So", 0.94)], 0.5, Outcome.ACCEPT, id="nothing-is-unseen"),
        pytest.param([("yes", 0.5), ("no", 0.5 - 1e-7)], 0.5, Outcome.ACCEPT, id="rounding-is-nothing-unseen"),
        pytest.param([("yes", 1.0)], 1.0, Outcome.ACCEPT, id="certain"),
        pytest.param([("So", 1.0)], 0.0, Outcome.ABSTAIN, id="neither"),
        pytest.param([("yes", math.nan), ("no", 0.3)], 0.5, Outcome.ABSTAIN, id="nan-is-unseen"),
    ],
)
def test_what_is_not_told_cannot_turn_the_answer(
    top: list[tuple[str, float]], threshold: float, outcome: Outcome
) -> None:
    verdict = judged(*top, threshold=threshold)
    assert verdict.outcome is outcome
    if outcome is Outcome.ABSTAIN:
        assert verdict.score is None
        assert verdict.reason in ("unseen_tokens_could_turn_it", "neither_yes_nor_no")


def test_how_much_was_not_told_is_in_the_verdict() -> None:
    assert judged(("yes", 0.6), ("no", 0.1)).raw == pytest.approx({"yes": 0.6, "no": 0.1, "unseen": 0.3})
