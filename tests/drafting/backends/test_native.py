"""Our own multiplication: for every processor that its source knows, against exact numbers, and without a compiler."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import draftproof.drafting.backends.native as native
import draftproof.drafting.backends.packed_linear as packed_linear
from draftproof.drafting.backends.native import CannotBuildError, built, library
from draftproof.drafting.backends.packed_linear import Before, Form, PackedLinear, best_layout, is_right
from tests.drafting.backends.weight_forms import FORMS, rounded

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

_X86 = "avx2" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else False
PROCESSORS = [(), ("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")] if _X86 else [()]


compiled = cache(built)


@pytest.fixture(params=PROCESSORS, ids=lambda flags: " ".join(flags) or "this one")
def code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    loaded = compiled(*request.param)
    monkeypatch.setattr(packed_linear, "library", lambda: loaded)
    return loaded


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def exact(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, before: Before, floor: float
) -> torch.Tensor:
    x = x.double()
    if before == "unit":
        x = x / (x.square().sum(-1, keepdim=True) + floor).sqrt()
    if before == "gate":
        gate, through = x.chunk(2, dim=-1)
        x = torch.nn.functional.silu(gate) * through
    return torch.nn.functional.linear(x, weight.double(), None if bias is None else bias.double())


def in_form(form: Form, outputs: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers [outputs, width] that the form holds and no smaller one does."""
    return rounded(torch.randn(outputs, width, generator=generator), form)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_back_the_very_numbers(code: ctypes.CDLL, form: Form) -> None:
    generator = torch.Generator().manual_seed(4)
    for outputs, width in [(1, 32), (7, 320), (32, 64), (33, 96), (100, 256)]:
        weight = in_form(form, outputs, width, generator)
        packed = PackedLinear(weight, layout="native")
        assert packed.form == form
        assert torch.equal(packed(torch.eye(width)), weight.T)


@pytest.mark.parametrize("form", FORMS)
def test_a_number_that_a_form_cannot_hold_makes_the_matrix_take_a_larger_one(code: ctypes.CDLL, form: Form) -> None:
    for at in [(0, 0), (11, 17), (39, 63)]:
        weight = in_form(form, 40, 64, torch.Generator().manual_seed(5))
        weight[at] = torch.nextafter(weight[at], torch.tensor(9.0))
        packed = PackedLinear(weight, layout="native")
        assert packed.form == "floats"
        assert torch.equal(packed(torch.eye(64)), weight.T)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_right_for_all_numbers_of_rows(code: ctypes.CDLL, form: Form) -> None:
    generator = torch.Generator().manual_seed(6)
    weight, gain = in_form(form, 70, 96, generator), torch.randn(96, generator=generator)
    bias = torch.randn(70, generator=generator)
    packed = PackedLinear(weight, bias, before="unit", floor=0.1, gain=gain, layout="native")
    assert packed.form == form
    for rows in (*range(1, 31), 99, 100, 130):
        x, held = 3 * torch.randn(rows, 96, generator=generator), torch.randn(rows, 70, generator=generator)
        wanted = exact(x, weight * gain, bias, "unit", 0.1)
        bound = 1e-5 * float(wanted.abs().max())
        assert float((packed(x).double() - wanted).abs().max()) < bound
        assert torch.equal(packed(x[:1]), packed(x)[:1])
        wanted = wanted + held.double()
        assert float((packed(x, onto=held).double() - wanted).abs().max()) < 2 * bound


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3e38])
def test_numbers_at_the_ends_of_the_range_are_kept(code: ctypes.CDLL, number: float) -> None:
    for form in FORMS:
        weight = in_form(form, 34, 64, torch.Generator().manual_seed(7))
        weight[33, 5] = number
        x = torch.zeros(1, 64)
        x[0, 5] = 1.0
        got = PackedLinear(weight, layout="native")(x)[0]
        assert torch.equal(got[:33], weight[:33, 5])
        assert got[33] == number or (number != number and bool(got[33].isnan()))


