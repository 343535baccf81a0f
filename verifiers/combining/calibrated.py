"""A verifier whose scores went through a calibrator: the same judge, with probabilities that hold.

Accepts at a calibrated probability of at least the threshold and rejects below it. Where the
verifier abstains or errs, so does this: calibration knows nothing that the verifier did not say.
A rejection that was computed or proved stands, however probable the step looks on average.
The guarantee is *opinion*: a probability is right on average and bounds nothing (see `conformal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from draftproof.errors import UsageError
from draftproof.verdict import Guarantee, Outcome, Verdict
from draftproof.verifier import VerdictLog, Verifier, identity
from draftproof.verifiers.combining.calibration import Calibrator
from draftproof.verifiers.combining.labelled import UNKNOWN_GENERATOR
from draftproof.verifiers.combining.of_one import OfOne
from draftproof.verifiers.combining.parts import HARD, told


@dataclass(frozen=True)
class Calibrated(OfOne):
    """`verifier` through `calibrator`. Raises UsageError for a calibrator of any other verifier or version."""

    verifier: Verifier
    calibrator: Calibrator
    generator: str = UNKNOWN_GENERATOR
    """Which model wrote what is judged. Scores are called calibrated only about one that is named, and that the
    calibrator saw."""
    threshold: float = 0.5
    file: str = ""
    log: VerdictLog | None = field(default=None, repr=False, compare=False)
    name: str = "calibrated"
    version: int = 2
    guarantee: Guarantee = Guarantee.OPINION

    def __post_init__(self) -> None:
        self.calibrator.verifier.hold(self.verifier, "The calibrator")
        if not 0.0 <= self.threshold <= 1.0:
            raise UsageError(f"A threshold is a probability, got {self.threshold}.")

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._made_by | {"threshold": self.threshold}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"of": identity(self.verifier), "calibrator": self.calibrator.digest}

    def _warning(self) -> str:
        """Why its probabilities may not hold for what is judged; empty where they should."""
        if self.generator == UNKNOWN_GENERATOR:
            return "generator_not_stated"
        return "" if self.generator in self.calibrator.generators else "generator_not_in_calibration"

    def _verdict(self, part: Verdict, signature: str) -> Verdict:
        warning = self._warning()
        probability = None if part.outcome is Outcome.ERROR else self.calibrator.probability(part)
        outcome, reason = self._decided(part, probability)
        foreign = warning == "generator_not_in_calibration"
        return Verdict(
            subject=part.subject,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=probability,
            calibrated=probability is not None and not warning,
            guarantee=self.guarantee,
            reason=warning if foreign and outcome in (Outcome.ACCEPT, Outcome.REJECT) else reason,
            evidence=part.evidence,
            cost=part.cost,
            raw={"of": told(part), "threshold": self.threshold, "generator": self.generator, "warning": warning},
        )

    def _decided(self, part: Verdict, probability: float | None) -> tuple[Outcome, str]:
        if part.outcome in (Outcome.ERROR, Outcome.ABSTAIN):
            return part.outcome, part.reason
        if part.outcome is Outcome.REJECT and self.verifier.guarantee in HARD:
            return Outcome.REJECT, part.reason
        if probability is None:
            return Outcome.ABSTAIN, "no_score" if part.score is None else "state_not_in_calibration"
        if probability >= self.threshold:
            return Outcome.ACCEPT, "at_or_above_threshold"
        return Outcome.REJECT, "below_threshold"


def calibrated(file: str, generator: str = UNKNOWN_GENERATOR, threshold: float = 0.5) -> Calibrated:
    """The verifier that the calibrator in `file` was fitted for, calibrated. The file says which one that is."""
    calibrator = Calibrator.load(file)
    return Calibrated(calibrator.verifier.make(f"The calibrator {file}"), calibrator, generator, threshold, file)
