"""All layers of a pass in one call of native code (`native_layers.c`), for passes over few tokens; and some passes of
plain greedy decoding in one (`native_run.c`), for models whose passes are short."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from draftproof.drafting.backends.lean_shape import LeanShape
from draftproof.drafting.backends.lean_weights import LeanEnds, LeanLayer
from draftproof.drafting.backends.native import Layer, Matrix, Row, Shape, Wanted, library
from draftproof.drafting.backends.packed_linear import PackedLinear, threads_for
from draftproof.drafting.backends.row_cache import RowCache
from draftproof.drafting.backends.slot_tree import PlannedRow
from draftproof.drafting.model import GreedyText, GreedyWish

_MOST_PAIRS = 2**12
"""Tokens of a row times its columns up to which a pass of several tokens takes less time here than with torch's
operators; one token always does. Measured with 9 heads over 3 and with 4 over 4."""


_MOST_AT_ONCE = 16
_SHORT = 2**24
"""Multiplications of about a millisecond: whoever asks meanwhile waits no longer than that."""


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
        tokens = len(states)
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
        columns = max(part.columns for part in planned)
        places, threads, _room = self._room(tokens, columns)
        self._run(
            *(ctypes.addressof(self._native_shape), ctypes.addressof(self._native_layers), first, last),
            *(ctypes.addressof(rows), len(planned), tokens, states.data_ptr(), turns.data_ptr()),
            *(ctypes.addressof(into), *places, columns, threads),
        )
        return kept

    @property
    def tokens_at_once(self) -> int:
        """Tokens of a row that plain decoding may write in one call: those of about a millisecond."""
        a_pass: int = self._numbers * 4 * len(self._layers)
        return max(1, min(_MOST_AT_ONCE, _SHORT // a_pass))

    def write(
        self,
        wanted: Mapping[int, GreedyWish],
        caches: Mapping[int, RowCache],
        lengths: Mapping[int, int],
        ends: LeanEnds,
        turns: Tensor,
        taps: Sequence[int] = (),
    ) -> dict[int, GreedyText]:
        """What each row goes on with; `caches` have room for it."""
        count, vocabulary, hidden = len(wanted), ends.head.out_features, self._shape.hidden_size
        most = max(wish.most for wish in wanted.values())
        logits = torch.empty((count, most, vocabulary), dtype=torch.float32)
        tokens = torch.empty((count, most), dtype=torch.int64)
        states = [torch.empty((len(taps), wish.most, hidden), dtype=torch.float32) for wish in wanted.values()]
        rows = (Row * count)(
            *(Row(caches[row].address, caches[row].columns, lengths[row], 0, 1, None, None, 0) for row in wanted)
        )
        halts = [wish.halts.contiguous() for wish in wanted.values()]
        becomes = (Wanted * count)(
            *(
                Wanted(
                    *(wish.pending, wish.most, halt.data_ptr(), tokens[at].data_ptr(), logits[at].data_ptr()),
                    *(state.data_ptr(), 0),
                )
                for at, (wish, halt, state) in enumerate(zip(wanted.values(), halts, states, strict=True))
            )
        )
        columns = max(lengths[row] + wish.most for row, wish in wanted.items())
        places, threads, _room = self._room(count, columns)
        fresh = torch.empty(count * (hidden + vocabulary), dtype=torch.float32)
        going, place = (Row * count)(), (ctypes.c_long * count)()
        tapped = (ctypes.c_long * len(taps))(*taps)
        kept = {layer: torch.empty((count, hidden), dtype=torch.float32) for layer in taps}
        into = (ctypes.c_void_p * (len(self._layers) + 1))()
        for layer, copy in kept.items():
            into[layer] = copy.data_ptr()
        head = ends.head.matrix
        assert head is not None, "as those of the layers"
        library().draftproof_run(
            *(ctypes.addressof(self._native_shape), ctypes.addressof(self._native_layers), len(self._layers)),
            *(ctypes.addressof(head), ends.embeddings.data_ptr(), ends.embeddings.dtype is torch.bfloat16),
            *(ctypes.addressof(rows), ctypes.addressof(becomes), count, turns.data_ptr()),
            *(ctypes.addressof(tapped), len(taps), ctypes.addressof(into)),
            *(ctypes.addressof(going), ctypes.addressof(place)),
            *(fresh.data_ptr(), fresh[count * hidden :].data_ptr(), *places, columns, threads),
        )
        return {
            row: GreedyText(
                tokens[at, : made.made].tolist(),
                logits[at, : made.made],
                {layer: state[: made.made] for layer, state in zip(taps, states[at], strict=True)},
            )
            for at, (row, made) in enumerate(zip(wanted, becomes, strict=True))
        }

    def _room(self, tokens: int, columns: int) -> tuple[list[int], int, Tensor]:
        """Addresses of heads, mixed, wide, before and scores, how many threads, and the memory of it all."""
        shape = self._shape
        threads = threads_for(tokens * self._numbers)
        mixed = shape.heads * shape.head_size
        heads = mixed + 2 * shape.kv_heads * shape.head_size
        sizes = (tokens * heads, tokens * mixed, 2 * tokens * self._inner, tokens * self._widest, threads * columns)
        room = torch.empty(sum(sizes), dtype=torch.float32)
        return [room.data_ptr() + room.element_size() * at for at in accumulate((0, *sizes[:-1]))], threads, room


def native_layers(shape: LeanShape, layers: Sequence[LeanLayer]) -> NativeLayers | None:
    """None where a matrix has another layout than the native one."""
    given = [_matrices(layer.queries_keys_values, layer.out, layer.gate_up, layer.down) for layer in layers]
    matrices = [each for each in given if each is not None]
    return NativeLayers(shape, layers, matrices) if len(matrices) == len(layers) else None


def _tree_of(part: PlannedRow) -> tuple[Tensor, Tensor] | None:
    """Depths of a row's slots, and which slots the tokens of the pass see; None for a chain."""
    if part.tree.is_chain:
        return None
    return torch.tensor(part.tree.depths, dtype=torch.int64), part.tree.visible(part.start).contiguous()


def _row_of(part: PlannedRow, cache: RowCache, tree: tuple[Tensor, Tensor] | None, begin: int) -> Row:
    """What it points to must be held for as long as it is used."""
    depths, seen = (None, None) if tree is None else (tree[0].data_ptr(), tree[1].data_ptr())
    return Row(cache.address, cache.columns, part.length, part.start, part.count, depths, seen, begin)


def _matrices(*packed: PackedLinear) -> list[Matrix] | None:
    found = [each.matrix for each in packed]
    return [each for each in found if each is not None] if None not in found else None