@pytest.mark.parametrize(
    ("group", "form"),
    [
        (torch.zeros(32), "nibbles"),
        (torch.full((32,), -0.375), "nibbles"),
        (torch.arange(-8.0, 8.0).repeat(2) * 0.0123291015625, "nibbles"),  # Q4_0
        (torch.arange(3.0, 9.0).repeat(6)[:32] * 0.5, "nibbles"),  # few levels in use
        (torch.arange(-16.0, 16.0) * 0.25, "bytes"),  # more than 16 levels
    ],
)
def test_groups_of_few_levels_are_known_wherever_the_levels_lie(group: torch.Tensor, form: Form) -> None:
    packed = PackedLinear(group.repeat(5, 2), layout="native")
    assert packed.form == form
    assert torch.equal(packed(torch.eye(64)), group.repeat(5, 2).T)


@pytest.mark.parametrize(("width", "form"), [(2, "halves"), (34, "halves"), (80, "halves"), (33, "floats")])
def test_halves_need_no_groups_only_pairs(code: ctypes.CDLL, width: int, form: Form) -> None:
    weight = in_form("halves", 50, width, torch.Generator().manual_seed(9))
    packed = PackedLinear(weight, layout="native")
    assert packed.form == form
    assert torch.equal(packed(torch.eye(width)), weight.T)
    x = torch.randn(7, width)
    assert torch.allclose(packed(x), x @ weight.T, atol=1e-4)


