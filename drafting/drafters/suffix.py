"""Suffix drafting: what followed the longest matches in the row's own text and in a history of earlier outputs.

After suffix decoding (Oliaro et al., arXiv 2411.04975): continuations are weighted by how often they occurred, and
expanded best first into a tree, so that a sure copy becomes a long chain and a doubtful one a bush. Unlike there, the
row and the history are not asked apart. At every node their matches of all lengths are mixed, as in prediction by
partial matching: the most trusted match shares out its trust among its successors by their counts, the next one shares
out what is left, and so on. Paths are drafted in the order of the probabilities that result.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.copying import CopyingDrafter
from draftproof.drafting.drafters.history import LONGEST_CONTEXT, History, HistoryContext, Level
from draftproof.drafting.drafters.suffix_automaton import ROOT, SuffixAutomaton
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.drafting.drafters.trust import SHORTER_TRUST, Trust

HISTORY_TRUST = (0.36, 0.34, 0.38, 0.40, 0.54, 0.54, 0.70, 0.70, 0.75, 0.80)
"""Chance that the history offers it when the row's text does not, by the length of its longest match."""
SHORTER_HISTORY_TRUST = (0.30, 0.14)
"""The same for its shorter matches: of one token, and of more."""
OWN_HISTORY = 200_000
"""Tokens that a history begun by a drafter holds at most: some 40 MB."""
NEGLIGIBLE = 0.01
"""What is left of the probability when no further matches are asked."""
PROMPT_TAIL = 3
"""Tokens before an output that the history keeps with it: they tell how answers begin."""

RECENCY = 1e-6
"""Added to a successor's count for each token of its newest place: of equal counts, the newest wins."""


class SuffixIndex:
    """A row's text as a suffix automaton."""

    __slots__ = ("automaton", "prompt_length", "tokens", "trust")

    def __init__(self, prompt_length: int) -> None:
        self.automaton = SuffixAutomaton()
        self.trust = Trust()
        self.tokens: list[int] = []
        self.prompt_length = prompt_length

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, token: int) -> None:
        automaton = self.automaton
        state = self.matched_state
        offered = automaton.next[state]
        if state != ROOT and offered:
            self.trust.observe(automaton.length[state], automaton.count[state] - 1, token in offered)
        else:
            self.trust.observe(0, 0, False)
        automaton.append(token)
        self.tokens.append(token)

    def truncate(self, length: int) -> None:
        while len(self.tokens) > length:
            self.automaton.pop()
            self.trust.undo()
            self.tokens.pop()

    @property
    def matched_state(self) -> int:
        """The state of the longest suffix of the text that occurs earlier in it; the root when there is none."""
        return max(self.automaton.link[self.automaton.last], ROOT)

    def follow(self, state: int, matched: int, token: int) -> tuple[int, int]:
        """State and length of the longest match after one more token, from those before it."""
        automaton = self.automaton
        while token not in automaton.next[state]:
            if state == ROOT:
                return ROOT, 0
            state = automaton.link[state]
            matched = automaton.length[state]
        return automaton.next[state][token], matched + 1

    def chances(self, state: int, matched: int, history: Sequence[Level]) -> dict[int, float]:
        """Probabilities of the next token after a match of `matched` tokens that leads to `state`."""
        automaton = self.automaton
        levels: list[tuple[float, int, Level | None]] = []
        while state != ROOT:
            if automaton.next[state]:
                trust = SHORTER_TRUST if levels else self.trust.of(matched, automaton.count[state])
                levels.append((trust, state, None))
            state = automaton.link[state]
            matched = automaton.length[state]
        for rank, said in enumerate(history):
            shorter = SHORTER_HISTORY_TRUST[said.length > 1]
            levels.append((shorter if rank else _at(HISTORY_TRUST, said.length), ROOT, said))
        if history:
            levels.sort(key=lambda level: -level[0])
        left = 1.0
        chances: dict[int, float] = {}
        for trust, state, level in levels:
            successors = self._successors(state) if level is None else level.successors
            share = left * trust / sum(times for _, times in successors)
            for token, times in successors:
                chances[token] = chances.get(token, 0.0) + share * times
            left *= 1.0 - trust
            if left < NEGLIGIBLE:
                break
        return chances

    def _successors(self, state: int) -> list[tuple[int, float]]:
        counts, newest = self.automaton.count, self.automaton.newest
        return [(token, counts[to] + RECENCY * newest[to]) for token, to in self.automaton.next[state].items()]


