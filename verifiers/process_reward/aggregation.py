"""From the scores of steps to one score of the trace.

Which one fits depends on what the scores are the probability of. Where it is *this step is right*, the product of
calibrated scores is the probability that all are, and `first_error` says how far the trace can be trusted. Where it is
*this leads to the answer* (Math-Shepherd), every score already speaks of the end: `last` or `min`; a product would
count the same doubt once a step. `min` is what PRMs are most often ranked by (arXiv 2312.08935).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from draftproof.errors import UsageError

Aggregation = Literal["min", "product", "mean", "last", "first_error"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)


@dataclass(frozen=True)
class Aggregated:
    """One score of a trace, and where it goes wrong."""

    score: float
    """In [0, 1]; 0 where there is nothing to go by."""
    first_error: int | None
    """0-based index of the first step below the threshold; None where no scored step is."""
    decided: bool
    """False for a trace without steps, or with a step that has no score: nothing may be accepted by this score."""


def aggregate(scores: Sequence[float | None], how: Aggregation = "min", *, threshold: float = 0.5) -> Aggregated:
    """The score of a trace whose steps have `scores`.

    Args:
        scores: of the steps in order, in [0, 1]; None for a step whose verifier abstained or failed.
        how: `min`, `product`, `mean` or `last` of them; `first_error` is the share of steps before the first error,
            1 where there is none.
        threshold: a step below it is an error; at equality it is not.

    Raises UsageError for scores that are no probabilities, and for names there are not.
    """
    if how not in AGGREGATIONS:
        raise UsageError(f"There is no aggregation {how!r}.", remedy=f"There are: {', '.join(AGGREGATIONS)}.")
    check_probability(threshold, "The threshold")
    known = [score for score in scores if score is not None]
    for score in known:
        check_probability(score, "A step's score")
    first = next((i for i, score in enumerate(scores) if score is not None and score < threshold), None)
    if not known or len(known) < len(scores):
        return Aggregated(0.0, first, False)
    match how:
        case "min":
            value = min(known)
        case "product":
            value = math.prod(known)
        case "mean":
            value = min(1.0, math.fsum(known) / len(known))
        case "last":
            value = known[-1]
        case "first_error":
            value = 1.0 if first is None else first / len(known)
    return Aggregated(value, first, True)


def check_probability(value: float, what: str) -> None:
    """Raises UsageError for NaN and for numbers outside [0, 1]."""
    if not 0.0 <= value <= 1.0:  # false for NaN as well
        raise UsageError(f"{what} is a number from 0 to 1, got {value}.")