def quantised(kind: str, outputs: int, width: int) -> torch.Tensor:
    """By the very code that reads and writes GGUF files."""
    gguf = pytest.importorskip("gguf")
    numbers = torch.randn(outputs, width, generator=torch.Generator().manual_seed(10)).numpy()
    chosen = gguf.GGMLQuantizationType[kind]
    if kind != "Q4_K":
        return torch.from_numpy(gguf.dequantize(gguf.quantize(numbers, chosen), chosen).copy())
    # The package reads K-quants, but does not write them: blocks of 256 with any bits are ones of the format.
    blocks = torch.randint(0, 256, (outputs * width // 256, 144), dtype=torch.uint8).numpy()
    scales = torch.tensor([0.0123, 0.0456], dtype=torch.float16).numpy().view("uint8")
    blocks[:, :4] = scales
    return torch.from_numpy(gguf.dequantize(blocks.reshape(outputs, -1), chosen).copy())


@pytest.mark.parametrize(
    ("kind", "form"),
    [("Q4_0", "nibbles"), ("Q4_1", "nibbles"), ("Q4_K", "nibbles"), ("Q8_0", "bytes"), ("Q5_1", "floats")],
)
def test_the_formats_of_gguf_files_are_known(code: ctypes.CDLL, kind: str, form: Form) -> None:
    weight = quantised(kind, 40, 512)
    packed = PackedLinear(weight, layout="native")
    assert packed.form == form
    assert torch.equal(packed(torch.eye(512)), weight.T)


def test_a_smaller_form_takes_less_memory() -> None:
    takes = [
        PackedLinear(in_form(form, 64, 64, torch.Generator().manual_seed(8)), layout="native").memory[1]
        for form in FORMS
    ]
    assert takes == [64 * 64 * 4, 64 * 64 * 2, 64 * (64 + 2 * 4), 64 * (32 + 2 * 8)]


@pytest.mark.parametrize("before", ["nothing", "unit", "gate"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_right_for_all_numbers_of_rows_and_outputs(code: ctypes.CDLL, before: Before, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    for outputs, width in [(1, 1), (7, 300), (31, 5), (32, 64), (33, 64), (100, 257)]:
        weight = torch.randn(outputs, width, generator=generator)
        bias = torch.randn(outputs, generator=generator) if with_bias else None
        packed = PackedLinear(weight, bias, before=before, floor=0.1, layout="native")
        for rows in (*range(1, 31), 64):
            x = 3 * torch.randn(rows, width * (2 if before == "gate" else 1), generator=generator)
            wanted = exact(x, weight, bias, before, 0.1)
            bound = 1e-6 * float(wanted.abs().max()) * width**0.5 + 1e-6
            assert float((packed(x).double() - wanted).abs().max()) < bound
            held = torch.randn(rows, outputs, generator=generator)
            wanted = wanted + held.double()
            assert packed(x, onto=held) is held
            assert float((held.double() - wanted).abs().max()) < 2 * bound


def test_nothing_is_written_beside_the_result(code: ctypes.CDLL) -> None:
    for outputs in (1, 31, 33, 40):
        packed = PackedLinear(torch.randn(outputs, 16), layout="native")
        for rows in (1, 13, 15):
            around = torch.full((rows + 2, outputs), 7.0)
            packed(torch.randn(rows, 16), onto=around[1:-1])
            assert bool((around[0] == 7.0).all() and (around[-1] == 7.0).all())


def test_a_row_gives_the_same_bits_alone_and_among_others(code: ctypes.CDLL, threads: None) -> None:
    x = torch.randn(40, 2 * 96)
    packed = PackedLinear(torch.randn(70, 96), torch.randn(70), before="gate", layout="native")
    together = packed(x)
    torch.set_num_threads(1)
    for first, last in [(0, 1), (3, 8), (5, 19), (20, 40)]:
        assert torch.equal(packed(x[first:last]), together[first:last])


def test_what_is_not_a_number_stays_in_its_row_and_shows(code: ctypes.CDLL) -> None:
    befores: tuple[Before, ...] = ("nothing", "unit", "gate")
    for before in befores:
        packed = PackedLinear(torch.randn(40, 32), before=before, floor=1.0, layout="native")
        x = torch.randn(5, 64 if before == "gate" else 32)
        x[2, 3] = float("nan")
        bad = packed(x).isnan()
        assert bool(bad[2].all())
        assert not bool(bad[[0, 1, 3, 4]].any())


def test_gates_are_right_at_their_ends(code: ctypes.CDLL) -> None:
    gates = torch.tensor([-1e30, -1e4, -200.0, -90.0, -87.5, -20.0, -1e-3, 0.0, 1e-3, 5.0, 20.0, 88.5, 300.0, 1e30])
    packed = PackedLinear(torch.eye(len(gates)), before="gate", layout="native")
    got = packed(torch.cat([gates, torch.ones(len(gates))]).unsqueeze(0))[0]
    wanted = torch.nn.functional.silu(gates.double())
    assert bool(((got.double() - wanted).abs() <= 1e-6 * wanted.abs() + 1e-7).logical_or(gates < -1e4).all())
    assert float(got[0].abs()) < 1e-6  # it is 0; e^88 stands for infinity


def test_wrong_tensors_are_refused_before_any_address_is_used() -> None:
    packed = PackedLinear(torch.randn(8, 4), layout="native")
    gate = PackedLinear(torch.randn(8, 4), before="gate", layout="native")
    for of, x, onto in [
        (packed, torch.randn(2, 5), None),
        (packed, torch.randn(2, 4).double(), None),
        (packed, torch.empty(2, 4, device="meta"), None),
        (gate, torch.randn(2, 4), None),
        (packed, torch.randn(2, 4), torch.randn(2, 9)),
        (packed, torch.randn(2, 4), torch.randn(1, 8)),
        (packed, torch.randn(2, 4), torch.randn(8, 2).T),
    ]:
        with pytest.raises(ValueError, match="was expected"):
            of(x, onto=onto)


def test_rows_that_lie_apart_in_memory_are_read_rightly() -> None:
    weight, wide = torch.randn(8, 4), torch.randn(3, 10)
    packed = PackedLinear(weight, layout="native")
    assert torch.equal(packed(wide[:, 2:6]), packed(wide[:, 2:6].clone()))


@pytest.mark.parametrize(
    ("compiler", "said"),
    [("/nowhere/cc", "/nowhere/cc"), ("false", "ended with 1"), ("true", "native.so"), ('gcc "', "no C compiler")],
    ids=["missing", "fails", "makes nothing", "open quote"],
)
def test_without_a_working_compiler_torch_multiplies(monkeypatch: pytest.MonkeyPatch, compiler: str, said: str) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(native, "_COMPILERS", ())
    monkeypatch.setattr(packed_linear, "library", library.__wrapped__)
    with pytest.raises(CannotBuildError, match=said):
        library.__wrapped__()
    assert not is_right("native")
    assert best_layout.__wrapped__() in {"mkl", "onednn", "plain"}


def test_a_compiler_that_fails_is_passed_over_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false -with arguments")
    assert built().draftproof_panel() > 0


def test_a_folder_that_cannot_be_written_is_a_reason_not_to_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native.tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(CannotBuildError, match="missing"):
        built()


def test_code_for_another_openmp_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "other"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nprintf \'ELF\\0libomp.so.5\\0\' > "$2"\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(native, "_COMPILERS", ())
    with pytest.raises(CannotBuildError, match="another OpenMP"):
        built()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_default_dtype_changes_nothing(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    weight, x = torch.randn(40, 32), torch.randn(3, 32)
    torch.set_default_dtype(dtype)
    try:
        assert is_right("native")
        made = PackedLinear(weight, before="unit", floor=1.0, layout="native")(x)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(made, PackedLinear(weight, before="unit", floor=1.0, layout="native")(x))


@pytest.mark.parametrize("size", [3, 5, 0])
def test_a_gain_or_bias_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="for a matrix of 6 x 4"):
        PackedLinear(torch.ones(6, 4), before="unit", gain=torch.ones(size), layout="native")
    with pytest.raises(ValueError, match="for a matrix of 6 x 4"):
        PackedLinear(torch.ones(6, 4), torch.ones(size), layout="native")


def test_a_matrix_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be packed"):
        PackedLinear(torch.ones(0, 4), layout="native")


@pytest.mark.parametrize("made", [{"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"device": "meta"}])
def test_weights_of_another_kind_are_refused(made: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="float32 on the CPU"):
        PackedLinear(torch.ones(4, 4, **made), layout="native")
    with pytest.raises(ValueError, match="float32 on the CPU"):
        PackedLinear(torch.ones(4, 4), torch.ones(4, **made), layout="native")


def test_no_compiler_on_the_path_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotBuildError, match="no C compiler"):
        library.__wrapped__()


def test_every_form_is_tried_before_the_layout_is_used() -> None:
    tried = packed_linear._tried_weights(torch.randn)
    assert {PackedLinear(weight, layout="native").form for weight in tried} == set(FORMS)


WRONG = [
    ("sums[s] += x", "sums[s] -= x"),
    ("if (add) sum +=", "if (0) sum +="),
    ("&word, heads[0][j], heads[1][j]", "&word, heads[1][j], heads[0][j]"),
    ("now << 16)", "now << 15)"),
    ("now << 24 >> 24", "now << 23 >> 24"),
    ("now & LEVELS", "now & 7"),
    ("* factor * gain[c]", "* factor"),
]


def test_code_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert is_right("native")
    for found, put in WRONG:
        for name in (*native.SOURCES, *native.HEADERS):
            source = (native.FOLDER / name).read_text()
            (tmp_path / name).write_text(source.replace(found, put))
        assert any(put in (tmp_path / name).read_text() for name in (*native.SOURCES, *native.HEADERS))
        monkeypatch.setattr(native, "FOLDER", tmp_path)
        wrong = built()
        monkeypatch.undo()
        monkeypatch.setattr(packed_linear, "library", lambda wrong=wrong: wrong)
        assert not is_right("native")
        monkeypatch.undo()
