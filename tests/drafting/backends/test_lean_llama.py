"""Our own forward pass against plain forwards of the families that it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends import lean_attention
from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.row_cache import RowCache
from draftproof.drafting.model import CachedModel, LayeredModel, Wanted
from draftproof.errors import OutOfMemoryError, UsageError
from tests.drafting.backends import reference

FAMILIES = ("llama", "mistral", "mistral_window", "qwen2", "qwen3")

Check = Callable[[CachedModel, PreTrainedModel], None]


@pytest.fixture(scope="module", params=FAMILIES)
def plain(request: pytest.FixtureRequest) -> PreTrainedModel:
    model: PreTrainedModel = request.getfixturevalue(f"tiny_{request.param}")
    return model


@pytest.fixture(scope="module")
def cached(plain: PreTrainedModel) -> LeanLlama:
    return LeanLlama.from_transformers(plain)


@pytest.mark.parametrize(
    "check",
    [
        reference.check_prefill_and_chain,
        reference.check_logits_wanted,
        reference.check_tree,
        reference.check_ragged_batch,
        reference.check_rows_that_begin_together,
        reference.check_scratch_over_passes,
        reference.check_commit_of_a_path,
        reference.check_truncate,
        reference.check_taps_and_head,
        reference.check_layers,
        reference.check_early_exit,
        reference.check_whole_context,
        reference.check_random_life,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
@pytest.mark.parametrize("native", [True, False], ids=["native", "by operators"])
def test_every_family_agrees_with_its_plain_forward(
    native: bool, check: Check, cached: LeanLlama, plain: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cached._native is not None
    monkeypatch.setattr(cached._native, "takes", lambda planned: native)
    check(cached, plain)


def test_wrong_calls_are_refused_and_change_nothing(cached: LeanLlama) -> None:
    assert isinstance(cached, LayeredModel)
    reference.check_refusals(cached)


@pytest.mark.parametrize("many", [0, 10**9], ids=["by two products", "by torch's fused attention"])
def test_both_ways_to_attend_agree_with_the_plain_forward(
    many: int, cached: LeanLlama, plain: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_native", None)
    monkeypatch.setattr(lean_attention, "_MANY_COLUMNS", many)
    reference.check_prefill_and_chain(cached, plain)
    reference.check_tree(cached, plain)
    reference.check_scratch_over_passes(cached, plain)
    reference.check_random_life(cached, plain, seed=1, steps=30)


def test_results_can_be_changed_and_trained_on(tiny_llama: PreTrainedModel) -> None:
    """They are ordinary tensors, though the layers run in inference mode."""
    cached = LeanLlama.from_transformers(tiny_llama)
    with reference.rows(cached, [1, 2]) as (row,):
        result = cached.forward([reference.row_tokens(row, [3, 4])], Wanted(taps=(0, 1, 2)))
        assert result.logits is not None
        result.logits[0].div_(2.0)
        lower = cached.run_layers([reference.row_tokens(row, [3, 4])], 0, 1).hidden[1]
        for states in (*result.hidden.values(), lower, cached.head(lower), cached.embed(torch.tensor([3]))):
            probe = torch.nn.Linear(states.shape[1], 1)
            probe(states).sum().backward()
            assert probe.weight.grad is not None


@pytest.mark.parametrize("native", [True, False], ids=["native", "by operators"])
def test_a_pass_that_runs_out_of_memory_leaves_rows_without_half_written_slots(
    native: bool, tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*x: object, **given: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    cached = LeanLlama.from_transformers(tiny_llama)
    with reference.rows(cached, [1, 2, 3], [4]) as (row, other):
        before = cached.forward([reference.row_tokens(other, [9])]).logits
        cached.forward([reference.row_tokens(row, [5, 6])])
        with monkeypatch.context() as patch:
            if native:
                patch.setattr(cached._native, "run", exhausted)
            else:
                patch.setattr(cached, "_native", None)
                patch.setattr(cached, "_layers", [cached._layers[0], replace(cached._layers[1], down=exhausted)])
            with pytest.raises(OutOfMemoryError, match="a pass of"):
                cached.forward([reference.row_tokens(row, [7]), reference.row_tokens(other, [8], start=1)])
        with pytest.raises(UsageError, match="slot 1"):
            cached.forward([reference.row_tokens(row, [7], start=1)])
        assert cached.length(row) == 3
        reference.assert_close(
            cached.forward([reference.row_tokens(row, [5])]).logits,
            reference.plain_logits(tiny_llama, [1, 2, 3, 5])[-1:],
            "the row goes on",
        )
        assert before is not None
        again = cached.forward([reference.row_tokens(other, [8], start=1)]).logits
        reference.assert_close(again, reference.plain_logits(tiny_llama, [4, 9, 8])[-1:], "slots not overwritten stay")


def test_memory_of_a_dropped_row_is_given_back_and_a_short_row_takes_little(tiny_llama: PreTrainedModel) -> None:
    cached = LeanLlama.from_transformers(tiny_llama)
    text = reference.some_text(0, 300, cached.info.vocab_size)
    with reference.rows(cached, text, [1]) as (long, short):
        assert cached._rows[long].columns == 512
        assert cached._rows[short].columns == 256
    assert cached._rows == {}


def test_a_slot_that_upper_layers_never_saw_spoils_nothing_beside_it(
    tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden slots must hold numbers for operators that weigh them with zero; native code never reads them."""
    cached = LeanLlama.from_transformers(tiny_llama)

    def beside() -> torch.Tensor:
        with reference.rows(cached, [1, 2]) as (row,):
            cached.run_layers([reference.row_tokens(row, [3])], 0, 1)
            logits = cached.forward([reference.row_tokens(row, [4, 5], [-1, 1], start=1)]).logits
            assert logits is not None
            return logits

    reference.assert_close(beside(), reference.plain_logits(tiny_llama, [1, 2, 4, 5])[2:], "beside")
    right = RowCache.make_room

    def poisoned(cache: RowCache, columns: int, *, kept: int) -> None:
        right(cache, columns, kept=kept)
        cache._stored[:, :, kept:] = float("nan")

    monkeypatch.setattr(RowCache, "make_room", poisoned)
    assert not beside().isnan().any()
    monkeypatch.setattr(cached, "_native", None)
    assert beside().isnan().any()
