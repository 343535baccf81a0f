"""Tells verdicts about several texts for one place apart, by their sample number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from draftproof.verdict import Verdict
from draftproof.verifier import VerdictLog


class SampledLog:
    """A log that numbers what goes through it, and remembers it.

    Verdicts of a graph are stored under the problem's opening, whatever was written since: the second attempt's first
    step stands where the first attempt's stood. A verifier that is asked once signs for sample 0; `sample` gives the
    number that it is stored under, from its place in the batch and its own number.
    """

    def __init__(self, log: VerdictLog, sample: Callable[[int, int], int]) -> None:
        self._log, self._sample = log, sample
        self.seen: list[Verdict] = []

    def add(self, verdicts: Sequence[Verdict]) -> None:
        numbered = [
            verdict.model_copy(update={"sample": self._sample(place, verdict.sample)})
            for place, verdict in enumerate(verdicts)
        ]
        self._log.add(numbered)
        self.seen += numbered


def shifted(log: VerdictLog, by: int) -> SampledLog:
    """Every number is `by` higher."""
    return SampledLog(log, lambda place, own: own + by)
