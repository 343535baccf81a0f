"""Follow each row's own token through the draft: from the pending token to the child that equals it, and so on.

With arg-max ids this is greedy verification of chains and trees; with tokens drawn from the target it is the
seeded `match` rule. At most one child can match, so there is no way back.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from draftproof.kernels.drafted import Decided, Drafted, as_decided


def walk(ids: Tensor, drafted: Drafted) -> Decided:
    """What each request emits when row r is followed by `ids[r]`.

    Args:
        ids: [R] int64, one for each row of logits; -1 marks a bad row, at which the walk ends with nothing.
        drafted: chains or trees; seeds and positions are not used.
    """
    if ids.is_cuda:
        from draftproof.kernels.walk_triton import walk_triton

        with torch.cuda.device(ids.device):
            return walk_triton(ids, drafted)
    return walk_torch(ids, drafted)


def walk_torch(ids: Tensor, drafted: Drafted) -> Decided:
    """The definition."""
    next_id = ids.tolist()
    return follow(drafted, lambda request, row, depth: next_id[row])


def follow(drafted: Drafted, next_id: Callable[[int, int, int], int]) -> Decided:
    """Walks with `next_id(request, row, depth)`, which is asked only for rows that the walk reaches."""
    cu_rows = drafted.cu_rows.tolist()
    paths: list[list[int]] = []
    last: list[int] = []
    bad: list[int] = []
    for request in range(drafted.tokens.shape[0]):
        nodes = cu_rows[request + 1] - cu_rows[request] - 1
        tokens = drafted.tokens[request, :nodes].tolist()
        parent = range(-1, nodes - 1) if drafted.parent is None else drafted.parent[request, :nodes].tolist()
        node = -1
        path: list[int] = []
        while True:
            token = next_id(request, cu_rows[request] + 1 + node, len(path))
            child = next((n for n in range(node + 1, nodes) if parent[n] == node and tokens[n] == token), None)
            if token < 0 or child is None:
                break
            node = child
            path.append(node)
        paths.append(path)
        last.append(token)
        bad.append(node + 1 if token < 0 else -1)
    return as_decided(paths, last, bad, drafted.tokens)
