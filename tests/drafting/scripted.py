"""Drafters that say what a test wants, and sessions that run with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from draftproof.drafting.draft import Draft, chain, pack
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.model import CachedModel
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session

PROMPT = [5, 17, 44, 8, 9, 23]
OTHER = [71, 3, 3, 60]
SAMPLED = Sampling(temperature=0.9, top_p=0.95, seed=11)


class Scripted:
    """A drafter that answers each row by a function of its committed tokens."""

    def __init__(self, answer: Callable[[list[int], int], tuple[list[int], list[int]]], **spec: Any) -> None:
        self.spec = DrafterSpec("scripted", max_nodes=16, **spec)
        self.answer = answer
        self.tokens: dict[int, list[int]] = {}
        self.events: list[Commit] = []

    def bind(self, binding: Binding) -> None: ...

    def start(self, event: Commit) -> None:
        self.tokens[event.row] = list(event.tokens)
        self.events.append(event)

    def propose(self, request: DraftRequest) -> Draft:
        asked = zip(request.rows, request.budget, strict=True)
        return pack([self.answer(self.tokens[row], budget) for row, budget in asked])

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            self.tokens[event.row].extend(event.tokens)
            assert len(self.tokens[event.row]) == event.length
            self.events.append(event)

    def rewind(self, row: int, length: int) -> None:
        del self.tokens[row][length:]

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self.tokens[row]


def oracle(truth: Sequence[int]) -> Scripted:
    """Knows the whole text, prompt included."""
    return Scripted(lambda tokens, budget: chain(list(truth[len(tokens) : len(tokens) + budget])))


def guesser(seed: int) -> Scripted:
    """Random trees, wide and deep, with distinct siblings; sometimes nothing."""
    luck = random.Random(seed)

    def answer(tokens: list[int], budget: int) -> tuple[list[int], list[int]]:
        ids, parents, seen = [], [], set()
        for node in range(luck.randint(0, budget)):
            parent, token = luck.randint(-1, node - 1), luck.randrange(97)
            if parent >= len(ids) or (parent, token) in seen:
                continue
            seen.add((parent, token))
            ids.append(token)
            parents.append(parent)
        return ids, parents

    return Scripted(answer)


def session_of(model: CachedModel, drafter: Any = None, *, length: int = 6, rule: str = "auto") -> Session:
    policy = Fixed(length)
    if drafter is not None:
        policy.bind(None, drafter.spec)
    return Session(model, drafter, create_rule(rule), policy)


def run(
    session: Session, prompts: dict[int, list[int]], count: int, sampling: Sampling = GREEDY
) -> dict[int, list[int]]:
    """Output of each row after `count` tokens; rows are left open."""
    outcomes = session.open(prompts, sampling=sampling, max_new_tokens=count, stop_ids=frozenset())
    going = [outcome.row for outcome in outcomes if not outcome.done]
    while going:
        going = [outcome.row for outcome in session.round(going) if not outcome.done]
        for row in prompts:
            assert session.target.length(row) == len(session.rows[row].tokens) - 1
    return {row: session.rows[row].output for row in prompts}
