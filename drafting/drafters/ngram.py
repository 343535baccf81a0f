"""Adaptive n-grams: a model of several orders, counted from the row's own text (ANPD, Ou et al., 2404.08698).

Each drafted token is looked up anew, with what was drafted before it: the highest order that knows the context names
its most frequent successor. Where prompt lookup follows one occurrence, this follows frequencies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from draftproof.drafting.drafter import Commit
from draftproof.drafting.drafters.copying import CopyingDrafter
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.drafting.drafters.trust import Trust
from draftproof.errors import UsageError

NEWEST = 64
"""Successors of a context that are counted: frequent contexts have many, and the newest say most."""


class NgramCounts:
    """What followed each context of 1 … order - 1 tokens, in the order it came."""

    __slots__ = ("_followed", "_lengths", "tokens", "trust")

    def __init__(self, order: int) -> None:
        self._lengths = range(order - 1, 0, -1)
        self._followed: dict[tuple[int, ...], list[int]] = {}
        self.tokens: list[int] = []
        self.trust = Trust()

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, token: int) -> None:
        length, followed = self.known(self.tokens)
        self.trust.observe(length, len(followed), token in followed)
        for length in self._lengths:
            if length <= len(self.tokens):
                self._followed.setdefault(tuple(self.tokens[-length:]), []).append(token)
        self.tokens.append(token)

    def truncate(self, length: int) -> None:
        while len(self.tokens) > length:
            self.tokens.pop()
            self.trust.undo()
            for context_length in self._lengths:
                if context_length <= len(self.tokens):
                    context = tuple(self.tokens[-context_length:])
                    self._followed[context].pop()
                    if not self._followed[context]:
                        del self._followed[context]

    def known(self, text: Sequence[int]) -> tuple[int, list[int]]:
        """The longest end of `text` that something followed, by its length, and its newest successors; else 0, []."""
        for length in self._lengths:
            if length <= len(text):
                followed = self._followed.get(tuple(text[-length:]))
                if followed:
                    return length, followed[-NEWEST:]
        return 0, []


class NGram(CopyingDrafter[NgramCounts]):
    """Chains of law `match`."""

    def __init__(self, *, order: int = 5, min_score: float = 0.02, max_depth: int = 8) -> None:
        """`order`: tokens of the longest n-gram, 2 or more; `min_score`: less likely paths are not drafted."""
        super().__init__("ngram", max_nodes=max_depth, max_depth=max_depth)
        if order < 2:
            raise UsageError(f"ngram: order is {order}; an n-gram that predicts has at least 2 tokens.")
        self._order = order
        self._min_score = min_score

    def _index(self, event: Commit) -> NgramCounts:
        return NgramCounts(self._order)

    def _tree(self, index: NgramCounts, budget: int) -> TokenTree:
        tree = TokenTree()
        text = index.tokens[-self._order :]
        score = 1.0
        while len(tree) < budget:
            length, followed = index.known(text)
            if not length:
                break
            token, times = _most_frequent(followed)
            score *= index.trust.of(length, len(followed)) * times / len(followed)
            if score < self._min_score:
                break
            tree.add(len(tree) - 1, token, score)
            if token in self._end_ids:
                break
            text.append(token)
        return tree


def _most_frequent(followed: Sequence[int]) -> tuple[int, int]:
    """The token that comes most often, the newest of equals, and how often."""
    counts = Counter(reversed(followed))
    return max(counts.items(), key=lambda pair: pair[1])
