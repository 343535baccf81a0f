"""Which of several candidates is taken, from the answers they state and the scores they got: a pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal, get_args

By = Literal["vote", "score", "weighted-vote"]
WAYS: tuple[By, ...] = get_args(By)


@dataclass(frozen=True)
class Choice:
    """The winner, and how clear it was."""

    winner: int | None
    """None where no candidate could be compared."""
    by: By
    """What decided in the end."""
    reason: str
    shares: tuple[float | None, ...]
    """Of each candidate: the share of all votes or of all weight that its answer has, or, by score, its part of all
    scores. None for one that could not be compared."""


def choose(answers: Sequence[str | None], scores: Sequence[float | None], by: By) -> Choice:
    """One entry of each for every candidate.

    Args:
        answers: in normal form; None for a candidate without a vote.
        scores: at least 0; None for a candidate that was not scored.
    """
    if by == "vote":
        return _voted(answers, scores, by, "majority")
    if all(score is None for score in scores):
        return _voted(answers, scores, "vote", "nothing_scored_majority")
    return _scored(answers, scores) if by == "score" else _voted(answers, scores, by, "weighted_majority")


def _scored(answers: Sequence[str | None], scores: Sequence[float | None]) -> Choice:
    said = Counter(answers)
    votes = [0 if answer is None else said[answer] for answer in answers]
    known = {i: score for i, score in enumerate(scores) if score is not None}
    winner = max(known, key=lambda i: (known[i], votes[i], -i))
    total = fsum(known.values())
    shares = [
        None if i not in known else known[i] / total if total > 0.0 else 1.0 / len(known) for i in range(len(scores))
    ]
    return Choice(winner, "score", "best_score", tuple(shares))


def _voted(answers: Sequence[str | None], scores: Sequence[float | None], by: By, reason: str) -> Choice:
    """Candidates without an answer count in the total of a plain vote, and for nobody."""
    members: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        if answer is not None and not (by == "weighted-vote" and scores[i] is None):
            members.setdefault(answer, []).append(i)
    if not members:
        return Choice(None, by, "no_readable_answer", (None,) * len(answers))
    sums = {answer: fsum(scores[i] or 0.0 for i in of_it) for answer, of_it in members.items()}
    counts = {answer: len(of_it) for answer, of_it in members.items()}
    weights: dict[str, float] = dict(sums) if by == "weighted-vote" else {a: float(n) for a, n in counts.items()}

    def rank(answer: str) -> tuple[float, float, float, int]:
        return weights[answer], sums[answer], counts[answer], -members[answer][0]

    best = max(members, key=rank)
    winner = max(members[best], key=lambda i: (scores[i] or 0.0, -i))
    total = fsum(weights.values()) if by == "weighted-vote" else float(len(answers))
    compared = {i for of_it in members.values() for i in of_it}
    shares = [
        None if answer is None or i not in compared else weights[answer] / total if total > 0.0 else 1.0 / len(members)
        for i, answer in enumerate(answers)
    ]
    return Choice(winner, by, reason, tuple(shares))
