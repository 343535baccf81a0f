"""Linear layers whose weights are laid out once for the fastest float32 multiplication that this machine has.

A pass over a few tokens does little arithmetic for every weight that it reads, so that its cost is the reading. Plain
row-major weights are read well for one token only. Our own layout (`native`) is read at the memory's speed for one
token and for eight, and takes the least memory that holds the very same numbers; it needs a C compiler. Without, MKL's
packed layout is nearly as good for one token of plain numbers, oneDNN's a little slower. Which one there is, and
whether it computes what it should for every number of rows, is tried out once per process with small matrices; plain
weights remain for all others.

A layer may have a step before it: an RMS norm, or the gate of a feed-forward network; and its result may be added to
what is there. The native layout does these in the same call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor

from draftproof.drafting.backends.native import CannotBuildError, Matrix, library

Layout = Literal["native", "mkl", "onednn", "plain"]
Before = Literal["nothing", "unit", "gate"]
Form = Literal["floats", "halves", "bytes", "nibbles"]
"""How numbers lie in memory: 32 bits each, or fewer that give back the same number (`native_weights.h`)."""

_STEPS: tuple[Before, ...] = ("nothing", "unit", "gate")
_FORMS: tuple[Form, ...] = ("floats", "halves", "bytes", "nibbles")
"""As `native.c` numbers them; later ones are smaller."""

_ROWS_PACKED_FOR = 64
"""The layouts of libraries depend on how many rows are announced. Announced for fewer, 32 rows and more take up to
twice as long; announced for 64, no size that was measured, 1 to 512, is slower than with another announcement."""

_TRIED_ROWS = (1, 2, 5, 8, 9, 16, 33, 64, 100)
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
        gain: Tensor | None = None,
        layout: Layout | None = None,
    ) -> None:
        """`weight` [N, K], `bias` [N] and `gain` [K], float32 on the CPU; the weight is not kept where the layout is a
        packed one.

        `before`: `unit` divides each row by sqrt(|x|² + floor) and multiplies it with `gain`, ones by default; `gate`
        takes rows [2 K], gates before what they let through, and gives silu(gate) * through.
        """
        if gain is None:
            gain = torch.ones(weight.shape[1], dtype=torch.float32, device="cpu")
        for given in (weight, gain) if bias is None else (weight, gain, bias):
            if given.dtype is not torch.float32 or given.device.type != "cpu":
                raise ValueError(f"{given.dtype} on {given.device}; float32 on the CPU was expected")
        outputs, width = weight.shape
        if gain.shape != (width,) or (bias is not None and bias.shape != (outputs,)):
            told = f"{tuple(gain.shape)} and {None if bias is None else tuple(bias.shape)}"
            raise ValueError(f"gain and bias of {told} for a matrix of {outputs} x {width}")
        self.layout: Layout = best_layout() if layout is None else layout
        self.out_features, self.in_features = weight.shape
        self._packed = _PACKED[self.layout](weight.contiguous(), bias, before, floor, gain.contiguous())

    def __call__(self, x: Tensor, *, onto: Tensor | None = None) -> Tensor:
        """[T, K] ([T, 2 K] for a gate) -> [T, N]: a new tensor, or `onto` with the result added to it."""
        return self._packed.multiply(x, onto)

    @property
    def form(self) -> Form:
        return self._packed.form

    @property
    def matrix(self) -> Matrix | None:
        """For native code that multiplies with it; None where the layout is another. Valid as long as this lives."""
        return self._packed.matrix if isinstance(self._packed, _Native) else None

    @property
    def memory(self) -> tuple[int, int]:
        """Address of the weight, and the bytes that its numbers take; a layout of a library may fill a little more."""
        return self._packed.address(), self._packed.bytes


_WORTH_A_THREAD = 2**19
"""Multiplications below which one thread does all of them: waking another takes longer, above all for a thread that is
not the process's first, whose helpers sleep in between."""


def threads_for(multiplications: int) -> int:
    """How many are worth their waking."""
    return 1 if multiplications < _WORTH_A_THREAD else torch.get_num_threads()


class _Native:
    """In panels of `native.c`, in the smallest form that is exact."""

    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float, gain: Tensor) -> None:
        code = library()
        self._run = code.draftproof_linear
        self._outputs, self._width = weight.shape
        self.form, self._weight = _smallest(weight)
        self.bytes = self._weight.nbytes
        missing = -self._outputs % code.draftproof_panel()
        self._bias = None if bias is None else torch.nn.functional.pad(bias, (0, missing))
        self._gain = gain
        self._step = _STEPS.index(before)
        self.matrix = Matrix(
            packed=self._weight.data_ptr(),
            gain=gain.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
            width=self._width,
            out_width=self._outputs,
            before=self._step,
            form=_FORMS.index(self.form),
            floor=floor,
        )
        self._at = ctypes.addressof(self.matrix)
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
            *(self._at, x.data_ptr(), rows, onto is not None, out.data_ptr()),
            *(None if room is None else room.data_ptr(), threads_for(rows * self._outputs * self._width)),
        )
        return out

    def address(self) -> int:
        return self._weight.data_ptr()


