"""Generations: text, stop strings, batches, streams, sinks, and the figures that are drawn from rounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.generation import FinishReason, Generation
from draftproof.drafting.models.load import LoadedModel
from draftproof.drafting.rounds import RowRound, totals
from draftproof.drafting.sampling import Sampling
from draftproof.errors import ContextLengthError, UsageError

PROMPT = "The river runs, the river runs"
SAMPLED = Sampling(temperature=1.0, seed=3)


@pytest.fixture
def loaded(tiny_chat: LoadedModel) -> LoadedModel:
    return tiny_chat


def decoder_of(loaded: LoadedModel, drafter: Any = "prompt-lookup", **options: Any) -> SpeculativeDecoder:
    return SpeculativeDecoder(loaded, drafter, **({"policy": "fixed"} | options))


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=["greedy", "sampled"])
def test_text_is_that_of_plain_decoding(loaded: LoadedModel, sampling: Sampling) -> None:
    (plain,) = decoder_of(loaded, None).generate(PROMPT, max_new_tokens=80, sampling=sampling)
    (drafted,) = decoder_of(loaded).generate(PROMPT, max_new_tokens=80, sampling=sampling)
    assert drafted.tokens == plain.tokens
    assert drafted.text == plain.text
    assert drafted.totals.drafted > 0


def test_another_seed_gives_another_text(loaded: LoadedModel) -> None:
    """The negative control: equal texts above are no accident of a model that says one thing."""
    texts = {
        decoder_of(loaded).generate(PROMPT, max_new_tokens=40, sampling=dataclasses.replace(SAMPLED, seed=seed))[0].text
        for seed in range(5)
    }
    assert len(texts) == 5


def test_prompts_of_a_batch_come_back_in_order_and_as_if_alone(loaded: LoadedModel) -> None:
    prompts = [f"{number} times {number} is" for number in range(7)]
    samplings = [dataclasses.replace(SAMPLED, seed=number) for number in range(7)]
    each = zip(prompts, samplings, strict=True)
    alone = [decoder_of(loaded).generate(p, max_new_tokens=30, sampling=s)[0].tokens for p, s in each]
    together = decoder_of(loaded).generate(prompts, max_new_tokens=30, sampling=samplings, max_batch=3)
    assert [generation.tokens for generation in together] == alone


def test_prompts_under_one_seed_share_no_noise(loaded: LoadedModel) -> None:
    made = decoder_of(loaded).generate([PROMPT] * 4, max_new_tokens=20, sampling=SAMPLED)
    assert len({generation.tokens for generation in made}) == 4
    assert made[0].tokens == decoder_of(loaded).generate(PROMPT, max_new_tokens=20, sampling=SAMPLED)[0].tokens
    last = decoder_of(loaded).generate(PROMPT, max_new_tokens=20, sampling=made[3].sampling)[0]
    assert last.tokens == made[3].tokens


def test_prompts_may_be_text_ids_or_chats(loaded: LoadedModel) -> None:
    decoder = decoder_of(loaded)
    assert decoder.encode("ab") == [97, 98]
    assert decoder.encode([97, 98]) == [97, 98]
    chat = decoder.encode([{"role": "user", "content": "hi"}])
    assert chat == [257, *b"user: hi", 256]
    made = decoder.generate([[97, 98], "ab", torch.tensor([97, 98]), np.array([97, 98])], max_new_tokens=5)
    assert len({each.tokens for each in made}) == 1
    assert len(decoder.generate(torch.tensor([97, 98]), max_new_tokens=5)) == 1
    assert len(decoder.generate([{"role": "user", "content": "hi"}], max_new_tokens=5)) == 1


def test_a_stop_string_ends_the_text_before_it(loaded: LoadedModel) -> None:
    (whole,) = decoder_of(loaded, None).generate(PROMPT, max_new_tokens=60, sampling=SAMPLED, stop_ids=frozenset())
    letters = "".join(character for character in whole.text if character.isascii() and character.isprintable())
    stop = next(letters[i : i + 1] for i in range(5, len(letters)) if letters[i] not in letters[:5])
    for drafter in (None, "prompt-lookup"):
        (cut,) = decoder_of(loaded, drafter).generate(
            PROMPT, max_new_tokens=60, sampling=SAMPLED, stop=[stop], stop_ids=frozenset()
        )
        assert cut.finish_reason is FinishReason.STOP_STRING
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert cut.tokens == whole.tokens[: len(cut.tokens)]
        assert stop.encode() in bytes(token for token in cut.tokens if token < 256)


def test_a_stop_token_is_kept_and_has_no_text(loaded: LoadedModel) -> None:
    (whole,) = decoder_of(loaded, None).generate(PROMPT, max_new_tokens=40, sampling=SAMPLED, stop_ids=frozenset())
    stop = whole.tokens[12]
    first = whole.tokens.index(stop)
    (cut,) = decoder_of(loaded).generate(PROMPT, max_new_tokens=40, sampling=SAMPLED, stop_ids=frozenset({stop}))
    assert cut.tokens == whole.tokens[: first + 1]
    assert cut.finish_reason is FinishReason.STOP


def test_a_stream_is_the_generation_in_pieces(loaded: LoadedModel) -> None:
    (whole,) = decoder_of(loaded).generate(PROMPT, max_new_tokens=50, sampling=SAMPLED)
    chunks = list(decoder_of(loaded).stream(PROMPT, max_new_tokens=50, sampling=SAMPLED))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert tuple(token for chunk in chunks for token in chunk.tokens) == whole.tokens
    last = chunks[-1].generation
    assert last is not None
    assert last.tokens == whole.tokens


def test_a_stream_that_is_left_tells_the_sink_what_it_came_to(loaded: LoadedModel) -> None:
    kept: list[Generation] = []
    decoder = decoder_of(loaded, sink=kept.append)
    stream = decoder.stream(PROMPT, max_new_tokens=50)
    next(stream)
    next(stream)
    stream.close()
    assert kept[0].finish_reason is FinishReason.CANCELLED
    assert decoder.session.rows == {}
    assert decoder.generate(PROMPT, max_new_tokens=5)[0].finish_reason is FinishReason.LENGTH
    assert len(kept) == 2


def test_logprobs_cover_every_token(loaded: LoadedModel) -> None:
    (made,) = decoder_of(loaded).generate(PROMPT, max_new_tokens=20, logprobs=2)
    assert [each.token for each in made.logprobs] == list(made.tokens)
    assert all(each.top[0][0] == each.token for each in made.logprobs), "greedy tokens are the most probable"


def test_blocks_add_up_to_the_generation(loaded: LoadedModel) -> None:
    (made,) = decoder_of(loaded).generate(PROMPT, max_new_tokens=40)
    assert "".join(block.text for block in made.blocks) == made.text
    assert tuple(token for block in made.blocks for token in block.tokens) == made.tokens
    assert len(made.rounds) == len(made.blocks) - 1
    assert made.totals.emitted == len(made.tokens) - 1


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        pytest.param({"prompts": ""}, UsageError, "empty", id="empty-prompt"),
        pytest.param({"prompts": [["a", 1]]}, UsageError, "prompt is text", id="mixed-prompt"),
        pytest.param({"prompts": None}, UsageError, "prompt is text", id="no-prompt"),
        pytest.param({"prompts": "a\udcff"}, UsageError, "surrogate", id="no-unicode"),
        pytest.param({"prompts": "x", "logprobs": 999}, UsageError, "logprobs", id="logprobs"),
        pytest.param({"prompts": "x" * 300}, ContextLengthError, "256", id="too-long"),
        pytest.param({"prompts": "x", "max_new_tokens": 0}, UsageError, "max_new_tokens", id="no-tokens"),
        pytest.param({"prompts": "x", "max_batch": 0}, UsageError, "max_batch", id="no-batch"),
        pytest.param({"prompts": ["x", "y"], "sampling": [Sampling()]}, UsageError, "samplings", id="samplings"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    loaded: LoadedModel, arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    decoder = decoder_of(loaded)
    with pytest.raises(error, match=said):
        decoder.generate(**arguments)
    assert decoder.session.rows == {}


def test_a_prompt_that_cannot_be_read_leaves_no_row_of_its_batch(loaded: LoadedModel) -> None:
    decoder = decoder_of(loaded)
    with pytest.raises(ContextLengthError):
        decoder.generate(["fine", "x" * 300, "also fine"], max_new_tokens=5)
    assert decoder.session.rows == {}
    assert decoder.generate("fine", max_new_tokens=5)


def test_a_prompt_that_cannot_be_read_is_named_before_anything_is_decoded(loaded: LoadedModel) -> None:
    kept: list[Generation] = []
    with pytest.raises(UsageError, match="empty") as caught:
        decoder_of(loaded, sink=kept.append).generate(["fine"] * 10 + [""], max_batch=2, max_new_tokens=3)
    assert caught.value.__notes__ == ["It is prompt 11 of 11."]
    assert kept == []


def test_figures_leave_out_what_a_stop_string_cut_off(loaded: LoadedModel) -> None:
    (whole,) = decoder_of(loaded, None).generate(PROMPT, max_new_tokens=60, stop_ids=frozenset())
    stop = whole.text[len(whole.text) // 2]
    (cut,) = decoder_of(loaded).generate(PROMPT, max_new_tokens=60, stop=stop, stop_ids=frozenset())
    assert cut.totals.emitted == len(cut.tokens) - 1


@pytest.mark.parametrize(
    ("target", "drafter"),
    [(object(), None), ("loaded", object()), ("loaded", LoadedModel)],
    ids=["target", "drafter", "class"],
)
def test_parts_that_are_none_are_refused(loaded: LoadedModel, target: Any, drafter: Any) -> None:
    with pytest.raises(UsageError, match=r"expected|decoded with"):
        SpeculativeDecoder(loaded if target == "loaded" else target, drafter)


def test_a_target_without_a_tokenizer_takes_ids(loaded: LoadedModel) -> None:
    decoder = SpeculativeDecoder(loaded.model, None)
    assert decoder.generate([[97, 98]], max_new_tokens=3)[0].text == ""
    with pytest.raises(UsageError, match="tokenizer"):
        decoder.generate("text")


def test_figures_are_those_of_the_rounds() -> None:
    usual = {
        "row": 0, "index": 0, "position": 9, "drafter": "d", "law": "match", "rule": "match", "lossless": True,
        "depth": 4, "score": None, "draft_ms": 1.0, "verify_ms": 2.0,
    }  # fmt: skip
    rounds = [
        RowRound(**usual, drafted=4, accepted=4, emitted=5),  # type: ignore[arg-type]
        RowRound(**usual, drafted=4, accepted=0, emitted=1),  # type: ignore[arg-type]
        RowRound(**usual, drafted=4, accepted=3, emitted=2),  # type: ignore[arg-type]  # cut by a stop
    ]
    figures = totals(rounds)
    assert figures.block_efficiency == pytest.approx(8 / 3)
    assert figures.acceptance_length == pytest.approx(10 / 3)
    assert figures.acceptance_rate == pytest.approx(7 / 12)
    assert totals([]).acceptance_length == 0.0
