"""Linear layers whose weights are laid out once for the fastest float32 multiplication that this machine has.

A pass over a few tokens does little arithmetic for every weight that it reads, so that its cost is the reading. Plain
row-major weights are read well for one token only. Our own layout (`native`) is read at the memory's speed for one
token and for eight; it needs a C compiler. Without, MKL's packed layout is nearly as good for one token, oneDNN's a
little slower. Which one there is, and whether it computes what it should for every number of rows, is tried out once
per process with small matrices; plain weights remain for all others.

A layer may have a step before it: an RMS norm (but for its weight, which is in the matrix), or the gate of a
feed-forward network; and its result may be added to what is there. The native layout does these in the same call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor

from draftproof.drafting.backends.native import CannotBuildError, library

Layout = Literal["native", "mkl", "onednn", "plain"]
Before = Literal["nothing", "unit", "gate"]

_STEPS: tuple[Before, ...] = ("nothing", "unit", "gate")
"""As `native.c` numbers them."""

_ROWS_PACKED_FOR = 64
"""The layouts of libraries depend on how many rows are announced. Announced for fewer, 32 rows and more take up to
twice as long; announced for 64, no size that was measured, 1 to 512, is slower than with another announcement."""

_TRIED_ROWS = (1, 2, 5, 8, 9, 16, 33, 64, 100)
_TRIED_SHAPES = ((48, 64), (130, 37))
_TOLERANCE = 1e-4


class PackedLinear:
    """`before(x) @ weight.T + bias`; holds its own copy of the weight, in one layout only."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        before: Before = "nothing",
        floor: float = 0.0,
        layout: Layout | None = None,
    ) -> None:
        """`weight` [N, K] and `bias` [N], float32 on the CPU; neither is kept where the layout is a packed one.

        `before`: `unit` divides each row by sqrt(|x|² + floor); `gate` takes rows [2 K], gates before what they let
        through, and gives silu(gate) * through.
        """
        for given in (weight,) if bias is None else (weight, bias):
            if given.dtype is not torch.float32 or given.device.type != "cpu":
                raise ValueError(f"{given.dtype} on {given.device}; float32 on the CPU was expected")
        self.layout: Layout = best_layout() if layout is None else layout
        self.out_features, self.in_features = weight.shape
        self._packed = _PACKED[self.layout](weight.contiguous(), bias, before, floor)

    def __call__(self, x: Tensor, *, onto: Tensor | None = None) -> Tensor:
        """[T, K] ([T, 2 K] for a gate) -> [T, N]: a new tensor, or `onto` with the result added to it."""
        return self._packed.multiply(x, onto)

    @property
    def memory(self) -> tuple[int, int]:
        """Address of the weight, and the bytes that its numbers take; a packed layout may fill a little more."""
        return self._packed.address(), 4 * self.out_features * self.in_features


