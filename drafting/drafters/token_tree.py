"""A token tree while it is built: nodes with scores, and how it is cut down to a budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest

from draftproof.drafting.draft import Draft, pack


class TokenTree:
    """Nodes in the order they were added, a parent before its children; adding a child twice adds it once.

    A node's score estimates the probability that the whole path to it is accepted, so it never exceeds its parent's.
    """

    __slots__ = ("_child", "parents", "scores", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.scores: list[float] = []
        self._child: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, parent: int, token: int, score: float) -> int:
        """The node for `token` under `parent` (-1: the pending token); of two scores, the better one is kept."""
        node = self._child.get((parent, token))
        if node is None:
            node = self._child[parent, token] = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(parent)
            self.scores.append(score)
        elif score > self.scores[node]:
            self.scores[node] = score
        return node

    def add_chain(self, tokens: Iterable[int], scores: Iterable[float], parent: int = -1) -> None:
        for token, score in zip(tokens, scores, strict=True):
            parent = self.add(parent, token, score)

    def graft(self, tokens: Sequence[int], parents: Sequence[int], scores: Sequence[float]) -> None:
        """Add another tree, node by node; paths that both have are fused."""
        here: list[int] = []
        for token, parent, score in zip(tokens, parents, scores, strict=True):
            here.append(self.add(-1 if parent < 0 else here[parent], token, score))

    @property
    def expected(self) -> float:
        """Expected accepted tokens: one path at most is followed, so the nodes' probabilities add up."""
        return sum(self.scores)

    def normalised(self) -> TokenTree:
        """Where children are together likelier than their parent, as after fusing trees, they share its probability."""
        below = [0.0] * (len(self) + 1)
        for node, parent in enumerate(self.parents):
            below[parent] += self.scores[node]
        fair = TokenTree()
        for token, parent, score in zip(self.tokens, self.parents, self.scores, strict=True):
            old, new = (1.0, 1.0) if parent < 0 else (self.scores[parent], fair.scores[parent])
            fair.add(parent, token, new * score / max(old, below[parent], 1e-30))
        return fair

    def pruned(self, budget: int) -> TokenTree:
        """The `budget` nodes of the best scores, each with its parent; earlier nodes win ties."""
        scores: list[float] = []
        for node, parent in enumerate(self.parents):
            above = 1.0 if parent < 0 else scores[parent]
            scores.append(min(self.scores[node], above))
        kept = nlargest(budget, range(len(self)), key=lambda node: (scores[node], -node))
        kept.sort()
        cut = TokenTree()
        place: dict[int, int] = {-1: -1}
        for node in kept:
            place[node] = cut.add(place[self.parents[node]], self.tokens[node], scores[node])
        return cut


def pack_trees(trees: Sequence[TokenTree]) -> Draft:
    """One `match` draft, a row for each tree."""
    return pack([(tree.tokens, tree.parents) for tree in trees], [tree.scores for tree in trees])
