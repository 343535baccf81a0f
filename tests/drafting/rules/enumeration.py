"""The exact law of what a rule emits, by running its own code down every branch.

A rule decides a row with coins and draws. Here a coin is an object that, compared with a threshold t, is below it on
one branch of weight t and not on another of weight 1 - t; a draw branches over the tokens. Drafting is enumerated the
same way, so the law of the emitted tokens comes out exactly, in float64, with the very code that decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor

from draftproof.drafting.rule import Decision

Tokens = tuple[int, ...]
Laws = Callable[[Tokens], Tensor]
"""A law [V], float64, for each text so far."""


def random_laws(vocab: int, depth: int, seed: int, sharpness: float = 1.5) -> Laws:
    """A law for each text of up to `depth` tokens: what comes next depends on all of what was said."""
    generator = torch.Generator().manual_seed(seed)
    rows = {
        text: torch.softmax(sharpness * torch.randn(vocab, generator=generator, dtype=torch.float64), dim=-1)
        for length in range(depth + 1)
        for text in product(range(vocab), repeat=length)
    }
    return rows.__getitem__


class Branches:
    """Choices of one run: scripted as far as an earlier run went, the first possible one from there on."""

    def __init__(self, script: Sequence[int]) -> None:
        self.taken: list[int] = []
        self.options: list[list[float]] = []
        self.weight = 1.0
        self._script = script

    def choose(self, weights: Sequence[float]) -> int:
        place = len(self.taken)
        if place < len(self._script):
            pick = self._script[place]
        else:
            pick = next(i for i, weight in enumerate(weights) if weight > 0.0)
        self.taken.append(pick)
        self.options.append(list(weights))
        self.weight *= weights[pick]
        return pick

    def following(self) -> list[int] | None:
        """The script of the next run: the last choice that has another possible option takes it."""
        for place in reversed(range(len(self.taken))):
            later = range(self.taken[place] + 1, len(self.options[place]))
            other = next((i for i in later if self.options[place][i] > 0.0), None)
            if other is not None:
                return [*self.taken[:place], other]
        return None


def every_run(run: Callable[[Branches], Tokens]) -> list[tuple[float, Tokens]]:
    """Weight and result of each branch."""
    results = []
    script: list[int] | None = []
    while script is not None:
        branches = Branches(script)
        result = run(branches)
        results.append((branches.weight, result))
        script = branches.following()
    return results


@dataclass
class Coin:
    branches: Branches

    def __lt__(self, threshold: float) -> bool:
        return self.branches.choose([threshold, 1.0 - threshold]) == 0


@dataclass
class Tree:
    """Drafted nodes and, for each, the q that is reported for it."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    reported: list[Tensor] = field(default_factory=list)

    def add(self, token: int, parent: int, q: Tensor) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        self.reported.append(q)
        return len(self.tokens) - 1

    def text(self, node: int) -> Tokens:
        """Tokens from the root down to the node."""
        return () if node < 0 else (*self.text(self.parents[node]), self.tokens[node])


class BranchingRow:
    """What a rule sees of a row (`DraftedRow`), with exact laws, and coins and draws that branch."""

    def __init__(self, tree: Tree, target: Laws, branches: Branches) -> None:
        self.tokens, self.parents = tree.tokens, tree.parents
        self._tree, self._target, self._branches = tree, target, branches

    def children(self, node: int) -> list[int]:
        return [child for child, parent in enumerate(self.parents) if parent == node]

    def child(self, node: int, token: int) -> int | None:
        return next((child for child in self.children(node) if self.tokens[child] == token), None)

    def p(self, node: int) -> Tensor:
        return self._target(self._tree.text(node))

    def p_of(self, node: int) -> float:
        return float(self.p(self.parents[node])[self.tokens[node]])

    def q(self, node: int) -> Tensor:
        return self._tree.reported[node]

    def q_of(self, node: int) -> float:
        return float(self.q(node)[self.tokens[node]])

    def q_of_children(self, node: int) -> Tensor:
        return self.q(self.children(node)[0])

    def chance(self, node: int, lane: int) -> Coin:
        return Coin(self._branches)

    def draw_below(self, node: int) -> int:
        return self._branches.choose(self.p(node).tolist())

    def draw_left(self, left: Tensor, node: int) -> int:
        return self._branches.choose((left / left.sum()).tolist())


Drafting = Callable[[Laws, Branches], Tree]
Deciding = Callable[[BranchingRow], Decision]


def emitted_law(
    decide: Deciding, drafting: Drafting, target: Laws, draft: Laws, vocab: int, length: int
) -> tuple[np.ndarray, float]:
    """The law [V, …, V] of the first `length` tokens, the target going on after a round, and the mean accepted."""

    def run(branches: Branches) -> Tokens:
        tree = drafting(draft, branches)
        decision = decide(BranchingRow(tree, target, branches))
        return (*(tree.tokens[node] for node in decision.path), decision.token)

    law = np.zeros((vocab,) * length)
    accepted = 0.0
    for weight, tokens in every_run(run):
        accepted += weight * (len(tokens) - 1)
        law[tokens[:length]] += weight * continued(target, tokens[:length], vocab, length)
    return law, accepted


def continued(target: Laws, text: Tokens, vocab: int, length: int) -> np.ndarray:
    """The target's law [V, …, V] of the tokens after `text`, up to `length` in all."""
    if len(text) == length:
        return np.ones(())
    row = target(text).numpy()
    return np.stack([row[token] * continued(target, (*text, token), vocab, length) for token in range(vocab)])


def distance(law: np.ndarray, other: np.ndarray) -> float:
    """Total variation."""
    return 0.5 * float(np.abs(law - other).sum())


# Truthful ways to draft


def sampled_chain(length: int) -> Drafting:
    """Each token drawn from q, given those before it."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for node in range(length):
            q = draft(tree.text(node - 1))
            tree.add(branches.choose(q.tolist()), node - 1, q)
        return tree

    return drafting


def siblings_without_replacement(widths: Sequence[int]) -> Drafting:
    """A tree, `widths[d]` children for each node at depth d, drawn one after the other, none twice."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        level = [-1]
        for width in widths:
            below = []
            for node in level:
                q = draft(tree.text(node))
                rest = q.clone()
                for _ in range(min(width, int((q > 0).sum()))):
                    token = branches.choose((rest / rest.sum()).tolist())
                    rest[token] = 0.0
                    below.append(tree.add(token, node, q))
            level = below
        return tree

    return drafting


def top_and_one_drawn(widths: Sequence[int]) -> Drafting:
    """A tree whose nodes have the most probable children and, last, one drawn from the rest."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        level = [-1]
        for width in widths:
            below = []
            for node in level:
                q = draft(tree.text(node))
                count = min(width, int((q > 0).sum()))
                top = q.topk(count - 1).indices.tolist()
                rest = q.clone()
                rest[top] = 0.0
                drawn = branches.choose((rest / rest.sum()).tolist())
                below += [tree.add(token, node, q) for token in [*top, drawn]]
            level = below
        return tree

    return drafting


def fixed_tree(tokens: Sequence[int], parents: Sequence[int]) -> Drafting:
    """The same proposal whatever the laws are."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for token, parent in zip(tokens, parents, strict=True):
            tree.add(token, parent, draft(()))
        return tree

    return drafting
