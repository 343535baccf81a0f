"""The cache of a draft model: long texts are read in pieces, and nothing that was read is read again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafters.draft_cache import PIECE, DraftCache
from draftproof.drafting.model import CachedModel, Pass, RowTokens, Wanted


class Noting:
    """A model that notes how many tokens of each row a pass feeds."""

    def __init__(self, model: CachedModel) -> None:
        self.model = model
        self.fed: list[list[int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        self.fed.append([len(each.tokens) for each in batch])
        return self.model.forward(batch, wanted)


@pytest.fixture
def model() -> Noting:
    config = LlamaConfig(
        vocab_size=97, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, initializer_range=0.5, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Noting(TransformersModel(LlamaForCausalLM(config).eval()))


def text_of(length: int) -> list[int]:
    return torch.randint(3, 97, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def whole(model: Noting, text: Sequence[int]) -> torch.Tensor:
    model.model.add_row(99)
    try:
        logits = model.model.forward([RowTokens(99, torch.tensor(text))], Wanted(logits="last")).logits
    finally:
        model.model.drop_row(99)
    assert logits is not None
    return logits[0]


@pytest.mark.parametrize("length", [PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 77])
def test_a_long_text_is_read_in_pieces_and_says_what_it_says_in_one(model: Noting, length: int) -> None:
    cache, text = DraftCache(model), text_of(length)
    cache.add(0)
    result = cache.catch_up({0: text}, Wanted(logits="last"))
    assert result.logits is not None
    torch.testing.assert_close(result.logits[0], whole(model, text), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(result.logits[0], whole(model, text[1:]), atol=1e-2), "a token less shows"
    assert max(sizes[0] for sizes in model.fed) <= PIECE
    assert sum(sizes[0] for sizes in model.fed) == length


def test_asked_again_it_gives_the_same_and_reads_the_last_piece_only(model: Noting) -> None:
    cache, text = DraftCache(model), text_of(PIECE + 40)
    cache.add(0)
    first = cache.catch_up({0: text}, Wanted(logits="last")).logits
    model.fed.clear()
    second = cache.catch_up({0: text}, Wanted(logits="last")).logits
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
    assert model.fed == [[40]]


def test_rows_of_any_length_share_the_last_pass_and_go_on(model: Noting) -> None:
    cache, texts = DraftCache(model), {0: text_of(PIECE + 5), 1: text_of(9)}
    for row in texts:
        cache.add(row)
    result = cache.catch_up(texts, Wanted(logits="last"))
    assert model.fed == [[PIECE], [5, 9]]
    assert result.logits is not None
    for place, text in enumerate(texts.values()):
        torch.testing.assert_close(result.logits[place], whole(model, text), rtol=1e-4, atol=1e-4)
    longer = [*texts[0], 7, 8]
    cache.follow(0, longer)
    model.fed.clear()
    logits = cache.catch_up({0: longer}, Wanted(logits="last")).logits
    assert model.fed == [[2]]
    assert logits is not None
    torch.testing.assert_close(logits[0], whole(model, longer), rtol=1e-4, atol=1e-4)


def test_a_text_that_is_cut_within_a_piece_is_followed(model: Noting) -> None:
    cache, text = DraftCache(model), text_of(PIECE + 20)
    cache.add(0)
    cache.catch_up({0: text}, Wanted(logits="last"))
    shorter = [*text[:100], 11]
    cache.follow(0, shorter)
    model.fed.clear()
    logits = cache.catch_up({0: shorter}, Wanted(logits="last")).logits
    assert model.fed == [[1]]
    assert logits is not None
    torch.testing.assert_close(logits[0], whole(model, shorter), rtol=1e-4, atol=1e-4)
