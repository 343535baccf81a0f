"""Compare candidates by asking which is best: what is asked, and what the answers come to.

A model that compares has a place that it likes: many take the first. So candidates are shuffled, and every question is
asked again in the opposite order; a model that only likes a place contradicts itself (arXiv 2506.12928, section on
list-wise merging, found comparing in one list the best way of choosing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from statistics import fmean
from typing import Any, Literal

from draftproof.canonical import digest
from draftproof.language_model import FirstToken
from draftproof.verdict import Cost, VotesEvidence
from draftproof.verifiers.judges.asking import Question, Reply, told
from draftproof.verifiers.judges.wording import NOUNS, Level, choice
from draftproof.verifiers.verdict_tokens import Labels

By = Literal["list", "pairs"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST: dict[By, int] = {"list": 20, "pairs": 12}
"""Candidates in a group. Of a list, no more letters than probabilities are told; twelve make 66 pairs."""


@dataclass(frozen=True)
class Ballot:
    """One question about some of the candidates: which is shown under which letter."""

    question: Question
    order: tuple[int, ...]
    """Candidate of each letter."""

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(LETTERS[: len(self.order)])


@dataclass(frozen=True)
class Counted:
    """A ballot's answer."""

    ballot: Ballot
    reply: Reply
    said: int | None
    """The candidate that is called the best; None where no letter could be read."""
    shares: Mapping[int, float]
    """Candidate -> how probable the answer makes it, of those that were shown; empty where it was not read."""

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = {"order": list(self.ballot.order), "said": self.said}
        if isinstance(self.reply.answer, str):
            found["reason"] = self.reply.answer
        else:
            labels = Labels.of(self.reply.answer, self.ballot.labels)
            found |= {"letters": labels.told, "unseen": labels.unseen}
        return found | ({"thoughts": told(self.reply.thoughts)} if self.reply.thoughts else {})


@dataclass(frozen=True)
class Result:
    """What a group's ballots come to."""

    winner: int | None
    scores: tuple[float, ...]
    """Of each candidate; they sum to one. Empty where nothing was read."""
    reason: str
    votes: VotesEvidence
    counted: tuple[Counted, ...]
    cost: Cost
    reasons: str = ""
    """Why, where the model was asked for that."""


def ballots(
    blocks: Sequence[tuple[str, str]], candidates: Sequence[str], *, by: By, level: Level, votes: int, seed: int
) -> list[Ballot]:
    """The questions about `candidates`, texts that all differ: in one list each, or two by two."""
    drawn = digest([seed, [text for _, text in blocks], list(candidates)])
    contests = [tuple(range(len(candidates)))] if by == "list" else list(combinations(range(len(candidates)), 2))
    found = []
    for contest in contests:
        for vote in range(votes):
            order = list(contest)
            Random(f"{drawn}:{contest}:{vote // 2}").shuffle(order)  # noqa: S311 - an order, not a secret
            if vote % 2:
                order = turned_round(order)
            shown = [(f"Candidate {letter}:", candidates[place]) for letter, place in zip(LETTERS, order, strict=False)]
            question = Question(
                (*blocks, *shown), choice(level, LETTERS[: len(order)]), f"{seed}:{vote}:{NOUNS[level]}"
            )
            found.append(Ballot(question, tuple(order)))
    return found


def turned_round(order: Sequence[int]) -> list[int]:
    """The opposite order, in which nobody keeps their place: the middle of an odd number changes with a neighbour."""
    turned, middle = list(reversed(order)), len(order) // 2
    if len(order) % 2 and len(order) > 1:
        turned[middle - 1], turned[middle] = turned[middle], turned[middle - 1]
    return turned


def count(ballot: Ballot, reply: Reply) -> Counted:
    if not isinstance(reply.answer, FirstToken):
        return Counted(ballot, reply, None, {})
    labels = Labels.of(reply.answer, ballot.labels)
    letter = labels.winner()
    if letter is None:
        return Counted(ballot, reply, None, {})
    shares = {place: labels.share(each) for each, place in zip(ballot.labels, ballot.order, strict=True)}
    return Counted(ballot, reply, ballot.order[ballot.labels.index(letter)], shares)


def result(counted: Sequence[Counted], candidates: int, cost: Cost) -> Result:
    """The winner is whom more than half of all lists name, or who wins more than half of the votes against every other
    one; there may be none."""
    contests: dict[tuple[int, ...], list[Counted]] = {}
    for each in counted:
        contests.setdefault(tuple(sorted(each.ballot.order)), []).append(each)
    won = {contest: _winner(votes) for contest, votes in contests.items()}
    winner = next((i for i in range(candidates) if all(won[each] == i for each in won if i in each)), None)
    # of pairs, those against the winner are what it was chosen by
    heard = [each for each in counted if winner is None or winner in each.ballot.order]
    votes = tuple("" if each.said is None else str(each.said) for each in heard)
    named = None if winner is None else str(winner)
    most = max((votes.count(vote) for vote in set(votes) if vote), default=0)
    agreement = (most if named is None else votes.count(named)) / len(votes)
    read = [each for each in counted if each.said is not None]
    means = [_mean([each.shares[i] for each in read if i in each.shares]) for i in range(candidates)]
    total = sum(means)
    return Result(
        winner=winner,
        scores=tuple(min(1.0, mean / total) for mean in means) if total > 0.0 else (),
        reason="named_best" if winner is not None else _why_not(counted, read),
        votes=VotesEvidence(votes=votes, winner=named, agreement=agreement),
        counted=tuple(counted),
        cost=cost,
    )


def _mean(shares: Sequence[float]) -> float:
    return fmean(shares) if shares else 0.0


def _winner(votes: Sequence[Counted]) -> int | None:
    said = [each.said for each in votes]
    return next((place for place in {*said} - {None} if 2 * said.count(place) > len(said)), None)


def _why_not(counted: Sequence[Counted], read: Sequence[Counted]) -> str:
    reasons = {each.reply.answer for each in counted if isinstance(each.reply.answer, str)}
    if reasons:
        return min(reasons)
    return "orders_disagree" if read else "no_verdict_token"
