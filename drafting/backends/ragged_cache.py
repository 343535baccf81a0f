"""Keys and values of many rows of different lengths, as a cache that transformers' models write to.

Each layer has two tensors [places, kv heads, capacity, head size]. A row owns one place; its tokens lie left-aligned,
committed ones first, then scratch slots (see `slot_tree`). A pass announces which columns of which places it writes;
attention gets back the columns up to the widest row, as a view where the places lie side by side. Columns past a row's
end are zeros or leftovers and must be masked; they are always finite numbers unless the model itself made others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from draftproof.errors import ContractError, OutOfMemoryError
from draftproof.kernels.compact import compact

_FIRST_CAPACITY = 64


@dataclass(frozen=True)
class Span:
    """Columns that a pass writes for one row: `count` from `first` on."""

    place: int
    first: int
    count: int

    @property
    def stop(self) -> int:
        return self.first + self.count


@dataclass(frozen=True)
class _Pass:
    """What `update` needs to know of the pass that is running."""

    spans: tuple[Span, ...]
    columns: int
    """Columns that attention gets: up to the end of the longest row."""

    @property
    def first_place(self) -> int | None:
        """Of places that lie side by side, so that a slice is enough; else None."""
        low = self.spans[0].place
        return low if all(span.place == low + i for i, span in enumerate(self.spans)) else None

    def token_index(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each token, without padding: its place, its column, its row of the batch and its index in the row."""
        places = torch.cat([torch.full((span.count,), span.place) for span in self.spans])
        columns = torch.cat([torch.arange(span.first, span.stop) for span in self.spans])
        rows = torch.cat([torch.full((span.count,), row) for row, span in enumerate(self.spans)])
        steps = torch.cat([torch.arange(span.count) for span in self.spans])
        return places, columns, rows, steps


class RaggedCache(Cache):
    """The keys and values of all rows of one model."""

    def __init__(self, *, most_columns: int) -> None:
        super().__init__(layers=[])
        self._most_columns = most_columns
        self._places = 0
        self._capacity = 0
        self._free: list[int] = []
        self._stored: dict[int, tuple[Tensor, Tensor]] = {}
        self._pass: _Pass | None = None
        self._index: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def allocated(self) -> tuple[int, int]:
        """Places and columns that there is room for."""
        return self._places, self._capacity

    def claim(self) -> int:
        """A place for a new row."""
        if not self._free:
            places = max(1, 2 * self._places)
            self._grow(places, self._capacity)
            self._free = list(range(self._places, places))
            self._places = places
        self._free.sort()
        return self._free.pop(0)

    def release(self, place: int) -> None:
        """Give a place back. It is emptied, because a masked column that is no number would still spoil a sum."""
        for pair in self._stored.values():
            for tensor in pair:
                tensor[place].zero_()
        self._free.append(place)

    @contextmanager
    def writing(self, spans: Sequence[Span], *, overwritten: Sequence[Span] = ()) -> Iterator[None]:
        """A pass that writes `spans`. Columns in `overwritten` hold earlier slots, which come back if it raises."""
        columns = max(span.stop for span in spans)
        if columns > self._capacity:
            capacity = max(self._capacity, _FIRST_CAPACITY)
            while capacity < columns:
                capacity *= 2
            capacity = min(capacity, self._most_columns)
            self._grow(self._places, capacity)
            self._capacity = capacity
        kept = [
            (tensor[span.place, :, span.first : span.stop], tensor[span.place, :, span.first : span.stop].clone())
            for span in overwritten
            for pair in self._stored.values()
            for tensor in pair
        ]
        self._pass = _Pass(tuple(spans), columns)
        try:
            yield
        except BaseException:
            for place, before in kept:
                place.copy_(before)
            raise
        finally:
            self._pass = None
            self._index = None

    def move(self, place: int, to: int, columns: Sequence[int]) -> None:
        """Copy `columns` of a place, which ascend from `to` or later, to the columns from `to` on.

        On a GPU the keys and values of all layers that are alike move in one launch.
        """
        alike: dict[tuple[torch.Size, torch.dtype, torch.device], list[Tensor]] = {}
        for pair in self._stored.values():
            for tensor in pair:
                alike.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(tensor[place : place + 1])
        for (_, _, device), caches in alike.items():
            slots = torch.tensor([[column - to for column in columns]], device=device)
            compact(caches, torch.tensor([to], device=device), slots)

    def _grow(self, places: int, capacity: int) -> None:
        """Room for more places or columns, layer by layer: at no time are there two copies of more than one layer.

        When memory runs out on the way, some layers have more room than others, which does no harm.
        """
        for layer, (keys, values) in self._stored.items():
            self._stored[layer] = (_enlarged(keys, places, capacity), _enlarged(values, places, capacity))

    # What transformers calls

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values [B, heads, n, size]; return all that may be attended to, columns in place of n."""
        if layer_idx not in self._stored:
            self._stored[layer_idx] = (self._empty(key_states), self._empty(value_states))
        keys, values = self._stored[layer_idx]
        return self._written(keys, key_states), self._written(values, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before the pass's tokens, where that is one number for all rows (models ask for plain chains)."""
        return 0 if self._pass is None else self._pass.spans[0].first

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return (query_length if self._pass is None else self._pass.columns), 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return self._most_columns

    def _empty(self, like: Tensor) -> Tensor:
        shape = (self._places, like.shape[1], self._capacity, like.shape[3])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _written(self, stored: Tensor, new: Tensor) -> Tensor:
        if self._pass is None:
            raise ContractError("The cache was written outside of a pass of the model that it belongs to.")
        spans, columns, low = self._pass.spans, self._pass.columns, self._pass.first_place
        if len(spans) == 1:
            (span,) = spans
            stored[span.place, :, span.first : span.stop] = new[0]
        else:
            if self._index is None or self._index[0].device != stored.device:
                places, at, rows, steps = self._pass.token_index()
                to = stored.device
                self._index = (places.to(to), at.to(to), rows.to(to), steps.to(to))
            places, at, rows, steps = self._index
            stored[places, :, at] = new[rows, :, steps]
        if low is not None:
            return stored[low : low + len(spans), :, :columns]
        chosen = torch.tensor([span.place for span in spans], device=stored.device)
        return stored[:, :, :columns].index_select(0, chosen)


def _enlarged(tensor: Tensor, places: int, capacity: int) -> Tensor:
    places, capacity = max(places, tensor.shape[0]), max(capacity, tensor.shape[2])
    if tensor.shape[0] == places and tensor.shape[2] == capacity:
        return tensor
    larger = tensor.new_zeros((places, tensor.shape[1], capacity, tensor.shape[3]))
    larger[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return larger


@contextmanager
def memory_shortage(what: str) -> Iterator[None]:
    """Turns an allocation that failed, on the CPU or a GPU, into our OutOfMemoryError."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(
            f"Memory ran out in {what}.",
            remedy="Use fewer rows, shorter texts or narrower drafts, a smaller model or a smaller dtype.",
        ) from error