def _at(trusts: Sequence[float], length: int) -> float:
    return trusts[min(length, len(trusts)) - 1]


class Suffix(CopyingDrafter[SuffixIndex]):
    """Law `match`. Rows that stop leave their outputs in the history, for all rows and engines that share it."""

    def __init__(
        self,
        history: History | None = None,
        *,
        learn: bool = True,
        min_probability: float = 0.01,
        max_nodes: int = 32,
        max_depth: int = 32,
    ) -> None:
        """
        Args:
            history: None begins an empty one when the drafter is bound.
            learn: whether finished rows are added to it. Without this and without `history`, only the row's own text
                is looked at.
            min_probability: paths less likely than this are not drafted.
        """
        super().__init__("suffix", max_nodes=max_nodes, max_depth=max_depth)
        self.history = history
        self._learn = learn
        self._min_probability = min_probability
        if history is not None and history.tokenizer:
            self._spec = DrafterSpec("suffix", frozenset({"text"}), max_nodes=max_nodes, max_depth=max_depth)

    def bind(self, binding: Binding) -> None:
        super().bind(binding)
        if self.history is not None:
            self.history.check_fits(self._vocab_size, binding.vocabulary)
        elif self._learn:
            self.history = History(self._vocab_size, max_tokens=OWN_HISTORY)

    def propose(self, request: DraftRequest) -> Draft:
        with self.history.lock if self.history is not None else nullcontext():
            return super().propose(request)

    def stop(self, rows: Sequence[int]) -> None:
        if self.history is not None and self._learn:
            for row in rows:
                index = self._rows[row]
                self.history.add(index.tokens[max(0, index.prompt_length - PROMPT_TAIL) :])
        super().stop(rows)

    def _index(self, event: Commit) -> SuffixIndex:
        return SuffixIndex(len(event.tokens) - 1)

    def _tree(self, index: SuffixIndex, budget: int) -> TokenTree:
        tree = TokenTree()
        history, order = self.history, count()
        heap: list[tuple[float, int, _Place, int]] = []

        def expand(place: _Place, score: float) -> None:
            levels = history.levels(place.context) if history is not None and place.context is not None else ()
            for token, chance in index.chances(place.state, place.matched, levels).items():
                if score * chance >= self._min_probability:
                    heappush(heap, (-score * chance, next(order), place, token))

        text = index.tokens[-LONGEST_CONTEXT:]
        state = index.matched_state
        context = history.context(text) if history is not None else None
        expand(_Place(-1, 0, state, index.automaton.length[state], text, context), 1.0)
        while heap and len(tree) < budget:
            score, _, above, token = heappop(heap)
            node = tree.add(above.node, token, -score)
            if len(tree) < budget and above.depth + 1 < self.spec.max_depth and token not in self._end_ids:
                state, matched = index.follow(above.state, above.matched, token)
                text = [*above.text, token]
                if history is not None and above.context is not None:
                    context = history.advance(above.context, text, token)
                expand(_Place(node, above.depth + 1, state, matched, text, context), -score)
        return tree


@dataclass(frozen=True, slots=True)
class _Place:
    """A node whose children are looked for; -1 is the pending token."""

    node: int
    depth: int
    state: int
    matched: int
    text: list[int]
    """The newest tokens up to the node."""
    context: HistoryContext | None