class _Native:
    """In panels of `native.c`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float) -> None:
        code = library()
        self._run = code.draftproof_linear
        self._outputs, self._width = weight.shape
        panel = code.draftproof_panel()
        padded = -(-self._outputs // panel) * panel
        self._weight = torch.empty(padded * self._width, dtype=torch.float32, device="cpu")
        code.draftproof_pack(
            weight.data_ptr(), self._outputs, self._width, self._weight.data_ptr(), torch.get_num_threads()
        )
        self._at = self._weight.data_ptr()
        self._bias = None if bias is None else torch.nn.functional.pad(bias, (0, padded - self._outputs))
        self._bias_at = None if self._bias is None else self._bias.data_ptr()
        self._step, self._floor = _STEPS.index(before), floor
        self._given = 2 * self._width if before == "gate" else self._width

    def multiply(self, x: Tensor, onto: Tensor | None) -> Tensor:
        rows = x.shape[0]
        out = torch.empty((rows, self._outputs), dtype=torch.float32, device="cpu") if onto is None else onto
        x = x.contiguous()
        for tensor, columns in ((x, self._given), (out, self._outputs)):  # addresses are all that the code gets
            right = tensor.shape == (rows, columns) and tensor.dtype is torch.float32 and tensor.is_contiguous()
            if not (right and tensor.is_cpu):
                told = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
                raise ValueError(f"{told}; [{rows}, {columns}] float32 on the CPU was expected")
        room = torch.empty((rows, self._width), dtype=torch.float32, device="cpu") if self._step else None
        self._run(
            *(x.data_ptr(), rows, self._width, self._step, self._floor, self._at, self._bias_at, self._outputs),
            *(onto is not None, out.data_ptr(), None if room is None else room.data_ptr(), torch.get_num_threads()),
        )
        return out

    def address(self) -> int:
        return self._at


class _OfTorch:
    """In a layout that an operator of torch reads."""

    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float) -> None:
        self._bias = bias
        self._before, self._floor = before, torch.tensor([floor**0.5], dtype=torch.float32)

    def multiply(self, x: Tensor, onto: Tensor | None) -> Tensor:
        if self._before == "unit":
            x = unit(x, self._floor)
        elif self._before == "gate":
            gate, through = x.chunk(2, dim=-1)
            x = torch.nn.functional.silu(gate) * through
        product = self._product(x)
        return product if onto is None else onto.add_(product)

    def _product(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class _Mkl(_OfTorch):
    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float) -> None:
        super().__init__(weight, bias, before, floor)
        self._weight = cast(Tensor, torch.ops.mkl._mkl_reorder_linear_weight(weight, _ROWS_PACKED_FOR))
        # The operator takes the plain weight as well, and reads nothing but its shape: one number stands for it.
        self._shape_only = torch.zeros(1).expand(weight.shape)
        self._operator = cast(Any, torch.ops.mkl._mkl_linear.default)

    def _product(self, x: Tensor) -> Tensor:
        # The packed weight is used when the rows are as many as are said to have been announced.
        return cast(Tensor, self._operator(x, self._weight, self._shape_only, self._bias, x.shape[0]))

    def address(self) -> int:
        return cast(int, torch.ops.mkldnn.data_ptr(self._weight))


class _OneDnn(_OfTorch):
    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float) -> None:
        super().__init__(weight, bias, before, floor)
        self._weight = cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_PACKED_FOR))
        self._operator = cast(Any, torch.ops.mkldnn._linear_pointwise.default)

    def _product(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._operator(x, self._weight, self._bias, "none", [], ""))

    def address(self) -> int:
        return cast(int, torch.ops.mkldnn.data_ptr(self._weight))


class _Plain(_OfTorch):
    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float) -> None:
        super().__init__(weight, bias, before, floor)
        self._weight = weight.clone()

    def _product(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self._weight, self._bias)

    def address(self) -> int:
        return self._weight.data_ptr()


_Packed = _Native | _Mkl | _OneDnn | _Plain

_PACKED: dict[Layout, Callable[[Tensor, Tensor | None, Before, float], _Packed]] = {
    "native": _Native,
    "mkl": _Mkl,
    "onednn": _OneDnn,
    "plain": _Plain,
}


def unit(vectors: Tensor, floor_root: Tensor) -> Tensor:
    """x / sqrt(|x|² + floor), given the root of the floor: an RMS norm but for a factor."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.hypot(length, floor_root)


@cache
def best_layout() -> Layout:
    """The first of `native`, `mkl`, `onednn` that is there and right, else `plain`."""
    layouts: tuple[Layout, ...] = ("native", "mkl", "onednn")
    return next((layout for layout in layouts if is_right(layout)), "plain")


def is_right(layout: Layout) -> bool:
    """Whether the layout can be used here and gives the numbers of a plain multiplication for few and many rows.

    MKL's packed matrices are used with other numbers of rows than they were announced for. Its documentation does not
    speak of that; this looks whether it is so.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        for out_features, in_features in _TRIED_SHAPES:
            weight = torch.randn(out_features, in_features, generator=generator, dtype=torch.float32)
            bias = torch.randn(out_features, generator=generator, dtype=torch.float32)
            for before, given in zip(_STEPS, (bias, None, None), strict=True):
                packed = PackedLinear(weight, given, before=before, floor=0.5, layout=layout)
                if packed.memory[0] == 0:
                    return False
                exact = _Plain(weight.double(), None if given is None else given.double(), before, 0.5)
                for rows in _TRIED_ROWS:
                    columns = in_features * (2 if before == "gate" else 1)
                    x = torch.randn(rows, columns, generator=generator, dtype=torch.float32)
                    product = exact.multiply(x.double(), None)
                    added = packed(x, onto=torch.ones(product.shape, dtype=torch.float32)) - 1.0
                    for got in (packed(x), added):
                        if not float((got.double() - product).abs().max()) <= _TOLERANCE:
                            return False
    except (
        RuntimeError,
        ValueError,
        AttributeError,
        NotImplementedError,
        CannotBuildError,
    ):  # not in this build, or machine
        return False
    return True
