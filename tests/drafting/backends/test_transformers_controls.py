"""The checks in `reference.py` can fail: each part of the backend is broken on purpose, and the check that guards it
sees it. So does the self-check at construction, where a model's own code is what is wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

import draftproof.drafting.backends.transformers_model as backend
from draftproof.drafting.backends.ragged_cache import RaggedCache
from draftproof.drafting.backends.slot_tree import PlannedRow, SlotTree
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.errors import UsageError
from tests.drafting.backends import reference


def column_positions(part: PlannedRow) -> list[int]:
    return [part.length + slot for slot in range(part.start, len(part.tree))]


def all_slots_visible(tree: SlotTree, start: int) -> torch.Tensor:
    return torch.ones((len(tree) - start, len(tree)), dtype=torch.bool).tril(start)


def test_a_commit_that_does_not_move_columns_is_found(
    tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = TransformersModel(tiny_llama)
    monkeypatch.setattr(RaggedCache, "move", lambda cache, place, to, columns: None)
    with pytest.raises(AssertionError, match="after path"):
        reference.check_commit_of_a_path(cached, tiny_llama)
    with pytest.raises(AssertionError, match="step"):
        reference.check_random_life(cached, tiny_llama)


def test_positions_that_count_columns_are_found(tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = TransformersModel(tiny_llama)
    monkeypatch.setattr(PlannedRow, "positions", property(column_positions))
    with pytest.raises(AssertionError, match="tree"):
        reference.check_tree(cached, tiny_llama)
    with pytest.raises(AssertionError, match="step"):
        reference.check_random_life(cached, tiny_llama)


def test_siblings_that_see_each_other_are_found(tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = TransformersModel(tiny_llama)
    monkeypatch.setattr(SlotTree, "visible", all_slots_visible)
    with pytest.raises(AssertionError, match="tree"):
        reference.check_tree(cached, tiny_llama)


@pytest.mark.parametrize("family", ["gemma3", "gemma2", "mistral_window"])
def test_a_sliding_window_that_is_ignored_is_found(
    family: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    cached = TransformersModel(model)
    monkeypatch.setattr(backend, "within_window", lambda seen, planned, window: seen)
    with pytest.raises(AssertionError, match="tree"):
        reference.check_tree(cached, model)


def test_a_window_that_counts_columns_is_found(tiny_gemma3: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_column(seen: torch.Tensor, planned: list[PlannedRow], window: int) -> torch.Tensor:
        near = seen.clone()
        for row, part in enumerate(planned):
            at = torch.arange(part.columns)
            near[row, : part.count, : part.columns] &= at[part.first_column :, None] - at[None, :] < window
        return near

    cached = TransformersModel(tiny_gemma3)
    monkeypatch.setattr(backend, "within_window", by_column)
    with pytest.raises(AssertionError, match="tree"):
        reference.check_tree(cached, tiny_gemma3)


def test_a_tap_after_the_final_norm_is_found(tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = TransformersModel(tiny_llama)
    norm = tiny_llama.get_decoder().norm
    plain_forward = cached.forward

    def normed(*args: object) -> object:
        result = plain_forward(*args)  # type: ignore[arg-type]
        result.hidden.update({layer: norm(result.hidden[layer]) for layer in result.hidden if layer == 2})
        return result

    monkeypatch.setattr(cached, "forward", normed)
    with pytest.raises(AssertionError, match="final norm"):
        reference.check_taps_and_head(cached, tiny_llama)


@pytest.mark.parametrize("argument", ["attention_mask", "position_ids"])
def test_a_model_that_ignores_masks_or_positions_is_refused_when_it_is_wrapped(
    tiny_llama: PreTrainedModel, argument: str
) -> None:
    """Such models exist: their code takes the argument and makes its own all the same."""
    deaf = copy.deepcopy(tiny_llama)

    def forget(module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        return args, kwargs | {argument: None}

    deaf.register_forward_pre_hook(forget, with_kwargs=True)
    with pytest.raises(UsageError, match=r"logits are off by \d+%.*masks or positions"):
        TransformersModel(deaf)
