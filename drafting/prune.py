"""Cutting drafts down to their most promising nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from draftproof.drafting.draft import Draft, pack


def keep_nodes(draft: Draft, kept: Sequence[Sequence[int]]) -> Draft:
    """The draft with only the nodes `kept` of each row, ascending, each with its parent.

    For `match` drafts only: under the other laws a token that was drawn must be submitted, or the output is biased
    (token-level selection; see docs/explanation/lossless.md).
    """
    trees, scores = [], []
    for row, nodes in enumerate(kept):
        tokens, parents = draft.tree(row)
        new = {node: index for index, node in enumerate(nodes)}
        trees.append(
            ([tokens[node] for node in nodes], [new[parents[node]] if parents[node] >= 0 else -1 for node in nodes])
        )
        if draft.score is not None:
            scores.append(draft.score[row, torch.tensor(nodes, dtype=torch.int64)].tolist())
    smaller = pack(trees, scores if draft.score is not None else None)
    return replace(smaller, source=draft.source)
