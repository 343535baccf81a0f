"""Which nodes a tree of draft heads has: a shape fixed from measured accuracies, or the best paths of this moment.

A path is as good as the product of its tokens' probabilities, and a round gains the sum of its nodes' path
probabilities (the expected number of accepted tokens), so that taking the best `budget` nodes is optimal where the
heads' estimates hold. A child is never better than its parent: the best nodes always form a tree.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.errors import UsageError


@dataclass(frozen=True)
class TreeShape:
    """Nodes in the order in which they were chosen: the first n of them are the best tree of n nodes."""

    parent: tuple[int, ...]
    """Index of the parent node, -1 for the pending token."""
    rank: tuple[int, ...]
    """A node is its parent's `rank`-th best candidate, 0 the best."""
    gain: tuple[float, ...]
    """Estimated probability that the path to the node is accepted."""

    @property
    def size(self) -> int:
        return len(self.parent)

    @property
    def acceptance_length(self) -> float:
        """Expected tokens a verification, the correction or bonus token included."""
        return 1.0 + sum(self.gain)

    def depths(self) -> tuple[int, ...]:
        """Depth of each node; children of the pending token have depth 1."""
        depths: list[int] = []
        for above in self.parent:
            depths.append(1 if above < 0 else depths[above] + 1)
        return tuple(depths)


def best_shape(accuracies: Sequence[Sequence[float]], size: int) -> TreeShape:
    """The tree of `size` nodes with the largest expected number of accepted tokens.

    `accuracies[k][i]` is how often candidate i of head k is the right token, not summed over i, where the tokens
    before it were right (Cai et al., arXiv 2401.10774, section 2.3.3). Nodes of equal worth: the shallower first.
    """
    for head, values in enumerate(accuracies):
        if any(not 0.0 <= value <= 1.0 for value in values):
            raise UsageError(f"Accuracies of head {head} must lie in 0 … 1, got {list(values)}.")
    parent: list[int] = []
    rank: list[int] = []
    gain: list[float] = []
    frontier: list[tuple[float, int, int, int]] = []
    """(-gain, depth, parent node, rank): heapq gives the best, of equals the shallowest."""

    def open_children(above: int, depth: int) -> None:
        reach = 1.0 if above < 0 else gain[above]
        for candidate, accuracy in enumerate(accuracies[depth - 1] if depth <= len(accuracies) else ()):
            if accuracy > 0.0:
                heapq.heappush(frontier, (-reach * accuracy, depth, above, candidate))

    open_children(-1, 1)
    while frontier and len(parent) < size:
        worth, depth, above, candidate = heapq.heappop(frontier)
        parent.append(above)
        rank.append(candidate)
        gain.append(-worth)
        open_children(len(parent) - 1, depth + 1)
    return TreeShape(tuple(parent), tuple(rank), tuple(gain))


def worth_expanding(tree: TokenTree, level: Sequence[int], budget: int, width: int) -> list[int]:
    """At most `width` nodes of `level`, the best first, whose children could still be among the best `budget`."""
    bar = heapq.nlargest(budget, tree.scores)[-1] if len(tree) > budget else 0.0
    return sorted((node for node in level if tree.scores[node] > bar), key=lambda node: -tree.scores[node])[:width]
