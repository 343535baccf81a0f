"""The target drafts for itself: it is left after some of its layers, and verification goes on from there.

Elhoushi et al., arXiv 2404.16710 (LayerSkip). Ordinary models are unsure of themselves so early; a small trained
adapter (`exit_adapter.py`) makes the exit readable. With several candidate exits the drafter also keeps score of what
each of them would have drafted, for a policy that chooses (`Exits`; Zarch et al., arXiv 2504.05598, DEL).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.chain_draws import ChainDraws
from draftproof.drafting.drafters.exit_adapter import ExitAdapter
from draftproof.drafting.drafters.exit_chain import draft_through_layers, layered
from draftproof.drafting.drafters.exit_head import ExitHead
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.drafters.weights_digest import weights_digest
from draftproof.drafting.exits import Exits
from draftproof.drafting.model import LayeredModel
from draftproof.errors import UsageError


class EarlyExit:
    """Chains drafted by layers 0 … `exit_layer` - 1 of the target.

    Args:
        exit_layer: layers that draft.
        adapters: trained readouts, each for the exit and the target it was trained for; other exits are read as the
            last layer is, by the final norm and head.
        trimmed: tokens that may be drafted; the head is a large share of a drafting step. None: those of the
            adapters, or all.
        candidates: exits that are kept score of, `exit_layer` among them; empty: no score is kept.
        score_every: rounds between scores; each costs a row of the head for every candidate and committed token.
        law: `reject` draws from the exit's distribution, `match` takes its most probable token. Greedy rows take it
            under either.
        temperature: what sampled rows are drafted with; None is the row's own.
    """

    def __init__(
        self,
        exit_layer: int,
        *,
        adapters: Sequence[ExitAdapter] = (),
        trimmed: TrimmedVocabulary | None = None,
        candidates: Sequence[int] = (),
        score_every: int = 1,
        law: Literal["reject", "match"] = "reject",
        temperature: float | None = None,
        max_depth: int = 8,
        name: str = "early-exit",
    ) -> None:
        if max_depth < 1 or score_every < 1:
            raise UsageError(f"max_depth {max_depth} and score_every {score_every} must be at least 1.")
        if candidates and exit_layer not in candidates:
            raise UsageError(f"exit_layer {exit_layer} is not among the candidates {list(candidates)}.")
        self._adapters = {adapter.config.exit_layer: adapter.eval().requires_grad_(False) for adapter in adapters}
        self._trimmed = _common(trimmed, adapters)
        self._temperature = temperature
        self._score_every = score_every
        self._exits = Exits(tuple(sorted(set(candidates))) or (exit_layer,), exit_layer)
        self._texts: dict[int, list[int]] = {}
        self._lower: dict[int, dict[int, Tensor]] = {}
        """Row -> layer -> [1 + nodes, H]: states of this round below the exit, which verification does not pass."""
        self._commits: dict[int, int] = {}
        self._spec = DrafterSpec(
            name=name,
            needs=frozenset({"layers", "hidden"}) if candidates else frozenset({"layers"}),
            hidden_layers=self._exits.candidates if candidates else (),
            max_nodes=max_depth,
            max_depth=max_depth,
            law=law,
            stepwise=True,
            exits=self._exits if candidates else None,
        )

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What drafted beside the target itself, for records."""
        return {
            f"adapter.{layer}": weights_digest(adapter, adapter.trimmed) for layer, adapter in self._adapters.items()
        }

    def bind(self, binding: Binding) -> None:
        self._model: LayeredModel = layered(binding, self._exits.candidates, self._spec.name)
        for adapter in self._adapters.values():
            adapter.check_target(binding.model.info)
            adapter.to(binding.model.info.device)
        unused = set(self._adapters) - set(self._exits.candidates)
        if unused:
            raise UsageError(f"There is an adapter for the exit after layer {min(unused)}, which is never used.")
        self._head = ExitHead(binding.model, self._trimmed)
        self._exits.n_layers = binding.model.info.n_layers

    def start(self, event: Commit) -> None:
        self._texts[event.row] = list(event.tokens)

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            self._texts[event.row].extend(event.tokens)
            self._keep_score(event)

    def rewind(self, row: int, length: int) -> None:
        del self._texts[row][length:]
        self._lower.pop(row, None)

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._texts.pop(row, None)
            self._lower.pop(row, None)
            self._commits.pop(row, None)
        self._exits.forget(rows)

    def propose(self, request: DraftRequest) -> Draft:
        texts = [self._texts[row] for row in request.rows]
        context = self._model.info.context_length
        limits = [max(0, min(self._spec.max_depth, context - len(text))) for text in texts]
        if not any(min(each) for each in zip(limits, request.budget, strict=True)):
            return empty_draft(len(request.rows))
        layer = self._exits.layer
        draws = ChainDraws(
            request, texts, self._spec.law, limits=limits, temperature=self._temperature, ids=self._head.ids
        )
        lower = tuple(candidate for candidate in self._spec.hidden_layers if candidate < layer)
        chain = draft_through_layers(
            self._model, layer, request.rows, texts, draws, lambda _, states: self._logits(layer, states), lower
        )
        if lower:
            self._lower.update(zip(request.rows, chain.lower, strict=True))
        return chain.draft

    @torch.no_grad()
    def _logits(self, layer: int, states: Tensor) -> Tensor:
        adapter = self._adapters.get(layer)
        return self._head(states if adapter is None else adapter(states))

    def _keep_score(self, event: Commit) -> None:
        """What would each candidate have drafted where the target said `event.tokens`?"""
        lower = self._lower.pop(event.row, {})
        if self._spec.exits is None or event.reason != "verify":
            return
        count = self._commits[event.row] = self._commits.get(event.row, 0) + 1
        if count % max(self._score_every, self._exits.interval):
            return
        slots = [0, *(node + 1 for node in event.path)]
        said = torch.tensor(event.tokens[: len(slots)], device=self._model.info.device)
        for layer in self._exits.candidates:
            states = event.hidden[layer] if layer in event.hidden else lower[layer][slots] if layer in lower else None
            if states is None:
                continue
            columns = self._logits(layer, states[: len(said)]).argmax(dim=-1)
            tokens = columns if self._head.ids is None else self._head.ids[columns]
            self._exits.note(event.row, layer, int((tokens == said).sum()), len(said))


def _common(trimmed: TrimmedVocabulary | None, adapters: Sequence[ExitAdapter]) -> TrimmedVocabulary | None:
    """What every exit drafts from: one vocabulary, because drafts and scores are compared across exits."""
    given = [each for each in (trimmed, *(adapter.trimmed for adapter in adapters)) if each is not None]
    for each in given[1:]:
        if not torch.equal(each.ids, given[0].ids):
            raise UsageError(
                f"Exits that draft from different vocabularies, of {given[0].size} and {each.size} tokens, were given.",
                remedy="Train the adapters with one trimmed vocabulary.",
            )
    return given[0] if given else None
