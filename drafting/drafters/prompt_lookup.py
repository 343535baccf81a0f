"""Prompt lookup: draft what followed earlier occurrences of the newest tokens (Saxena, 2023, "Prompt lookup decoding").

An index from n-grams to their end positions replaces the rescan of the text in each round. All occurrences vote: a
continuation counts by how many of them agree, weighted by how far they match backwards. Copying past the end of the
text goes on in the copy, so a loop of any period is followed for as long as the budget lasts. Where the longest match
leaves doubt, shorter matches add branches.
"""

from __future__ import annotations

from heapq import heappop, heappush

from draftproof.drafting.drafter import Commit
from draftproof.drafting.drafters.copying import CopyingDrafter
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.drafting.drafters.trust import SHORTER_TRUST, Trust
from draftproof.errors import UsageError

MAX_OCCURRENCES = 24
"""The newest occurrences of an n-gram that vote; frequent n-grams have hundreds, and they would cost time."""
MAX_MATCH = 24
"""Longest match that is measured; beyond it, trust no longer grows."""
WORTH = 0.01
"""Nodes that are less likely accepted are not drafted: their share of a pass costs more than they bring."""


class NgramIndex:
    """A row's tokens and where each of its n-grams ends."""

    __slots__ = ("_ends", "_orders", "tokens", "trust")

    def __init__(self, n_min: int, n_max: int) -> None:
        self._orders = range(n_max, n_min - 1, -1)
        self._ends: dict[tuple[int, ...], list[int]] = {}
        self.tokens: list[int] = []
        self.trust = Trust()

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, token: int) -> None:
        tokens, ends = self.tokens, self._ends
        for order in self._orders:
            found = self.occurrences(order)
            if found:
                length, right = self.match_length(found[-1], order), any(tokens[end] == token for end in found)
                self.trust.observe(length, len(found), right)
                break
        else:
            self.trust.observe(0, 0, False)
        tokens.append(token)
        for order in self._orders:
            if order <= len(tokens):
                ends.setdefault(tuple(tokens[-order:]), []).append(len(tokens))

    def truncate(self, length: int) -> None:
        tokens, ends = self.tokens, self._ends
        while len(tokens) > length:
            for order in self._orders:
                if order <= len(tokens):
                    gram = tuple(tokens[-order:])
                    ends[gram].pop()
                    if not ends[gram]:
                        del ends[gram]
            tokens.pop()
            self.trust.undo()

    def occurrences(self, order: int) -> list[int]:
        """Where the newest `order` tokens ended before, ascending, the newest few."""
        ends = self._ends.get(tuple(self.tokens[-order:])) if order <= len(self.tokens) else None
        return ends[-1 - MAX_OCCURRENCES : -1] if ends is not None else []

    def match_length(self, end: int, known: int) -> int:
        """How many tokens before `end` equal those before the end of the text; `known` of them are known to."""
        tokens = self.tokens
        total = len(tokens)
        length = known
        while length < MAX_MATCH and length < end and tokens[end - length - 1] == tokens[total - length - 1]:
            length += 1
        return length


class PromptLookup(CopyingDrafter[NgramIndex]):
    def __init__(self, *, n_min: int = 1, n_max: int = 4, max_nodes: int = 32, max_depth: int = 32) -> None:
        super().__init__("prompt-lookup", max_nodes=max_nodes, max_depth=max_depth)
        if not 1 <= n_min <= n_max:
            raise UsageError(f"prompt-lookup: n_min is {n_min} and n_max {n_max}; expected 1 <= n_min <= n_max.")
        self._n_min, self._n_max = n_min, n_max

    def _index(self, event: Commit) -> NgramIndex:
        return NgramIndex(self._n_min, self._n_max)

    def _tree(self, index: NgramIndex, budget: int) -> TokenTree:
        tree = TokenTree()
        heap: list[_Branch] = []
        left = 1.0  # probability that every longer match is wrong
        said: set[int] = set()
        for order in range(self._n_max, self._n_min - 1, -1):
            ends = [end for end in index.occurrences(order) if index.tokens[end] not in said]
            if not ends:
                continue
            copies = [(end, index.match_length(end, order)) for end in ends]
            trust = SHORTER_TRUST if said else index.trust.of(max(length for _, length in copies), len(copies))
            _branch(heap, index.tokens, copies, depth=0, parent=-1, score=left * trust)
            said.update(index.tokens[end] for end in ends)
            left *= 1.0 - trust
        while heap and len(tree) < budget:
            branch = heappop(heap)
            score, _, parent, depth, token, copies = branch
            node = tree.add(parent, token, -score)
            if depth + 1 < self.spec.max_depth and token not in self._end_ids:
                longest = max(length for _, length in copies) + depth + 1
                trust = index.trust.of(longest, len(copies))
                _branch(heap, index.tokens, copies, depth=depth + 1, parent=node, score=-score * trust)
        return tree


_Branch = tuple[float, int, int, int, int, list[tuple[int, int]]]
"""Minus the score, minus the newest end, parent node, depth, token, and the copies (end, match length) that say so."""


def _branch(
    heap: list[_Branch], tokens: list[int], copies: list[tuple[int, int]], *, depth: int, parent: int, score: float
) -> None:
    """Split `copies` by the token that each says comes next, and share `score` among them."""
    if score < WORTH:
        return
    total = len(tokens)
    voices: dict[int, list[tuple[int, int]]] = {}
    for copy in copies:
        end = copy[0]
        # Past the end of the text the copy copies itself: its period is the distance to the match.
        voices.setdefault(tokens[end + depth % (total - end)], []).append(copy)
    weights = {token: sum(length * length for _, length in saying) for token, saying in voices.items()}
    whole = sum(weights.values())
    for token, saying in voices.items():
        share = score * weights[token] / whole
        if share >= WORTH:
            heappush(heap, (-share, -saying[-1][0], parent, depth, token, saying))
