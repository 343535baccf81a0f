"""The checks that the lean backend passes can fail on it: each part is broken on purpose, and a check sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

import draftproof.drafting.backends.lean_attention as attention
from draftproof.drafting.backends import lean_native, native
from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.lean_rotary import RotaryTable
from draftproof.drafting.backends.row_cache import RowCache
from draftproof.drafting.backends.slot_tree import PlannedRow, SlotTree
from tests.drafting.backends import reference


def unmoved(cache: RowCache, to: int, columns: object) -> None:
    pass


def forgetful(cache: RowCache, columns: int, *, kept: int) -> None:
    """Grows without copying what is there."""
    if columns > cache.columns:
        layers, heads, _, size = cache._stored.shape
        cache._stored = torch.zeros((layers, heads, columns, size))


def column_positions(part: PlannedRow) -> list[int]:
    return [part.length + slot for slot in range(part.start, len(part.tree))]


def unmasked(row: PlannedRow, low: int, window: int | None) -> torch.Tensor:
    return torch.zeros((row.count, row.columns - low))


def causal_mask(row: PlannedRow, low: int, window: int | None) -> torch.Tensor:
    """As if every tree were a chain."""
    hidden = torch.ones((row.count, row.columns - low), dtype=torch.bool).triu(row.first_column - low + 1)
    return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))


def sees_all(tree: SlotTree, start: int) -> torch.Tensor:
    """As if every tree were a chain."""
    return torch.ones((len(tree) - start, len(tree)), dtype=torch.bool).tril_(start)


def one_too_far(table: RotaryTable, positions: list[int]) -> torch.Tensor:
    return right_factors(table, [position + (position > 8) for position in positions])


right_factors = RotaryTable.factors


@pytest.mark.parametrize(
    ("owner", "name", "broken", "check"),
    [
        (RowCache, "move", unmoved, reference.check_commit_of_a_path),
        (RowCache, "move", unmoved, reference.check_random_life),
        (RowCache, "make_room", forgetful, reference.check_prefill_and_chain),
        (PlannedRow, "positions", property(column_positions), reference.check_tree),
        (RotaryTable, "factors", one_too_far, reference.check_prefill_and_chain),
        (attention, "_added_mask", unmasked, reference.check_prefill_and_chain),
        (attention, "_added_mask", causal_mask, reference.check_tree),
        (attention, "_added_mask", causal_mask, reference.check_scratch_over_passes),
    ],
)
def test_a_broken_part_is_found(
    owner: object,
    name: str,
    broken: object,
    check: Callable[[LeanLlama, PreTrainedModel], None],
    tiny_llama: PreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(by_operators(tiny_llama), tiny_llama)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match="off by"):
        check(by_operators(tiny_llama), tiny_llama)


def by_operators(model: PreTrainedModel) -> LeanLlama:
    cached = LeanLlama.from_transformers(model)
    cached._native = None
    return cached


@pytest.mark.parametrize(
    ("owner", "name", "broken", "check"),
    [
        (RowCache, "move", unmoved, reference.check_commit_of_a_path),
        (RowCache, "make_room", forgetful, reference.check_prefill_and_chain),
        (SlotTree, "visible", sees_all, reference.check_tree),
    ],
)
def test_what_native_code_is_told_wrong_is_found(
    owner: object,
    name: str,
    broken: object,
    check: Callable[[LeanLlama, PreTrainedModel], None],
    tiny_llama: PreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(LeanLlama.from_transformers(tiny_llama), tiny_llama)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match="off by"):
        check(LeanLlama.from_transformers(tiny_llama), tiny_llama)


NATIVE = [
    ("slot <= row->start + token", "slot < row->start + token", "tiny_llama", reference.check_prefill_and_chain),
    ("row->seen[token * slots(row) + slot]", "1", "tiny_llama", reference.check_tree),
    ("row->depths ? row->depths[slot] : slot", "slot", "tiny_llama", reference.check_tree),
    ("window && own - window + 1 > 0", "0", "tiny_mistral_window", reference.check_prefill_and_chain),
    ("own - depth(row, slot) - length >= window", "0", "tiny_mistral_window", reference.check_prefill_and_chain),
    ("- pairs[k + 1] * turns[k + 1]", "+ pairs[k + 1] * turns[k + 1]", "tiny_llama", reference.check_prefill_and_chain),
    ("h < shape->heads ? 1.0f / sqrtf((float)size)", "0 ? 1.0f", "tiny_llama", reference.check_prefill_and_chain),
    ("if (layer->head_norms)", "if (0)", "tiny_qwen3", reference.check_prefill_and_chain),
    ("(rows[r].first + t) * all", "t * all", "tiny_llama", reference.check_ragged_batch),
    ("+ h / group) * stride", ") * stride", "tiny_llama", reference.check_prefill_and_chain),
    ("scores[c] *= share", "scores[c] *= 1.0f", "tiny_llama", reference.check_prefill_and_chain),
    ("if (kept[index])", "if (kept[index] && index)", "tiny_llama", reference.check_taps_and_head),
]


@pytest.mark.parametrize(("found", "put", "family", "check"), NATIVE, ids=[each[0] for each in NATIVE])
def test_native_layers_that_compute_something_else_are_found(
    found: str,
    put: str,
    family: str,
    check: Callable[[LeanLlama, PreTrainedModel], None],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    model = request.getfixturevalue(family)
    for name in (*native.SOURCES, *native.HEADERS):
        source = (native.FOLDER / name).read_text()
        if name == "native_layers.c":
            assert source.count(found) == 1
        (tmp_path / name).write_text(source.replace(found, put) if name == "native_layers.c" else source)
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    wrong = native.built()
    monkeypatch.setattr(lean_native, "library", lambda: wrong)
    with pytest.raises(AssertionError):
        check(LeanLlama.from_transformers(model), model)


def test_a_window_that_is_ignored_is_found(tiny_mistral_window: PreTrainedModel) -> None:
    model = tiny_mistral_window
    for check in (reference.check_tree, reference.check_prefill_and_chain):
        cached = by_operators(model)
        object.__setattr__(cached._shape, "windows", (None, None))
        with pytest.raises(AssertionError, match="off by"):
            check(cached, model)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_weights_of_another_layer_or_without_a_norm_are_found(family: str, request: pytest.FixtureRequest) -> None:
    """The tolerance of the checks is far below what a wrong weight makes."""
    model = request.getfixturevalue(f"tiny_{family}")
    swapped, bare = by_operators(model), by_operators(model)
    swapped._layers.reverse()
    norms = {name for name, _ in model.named_parameters() if name.endswith("input_layernorm.weight")}
    assert norms
    state = {name: torch.ones_like(each) if name in norms else each for name, each in model.state_dict().items()}
    bare = LeanLlama(bare.info, bare._shape, state.get)
    for broken in (swapped, bare):
        with pytest.raises(AssertionError, match="off by"):
            reference.check_prefill_and_chain(broken, model)
