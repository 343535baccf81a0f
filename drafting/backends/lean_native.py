"""All layers of a pass in one call of native code (`native_layers.c`), for passes over few tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from draftproof.drafting.backends.lean_shape import LeanShape
from draftproof.drafting.backends.lean_weights import LeanLayer
from draftproof.drafting.backends.native import Layer, Matrix, Row, Shape, library
from draftproof.drafting.backends.packed_linear import PackedLinear, threads_for
from draftproof.drafting.backends.row_cache import RowCache
from draftproof.drafting.backends.slot_tree import PlannedRow

_MOST_PAIRS = 2**12
"""Tokens of a row times its columns up to which a pass of several tokens takes less time here than with torch's
operators; one token always does. Measured with 9 heads over 3 and with 4 over 4."""


class NativeLayers:
    """The layers of one model. Use `native_layers`, which knows where they can be had."""

    def __init__(self, shape: LeanShape, layers: Sequence[LeanLayer], matrices: Sequence[Sequence[Matrix]]) -> None:
        self._shape = shape
        self._layers = layers  # whose memory the addresses are of
        self._run = library().draftproof_layers
        self._inner = layers[0].down.in_features
        self._widest = max(shape.hidden_size, shape.heads * shape.head_size, self._inner)
        self._numbers = sum(m.width * m.out_width for m in matrices[0]) // len(matrices[0])
        self._native_shape = Shape(
            hidden=shape.hidden_size,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            size=shape.head_size,
            head_floor=shape.head_size * shape.epsilon,
        )
        self._native_layers = (Layer * len(layers))(
            *(
                Layer(*given, None if layer.head_norms is None else layer.head_norms.data_ptr(), window or 0)
                for layer, given, window in zip(layers, matrices, shape.windows, strict=True)
            )
        )

    @staticmethod
    def takes(planned: Sequence[PlannedRow]) -> bool:
        """Whether a pass is of the size that they are for."""
        return all(part.count == 1 or part.count * part.columns <= _MOST_PAIRS for part in planned)

    def run(
        self,
        planned: Sequence[PlannedRow],
        caches: Mapping[int, RowCache],
        states: Tensor,
        turns: Tensor,
        first: int,
        last: int,
        taps: Sequence[int],
    ) -> dict[int, Tensor]:
        """Layers `first` … `last - 1` over `states` [T, H] in place; copies of the tapped states.

        `turns` [positions, head size / 2] complex64: rotary factors.
        """
        shape, tokens = self._shape, len(states)
        kept = {layer: torch.empty_like(states) for layer in taps}
        into = (ctypes.c_void_p * (last + 1))()
        for layer, copy in kept.items():
            into[layer] = copy.data_ptr()
        trees = [_tree_of(part) for part in planned]
        begins = accumulate((part.count for part in planned), initial=0)
        rows = (Row * len(planned))(
            *(
                _row_of(part, caches[part.row], tree, begin)
                for part, tree, begin in zip(planned, trees, begins, strict=False)
            )
        )
        threads = threads_for(tokens * self._numbers)
        columns = max(part.columns for part in planned)
        mixed = shape.heads * shape.head_size
        heads = mixed + 2 * shape.kv_heads * shape.head_size
        sizes = (tokens * heads, tokens * mixed, 2 * tokens * self._inner, tokens * self._widest, threads * columns)
        room = torch.empty(sum(sizes), dtype=torch.float32)
        places = (room.data_ptr() + room.element_size() * begin for begin in accumulate((0, *sizes[:-1])))
        self._run(
            *(ctypes.addressof(self._native_shape), ctypes.addressof(self._native_layers), first, last),
            *(ctypes.addressof(rows), len(planned), tokens, states.data_ptr(), turns.data_ptr()),
            *(ctypes.addressof(into), *places, columns, threads),
        )
        return kept


def _tree_of(part: PlannedRow) -> tuple[Tensor, Tensor] | None:
    """Depths of a row's slots, and which slots the tokens of the pass see; None for a chain."""
    if part.tree.is_chain:
        return None
    return torch.tensor(part.tree.depths, dtype=torch.int64), part.tree.visible(part.start).contiguous()


def _row_of(part: PlannedRow, cache: RowCache, tree: tuple[Tensor, Tensor] | None, begin: int) -> Row:
    """What it points to must be held for as long as it is used."""
    depths, seen = (None, None) if tree is None else (tree[0].data_ptr(), tree[1].data_ptr())
    return Row(cache.address, cache.columns, part.length, part.start, part.count, depths, seen, begin)


def native_layers(shape: LeanShape, layers: Sequence[LeanLayer]) -> NativeLayers | None:
    """None where a matrix has another layout than the native one."""
    given = [_matrices(layer.queries_keys_values, layer.out, layer.gate_up, layer.down) for layer in layers]
    matrices = [each for each in given if each is not None]
    return NativeLayers(shape, layers, matrices) if len(matrices) == len(layers) else None


def _matrices(*packed: PackedLinear) -> list[Matrix] | None:
    found = [each.matrix for each in packed]
    return [each for each in found if each is not None] if None not in found else None
