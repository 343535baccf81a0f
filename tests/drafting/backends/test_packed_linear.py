"""Packed multiplications against plain ones, in every layout that this build of torch has."""

from __future__ import annotations

import pytest
import torch

import draftproof.drafting.backends.packed_linear as packed_linear
from draftproof.drafting.backends.packed_linear import Layout, PackedLinear, best_layout, is_right

_ALL: tuple[Layout, ...] = ("native", "mkl", "onednn", "plain")
HERE = [layout for layout in _ALL if is_right(layout)]


@pytest.mark.parametrize("layout", HERE)
@pytest.mark.parametrize(("out_features", "in_features"), [(1, 1), (3, 7), (96, 64), (257, 129), (1000, 48)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_layout_gives_the_plain_product_for_any_number_of_rows(
    layout: Layout, out_features: int, in_features: int, with_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(out_features, in_features, generator=generator)
    bias = torch.randn(out_features, generator=generator) if with_bias else None
    packed = PackedLinear(weight.clone(), bias, layout=layout)
    for rows in (1, 2, 3, 8, 31, 64, 65, 300):
        x = torch.randn(rows, in_features, generator=generator)
        exact = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
        assert packed(x).shape == (rows, out_features)
        assert float((packed(x).double() - exact).abs().max()) < 1e-5 * in_features**0.5


@pytest.mark.parametrize("layout", HERE)
def test_the_weight_is_a_copy(layout: Layout) -> None:
    weight, x = torch.ones(4, 4), torch.ones(1, 4)
    packed = PackedLinear(weight, layout=layout)
    weight.zero_()
    assert torch.equal(packed(x), torch.full((1, 4), 4.0))


@pytest.mark.parametrize("layout", HERE)
def test_every_layout_adds_to_what_is_there_and_takes_the_steps_before(layout: Layout) -> None:
    weight, x = torch.randn(12, 10), torch.randn(5, 10)
    held = torch.randn(5, 12)
    wanted = held + (x / (x.square().sum(-1, keepdim=True) + 0.3).sqrt()) @ weight.T
    assert PackedLinear(weight, before="unit", floor=0.3, layout=layout)(x, onto=held) is held
    assert torch.allclose(held, wanted, atol=1e-5)
    gain = torch.randn(10)
    got = PackedLinear(weight, before="unit", floor=0.3, gain=gain, layout=layout)(x)
    assert torch.allclose(got, (x / (x.square().sum(-1, keepdim=True) + 0.3).sqrt() * gain) @ weight.T, atol=1e-5)
    gates, through = torch.randn(5, 10), torch.randn(5, 10)
    wanted = (torch.nn.functional.silu(gates) * through) @ weight.T
    got = PackedLinear(weight, before="gate", layout=layout)(torch.cat([gates, through], dim=-1))
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("layout", HERE)
def test_a_layout_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch, layout: Layout) -> None:
    right = packed_linear._PACKED[layout]
    monkeypatch.setitem(packed_linear._PACKED, layout, lambda weight, *rest: right(weight * 1.001, *rest))
    assert not is_right(layout)


def test_a_layout_that_is_wrong_for_some_numbers_of_rows_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(packed_linear._Plain):
        def _product(self, x: torch.Tensor) -> torch.Tensor:
            return super()._product(x) * (x.shape[0] < 100)

    monkeypatch.setitem(packed_linear._PACKED, "mkl", Wrong)
    assert not is_right("mkl")


def test_a_library_that_is_not_there_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*given: object) -> packed_linear._Plain:
        raise AttributeError("'_OpNamespace' 'mkl' object has no attribute '_mkl_reorder_linear_weight'")

    layouts: list[Layout] = ["native", "mkl", "onednn"]
    for layout in layouts:
        monkeypatch.setitem(packed_linear._PACKED, layout, missing)
    assert best_layout.__wrapped__() == "plain"
