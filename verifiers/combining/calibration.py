"""Fitting a calibrator: a map from one verifier's scores to probabilities, with what it was worth on other problems.

The map is fitted on some problems and measured on the rest: Brier score, expected calibration error
and log loss before and after, with intervals over problems. Calibration belongs to a verifier's
version and to the generators whose traces it saw: a verifier that is honest about a weak model's
mistakes is often not about a strong one's (arXiv 2509.17995).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from draftproof.errors import UsageError
from draftproof.metrics.bootstrap import Interval, paired
from draftproof.metrics.classification import brier, ece, log_loss
from draftproof.verdict import Verdict
from draftproof.verifier import Verifier, identity
from draftproof.verifiers.combining.labelled import Labelled, split_by_problem
from draftproof.verifiers.combining.maps import Map, Table, fit_isotonic, fit_platt, fit_table, fit_temperature
from draftproof.verifiers.combining.stored import FittedFor, Stored

Method = Literal["temperature", "platt", "isotonic", "table"]

LEAST_LABELS: dict[Method, int] = {"temperature": 50, "platt": 50, "isotonic": 700, "table": 50}
"""Scored labels to fit on. Isotonic maps have as many parameters as they find: about a thousand labels, 700 of which
are fitted on, are what they need."""
LEAST_OF_A_CLASS = 10
LEAST_PROBLEMS = 5
"""Of each part."""
SEED = 20_240_501

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Measured(BaseModel):
    """A measure on held-out problems, with its 95 % interval over problems."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Finite
    low: Finite
    high: Finite

    @classmethod
    def of(cls, interval: Interval) -> Measured:
        if interval.value is None or interval.low is None or interval.high is None:
            raise UsageError("The held-out problems are too few for an interval.", remedy="Give more labelled traces.")
        return cls(value=interval.value, low=interval.low, high=interval.high)


class Comparison(BaseModel):
    """One measure before and after, and the difference on the same drawn problems: below 0 is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Measured
    after: Measured
    change: Measured


class Tally(BaseModel):
    """How much there was of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    right: Count
    wrong: Count
    traces: Count
    problems: Count

    @classmethod
    def of(cls, examples: Sequence[Labelled]) -> Tally:
        right = sum(example.truth for example in examples)
        traces, problems = ({getattr(e, what) for e in examples} for what in ("trace", "problem"))
        return cls(right=right, wrong=len(examples) - right, traces=len(traces), problems=len(problems))


class Calibrator(Stored):
    """A fitted map, whom it belongs to, and how good it is."""

    format: Literal["draftproof-calibrator"] = "draftproof-calibrator"
    version: Literal[1] = 1
    verifier: FittedFor
    calibration: Map
    generators: dict[str, Count]
    """Labels of each generator that it was fitted on; the empty name stands for traces that name none."""
    fitted_on: Tally
    measured_on: Tally
    """Held-out problems, none of which was fitted on."""
    seed: int
    brier: Comparison
    ece: Comparison
    log_loss: Comparison

    def probability(self, verdict: Verdict) -> float | None:
        """The calibrated probability; None where there is no score, or the table never saw its state."""
        return mapped(self.calibration, verdict)


def mapped(calibration: Map, verdict: Verdict) -> float | None:
    """What a map makes of a verdict; None where there is no score, or the table never saw its state."""
    if isinstance(calibration, Table):
        return calibration.value(state_of(verdict))
    return None if verdict.score is None else float(calibration.apply([verdict.score])[0])


def state_of(verdict: Verdict) -> str:
    """What a table counts: outcome, reason, and the score to six digits where there is one."""
    score = "" if verdict.score is None else f"{verdict.score:.6g}"
    return "/".join((verdict.outcome.value, verdict.reason, score))


def fit_calibrator(
    verifier: Verifier,
    examples: Sequence[Labelled],
    method: Method = "platt",
    *,
    held_out: float = 0.3,
    seed: int = SEED,
) -> Calibrator:
    """A calibrator of `verifier` from its labelled verdicts.

    Raises UsageError for verdicts of another verifier, and for labels too few to fit on or to measure with.
    """
    if method not in LEAST_LABELS:
        raise UsageError(f"There is no calibration {method!r}.", remedy=f"There are: {', '.join(LEAST_LABELS)}.")
    expected = identity(verifier)
    if strangers := {example.verdict.verifier for example in examples} - {expected}:
        raise UsageError(f"Verdicts of {', '.join(sorted(strangers))} cannot calibrate {expected}.")
    usable = [e for e in examples if method == "table" or e.verdict.score is not None]
    to_fit, rest = split_by_problem(usable, lambda e: e.problem, held_out=held_out, seed=seed)
    _hold_enough(to_fit, LEAST_LABELS[method], f"to fit {method} on")
    calibration = _FIT[method](to_fit)
    pairs = [(e, e.verdict.score, mapped(calibration, e.verdict)) for e in rest]
    measured = [(e, score, p) for e, score, p in pairs if score is not None and p is not None]
    _hold_enough([e for e, _, _ in measured], 2 * LEAST_OF_A_CLASS, "to measure with")
    problems = [e.problem for e, _, _ in measured]
    truths = np.array([e.truth for e, _, _ in measured])
    before, after = (np.array([row[column] for row in measured], dtype=np.float64) for column in (1, 2))

    def compared(measure: Callable[..., float]) -> Comparison:
        found = paired(measure, problems, (truths, before), (truths, after))
        return Comparison(
            before=Measured.of(found.first), after=Measured.of(found.second), change=Measured.of(found.difference)
        )

    return Calibrator(
        verifier=FittedFor.of(verifier),
        calibration=calibration,
        generators=dict(Counter(e.generator for e in to_fit)),
        fitted_on=Tally.of(to_fit),
        measured_on=Tally.of([e for e, _, _ in measured]),
        seed=seed,
        brier=compared(brier),
        ece=compared(ece),
        log_loss=compared(log_loss),
    )


def _scored(fit: Callable[..., Map]) -> Callable[[Sequence[Labelled]], Map]:
    return lambda examples: fit([e.verdict.score for e in examples], [e.truth for e in examples])


_FIT: dict[Method, Callable[[Sequence[Labelled]], Map]] = {
    "temperature": _scored(fit_temperature),
    "platt": _scored(fit_platt),
    "isotonic": _scored(fit_isotonic),
    "table": lambda examples: fit_table([state_of(e.verdict) for e in examples], [e.truth for e in examples]),
}


def _hold_enough(examples: Sequence[Labelled], least: int, purpose: str) -> None:
    tally = Tally.of(examples)
    enough = (
        len(examples) >= least
        and min(tally.right, tally.wrong) >= LEAST_OF_A_CLASS
        and tally.problems >= LEAST_PROBLEMS
    )
    if not enough:
        raise UsageError(
            f"There are too few labels {purpose}: {tally.right} right and {tally.wrong} wrong ones with a score, of "
            f"{tally.problems} problems.",
            remedy=f"It takes {least} labels with {LEAST_OF_A_CLASS} of each kind, from {LEAST_PROBLEMS} problems.",
        )
