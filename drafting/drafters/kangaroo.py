"""Kangaroo: a shallow exit of the target and a small attention adapter draft; a second exit ends unsure drafts.

Liu et al., arXiv 2404.18911. The lower layers run on the target's own cache and verification goes on from there, so
that what drafting costs is the adapter and the head. The adapter has a cache of its own over the committed text. Its
entries come from the states that verification passed, those of a wholly accepted draft's last token included, which
drafting itself never fed to the adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest, GoOn, StepSignal
from draftproof.drafting.drafters.chain_draws import ChainDraws
from draftproof.drafting.drafters.exit_chain import draft_through_layers, layered
from draftproof.drafting.drafters.exit_head import ExitHead
from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter
from draftproof.drafting.drafters.weights_digest import weights_digest
from draftproof.drafting.model import LayeredModel, RowTokens
from draftproof.errors import UsageError

_CHUNK = 512
"""Positions a pass when lower layers are run over a text again."""
_ASIDE_ROW = -(2**62) - 1
"""The row they are run in: an id that no caller uses, and not the one that pass costs are measured in."""


@dataclass
class _Row:
    """The adapter's keys and values over the first `length` tokens of a text."""

    text: list[int]
    keys: Tensor
    """[capacity, kv heads, head size]; entries from `length` on are those of this round's draft, or nothing."""
    values: Tensor
    length: int = 0

    def write(self, at: int, keys: Tensor, values: Tensor) -> None:
        end = at + len(keys)
        if end > len(self.keys):
            room = max(end, 2 * len(self.keys)) - len(self.keys)
            self.keys = torch.cat([self.keys, self.keys.new_zeros((room, *self.keys.shape[1:]))])
            self.values = torch.cat([self.values, self.values.new_zeros((room, *self.values.shape[1:]))])
        self.keys[at:end] = keys
        self.values[at:end] = values


class Kangaroo:
    """Chains drafted by the lower layers of the target and `adapter`.

    Args:
        adapter: trained for this target (`training/kangaroo.py`).
        eta: the draft ends after a token drawn where the largest probability was below this; the token is kept. A
            length policy can end it earlier.
        max_depth: the paper drafts up to 6.
        law, temperature: as in `EarlyExit`.
    """

    def __init__(
        self,
        adapter: KangarooAdapter,
        *,
        eta: float = 0.6,
        max_depth: int = 6,
        law: Literal["reject", "match"] = "reject",
        temperature: float | None = None,
        name: str = "kangaroo",
    ) -> None:
        if not 0.0 <= eta <= 1.0 or max_depth < 1:
            raise UsageError(f"eta {eta} must be a probability and max_depth {max_depth} at least 1.")
        self._adapter = adapter.eval().requires_grad_(False)
        self._layer = adapter.config.exit_layer
        self._eta = eta
        self._temperature = temperature
        self._rows: dict[int, _Row] = {}
        self._spec = DrafterSpec(
            name=name,
            needs=frozenset({"layers", "hidden"}),
            hidden_layers=(self._layer,),
            max_nodes=max_depth,
            max_depth=max_depth,
            law=law,
            stepwise=True,
        )

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What drafted, for records."""
        return {"adapter": weights_digest(self._adapter, self._adapter.trimmed)}

    def bind(self, binding: Binding) -> None:
        self._model: LayeredModel = layered(binding, (self._layer,), self._spec.name)
        self._adapter.check_target(binding.model.info)
        self._adapter.to(binding.model.info.device)
        self._head = ExitHead(binding.model, self._adapter.trimmed)

    def start(self, event: Commit) -> None:
        config, device = self._adapter.config, self._model.info.device
        nothing = torch.zeros((0, config.n_kv_heads, config.head_size), device=device)
        row = self._rows[event.row] = _Row(list(event.tokens), nothing, nothing)
        self._learn(row, event.hidden.get(self._layer))

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            row = self._rows[event.row]
            known = row.length == len(row.text) - 1
            row.text.extend(event.tokens)
            if known:
                self._learn(row, event.hidden.get(self._layer))

    def rewind(self, row: int, length: int) -> None:
        state = self._rows[row]
        del state.text[length:]
        state.length = min(state.length, length - 1)

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._rows.pop(row, None)

    def propose(self, request: DraftRequest) -> Draft:
        states = [self._rows[row] for row in request.rows]
        context = self._model.info.context_length
        limits = [max(0, min(self._spec.max_depth, context - len(state.text))) for state in states]
        drafting = [min(each) > 0 for each in zip(limits, request.budget, strict=True)]
        if not any(drafting):
            return empty_draft(len(request.rows))
        for state, drafts in zip(states, drafting, strict=True):
            if drafts:
                self._catch_up(state)
        texts = [state.text for state in states]
        request = replace(request, go_on=self._sure(request.go_on))
        draws = ChainDraws(
            request, texts, self._spec.law, limits=limits, temperature=self._temperature, ids=self._head.ids
        )

        def readout(indices: Sequence[int], newest: Tensor) -> Tensor:
            return self._logits(
                [states[index] for index in indices], [len(draws.tokens[index]) for index in indices], newest
            )

        return draft_through_layers(self._model, self._layer, request.rows, texts, draws, readout).draft

    def _sure(self, policy: GoOn | None) -> GoOn:
        def go_on(signal: StepSignal) -> bool:
            wanted = policy is None or policy(signal)  # asked in any case: policies learn from what they are asked
            return wanted and signal.top_probability >= self._eta

        return go_on

    @torch.no_grad()
    def _logits(self, rows: Sequence[_Row], depths: Sequence[int], newest: Tensor) -> Tensor:
        """Draft logits [A, W] of the newest states [A, H], `depths` tokens into each row's draft."""
        at = [row.length + depth for row, depth in zip(rows, depths, strict=True)]
        positions = torch.tensor(at, device=newest.device)
        keys, values = self._adapter.keys_values(newest, positions)
        queries = self._adapter.queries(newest, positions)
        mixed = []
        for place, (row, end) in enumerate(zip(rows, at, strict=True)):
            one = slice(place, place + 1)
            row.write(end, keys[one], values[one])
            mixed.append(self._adapter.mix(queries[one], row.keys[: end + 1], row.values[: end + 1]))
        return self._head(self._adapter.output(newest, torch.cat(mixed)))

    @torch.no_grad()
    def _catch_up(self, state: _Row) -> None:
        """Where tokens were forced, no states came: the lower layers run over the text again, in a row of their own."""
        settled = state.text[:-1]
        if state.length == len(settled):
            return
        self._model.add_row(_ASIDE_ROW)
        try:
            for begin in range(0, len(settled), _CHUNK):
                piece = torch.tensor(settled[begin : begin + _CHUNK], dtype=torch.int64)
                result = self._model.run_layers([RowTokens(_ASIDE_ROW, piece, start=begin)], 0, self._layer)
                new = result.hidden[self._layer][max(0, state.length - begin) :]
                self._learn(state, new)
        finally:
            self._model.drop_row(_ASIDE_ROW)

    @torch.no_grad()
    def _learn(self, row: _Row, states: Tensor | None) -> None:
        """Entries for the committed positions after those that are known."""
        if states is None or not len(states):
            return  # tokens that somebody put there; `catch_up` sees to them when the row drafts again
        positions = torch.arange(row.length, row.length + len(states), device=states.device)
        row.write(row.length, *self._adapter.keys_values(states, positions))
        row.length += len(states)
