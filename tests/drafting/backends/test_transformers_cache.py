"""The cache's memory, and passes that fail half-way."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends import ragged_cache
from draftproof.drafting.backends.ragged_cache import RaggedCache, Span, memory_shortage
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import CachedModel, Wanted
from draftproof.errors import ContractError, OutOfMemoryError
from draftproof.kernels.compact import compact_torch
from draftproof.kernels.compact_triton import compact_triton
from tests.drafting.backends import reference
from tests.drafting.backends.plain_forward import assert_close, plain_logits, row_tokens

FAILING_PASSES = 3


def test_two_thousand_rounds_take_no_more_memory_than_the_first_ones(tiny_draft_llama: PreTrainedModel) -> None:
    cached = TransformersModel(tiny_draft_llama)
    chance = random.Random(0)
    cached.add_row(0)
    room = None
    for round_ in range(2000):
        cached.forward([row_tokens(0, [5, 6, 7, 8], [-1, 0, 0, 2])], Wanted(logits="last"))
        cached.commit(0, chance.choice([[0], [0, 1], [0, 2, 3]]))
        if cached.length(0) > 100:
            cached.truncate(0, chance.randrange(100))
            room = room or cached.allocated
        assert room is None or cached.allocated == room, f"round {round_}"
    assert room == (1, 128)


def test_rows_that_come_and_go_share_the_same_memory(tiny_draft_llama: PreTrainedModel) -> None:
    cached = TransformersModel(tiny_draft_llama)
    for row in range(0, 60, 3):
        for each in range(row, row + 3):
            cached.add_row(each)
        result = cached.forward([row_tokens(each, [each, 1]) for each in range(row, row + 3)])
        expected = torch.cat([plain_logits(tiny_draft_llama, [each, 1]) for each in range(row, row + 3)])
        assert_close(result.logits, expected, f"rows from {row}")
        for each in range(row, row + 3):
            cached.drop_row(each)
    assert cached.allocated == (4, 64)


def test_columns_grow_by_doubling_and_not_beyond_the_context(tiny_draft_llama: PreTrainedModel) -> None:
    cached = TransformersModel(tiny_draft_llama)
    cached.add_row(0)
    seen = set()
    for _ in range(0, 500, 10):
        cached.forward([row_tokens(0, list(range(10)))], Wanted(logits="none"))
        cached.commit(0, range(10))
        seen.add(cached.allocated[1])
    assert seen == {64, 128, 256, 512}


KERNEL = pytest.param(
    compact_triton,
    id="kernel",
    marks=pytest.mark.skipif(torch.cuda.is_available(), reason="where a GPU is, kernels do not take the CPU's memory"),
)


@pytest.mark.parametrize("run", [pytest.param(compact_torch, id="definition"), KERNEL])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_kept_columns_move_as_the_kernel_and_as_its_definition_move_them(
    family: str, run: Callable[..., None], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both as the backend calls them; the kernel in Triton's interpreter."""
    model = request.getfixturevalue(f"tiny_{family}")
    launches = []

    def counted(caches: Sequence[torch.Tensor], lengths: torch.Tensor, slots: torch.Tensor) -> None:
        launches.append(len(caches))
        run(caches, lengths, slots)

    monkeypatch.setattr(ragged_cache, "compact", counted)
    reference.check_commit_of_a_path(TransformersModel(model), model)
    assert set(launches) == {4}, "the keys and values of both layers in one launch"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kept_columns_move_on_a_gpu(tiny_llama: PreTrainedModel) -> None:
    cached = TransformersModel(copy.deepcopy(tiny_llama).cuda())
    cached.add_row(0)
    cached.forward([row_tokens(0, [5, 6, 7])], Wanted(logits="none"))
    cached.commit(0, range(3))
    cached.forward([row_tokens(0, [8, 9, 10, 11], [-1, -1, 1, 2])], Wanted(logits="none"))
    cached.commit(0, [1, 2, 3])
    logits = cached.forward([row_tokens(0, [12])]).logits
    assert logits is not None
    assert_close(logits.cpu(), plain_logits(tiny_llama, [5, 6, 7, 9, 10, 11, 12])[-1:], "after the path")


