"""A draft model of another vocabulary, restricted to the tokens that it shares with the target.

Token-level intersection (TLI; Timor et al., arXiv 2502.05202, algorithm 4). The draft distribution is renormalised on
the shared tokens; that is what is drawn from and reported, by target ids, so the rules for `reject` hold unchanged.
The target's other tokens are never drafted, and reach the draft model as text in its own tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.chain_draws import ChainDraws
from draftproof.drafting.drafters.draft_cache import DraftCache
from draftproof.drafting.drafters.vocab_map import Translation, VocabMap, controls_between, intersect, known, sides
from draftproof.drafting.model import CachedModel, Wanted
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError


class TokenIntersection:
    """Chains drafted by `model` in the tokens that both vocabularies have.

    Args:
        model: the draft model.
        vocabulary: its tokens; None, which a model without a tokenizer has, is refused.
        controls: control tokens, target id -> draft id; None pairs those that are written alike, and the ends of text.
        begin: draft tokens before every text, such as a BOS that the target does not have.
        law, temperature, max_depth: as in `SmallLM`.
    """

    def __init__(
        self,
        model: CachedModel,
        vocabulary: Vocabulary | None,
        *,
        controls: Mapping[int, int] | None = None,
        begin: Sequence[int] = (),
        law: Literal["reject", "match"] = "reject",
        temperature: float | None = None,
        max_depth: int = 16,
        name: str = "token-intersection",
    ) -> None:
        if max_depth < 1:
            raise UsageError(f"max_depth is {max_depth}, it must be at least 1.")
        self.model = model
        self._vocabulary = known(vocabulary, model)
        self._controls = controls
        self._begin = tuple(begin)
        self._temperature = temperature
        self._cache = DraftCache(model)
        self._rows: dict[int, Translation] = {}
        self._spec = DrafterSpec(
            name=name,
            needs=frozenset({"text"}),
            max_nodes=max_depth,
            max_depth=max_depth,
            law=law,
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

    @property
    def shared(self) -> VocabMap:
        """What can be drafted; known once bound."""
        return self._map

    def bind(self, binding: Binding) -> None:
        target_vocabulary, controls = controls_between(self.model, self._vocabulary, self._controls, binding)
        draft, target = self.model.info, binding.model.info
        self._map = intersect(
            self._vocabulary,
            target_vocabulary,
            controls,
            draft_size=draft.vocab_size,
            target_size=target.vocab_size,
        )
        self._to_draft = self._map.to_draft()
        self._own, self._target = sides(self._vocabulary, target_vocabulary, controls)
        self._ids = self._map.target_ids.to(draft.device)

    def start(self, event: Commit) -> None:
        row = self._rows[event.row] = Translation(self._to_draft, self._target, self._own, self._begin)
        row.extend(event.tokens)
        self._cache.add(event.row)

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            row = self._rows[event.row]
            row.extend(event.tokens)
            self._cache.follow(event.row, row.draft)

    def rewind(self, row: int, length: int) -> None:
        self._rows[row].cut(length)
        self._cache.follow(row, self._rows[row].draft)

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._cache.drop(row)
            self._rows.pop(row, None)

    def propose(self, request: DraftRequest) -> Draft:
        states = [self._rows[row] for row in request.rows]
        limits = [self._limit(state) for state in states]
        draws = ChainDraws(
            request,
            [state.text for state in states],
            self._spec.law,
            limits=limits,
            temperature=self._temperature,
            ids=self._ids,
        )
        going = draws.beginning()
        if not going:
            return empty_draft(len(request.rows))
        wanted = Wanted(logits="last")
        result = self._cache.catch_up({request.rows[index]: states[index].draft for index in going}, wanted)
        while True:
            assert result.logits is not None
            going = draws.draw(going, self._map.columns(result.logits))
            if not going:
                return draws.draft()
            fed = {}
            for index in going:
                row = request.rows[index]
                fed[row] = [(self._to_draft[draws.tokens[index][-1]], self._cache.newest(row))]
            result = self._cache.extend(fed, wanted)

    def _limit(self, state: Translation) -> int:
        if state.held or not state.draft:
            return 0
        return min(self._spec.max_depth, self._cache.room(state.draft))
