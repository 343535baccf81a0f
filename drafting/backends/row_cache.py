"""Keys and values of one row, all layers in one tensor, written in place.

Columns are those of `slot_tree`: committed tokens first, then scratch slots. Room is doubled when it runs out, so that
a row of any length is copied a bounded number of times. What lies past a row's end is never read. What a mask hides is
read and weighted with zero, so it must be a number: new room is zeros, for slots that not all layers have run over.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_FIRST_COLUMNS = 256


class RowCache:
    """[layers, 2 * kv heads, columns, head size] float32: key heads first, then value heads."""

    def __init__(self, n_layers: int, kv_heads: int, head_size: int, *, most_columns: int) -> None:
        self._kv_heads = kv_heads
        self._most_columns = most_columns
        self._stored = torch.empty((n_layers, 2 * kv_heads, 0, head_size), dtype=torch.float32)

    @property
    def columns(self) -> int:
        """Columns that there is room for."""
        return self._stored.shape[2]

    @property
    def address(self) -> int:
        """Of its numbers, which are contiguous; valid until room is made."""
        return self._stored.data_ptr()

    def make_room(self, columns: int, *, kept: int) -> None:
        """Room for `columns`, of which the first `kept` hold something."""
        if columns <= self.columns:
            return
        room = max(self.columns, _FIRST_COLUMNS)
        while room < columns:
            room *= 2
        layers, heads, _, size = self._stored.shape
        larger = torch.zeros((layers, heads, min(room, self._most_columns), size), dtype=torch.float32)
        larger[:, :, :kept] = self._stored[:, :, :kept]
        self._stored = larger

    def places(self, first: int, count: int) -> tuple[Tensor, ...]:
        """Of each layer, [2 * kv heads, count, head size] to write new keys and values to."""
        return self._stored[:, :, first : first + count].unbind(0)

    def keys(self, low: int, high: int) -> tuple[Tensor, ...]:
        """Of each layer, [kv heads, high - low, head size]."""
        return self._stored[:, : self._kv_heads, low:high].unbind(0)

    def values(self, low: int, high: int) -> tuple[Tensor, ...]:
        return self._stored[:, self._kv_heads :, low:high].unbind(0)

    def move(self, to: int, columns: Sequence[int]) -> None:
        """Copy `columns` to the columns from `to` on."""
        self._stored[:, :, to : to + len(columns)] = self._stored.index_select(2, torch.tensor(columns))
