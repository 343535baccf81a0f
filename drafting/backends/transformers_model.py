"""Reference backend: any decoder-only transformers model with plain attention, as a `CachedModel`.

The model's own code computes every pass; we bring the cache, the positions and the masks. The object that was handed
in is never changed: not its weights, its config or its attention implementation. At construction a small tree is run
and compared with the model's plain forward, so that a model whose code does not honour masks or positions is refused
rather than decoded wrongly (`transformers_probe`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from draftproof.drafting.backends.ragged_cache import RaggedCache, Span, memory_shortage
from draftproof.drafting.backends.slot_tree import PlannedRow, RowTable
from draftproof.drafting.backends.transformers_facts import dissect, model_info
from draftproof.drafting.backends.transformers_masks import (
    as_attention_takes,
    is_plain_chain,
    seen_columns,
    within_window,
)
from draftproof.drafting.backends.transformers_probe import check_passes
from draftproof.drafting.model import ModelInfo, Pass, RowTokens, Wanted
from draftproof.errors import UsageError


class TransformersModel:
    """A transformers model with a cache of rows. One pass at a time: not for several threads at once."""

    def __init__(self, model: PreTrainedModel, *, name: str | None = None) -> None:
        self._parts = dissect(model)
        self._model = model
        self._info = model_info(model, name=name, backend="transformers")
        self._table = RowTable(
            vocab_size=min(self._info.vocab_size, cast(Tensor, model.get_input_embeddings().weight).shape[0]),
            context_length=self._info.context_length,
            n_layers=self._info.n_layers,
        )
        self._cache = self._empty_cache()
        self._places: dict[int, int] = {}
        self._head = self._parts.head if check_passes(self, model, self._parts.head) else None
        # the rows of the check would keep their room
        self._cache = self._empty_cache()

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def supports_layers(self) -> bool:
        """Whether `run_layers` works: for Llama, Mistral, Qwen2 and Qwen3."""
        return self._parts.runs_layers

    @property
    def allocated(self) -> tuple[int, int]:
        """Rows and columns that the cache has room for."""
        return self._cache.allocated

    def _empty_cache(self) -> RaggedCache:
        return RaggedCache(most_columns=self._info.context_length)

    # Rows

    def add_row(self, row: int) -> None:
        self._table.add(row)
        try:
            with memory_shortage("making room for a row of the cache"):
                self._places[row] = self._cache.claim()
        except BaseException:
            self._table.drop(row)
            raise

    def drop_row(self, row: int) -> None:
        self._table.drop(row)
        self._cache.release(self._places.pop(row))

    def length(self, row: int) -> int:
        return self._table.length(row)

    def commit(self, row: int, slots: Sequence[int]) -> None:
        to, columns = self._table.check_commit(row, slots)
        if columns is not None:
            self._cache.move(self._places[row], to, columns)
        self._table.committed(row, len(slots))

    def truncate(self, row: int, length: int) -> None:
        self._table.truncate(row, length)

    # Passes

    @torch.no_grad()
    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008 (frozen)
        if wanted.logits not in ("all", "last", "none"):
            raise UsageError(f"wanted.logits is {wanted.logits!r}; it is 'all', 'last' or 'none'.")
        planned = self._table.plan(batch)
        self._check_taps(wanted.taps, 0, self._info.n_layers)
        with self._pass(planned), self._tapped(wanted.taps) as tapped:
            output = self._model(
                input_ids=self._padded_ids(planned),
                position_ids=self._positions(planned),
                attention_mask=self._mask(planned),
                past_key_values=self._cache,
                use_cache=True,
                return_dict=True,
                **self._ends_asked(planned, wanted),
            )
            hidden = {layer: _packed(states, planned) for layer, states in tapped.items()}
            logits = self._picked(output.logits, planned, wanted)
        self._table.apply(planned)
        per_row = [part.count if wanted.logits == "all" else 1 for part in planned]
        return Pass(
            logits=logits,
            logit_bounds=_bounds(per_row) if wanted.logits != "none" else (0,) * (len(planned) + 1),
            hidden=hidden,
            bounds=_bounds([part.count for part in planned]),
        )

    @torch.no_grad()
    def run_layers(
        self,
        batch: Sequence[RowTokens],
        first: int,
        last: int,
        hidden: Tensor | None = None,
        taps: tuple[int, ...] = (),
    ) -> Pass:
        if not self.supports_layers:
            raise UsageError(
                f"The layers of {self._info.architecture} cannot be run one by one.",
                remedy="That works for Llama, Mistral, Qwen2 and Qwen3; choose a drafter that does not need it.",
            )
        if not 0 <= first < last <= self._info.n_layers:
            raise UsageError(
                f"Layers {first} to {last} were asked for; the model has layers 0 to {self._info.n_layers}."
            )
        if hidden is None and first > 0:
            raise UsageError(f"Layer {first} was asked for without its input.", remedy="Pass `hidden`.")
        planned = self._table.plan(batch, first=first, last=last)
        self._check_taps(taps, first, last)
        total = sum(part.count for part in planned)
        if hidden is not None and hidden.shape != (total, self._info.hidden_size):
            raise UsageError(
                f"Hidden states of shape {tuple(hidden.shape)} came; [{total}, {self._info.hidden_size}] was expected."
            )
        with self._pass(planned):
            states = self.embed(self._padded_ids(planned)) if hidden is None else self._unpacked(hidden, planned)
            positions = self._positions(planned)
            rotary = cast(Any, self._parts.decoder).rotary_emb(states, position_ids=positions)
            masks = self._masks_by_type(planned)
            outputs = {first: states}
            for layer in range(first, last):
                states = self._parts.layers[layer](
                    states,
                    attention_mask=masks[self._parts.layer_types[layer]],
                    position_ids=positions,
                    past_key_values=self._cache,
                    use_cache=True,
                    position_embeddings=rotary,
                )
                outputs[layer + 1] = states
            kept = {layer: _packed(outputs[layer], planned) for layer in {*taps, last}}
        self._table.apply(planned)
        return Pass(
            logits=None,
            logit_bounds=(0,) * (len(planned) + 1),
            hidden=kept,
            bounds=_bounds([part.count for part in planned]),
        )

    # Around the layers

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings [..., H] of ids [...], scaled where the embedding itself does so (Gemma).

        Without what a model makes of them afterwards: learned positions (GPT-2), a multiplier (Granite).
        """
        embeddings = self._model.get_input_embeddings()
        self._check_ids(ids, cast(Tensor, embeddings.weight).shape[0])
        return cast(Tensor, embeddings(ids.to(self._info.device)))

    @torch.no_grad()
    def head(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        if self._head is None:
            raise UsageError(
                f"{self._info.architecture} makes logits in a way of its own, not by a final norm and a matrix.",
                remedy="Choose a drafter that does not use the target's head.",
            )
        if ids is not None:
            self._check_ids(ids, self._info.vocab_size)
        return self._head(hidden.to(self._info.device, self._info.dtype), ids)

    # How a pass is put to the model

    @contextmanager
    def _pass(self, planned: Sequence[PlannedRow]) -> Iterator[None]:
        if self._model.training:
            raise UsageError(
                f"{self._info.name} is in training mode, where dropout makes logits random.",
                remedy="Call model.eval().",
            )
        spans = [Span(self._places[part.row], part.first_column, part.count) for part in planned]
        overwritten = [
            Span(span.place, span.first, min(len(self._table.slots(part.row)) - part.start, part.count))
            for part, span in zip(planned, spans, strict=True)
            if len(self._table.slots(part.row)) > part.start
        ]
        with memory_shortage(f"a pass of {self._info.name}"), self._cache.writing(spans, overwritten=overwritten):
            yield

    def _padded_ids(self, planned: Sequence[PlannedRow]) -> Tensor:
        """[B, n] int64 on the model's device."""
        ids = [part.tokens.to(self._info.device) for part in planned]
        return pad_sequence(ids, batch_first=True) if len(ids) > 1 else ids[0].unsqueeze(0)

    def _unpacked(self, hidden: Tensor, planned: Sequence[PlannedRow]) -> Tensor:
        """[T, H] -> [B, n, H] as the layers take it, zeros as padding."""
        per_row = torch.split(hidden.to(self._info.device, self._info.dtype), [part.count for part in planned])
        return pad_sequence(list(per_row), batch_first=True)

    def _positions(self, planned: Sequence[PlannedRow]) -> Tensor:
        """[B, n] int64 on the model's device."""
        return pad_sequence([torch.tensor(part.positions) for part in planned], batch_first=True).to(self._info.device)

    def _mask(self, planned: Sequence[PlannedRow]) -> Tensor | dict[str, Tensor]:
        """What the whole model takes as its attention mask."""
        if is_plain_chain(planned):
            # The model makes its own causal mask, or none where its kernels know what is meant.
            columns = max(part.columns for part in planned)
            return torch.ones((len(planned), columns), dtype=torch.int64, device=self._info.device)
        masks = self._masks_by_type(planned)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _masks_by_type(self, planned: Sequence[PlannedRow]) -> dict[str, Tensor]:
        """Layer type -> [B, 1, n, columns]."""
        everything = seen_columns(planned)
        masks = {}
        for kind, window in self._parts.windows.items():
            seen = everything if window is None else within_window(everything, planned, window)
            masks[kind] = as_attention_takes(
                seen, eager=self._parts.eager, dtype=self._info.dtype, device=self._info.device
            )
        return masks

    def _ends_asked(self, planned: Sequence[PlannedRow], wanted: Wanted) -> dict[str, Tensor]:
        """Keeps the model from computing logits that are not wanted: places in the padded rows, the same for all."""
        if wanted.logits == "all" or not self._parts.chooses_logits:
            return {}
        return {"logits_to_keep": torch.tensor(_ends(planned, wanted), dtype=torch.int64, device=self._info.device)}

    def _picked(self, logits: Tensor, planned: Sequence[PlannedRow], wanted: Wanted) -> Tensor | None:
        """[R, V] of the model's logits [B, places, V]."""
        if wanted.logits == "none":
            return None
        if wanted.logits == "all":
            chosen = _packed(logits, planned)
        else:
            places = _ends(planned, wanted) if self._parts.chooses_logits else range(logits.shape[1])
            at = [places.index(part.count - 1) for part in planned]
            chosen = logits[list(range(len(planned))), at]
        return chosen.float() if logits.device.type == "cpu" else chosen

    @contextmanager
    def _tapped(self, taps: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """Collects hidden states [B, n, H] while the model runs; its layers are as they were afterwards."""
        states: dict[int, Tensor] = {}
        layers = self._parts.layers

        def entering(layer: int) -> Any:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                states[layer] = args[0] if args else kwargs["hidden_states"]

            return hook

        def leaving(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            states[len(layers)] = output[0] if isinstance(output, tuple) else output

        with ExitStack() as hooks:
            for layer in set(taps):
                if layer < len(layers):
                    handle = layers[layer].register_forward_pre_hook(entering(layer), with_kwargs=True)
                else:
                    handle = layers[-1].register_forward_hook(leaving)
                hooks.callback(handle.remove)
            yield states

    def _check_taps(self, taps: Sequence[int], first: int, last: int) -> None:
        wrong = next((layer for layer in taps if not first <= layer <= last), None)
        if wrong is not None:
            raise UsageError(f"The states of layer {wrong} were asked for; this pass has those of {first} to {last}.")

    def _check_ids(self, ids: Tensor, count: int) -> None:
        low, high = torch.stack(torch.aminmax(ids)).tolist() if ids.numel() else (0, 0)
        if low < 0 or high >= count:
            raise UsageError(
                f"Token id {low if low < 0 else high} is out of range; the model has ids 0 to {count - 1}."
            )


def _ends(planned: Sequence[PlannedRow], wanted: Wanted) -> list[int]:
    """Places of the rows' last tokens, where those are wanted; each place once."""
    return sorted({part.count - 1 for part in planned}) if wanted.logits == "last" else []


def _packed(padded: Tensor, planned: Sequence[PlannedRow]) -> Tensor:
    """[B, n, ...] -> [T, ...] without the padding."""
    if len(planned) == 1:
        return padded[0]
    return torch.cat([padded[row, : part.count] for row, part in enumerate(planned)])


def _bounds(counts: Sequence[int]) -> tuple[int, ...]:
    return (0, *accumulate(counts))
