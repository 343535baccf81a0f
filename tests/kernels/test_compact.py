"""Compaction of the key-value cache: the kept columns, in place, of every layer at once."""

from __future__ import annotations

import pytest
import torch

from draftproof.kernels.compact import compact, compact_torch
from draftproof.kernels.compact_triton import compact_triton

LENGTHS = torch.tensor([4, 9, 0])
SLOTS = torch.tensor([[0, 2, 3, 7], [1, 4, -1, -1], [-1, -1, -1, -1]])


@pytest.fixture(params=["torch", "triton"])
def run(request):
    return compact_torch if request.param == "torch" else compact_triton


def caches(dtype: torch.dtype, head_dim: int, device) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, 20, head_dim, generator=g).to(dtype).to(device) for _ in range(4)]


@pytest.mark.parametrize(("dtype", "head_dim"), [(torch.float32, 5), (torch.bfloat16, 16)])
def test_kept_columns_move_together_and_nothing_else_moves(run, dtype, head_dim, device):
    before = caches(dtype, head_dim, device)
    after = [cache.clone() for cache in before]
    run(after, LENGTHS.to(device), SLOTS.to(device))
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[0, :, 4:8], old[0, :, [4, 6, 7, 11]])
        assert torch.equal(new[1, :, 9:11], old[1, :, [10, 13]])
        assert torch.equal(new[:, :, :4], old[:, :, :4])
        assert torch.equal(new[0, :, 8:], old[0, :, 8:])
        assert torch.equal(new[1, :, 11:], old[1, :, 11:])
        assert torch.equal(new[2], old[2])


def test_a_target_may_be_a_later_source(run, device):
    """Column 2 is overwritten after it was read: moving in any other order would lose it."""
    cache = torch.arange(12.0, device=device).reshape(1, 1, 12, 1)
    run([cache], torch.tensor([0], device=device), torch.tensor([[1, 2, 3, 5]], device=device))
    assert cache.flatten().tolist()[:4] == [1, 2, 3, 5]
    wrong = torch.arange(12.0).reshape(1, 1, 12, 1)
    for target, source in reversed(list(enumerate([1, 2, 3, 5]))):
        wrong[:, :, target] = wrong[:, :, source]
    assert wrong.flatten().tolist()[:4] != [1, 2, 3, 5]


def test_caches_whose_columns_lie_before_their_heads(run, device):
    transposed = [cache.transpose(1, 2).contiguous().transpose(1, 2) for cache in caches(torch.float32, 5, device)]
    expected = [cache.clone() for cache in caches(torch.float32, 5, device)]
    compact_torch(expected, LENGTHS, SLOTS)
    run(transposed, LENGTHS.to(device), SLOTS.to(device))
    assert all(torch.equal(one, other) for one, other in zip(expected, transposed, strict=True))


def test_caches_of_two_kinds_are_refused():
    with pytest.raises(ValueError, match="one kind in one call"):
        compact([torch.zeros(1, 2, 8, 4), torch.zeros(1, 2, 9, 4)], torch.tensor([0]), torch.tensor([[1]]))
