"""Rounded weights are near, and in the form that they are rounded for."""

from __future__ import annotations

import pytest
import torch

from draftproof.drafting.backends.packed_linear import PackedLinear, best_layout
from draftproof.drafting.drafters.eight_bits import in_eight_bits


@pytest.mark.parametrize("size", [1e-30, 1e-6, 0.02, 1.0, 1e6])
def test_they_are_off_by_half_a_step_of_their_group_at_most(size: float) -> None:
    weight = size * torch.randn(50, 96, generator=torch.Generator().manual_seed(0))
    rounded = in_eight_bits(weight)
    step = weight.view(50, 3, 32).abs().amax(-1, keepdim=True) / 127
    off = (rounded - weight).view(50, 3, 32).abs() / step
    assert 0.4 < float(off.max()) < 0.8  # at the ends of the range, the rounding of the scale is added
    assert not torch.equal(rounded, weight)
    if best_layout() == "native":
        assert PackedLinear(rounded).form == "bytes"


def test_groups_of_nothing_stay_and_other_widths_are_left_alone() -> None:
    weight = torch.randn(3, 64)
    weight[1, 32:] = 0.0
    assert not bool(in_eight_bits(weight)[1, 32:].any())
    for other in (torch.randn(3, 40), torch.randn(7)):
        assert in_eight_bits(other) is other
