"""Which tokens are kept for drafting, what they cover, and the target's head read through the protocol."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafters.vocab_trim import (
    TrimmedVocabulary,
    forced_ids,
    head_times,
    normalised,
    output_rows,
    trim_vocabulary,
)
from draftproof.drafting.model import RowTokens, Wanted
from draftproof.errors import UsageError


class Letters:
    """Single letters, a few words, and two control tokens."""

    raw: tuple[bytes | None, ...] = (
        None,
        None,
        b"\n",
        b" ",
        b"7",
        b" 42",
        b"1234",
        b"?",
        b" ('",
        b"\xc3",
        b"the",
        b" cat",
    )

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset({0, 1})

    def token_bytes(self, token: int) -> bytes | None:
        return self.raw[token]

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError


def test_the_most_frequent_ids_are_kept_and_ties_go_to_the_lower_id() -> None:
    kept = trim_vocabulary([[5, 5, 5, 9, 9], [9, 7, 3]], 3, 20)
    assert kept.ids.tolist() == [3, 5, 9]


def test_forced_ids_are_kept_whatever_the_text_says() -> None:
    kept = trim_vocabulary([[5, 5, 5, 9, 9, 7]], 3, 20, forced=[2, 19])
    assert kept.ids.tolist() == [2, 5, 19]


def test_a_vocabulary_smaller_than_what_must_be_kept_is_refused() -> None:
    with pytest.raises(UsageError, match="3 tokens must be kept"):
        trim_vocabulary([[1]], 2, 20, forced=[2, 3, 4])
    with pytest.raises(UsageError, match="at least 1"):
        trim_vocabulary([[1]], 0, 20)


def test_more_than_there_are_keeps_all() -> None:
    assert trim_vocabulary([[1]], 500, 20).ids.tolist() == list(range(20))


@pytest.mark.parametrize("ids", [[], [3, 3], [4, 2], [-1, 2], [2, 20]])
def test_ids_from_outside_are_checked(ids: list[int]) -> None:
    with pytest.raises(UsageError):
        TrimmedVocabulary(torch.tensor(ids, dtype=torch.int64), 20)


def test_classes_are_columns_and_one_more_for_the_rest() -> None:
    kept = TrimmedVocabulary(torch.tensor([2, 5, 19]), 20)
    assert kept.classes(torch.tensor([[5, 0], [19, 2]])).tolist() == [[1, kept.rest], [2, 0]]
    assert kept.rest == 3


def test_coverage_counts_tokens_of_other_text() -> None:
    kept = TrimmedVocabulary(torch.tensor([2, 5, 19]), 20)
    assert kept.coverage([[2, 2, 5], [7]]) == 0.75
    assert kept.coverage([[7, 8, 9]]) == 0.0
    assert kept.coverage([]) == 0.0


def test_ends_bytes_digits_blanks_and_signs_are_forced_and_words_are_not() -> None:
    assert sorted(forced_ids(Letters(), [11])) == [0, 1, 2, 3, 4, 5, 7, 8, 9, 11]
    assert forced_ids(None, [11]) == {11}


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen3", "tiny_gemma3"])
def test_the_head_is_read_exactly_where_the_final_norm_is_an_rms_norm(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: PreTrainedModel = request.getfixturevalue(name)
    target = TransformersModel(model)
    ids = torch.tensor([3, 8, 50, 96])
    matrix, shift = output_rows(target, ids)
    states = 3.0 * torch.randn(20, target.info.hidden_size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(normalised(states) @ matrix.T + shift, target.head(states, ids), rtol=1e-3, atol=1e-3)
    # The control: the weights alone, without the norm's own, are not it.
    bare = model.get_output_embeddings().weight[ids]
    assert not torch.allclose(normalised(states) @ bare.T, target.head(states, ids), rtol=1e-2, atol=1e-2)


def test_the_head_is_read_nearly_where_the_final_norm_subtracts_a_mean(tiny_gpt2: PreTrainedModel) -> None:
    target = TransformersModel(tiny_gpt2)
    target.add_row(0)
    result = target.forward([RowTokens(0, torch.arange(5, 60))], Wanted(taps=(2,)))
    states, ids = result.hidden[2], torch.arange(97)
    matrix, shift = output_rows(target, ids)
    near = normalised(states) @ matrix.T + shift
    agreement = (near.argmax(1) == target.head(states, ids).argmax(1)).float().mean()
    assert agreement > 0.85


def test_both_heads_are_timed(tiny_llama: PreTrainedModel) -> None:
    times = head_times(TransformersModel(tiny_llama), torch.arange(10), repeats=3)
    assert times.full_ms > 0.0
    assert times.trimmed_ms > 0.0
