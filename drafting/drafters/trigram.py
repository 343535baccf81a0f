"""Trigram drafting: a corpus table, nudged by the row's own text, searched for a tree (ADED, Liu et al., 2407.12021).

What the row says adds to the table's shares, in an overlay of the row's own. The tree is grown best first by the
product of the shares; `search="puct"` is the paper's search instead, which trades likely paths against those that
were visited little.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import log, sqrt
from typing import Literal

import torch

from draftproof.drafting.drafter import Binding, Commit
from draftproof.drafting.drafters.copying import CopyingDrafter
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.drafting.drafters.trigram_table import TrigramTable
from draftproof.drafting.keyed_rng import Purpose
from draftproof.errors import UsageError
from draftproof.kernels.philox import uniforms

NUDGE = 0.25
"""Added to a trigram's share for each time the row says it. Adaptix adds 0.04 in every round in which the trigram is
among the newest 16 tokens; this is that over the rounds it usually stays there, so that it depends on text alone."""
MOST = 3.0
"""Values are capped here (Adaptix)."""
EXPLORE, EXPLORE_SCALE = 32.0, 8.0
"""c1 and c2 of the search (Adaptix)."""
ITERATIONS = 150
SEARCH_DEPTH = 4


class RowTrigrams:
    """How often the row said each trigram."""

    __slots__ = ("_said", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._said: dict[tuple[int, int], dict[int, int]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, token: int) -> None:
        self.tokens.append(token)
        if len(self.tokens) >= 3:
            said = self._said.setdefault((self.tokens[-3], self.tokens[-2]), {})
            said[token] = said.get(token, 0) + 1

    def truncate(self, length: int) -> None:
        while len(self.tokens) > length:
            token = self.tokens.pop()
            if len(self.tokens) >= 2:
                pair = (self.tokens[-2], self.tokens[-1])
                said = self._said[pair]
                said[token] -= 1
                if not said[token]:
                    del said[token]
                if not said:
                    del self._said[pair]

    def values(self, table: TrigramTable | None, first: int, second: int) -> dict[int, float]:
        """Values of the pair's successors: shares of the table, nudged by the row."""
        stored = table.after(first, second) if table is not None else {}
        said = self._said.get((first, second))
        if not said:
            return stored
        mixed = dict(stored)
        for token in sorted(said):
            mixed[token] = min(MOST, mixed.get(token, 0.0) + NUDGE * said[token])
        return mixed


