"""What choosing one of several candidates is worth: between picking blindly and an all-knowing choice.

Three *oracles* are told apart and never mixed: pass@N (some candidate is right) is the ceiling here;
the step oracle of routing and the oracle over verifiers are other numbers. Ties are resolved by
expectation over a random choice among the tied, so that no result depends on the order of candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Numbers, Truths, aligned, booleans, floats


def pass_at_k(samples: int, right: int, k: int) -> float:
    """P(at least one of k samples is right), unbiased from `samples` of which `right` are.

    1 − Π_{i=n−c+1}^{n} (1 − k/i) = 1 − C(n−c, k)/C(n, k): all subsets of k, not k times the same draw.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise UsageError(f"pass@{k} needs k of the samples and right ones among them, got {right} of {samples}.")
    return 1.0 - comb(samples - right, k) / comb(samples, k)


def best_of(scores: Numbers, right: Truths, n: int | None = None) -> float:
    """Expected accuracy of the highest-scored of n candidates, over all subsets of n; n is all of them when None."""
    given, held = floats(scores, "scores"), booleans(right, "right")
    total = aligned(("scores", given), ("right", held))
    wanted = total if n is None else n
    if not 1 <= wanted <= total:
        raise UsageError(f"The best of {wanted} cannot be chosen from {total} candidates.")
    expected, below = 0.0, 0
    for value in np.unique(given):
        tied = given == value
        up_to = below + int(tied.sum())
        best_is_here = (comb(up_to, wanted) - comb(below, wanted)) / comb(total, wanted)
        expected += best_is_here * float(held[tied].mean())
        below = up_to
    return expected


def majority(answers: Sequence[Hashable | None], right: Truths) -> float:
    """Expected accuracy of the most frequent answer. None is an answer that could not be read: it gets no votes.

    With nothing read at all, the choice is wrong. Raises UsageError where equal answers are judged differently.
    """
    held = booleans(right, "right")
    aligned(("answers", answers), ("right", held))
    judged: dict[Hashable, bool] = {}
    for answer, is_right in zip(answers, held.tolist(), strict=True):
        if answer is not None and judged.setdefault(answer, is_right) != is_right:
            raise UsageError(f"The answer {answer!r} is called right once and wrong once.")
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    return sum(judged[answer] for answer in winners) / len(winners)


@dataclass(frozen=True)
class Candidates:
    """The candidates of one problem."""

    scores: Sequence[float]
    answers: Sequence[Hashable | None]
    right: Sequence[bool]


@dataclass(frozen=True)
class Selection:
    """Means over problems. `best_of_n` means something only between its floor and its ceiling."""

    problems: int
    floor: float
    """pass@1: a candidate at random."""
    reference: float
    """Majority vote: what costs no verifier."""
    best_of_n: float
    ceiling: float
    """pass@N: a candidate is right."""


def selection(problems: Sequence[Candidates]) -> Selection:
    """Best-of-N accuracy beside what it must be compared with, each a mean over problems."""
    aligned(("problems", problems))
    rows = [
        (
            float(np.mean(held := booleans(each.right, "right"))),
            majority(each.answers, held),
            best_of(each.scores, held),
            float(held.any()),
        )
        for each in problems
    ]
    floor, reference, best, ceiling = np.mean(rows, axis=0).tolist()
    return Selection(len(problems), floor, reference, best, ceiling)
