"""Attention masks of a pass: who sees whom, for rows of different lengths, trees and sliding windows.

Columns are those of `ragged_cache`: committed token i in column i, slot s in column `length + s`. A token sees the
committed tokens, its ancestors among the slots and itself, in a layer with a sliding window only those less than the
window's width behind it, by position and not by column, which differ in a tree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftproof.drafting.backends.slot_tree import PlannedRow


def is_plain_chain(planned: Sequence[PlannedRow]) -> bool:
    """Whether causal order by column is all there is to the mask.

    So it is when no row branches and all begin in the same column: what a shorter row lacks comes after its end.
    """
    first = planned[0].first_column
    return all(part.tree.is_chain and part.first_column == first for part in planned)


def seen_columns(planned: Sequence[PlannedRow]) -> Tensor:
    """[B, n, columns] bool: what each token of the pass sees, sliding windows apart. Padding sees column 0."""
    width = max(part.count for part in planned)
    seen = torch.zeros((len(planned), width, max(part.columns for part in planned)), dtype=torch.bool)
    for row, part in enumerate(planned):
        seen[row, : part.count, : part.length] = True
        seen[row, : part.count, part.length : part.columns] = part.tree.visible(part.start)
        # A softmax over nothing is not a number, and some kernels let it spread.
        seen[row, part.count :, 0] = True
    return seen


def within_window(seen: Tensor, planned: Sequence[PlannedRow], window: int) -> Tensor:
    """`seen` without what lies `window` positions or more behind."""
    near = seen.clone()
    for row, part in enumerate(planned):
        at = torch.cat([torch.arange(part.length), part.length + torch.tensor(part.tree.depths)])
        distance = at[part.first_column :, None] - at[None, :]
        near[row, : part.count, : part.columns] &= distance < window
    return near


def as_attention_takes(seen: Tensor, *, eager: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[B, 1, n, columns] in the form that transformers itself makes: boolean for sdpa, added to scores for eager."""
    mask = seen.unsqueeze(1).to(device)
    if not eager:
        return mask
    added = torch.zeros(mask.shape, dtype=dtype, device=device)
    return added.masked_fill_(~mask, torch.finfo(dtype).min)
