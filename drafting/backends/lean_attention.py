"""Attention of one row's tokens over its cache: planned once per pass, then run in every layer.

One token, or a few over many columns, are attended to by two products per key head, which read keys and values once
for all queries that share them. Others go to torch's fused attention. A mask hides other branches of a tree, later
tokens of a chain, and what lies outside of a sliding window; there is none where nothing has to be hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from draftproof.drafting.backends.lean_shape import LeanShape
from draftproof.drafting.backends.row_cache import RowCache
from draftproof.drafting.backends.slot_tree import PlannedRow

_FEW_TOKENS = 16
_MANY_COLUMNS = 4096
"""From so many columns on, so few tokens take less time by two products; measured with 9 heads over 3, on 2 threads."""


class RowAttention:
    """One row's share of a pass."""

    def __init__(self, row: PlannedRow, cache: RowCache, shape: LeanShape) -> None:
        self._shape = shape
        self._count = row.count
        self._queries = shape.heads * shape.head_size
        self._places = cache.places(row.first_column, row.count)
        by_window = {window: _Columns(row, cache, window) for window in set(shape.windows)}
        self._columns = [by_window[window] for window in shape.windows]

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        """Write the layer's new keys and values, then attend.

        `qkv` [n, (heads + 2 * kv heads) * head size]: rotated and scaled queries, rotated keys, values.
        Returns [n, heads * head size].
        """
        shape, count, columns = self._shape, self._count, self._columns[layer]
        queries = qkv[:, : self._queries]
        new = qkv[:, self._queries :].view(count, 2 * shape.kv_heads, shape.head_size)
        self._places[layer].copy_(new.transpose(0, 1))
        keys, values = columns.keys[layer], columns.values[layer]
        if columns.by_products:
            return self._by_products(queries, keys, values, columns)
        mixed = scaled_dot_product_attention(
            queries.view(1, count, shape.heads, shape.head_size).transpose(1, 2),
            keys.unsqueeze(0),
            values.unsqueeze(0),
            attn_mask=columns.mask,
            is_causal=columns.plain,
            scale=1.0,  # it is in the queries' rotary factors
            enable_gqa=True,
        )
        return mixed.transpose(1, 2).reshape(count, self._queries)

    def _by_products(self, queries: Tensor, keys: Tensor, values: Tensor, columns: _Columns) -> Tensor:
        """Queries of all tokens that share a key head are the rows of one product."""
        shape, count = self._shape, self._count
        grouped = queries.view(count, shape.kv_heads, shape.group, shape.head_size).transpose(0, 1)
        scores = torch.bmm(grouped.reshape(shape.kv_heads, -1, shape.head_size), keys.mT)
        if columns.mask is not None:
            by_token = scores.view(shape.kv_heads, count, shape.group, -1)[..., columns.mask_from :]
            by_token.add_(columns.mask[:, None, columns.mask_from :])
        mixed = torch.bmm(torch.softmax(scores, dim=-1), values)
        return mixed.view(shape.kv_heads, count, -1).transpose(0, 1).reshape(count, self._queries)


class _Columns:
    """The columns that a row's tokens look at in layers of one window, and what is hidden of them."""

    def __init__(self, row: PlannedRow, cache: RowCache, window: int | None) -> None:
        nearest = row.length + min(row.tree.depths[row.start :])
        low = 0 if window is None else min(max(0, nearest - window + 1), row.length)
        self.keys = cache.keys(low, row.columns)
        self.values = cache.values(low, row.columns)
        causal = row.tree.is_chain and (window is None or row.columns - low <= window)
        self.plain = causal and (row.count == 1 or row.first_column == 0)
        """Every token sees all columns up to its own, and the row has no others (so that rows and columns begin
        together), or it is one token that sees all."""
        self.mask = None if self.plain else _added_mask(row, low, window)
        self.mask_from = 0 if window is not None else row.length - low
        """Columns before hide nothing."""
        few_over_many = row.count <= _FEW_TOKENS and row.columns - low >= _MANY_COLUMNS
        self.by_products = row.count == 1 or (few_over_many and self.mask is not None)


def _added_mask(row: PlannedRow, low: int, window: int | None) -> Tensor:
    """[n, columns - low]: 0 where a token may look, minus infinity where not."""
    hidden = torch.zeros((row.count, row.columns - low), dtype=torch.bool)
    hidden[:, row.length - low :] = row.tree.visible(row.start).logical_not_()
    if window is not None:
        at = torch.cat([torch.arange(low, row.length), row.length + torch.tensor(row.tree.depths)])
        hidden |= at[-row.count :, None] - at[None, :] >= window
    return torch.zeros(hidden.shape, dtype=torch.float32).masked_fill_(hidden, float("-inf"))
