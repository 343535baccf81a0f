# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.decide_match`: the races of all rows in one launch, the walks in a second."""

from torch import Tensor

from draftproof.kernels.drafted import Decided, Drafted
from draftproof.kernels.race_triton import target_slices
from draftproof.kernels.walk_triton import walk_slices


def decide_match_triton(
    logits: Tensor, inv_temp: Tensor, threshold: Tensor | None, drafted: Drafted, block: int | None = None
) -> Decided:
    scores, winners = target_slices(
        logits, inv_temp, threshold, drafted.seeds, drafted.positions, drafted=drafted, block=block
    )
    return walk_slices(scores, winners, drafted)