class Trigram(CopyingDrafter[RowTrigrams]):
    """Trees of law `match`. Without a table, the row's own trigrams are all there is."""

    def __init__(
        self,
        table: TrigramTable | None = None,
        *,
        search: Literal["best-first", "puct"] = "best-first",
        min_score: float = 0.01,
        max_nodes: int = 16,
        max_depth: int = 8,
    ) -> None:
        super().__init__("trigram", max_nodes=max_nodes, max_depth=max_depth)
        if search not in ("best-first", "puct"):
            raise UsageError(f"trigram: search is {search!r}; expected 'best-first' or 'puct'.")
        self._table = table
        self._search = search
        self._min_score = min_score

    def bind(self, binding: Binding) -> None:
        super().bind(binding)
        if self._table is not None and self._table.vocab_size != self._vocab_size:
            raise UsageError(
                f"The trigram table was built for {self._table.vocab_size} tokens, the target has {self._vocab_size}.",
                remedy="Build a table with the target's tokenizer.",
            )

    def _index(self, event: Commit) -> RowTrigrams:
        return RowTrigrams()

    def _tree(self, index: RowTrigrams, budget: int) -> TokenTree:
        if len(index) < 2:
            return TokenTree()
        return self._puct(index).pruned(budget) if self._search == "puct" else self._best_first(index, budget)

    def _chances(self, index: RowTrigrams, first: int, second: int) -> dict[int, float]:
        """Values as probabilities: what exceeds 1 in all is scaled back."""
        if second in self._end_ids:
            return {}
        values = index.values(self._table, first, second)
        whole = max(1.0, sum(values.values()))
        return {token: value / whole for token, value in values.items()}

    def _best_first(self, index: RowTrigrams, budget: int) -> TokenTree:
        tree = TokenTree()
        heap: list[tuple[float, int, int, int, int]] = []  # minus the score, parent, depth, the token before, token

        def expand(node: int, depth: int, first: int, second: int, score: float) -> None:
            for token, chance in self._chances(index, first, second).items():
                if score * chance >= self._min_score:
                    heappush(heap, (-score * chance, node, depth, second, token))

        expand(-1, 1, index.tokens[-2], index.tokens[-1], 1.0)
        while heap and len(tree) < budget:
            score, parent, depth, before, token = heappop(heap)
            node = tree.add(parent, token, -score)
            if depth < self.spec.max_depth:
                expand(node, depth + 1, before, token, -score)
        return tree

    def _puct(self, index: RowTrigrams) -> TokenTree:
        """The paper's search; its rollouts draw from numbers that depend on the position alone."""
        depth = min(SEARCH_DEPTH, self.spec.max_depth)
        steps = torch.arange(ITERATIONS * depth)
        draws = iter(uniforms(0, Purpose.DRAFT, len(index), index.tokens[-1], steps).tolist())
        root = _Visited(index.tokens[-2], index.tokens[-1], 1.0, 1.0)
        for _ in range(ITERATIONS):
            path = [root]
            while path[-1].children and len(path) <= depth:
                path.append(path[-1].best_child())
            if len(path) <= depth:
                path[-1].expand(self._chances(index, path[-1].before, path[-1].token))
                if path[-1].children:
                    path.append(path[-1].children[-1])
            reward = 1.0 + sum(state.prior for state in path[1:])
            before, token = path[-1].before, path[-1].token
            for _ in range(depth + 1 - len(path)):
                chances = self._chances(index, before, token)
                if not chances:
                    break
                before, (token, value) = token, _drawn(chances, next(draws))
                reward += value
            for state in path:
                state.visits += 1
                state.reward += reward
        return root.tree(ITERATIONS)


class _Visited:
    """A state of the search: the two newest tokens, and what came of visiting it."""

    __slots__ = ("before", "chance", "children", "prior", "reward", "token", "visits")

    def __init__(self, before: int, token: int, prior: float, chance: float) -> None:
        self.before, self.token, self.prior, self.chance = before, token, prior, chance
        """`prior` is the share of this token, `chance` that of the path to it."""
        self.visits, self.reward = 0, 0.0
        self.children: list[_Visited] = []

    def expand(self, chances: dict[int, float]) -> None:
        self.children = [
            _Visited(self.token, token, share, share * self.chance) for token, share in chances.items() if share > 0
        ]

    def best_child(self) -> _Visited:
        """The unvisited first; else reward, and a prior that counts for more where little was visited."""
        explore = EXPLORE + log((self.visits + EXPLORE_SCALE + 1) / EXPLORE_SCALE)

        def promise(child: _Visited) -> float:
            if not child.visits:
                return float("inf")
            bonus = explore * child.prior * sqrt(self.visits) / (1 + child.visits)
            return child.reward / child.visits + bonus

        return max(self.children, key=promise)

    def tree(self, visits: int) -> TokenTree:
        """The visited states, scored by the visits they drew; a path's score is at most that of its beginning."""
        tree = TokenTree()
        waiting = [(self, -1)]
        while waiting:
            state, node = waiting.pop()
            for child in state.children:
                if child.visits:
                    waiting.append((child, tree.add(node, child.token, min(1.0, child.visits / visits))))
        return tree


def _drawn(chances: dict[int, float], uniform: float) -> tuple[int, float]:
    """A token in proportion to its chance, and that chance."""
    left = uniform * sum(chances.values())
    for token, chance in chances.items():
        left -= chance
        if left <= 0:
            return token, chance
    return token, chance
