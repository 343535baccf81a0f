"""Maps from a verifier's score to a probability that holds: temperature, Platt, isotonic, a table of states.

Fitted on labelled verdicts (see `calibration`) and stored as JSON. The first three never turn an
order around: of two scores, the higher stays at least as high. A fit that would have to do so is
refused, since a score that falls as steps get better needs mending and not scaling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Booleans, Numbers, Truths, aligned, booleans, probabilities
from draftproof.verifiers.combining.logistic import Floats, fit, logit, sigmoid

EPSILON = 1e-6
"""Scores are read at least this far from 0 and 1."""
MOST_STATES = 64

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Temperature(BaseModel):
    """σ(logit p / T): T above 1 takes certainty away. Leaves ½ where it is (Guo et al., arXiv 1706.04599)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["temperature"] = "temperature"
    temperature: Positive

    def apply(self, scores: Numbers) -> Floats:
        return sigmoid(logit(probabilities(scores, "scores"), EPSILON) / self.temperature)


class Platt(BaseModel):
    """σ(slope · logit p + shift): also moves a verifier that is too strict or too lenient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["platt"] = "platt"
    slope: Positive
    shift: Finite

    def apply(self, scores: Numbers) -> Floats:
        return sigmoid(self.slope * logit(probabilities(scores, "scores"), EPSILON) + self.shift)


class Isotonic(BaseModel):
    """Rising steps, joined by straight lines: any shape that keeps the order. Constant beyond the outermost points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["isotonic"] = "isotonic"
    scores: Annotated[tuple[Probability, ...], Field(min_length=1)]
    """Where the steps begin and end, rising."""
    values: Annotated[tuple[Probability, ...], Field(min_length=1)]
    """Probabilities there, never falling."""

    @model_validator(mode="after")
    def _rises(self) -> Isotonic:
        if len(self.scores) != len(self.values):
            raise ValueError("every point has a score and a value")
        if any(b <= a for a, b in pairwise(self.scores)):
            raise ValueError("scores of the points rise")
        if any(b < a for a, b in pairwise(self.values)):
            raise ValueError("values of the points never fall")
        return self

    def apply(self, scores: Numbers) -> Floats:
        given = probabilities(scores, "scores")
        found: Floats = np.interp(given, self.scores, self.values)
        return found


class Table(BaseModel):
    """(right + 1) / (seen + 2) for each state of a verifier that has few: a digit, votes, proved or unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["table"] = "table"
    states: Annotated[dict[str, tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]], Field(min_length=1)]
    """Of each state how many were right, and how many there were."""

    @model_validator(mode="after")
    def _counts(self) -> Table:
        if any(right > seen for right, seen in self.states.values()):
            raise ValueError("of a state's examples no more than all are right")
        return self

    def value(self, state: str) -> float | None:
        """None for a state that was never seen: half of nothing is no knowledge."""
        if state not in self.states:
            return None
        right, seen = self.states[state]
        return (right + 1) / (seen + 2)


Map = Annotated[Temperature | Platt | Isotonic | Table, Field(discriminator="kind")]


def fit_temperature(scores: Numbers, truths: Truths) -> Temperature:
    """The temperature of least log loss against smoothed labels. Raises UsageError where scores rank backwards."""
    given, targets = _labelled(scores, truths)
    (slope,) = fit(logit(given, EPSILON)[:, None], _smoothed(targets), l2=np.zeros(1), centre=np.ones(1))
    _hold_rising(slope)
    return Temperature(temperature=float(1.0 / slope))


def fit_platt(scores: Numbers, truths: Truths) -> Platt:
    """Slope and shift of least log loss, against Platt's smoothed labels. Raises UsageError as `fit_temperature`."""
    given, targets = _labelled(scores, truths)
    design = np.column_stack([logit(given, EPSILON), np.ones(len(given))])
    slope, shift = fit(design, _smoothed(targets), l2=np.array([1e-6, 0.0]), centre=np.array([1.0, 0.0]))
    _hold_rising(slope)
    return Platt(slope=float(slope), shift=float(shift))


def fit_isotonic(scores: Numbers, truths: Truths) -> Isotonic:
    """The never-falling map of least squared error: neighbours that violate the order are pooled.

    Equal scores are one point from the start. Values are kept 1/(N+2) from 0 and 1: N labels are no
    ground for certainty.
    """
    given, targets = _labelled(scores, truths)
    distinct, inverse = np.unique(given, return_inverse=True)
    weights = np.bincount(inverse)
    means = np.bincount(inverse, weights=targets.astype(np.float64)) / weights
    blocks: list[tuple[float, int, int, int]] = []  # mean, weight, first and last of the distinct scores
    for index, (mean, weight) in enumerate(zip(means.tolist(), weights.tolist(), strict=True)):
        first = index
        while blocks and blocks[-1][0] >= mean:
            before, heft, first, _ = blocks.pop()
            mean = (before * heft + mean * weight) / (heft + weight)
            weight += heft
        blocks.append((mean, weight, first, index))
    least = 1.0 / (len(given) + 2)
    points: list[tuple[float, float]] = []
    for mean, _, first, last in blocks:
        value = min(max(mean, least), 1.0 - least)
        points += [(float(distinct[edge]), value) for edge in ((first, last) if first < last else (first,))]
    return Isotonic(scores=tuple(x for x, _ in points), values=tuple(y for _, y in points))


def fit_table(states: Sequence[str], truths: Truths) -> Table:
    """Counts of every state. Raises UsageError for a verifier whose states are too many to count."""
    held = booleans(truths, "truths")
    aligned(("states", states), ("truths", held))
    seen = Counter(states)
    if len(seen) > MOST_STATES:
        raise UsageError(
            f"The verifier gave {len(seen)} different states, a table holds {MOST_STATES}.",
            remedy="Its scores are continuous: use platt or isotonic.",
        )
    right = Counter(state for state, is_right in zip(states, held.tolist(), strict=True) if is_right)
    return Table(states={state: (right[state], seen[state]) for state in sorted(seen)})


def _labelled(scores: Numbers, truths: Truths) -> tuple[Floats, Booleans]:
    given, held = probabilities(scores, "scores"), booleans(truths, "truths")
    aligned(("scores", given), ("truths", held))
    return given, held


def _smoothed(truths: Booleans) -> Floats:
    """Platt's targets: with n of a class, (n+1)/(n+2) and its mirror. They keep separable labels from certainty."""
    right = int(truths.sum())
    wrong = len(truths) - right
    targets: Floats = np.where(truths, (right + 1) / (right + 2), 1 / (wrong + 2))
    return targets


def _hold_rising(slope: float) -> None:
    if not slope > 1e-9:
        raise UsageError(
            "The verifier scores wrong subjects no lower than right ones: scaling cannot mend that.",
            remedy="Look at its scores, and at whether labels and verdicts belong together.",
        )