def test_layers_of_other_sizes_move_in_launches_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some families have layers with more heads than others; the rows beside stay as they are."""
    cache = RaggedCache(most_columns=64)
    places = [cache.claim(), cache.claim()]
    new = {0: torch.randn(2, 3, 9, 4), 1: torch.randn(2, 1, 9, 8), 2: torch.randn(2, 3, 9, 4)}
    with cache.writing([Span(place, 0, 9) for place in places]):
        for layer, states in new.items():
            cache.update(states, 2 * states, layer)
    launches = []

    def counted(caches: Sequence[torch.Tensor], lengths: torch.Tensor, slots: torch.Tensor) -> None:
        launches.append((len(caches), lengths.tolist(), slots.tolist()))
        compact_torch(caches, lengths, slots)

    monkeypatch.setattr(ragged_cache, "compact", counted)
    cache.move(places[1], 4, [5, 6, 8])
    assert launches == [(4, [4], [[1, 2, 4]]), (2, [4], [[1, 2, 4]])]
    for layer, states in new.items():
        keys, values = cache._stored[layer]
        expected = states.clone()
        expected[1, :, 4:7] = states[1, :, [5, 6, 8]]
        assert torch.equal(keys[:, :, :9], expected)
        assert torch.equal(values[:, :, :9], 2 * expected)


def test_what_a_dropped_row_left_cannot_reach_the_next(tiny_draft_llama: PreTrainedModel) -> None:
    """A value that is no number would come through a mask: 0 x NaN is NaN."""
    cached = TransformersModel(tiny_draft_llama)
    cached.add_row(0)
    cached.forward([row_tokens(0, list(range(50)))])
    for pair in cached._cache._stored.values():
        for tensor in pair:
            tensor[cached._places[0], :, 30:].fill_(float("nan"))
    cached.drop_row(0)
    with reference.rows(cached, [1, 2], list(range(40))) as (short, long):
        logits = cached.forward([row_tokens(long, [3, 4]), row_tokens(short, [5])]).logits
        assert logits is not None
        assert_close(logits[2:], plain_logits(tiny_draft_llama, [1, 2, 5])[-1:], "the row beside a long one")


def test_a_pass_that_fails_half_way_leaves_every_row_as_it_was(tiny_llama: PreTrainedModel) -> None:
    model = copy.deepcopy(tiny_llama)
    cached: CachedModel = TransformersModel(model)

    def stumble(*_: object) -> None:
        raise RuntimeError("stumbled")

    with reference.rows(cached, [1, 2, 3], [4, 5]) as (row, other):
        cached.forward([row_tokens(row, [6, 7, 8, 9], [-1, 0, 0, 2])])
        for start in range(FAILING_PASSES):
            # the first layer's keys and values are written by then
            hook = model.get_decoder().layers[1].register_forward_pre_hook(stumble)
            with pytest.raises(RuntimeError, match="stumbled"):
                cached.forward([row_tokens(other, [1]), row_tokens(row, [90, 91, 92, 93], start=start)])
            hook.remove()
        assert (cached.length(row), cached.length(other)) == (3, 2)
        expected = plain_logits(model, [1, 2, 3, 6, 8, 9, 11])[-1:]
        assert_close(cached.forward([row_tokens(row, [11], [3], start=4)]).logits, expected, "the old slots")
        cached.commit(row, [0, 2, 3, 4])
        expected = plain_logits(model, [1, 2, 3, 6, 8, 9, 11, 12])[-1:]
        assert_close(cached.forward([row_tokens(row, [12])]).logits, expected, "after commit")


def test_an_allocation_that_fails_is_our_error_with_a_remedy() -> None:
    with pytest.raises(OutOfMemoryError, match=r"Memory ran out in a test\. Use fewer rows"), memory_shortage("a test"):
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(ZeroDivisionError), memory_shortage("a test"):
        _ = 1 // 0
    with pytest.raises(RuntimeError, match="shape"), memory_shortage("a test"):
        torch.zeros(2, 3).view(7)


def test_a_cache_is_written_in_passes_only() -> None:
    cache = RaggedCache(most_columns=16)
    place = cache.claim()
    new = torch.ones(1, 2, 3, 4)
    with pytest.raises(ContractError, match="outside of a pass"):
        cache.update(new, new, 0)
    with cache.writing([Span(place, 0, 3)]):
        keys, _ = cache.update(new, new, 0)
    assert keys.shape == (1, 2, 3, 4)
