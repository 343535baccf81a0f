"""Linear layers whose weights are laid out once for the fastest float32 multiplication that this CPU's torch has.

A pass over a few tokens does little arithmetic for every weight that it reads, so that its cost is the reading. Plain
row-major weights are read well for one token only; MKL's packed layout is read at nearly the memory's speed for one
token as for sixteen, oneDNN's a little slower. Which one a build of torch has, and whether it computes what it should
for every number of rows, is tried out once per process with small matrices; plain weights remain for all others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor

Layout = Literal["mkl", "onednn", "plain"]

_ROWS_PACKED_FOR = 64
"""The layouts depend on how many rows are announced. Announced for fewer, 32 rows and more take up to twice as long;
announced for 64, no size that was measured, 1 to 512, is slower than with another announcement."""

_TRIED_ROWS = (1, 2, 5, 16, 33, 64, 100)
_TRIED_SHAPES = ((48, 64), (130, 37))
_TOLERANCE = 1e-4


class PackedLinear:
    """`x @ weight.T + bias`; holds its own copy of the weight, in one layout only."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, layout: Layout | None = None) -> None:
        """`weight` [N, K] and `bias` [N], float32 on the CPU; neither is kept where the layout is a packed one."""
        self.layout: Layout = best_layout() if layout is None else layout
        self.out_features, self.in_features = weight.shape
        self._bias = bias
        self._weight = _PACK[self.layout](weight.contiguous())
        # MKL's operator takes the plain weight as well, and reads nothing but its shape: one number stands for it.
        self._shape_only = torch.zeros(1).expand(weight.shape)
        self._multiply = _multiplication(self.layout)

    def __call__(self, x: Tensor) -> Tensor:
        """[T, K] -> [T, N], a new tensor."""
        return self._multiply(x, self._weight, self._shape_only, self._bias)

    @property
    def memory(self) -> tuple[int, int]:
        """Address of the weight, and the bytes that its numbers take; a packed layout may fill a little more."""
        if self.layout == "plain":
            address = self._weight.data_ptr()
        else:
            address = cast(int, torch.ops.mkldnn.data_ptr(self._weight))
        return address, 4 * self.out_features * self.in_features


@cache
def best_layout() -> Layout:
    """The first of `mkl`, `onednn` that is there and right, else `plain`."""
    layouts: tuple[Layout, ...] = ("mkl", "onednn")
    return next((layout for layout in layouts if is_right(layout)), "plain")


def is_right(layout: Layout) -> bool:
    """Whether the layout can be used here and gives the numbers of a plain multiplication for few and many rows.

    MKL's packed matrices are used with other numbers of rows than they were announced for. Its documentation does not
    speak of that; this looks whether it is so.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        for out_features, in_features in _TRIED_SHAPES:
            weight = torch.randn(out_features, in_features, generator=generator)
            bias = torch.randn(out_features, generator=generator)
            for given in (None, bias):
                packed = PackedLinear(weight, given, layout=layout)
                if packed.memory[0] == 0:
                    return False
                for rows in _TRIED_ROWS:
                    x = torch.randn(rows, in_features, generator=generator)
                    error = packed(x).double() - torch.nn.functional.linear(x, weight, given).double()
                    if not float(error.abs().max()) <= _TOLERANCE:
                        return False
    except (RuntimeError, AttributeError, NotImplementedError):  # a build of torch without the library
        return False
    return True


def _packed_by_mkl(weight: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.mkl._mkl_reorder_linear_weight(weight, _ROWS_PACKED_FOR))


def _packed_by_onednn(weight: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_PACKED_FOR))


_PACK: dict[Layout, Callable[[Tensor], Tensor]] = {
    "mkl": _packed_by_mkl,
    "onednn": _packed_by_onednn,
    "plain": torch.clone,
}


def _multiplication(layout: Layout) -> Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]:
    if layout == "mkl":
        mkl = cast(Any, torch.ops.mkl._mkl_linear.default)
        # The packed weight is used when the rows are as many as are said to have been announced.
        return lambda x, weight, shape, bias: mkl(x, weight, shape, bias, x.shape[0])
    if layout == "onednn":
        onednn = cast(Any, torch.ops.mkldnn._linear_pointwise.default)
        return lambda x, weight, shape, bias: onednn(x, weight, bias, "none", [], "")
    return lambda x, weight, shape, bias: torch.nn.functional.linear(x, weight, bias)