def _smallest(weight: Tensor) -> tuple[Form, Tensor]:
    """`weight` packed. Forms that cannot hold some number are given up at the first such."""
    code, threads = library(), torch.get_num_threads()
    outputs, width = weight.shape
    for number in reversed(range(len(_FORMS))):
        size = code.draftproof_packed_bytes(outputs, width, number)
        packed = torch.empty(size, dtype=torch.uint8, device="cpu")  # memory that is not written to takes no room
        if size and code.draftproof_pack(weight.data_ptr(), outputs, width, number, packed.data_ptr(), threads):
            return _FORMS[number], packed
        del packed
    raise ValueError(f"a matrix of {outputs} x {width} cannot be packed")


class _OfTorch:
    """In a layout that an operator of torch reads."""

    form: Form = "floats"

    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float, gain: Tensor) -> None:
        self.bytes = weight.nbytes
        self._bias, self._gain = bias, gain
        self._before, self._floor = before, torch.tensor([floor**0.5], dtype=torch.float32)

    def multiply(self, x: Tensor, onto: Tensor | None) -> Tensor:
        if self._before == "unit":
            x = unit(x, self._floor) * self._gain
        elif self._before == "gate":
            gate, through = x.chunk(2, dim=-1)
            x = torch.nn.functional.silu(gate) * through
        product = self._product(x)
        return product if onto is None else onto.add_(product)

    def _product(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class _Mkl(_OfTorch):
    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float, gain: Tensor) -> None:
        super().__init__(weight, bias, before, floor, gain)
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
    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float, gain: Tensor) -> None:
        super().__init__(weight, bias, before, floor, gain)
        self._weight = cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_PACKED_FOR))
        self._operator = cast(Any, torch.ops.mkldnn._linear_pointwise.default)

    def _product(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._operator(x, self._weight, self._bias, "none", [], ""))

    def address(self) -> int:
        return cast(int, torch.ops.mkldnn.data_ptr(self._weight))


class _Plain(_OfTorch):
    def __init__(self, weight: Tensor, bias: Tensor | None, before: Before, floor: float, gain: Tensor) -> None:
        super().__init__(weight, bias, before, floor, gain)
        self._weight = weight.clone()

    def _product(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self._weight, self._bias)

    def address(self) -> int:
        return self._weight.data_ptr()


_Packed = _Native | _Mkl | _OneDnn | _Plain

_PACKED: dict[Layout, Callable[[Tensor, Tensor | None, Before, float, Tensor], _Packed]] = {
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
    """Whether the layout can be used here, holds the very numbers, and those of plain multiplication, for few and
    many rows.

    MKL's packed matrices are used with other numbers of rows than they were announced for. Its documentation does not
    speak of that; this looks whether it is so.
    """
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")

    try:
        for weight in _tried_weights(some):
            outputs, width = weight.shape
            if not torch.equal(PackedLinear(weight, layout=layout)(torch.eye(width, dtype=torch.float32)), weight.T):
                return False
            for before, bias in zip(_STEPS, (some(outputs), None, None), strict=True):
                gain = some(width)
                packed = PackedLinear(weight, bias, before=before, floor=0.5, gain=gain, layout=layout)
                if packed.memory[0] == 0:
                    return False
                shift = None if bias is None else bias.double()
                exact = _Plain(weight.double(), shift, before, 0.5, gain.double())
                for rows in _TRIED_ROWS:
                    x = some(rows, width * (2 if before == "gate" else 1))
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


def _tried_weights(some: Callable[..., Tensor]) -> Iterator[Tensor]:
    """From normal draws of a shape: a small matrix in each form, each again with a last number that the form cannot
    hold, and one of a width that only plain numbers have."""
    yield some(130, 37)
    full = some(50, 64)
    groups = full.view(50, 2, 32) / full.view(50, 2, 32).abs().amax(-1, keepdim=True)
    in_form = [full, full.bfloat16().float()]
    for levels in (127, 7):  # the largest of a group takes the last
        scales = (some(50, 2, 1).abs() / levels).half().float()
        in_form.append(((groups * levels).round() * scales).view(50, 64))
    for weight in in_form:
        yield weight
        missed = weight.clone()
        missed[-1, -1] = torch.nextafter(missed[-1, -1], torch.tensor(9.0))
        yield missed
