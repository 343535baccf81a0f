"""A small draft model of the target's vocabulary proposes by decoding itself.

Leviathan et al., arXiv 2211.17192, and Chen et al., arXiv 2302.01318, for chains; trees of siblings drawn without
replacement as in Jeon et al., arXiv 2402.14160. The draft model keeps a cache of its own, which `DraftCache` keeps in
step with the committed text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from draftproof.drafting.draft import Draft, Law, empty_draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.chain_draws import ChainDraws
from draftproof.drafting.drafters.draft_cache import DraftCache
from draftproof.drafting.drafters.sibling_draws import SiblingDraws
from draftproof.drafting.model import CachedModel, Wanted
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError


class SmallLM:
    """Chains (`width` 1) or trees drafted by `model`.

    Args:
        model: the draft model, with rows of its own: not the object that is the target.
        vocabulary: its tokens. With it, the tokens are compared with the target's; without it, only their number is.
        law: `reject` draws from the draft distribution, `match` takes its most probable tokens. Greedy rows take
            them under either.
        temperature: what sampled rows are drafted with; None is the row's own. Any value keeps the output's law.
        max_depth: longest path.
        width: children of each expanded node.
        siblings: of more than one child, how they are chosen where `law` is `reject`: `drawn` without replacement, or
            the `best` and one that is drawn (Hu et al., ICLR 2025).
        beam: nodes of a level that are expanded.
    """

    def __init__(
        self,
        model: CachedModel,
        *,
        vocabulary: Vocabulary | None = None,
        law: Literal["reject", "match"] = "reject",
        temperature: float | None = None,
        max_depth: int = 16,
        width: int = 1,
        beam: int = 1,
        siblings: Literal["drawn", "best"] = "drawn",
        name: str = "small-lm",
    ) -> None:
        if max_depth < 1 or width < 1 or beam < 1:
            raise UsageError(f"max_depth {max_depth}, width {width} and beam {beam} must all be at least 1.")
        if temperature is not None and not 0.0 < temperature < float("inf"):
            raise UsageError(
                f"The draft temperature is {temperature}, it must be positive and finite.",
                remedy="For the most probable tokens use law='match'.",
            )
        self.model = model
        self._vocabulary = vocabulary
        self._temperature = temperature
        self._width, self._beam = width, beam
        self._cache = DraftCache(model)
        self._texts: dict[int, list[int]] = {}
        several: Law = "reject_wor" if siblings == "drawn" else "reject_greedy"
        self._spec = DrafterSpec(
            name=name,
            needs=frozenset() if vocabulary is None else frozenset({"text"}),
            max_nodes=width + (max_depth - 1) * width * beam if width > 1 else max_depth,
            max_depth=max_depth,
            law="match" if law == "match" else "reject" if width == 1 else several,
            stepwise=True,
            draft_model=model.info.digest,
        )

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @property
    def fingerprint(self) -> dict[str, str]:
        """What drafted, for records."""
        return {"draft_model": self.model.info.digest}

    def bind(self, binding: Binding) -> None:
        if binding.model is self.model:
            raise UsageError(
                "The draft model and the target are one object, so their cache rows would collide.",
                remedy="Load the model twice, or wrap it twice: each wrapper has rows of its own.",
            )
        check_same_vocabulary(self.model, self._vocabulary, binding)

    def start(self, event: Commit) -> None:
        self._cache.add(event.row)
        self._texts[event.row] = list(event.tokens)

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            text = self._texts[event.row]
            text.extend(event.tokens)
            self._cache.follow(event.row, text)

    def rewind(self, row: int, length: int) -> None:
        text = self._texts[row]
        del text[length:]
        self._cache.follow(row, text)

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._cache.drop(row)
            self._texts.pop(row, None)

    def propose(self, request: DraftRequest) -> Draft:
        texts = [self._texts[row] for row in request.rows]
        limits = [min(self._spec.max_nodes, self._cache.room(text)) for text in texts]
        if not any(min(each) for each in zip(limits, request.budget, strict=True)):
            return empty_draft(len(request.rows))
        return self._chains(request, texts, limits) if self._width == 1 else self._trees(request, texts, limits)

    def _chains(self, request: DraftRequest, texts: list[list[int]], limits: list[int]) -> Draft:
        draws = ChainDraws(request, texts, self._spec.law, limits=limits, temperature=self._temperature)
        last = self.model.info.n_layers
        wanted = Wanted(logits="last", taps=() if request.go_on is None else (last,))
        going = draws.beginning()
        result = self._cache.catch_up({request.rows[index]: texts[index] for index in going}, wanted)
        while True:
            assert result.logits is not None
            ends = [end - 1 for end in result.bounds[1:]]
            hidden = result.hidden[last][ends] if result.hidden else None
            going = draws.draw(going, result.logits, hidden)
            if not going:
                return draws.draft()
            fed = {}
            for index in going:
                row = request.rows[index]
                fed[row] = [(draws.tokens[index][-1], self._cache.newest(row))]
            result = self._cache.extend(fed, wanted)

    def _trees(self, request: DraftRequest, texts: list[list[int]], limits: list[int]) -> Draft:
        draws = SiblingDraws(
            request,
            texts,
            self._spec.law,
            limits=limits,
            width=self._width,
            beam=self._beam,
            depth=self._spec.max_depth,
            temperature=self._temperature,
        )
        frontier = draws.frontier()
        fed = {request.rows[index]: texts[index] for index, _ in frontier}
        result = self._cache.catch_up(fed, Wanted(logits="last"))
        slots = {(index, -1): self._cache.newest(request.rows[index]) for index, _ in frontier}
        while True:
            assert result.logits is not None
            draws.expand(frontier, result.logits)
            frontier = draws.frontier()
            if not frontier:
                return draws.draft()
            pairs: dict[int, list[tuple[int, int]]] = {}
            for index, node in frontier:
                row = request.rows[index]
                mine = pairs.setdefault(row, [])
                slots[index, node] = self._cache.newest(row) + 1 + len(mine)
                mine.append((draws.token(index, node), slots[index, draws.parent(index, node)]))
            result = self._cache.extend(pairs, Wanted(logits="all"))


def check_same_vocabulary(model: CachedModel, vocabulary: Vocabulary | None, binding: Binding) -> None:
    """Raises UsageError when a drafted id could mean another token to the target."""
    own, others = model.info.vocab_size, binding.model.info.vocab_size
    remedy = "Use a drafter between vocabularies: 'token-intersection' (sampled) or 'string-match' (any law)."
    if own != others:
        raise UsageError(
            f"The draft model {model.info.name} has {own} tokens and the target {binding.model.info.name} has "
            f"{others}: one vocabulary was expected.",
            remedy=remedy,
        )
    if vocabulary is None or binding.vocabulary is None:
        return
    for token in range(own):
        here, there = vocabulary.token_bytes(token), binding.vocabulary.token_bytes(token)
        if here != there:
            raise UsageError(
                f"Token {token} is {here!r} to the draft model {model.info.name} and {there!r} to the target "
                f"{binding.model.info.name}: one vocabulary was expected.",
                remedy=remedy,
            )
