"""Our own forward pass for Llama, SmolLM, Mistral, Qwen 2 and Qwen 3, in float32 on the CPU.

On a CPU, a pass over a few tokens should cost one reading of the weights. General code is far from that: it calls
dozens of operators a layer, reads weights in a layout made for training, and copies the cache. Here the weights are
packed (`packed_linear`) and rearranged so that a layer takes few operators (`lean_weights`), the cache is written in
place (`row_cache`), and the rows of a pass share every multiplication. Results differ from those of transformers by
rounding only. What is not computed exactly so is refused (`lean_shape`), and the transformers backend runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from draftproof.drafting.backends.lean_attention import RowAttention
from draftproof.drafting.backends.lean_checkpoint import checkpoint_config, checkpoint_info, checkpoint_source
from draftproof.drafting.backends.lean_native import native_layers
from draftproof.drafting.backends.lean_pages import gather
from draftproof.drafting.backends.lean_rotary import RotaryTable
from draftproof.drafting.backends.lean_shape import LeanShape, lean_shape, why_not, why_not_model
from draftproof.drafting.backends.lean_weights import LeanLayer, Source, WeightBuilder
from draftproof.drafting.backends.packed_linear import PackedLinear, unit
from draftproof.drafting.backends.ragged_cache import memory_shortage
from draftproof.drafting.backends.row_cache import RowCache
from draftproof.drafting.backends.slot_tree import PlannedRow, RowTable
from draftproof.drafting.backends.transformers_facts import model_info
from draftproof.drafting.model import GreedyText, GreedyWish, ModelInfo, Pass, RowTokens, Wanted
from draftproof.drafting.models.checkpoint import Checkpoint, read_checkpoint
from draftproof.errors import UsageError

_BACKEND = "lean-llama"


class LeanLlama:
    """A `LayeredModel` with weights of its own. One pass at a time: not for several threads at once."""

    def __init__(self, info: ModelInfo, shape: LeanShape, source: Source) -> None:
        """Use `from_transformers` or `from_safetensors`."""
        self._info = info
        self._shape = shape
        with memory_shortage(f"packing the weights of {info.name}"), torch.no_grad():
            builder = WeightBuilder(shape, source)
            self._ends = builder.ends()
            self._layers: list[LeanLayer] = [builder.layer(index) for index in range(shape.n_layers)]
        gather(packed.memory for packed in self._packed())
        self._native = native_layers(shape, self._layers)
        self._rotary = RotaryTable(shape)
        self._norm_floor = torch.tensor([(shape.hidden_size * shape.epsilon) ** 0.5], dtype=torch.float32)
        self._head_norm_floor = torch.tensor([(shape.head_size * shape.epsilon) ** 0.5], dtype=torch.float32)
        self._table = RowTable(
            vocab_size=min(info.vocab_size, self._ends.embeddings.shape[0]),
            context_length=info.context_length,
            n_layers=info.n_layers,
        )
        self._rows: dict[int, RowCache] = {}

    def _packed(self) -> Iterator[PackedLinear]:
        yield self._ends.head
        for layer in self._layers:
            yield from (layer.queries_keys_values, layer.out, layer.gate_up, layer.down)

    @staticmethod
    def supports(config: Any) -> str | None:
        """Why a model of this transformers configuration cannot be run here; None when it can."""
        return why_not(config)

    @classmethod
    def from_transformers(cls, model: PreTrainedModel, *, name: str | None = None) -> LeanLlama:
        """From a model in memory, which is not altered.

        The packed weights are a copy: as long as the model is held as well, both take memory. `from_safetensors`
        never has both.
        """
        reason = why_not_model(model)
        if reason is not None:
            raise UsageError(
                f"The lean backend cannot run {name or type(model).__name__}: {reason}.",
                remedy="Use the transformers backend.",
            )
        info = model_info(model, name=name, backend=_BACKEND)
        return cls(info, lean_shape(model.config), model.state_dict().get)

    @classmethod
    def from_safetensors(cls, folder: str | Path, *, name: str | None = None) -> LeanLlama:
        """From a checkpoint's folder, layer by layer; weights in half precision become float32."""
        return cls.from_checkpoint(read_checkpoint(Path(folder)), name=name)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, name: str | None = None) -> LeanLlama:
        """From a checkpoint that was looked at already."""
        config = checkpoint_config(checkpoint)
        reason = why_not(config)
        if reason is not None:
            raise UsageError(
                f"The lean backend cannot run {checkpoint.folder}: {reason}.", remedy="Use the transformers backend."
            )
        info = checkpoint_info(checkpoint, config, name=name, backend=_BACKEND)
        return cls(info, lean_shape(config), checkpoint_source(checkpoint, tied=config.tie_word_embeddings))

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def supports_layers(self) -> bool:
        """Whether `run_layers` works; it always does here."""
        return True

    # Rows

    def add_row(self, row: int) -> None:
        self._table.add(row)
        shape = self._shape
        self._rows[row] = RowCache(
            shape.n_layers, shape.kv_heads, shape.head_size, most_columns=self._info.context_length
        )

    def drop_row(self, row: int) -> None:
        self._table.drop(row)
        del self._rows[row]

    def length(self, row: int) -> int:
        return self._table.length(row)

    @torch.inference_mode()
    def commit(self, row: int, slots: Sequence[int]) -> None:
        to, columns = self._table.check_commit(row, slots)
        if columns is not None:
            self._rows[row].move(to, columns)
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
        bounds = _bounds(planned)
        with self._running(planned):
            states, hidden = self._run(planned, None, 0, self._info.n_layers, wanted.taps)
            logits, logit_bounds = None, (0,) * len(bounds)
            if wanted.logits == "all":
                logits, logit_bounds = self.head(states), bounds
            elif wanted.logits == "last":
                ends = torch.tensor(bounds[1:]) - 1
                logits, logit_bounds = self.head(states.index_select(0, ends)), tuple(range(len(bounds)))
        self._table.apply(planned)
        return Pass(logits=logits, logit_bounds=logit_bounds, hidden=hidden, bounds=bounds)

    @torch.no_grad()
    def run_layers(
        self,
        batch: Sequence[RowTokens],
        first: int,
        last: int,
        hidden: Tensor | None = None,
        taps: tuple[int, ...] = (),
    ) -> Pass:
        if not 0 <= first < last <= self._info.n_layers:
            raise UsageError(
                f"Layers {first} to {last} were asked for; the model has layers 0 to {self._info.n_layers}."
            )
        if hidden is None and first > 0:
            raise UsageError(f"Layer {first} was asked for without its input.", remedy="Pass `hidden`.")
        planned = self._table.plan(batch, first=first, last=last)
        self._check_taps(taps, first, last)
        bounds = _bounds(planned)
        if hidden is not None and hidden.shape != (bounds[-1], self._info.hidden_size):
            raise UsageError(
                f"Hidden states of shape {tuple(hidden.shape)} came; "
                f"[{bounds[-1]}, {self._info.hidden_size}] was expected."
            )
        with self._running(planned):
            _, kept = self._run(planned, hidden, first, last, (*taps, last))
        self._table.apply(planned)
        return Pass(logits=None, logit_bounds=(0,) * len(bounds), hidden=kept, bounds=bounds)

    @property
    def tokens_at_once(self) -> int:
        readable = self._ends.embeddings.dtype in (torch.float32, torch.bfloat16)
        return self._native.tokens_at_once if self._native is not None and readable else 1

    @torch.no_grad()
    def write_greedily(self, wishes: Mapping[int, GreedyWish], taps: Sequence[int] = ()) -> dict[int, GreedyText]:
        if self._native is None or self.tokens_at_once < 2:
            raise UsageError(f"{self._info.name} does not write by itself here.", remedy="Use `forward`.")
        self._check_taps(taps, 0, self._info.n_layers)
        self._table.check_wishes(wishes, self._ends.head.out_features)
        lengths = {row: self.length(row) for row in wishes}
        for row, length in lengths.items():
            self._table.truncate(row, length)  # slots that were there are overwritten
        with memory_shortage(f"a pass of {self._info.name}"):
            for row, wish in wishes.items():
                self._rows[row].make_room(lengths[row] + wish.most, kept=lengths[row])
            turns = self._rotary.turns(max(lengths[row] + wish.most for row, wish in wishes.items()))
            written = self._native.write(wishes, self._rows, lengths, self._ends, turns, tuple(taps))
        for row, text in written.items():
            self._table.committed(row, len(text.tokens))
        return written

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings [..., H] of ids [...]."""
        table = self._ends.embeddings
        _check_ids(ids, table.shape[0])
        return table[ids].float()

    @torch.no_grad()
    def head(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Final norm and language-model head: logits [..., V], or [..., len(ids)] for those ids only.

        A few ids are cheaper than all where embeddings are tied. Else all are computed: rows cannot be taken out of
        packed weights.
        """
        flat = hidden.to(torch.float32).reshape(-1, self._info.hidden_size)
        if ids is None:
            logits = self._ends.head(flat)
        else:
            _check_ids(ids, self._info.vocab_size)
            if self._shape.tied:
                logits = (unit(flat, self._norm_floor) * self._ends.norm) @ self._ends.embeddings[ids].float().T
            else:
                logits = self._ends.head(flat).index_select(-1, ids)
        return logits.reshape(*hidden.shape[:-1], logits.shape[-1])

    # The layers

    @contextmanager
    def _running(self, planned: Sequence[PlannedRow]) -> Iterator[None]:
        """A pass. If it ends early, rows whose slots it had begun to overwrite have none."""
        try:
            with memory_shortage(f"a pass of {self._info.name}"):
                for part in planned:
                    self._rows[part.row].make_room(part.columns, kept=part.first_column)
                yield
        except BaseException:
            for part in planned:
                if len(self._table.slots(part.row)) > part.start:
                    self._table.truncate(part.row, part.length)
            raise

    def _run(
        self, planned: Sequence[PlannedRow], hidden: Tensor | None, first: int, last: int, taps: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Layers `first` … `last - 1` over [T, H]: their output, and copies of the tapped states."""
        states = self._entered(planned, hidden)
        if self._native is not None and self._native.takes(planned):
            turns = self._rotary.turns(max(part.columns for part in planned))
            return states, self._native.run(planned, self._rows, states, turns, first, last, taps)
        kept: dict[int, Tensor] = {}
        with torch.inference_mode():
            factors = self._rotary.factors([position for part in planned for position in part.positions])
            attentions = [RowAttention(part, self._rows[part.row], self._shape) for part in planned]
            counts = [part.count for part in planned]
            for layer in range(first, last):
                if layer in taps:
                    kept[layer] = states.clone()
                self._layer(layer, states, factors, attentions, counts)
        # Copies made outside of inference mode are ordinary tensors, which training may use.
        kept = {layer: tensor.clone() for layer, tensor in kept.items()}
        if last in taps:
            kept[last] = states.clone()
        return states, kept

    def _entered(self, planned: Sequence[PlannedRow], hidden: Tensor | None) -> Tensor:
        """[T, H] to be worked on in place."""
        if hidden is not None:
            return hidden.to(torch.float32, copy=True).contiguous()
        ids = planned[0].tokens if len(planned) == 1 else torch.cat([part.tokens for part in planned])
        return self._ends.embeddings.index_select(0, ids).float()

    def _layer(
        self, index: int, states: Tensor, factors: Tensor, attentions: Sequence[RowAttention], counts: list[int]
    ) -> None:
        """Adds the layer's two results to `states` [T, H] in place."""
        layer, shape = self._layers[index], self._shape
        qkv = layer.queries_keys_values(states)
        if layer.head_norms is not None:
            heads = qkv.view(-1, shape.heads + 2 * shape.kv_heads, shape.head_size)[:, : layer.head_norms.shape[0]]
            length = torch.linalg.vector_norm(heads, dim=-1, keepdim=True)
            heads.div_(torch.hypot(length, self._head_norm_floor)).mul_(layer.head_norms)
        qkv.view(torch.complex64).mul_(factors)
        if len(attentions) == 1:
            mixed = attentions[0](index, qkv)
        else:
            mixed = torch.cat([attend(index, part) for attend, part in zip(attentions, qkv.split(counts), strict=True)])
        layer.out(mixed, onto=states)
        layer.down(layer.gate_up(states), onto=states)

    def _check_taps(self, taps: Sequence[int], first: int, last: int) -> None:
        wrong = next((layer for layer in taps if not first <= layer <= last), None)
        if wrong is not None:
            raise UsageError(f"The states of layer {wrong} were asked for; this pass has those of {first} to {last}.")


def _bounds(planned: Sequence[PlannedRow]) -> tuple[int, ...]:
    return (0, *accumulate(part.count for part in planned))


def _check_ids(ids: Tensor, count: int) -> None:
    low, high = (int(bound) for bound in torch.aminmax(ids)) if ids.numel() else (0, 0)
    if low < 0 or high >= count:
        raise UsageError(f"Token id {low if low < 0 else high} is out of range; the model has ids 0 to {count - 1}.")
