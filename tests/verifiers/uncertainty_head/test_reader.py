"""Reading: figures are those of a plain forward pass, steps are found in the text as a whole, nothing later is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.language_models.context_ids import ContextIds
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.errors import NumericalError, UsageError
from draftproof.language_model import Context, Piece
from draftproof.subject import Subject, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verifiers.uncertainty_head.attention import AttentionReader, load_eager
from draftproof.verifiers.uncertainty_head.features import (
    MAX_TOKENS,
    FeatureSet,
    NoInternalsError,
    StepInternals,
    blank_ids,
    default_layers,
)
from draftproof.verifiers.uncertainty_head.reader import Reader
from tests.verifiers.uncertainty_head.conftest import CONTEXT

PROBLEM = "Add 4 and 5."
STEPS = ("4 + 5 = 9, I say.\n\n", "so twice that\nis 18 \n\n", "The answer is 18.")


def subjects(*steps: str, problem: str = PROBLEM) -> list[Subject]:
    return list(step_subjects(Trace(problem=problem, steps=tuple(Step(text=text) for text in steps))))


def read(reader: Reader, given: list[Subject]) -> list[StepInternals]:
    found = reader.read(given)
    for each in found:
        assert isinstance(each, StepInternals), each
    return [each for each in found if isinstance(each, StepInternals)]


def same(left: StepInternals, right: StepInternals) -> bool:
    close = left.tokens == right.tokens and torch.allclose(left.logprobs, right.logprobs, atol=1e-4)
    return close and all(torch.allclose(left.hidden[at], right.hidden[at], atol=1e-3) for at in left.hidden)


@pytest.mark.parametrize("backend", ["lean", "transformers"])
def test_figures_are_those_of_a_plain_forward_pass(
    backend: str, ascii_folder: Path, plain_model: PreTrainedModel
) -> None:
    """Each token's are those of the position before it, and the step's last token is fed to nobody."""
    loaded = load_model(ascii_folder, backend=backend)  # type: ignore[arg-type]
    found = read(Reader(loaded, FeatureSet(layers=(0, 1, 2), top=4)), subjects(*STEPS))
    ids = torch.tensor(loaded.vocabulary.encode(PROBLEM + "\n\n" + "".join(STEPS)))
    taken = plain_model(ids[None], output_hidden_states=True)
    logits = taken.logits[0]
    logprobs = torch.log_softmax(logits, -1)
    begin = len(PROBLEM) + 2
    spoken = [text.rstrip() for text in STEPS]
    for text, words, step in zip(STEPS, spoken, found, strict=True):
        assert step.tokens == len(words)  # a character is a token; white space behind the last word does not count
        before = torch.arange(begin - 1, begin - 1 + len(words))
        torch.testing.assert_close(step.logprobs, logprobs[before, ids[before + 1]], rtol=1e-3, atol=1e-3)
        entropies = -(logprobs.exp() * logprobs).sum(-1)[before]
        torch.testing.assert_close(step.entropies, entropies, rtol=1e-3, atol=1e-3)
        two = logits[before].topk(2).values
        torch.testing.assert_close(step.margins, two[:, 0] - two[:, 1], rtol=1e-3, atol=1e-3)
        for layer in (0, 1):  # transformers gives the last layer's states behind the final norm
            torch.testing.assert_close(step.hidden[layer], taken.hidden_states[layer][0, before], rtol=1e-3, atol=1e-3)
        normed = plain_model.model.norm(step.hidden[2])  # type: ignore[operator, union-attr]
        torch.testing.assert_close(normed, taken.hidden_states[2][0, before], rtol=1e-3, atol=1e-3)
        assert step.top is not None
        torch.testing.assert_close(step.top, logprobs[before].exp().topk(4).values, rtol=1e-3, atol=1e-3)
        begin += len(text)


def test_long_texts_are_read_in_pieces(loaded: LoadedModel) -> None:
    wanted = FeatureSet(layers=(2,))
    given = subjects("a" * 60 + "\n\n", "b" * 100 + "\n\n", "c" * 20)
    whole = read(Reader(loaded, wanted), given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("draftproof.verifiers.uncertainty_head.reader._CHUNK", 7)
        pieces = read(Reader(loaded, wanted), given)
    assert all(same(one, other) for one, other in zip(whole, pieces, strict=True))


def test_what_follows_cannot_change_a_step(reader: Reader) -> None:
    together = read(reader, subjects(*STEPS))
    for place, subject in enumerate(subjects(*STEPS)):
        (alone,) = read(reader, [subject])
        assert same(alone, together[place])
    others = read(reader, subjects(STEPS[0], "but no: 4 + 5 is\n\n", "something else"))
    assert same(others[0], together[0])
    assert not same(others[2], together[2])


def test_what_came_before_does_change_a_step(reader: Reader) -> None:
    other = read(reader, subjects("4 + 5 = 8, I say.\n\n", *STEPS[1:]))
    assert not same(other[1], read(reader, subjects(*STEPS))[1])
    asked = read(reader, subjects(*STEPS, problem="Add 4 and 6."))
    assert not same(asked[0], read(reader, subjects(*STEPS))[0])


def test_steps_share_a_pass(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, read_ids = Reader(loaded, FeatureSet()), []
    original = Reader._pass
    monkeypatch.setattr(
        Reader,
        "_pass",
        lambda self, ids, first: read_ids.append(ids) or original(self, ids, first),  # type: ignore[func-returns-value]
    )
    read(reader, subjects(*STEPS))
    assert len(read_ids) == 1


@pytest.fixture(scope="module")
def merging(ascii_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The model with a tokenizer that has tokens of two line ends, and of a full stop with them."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ascii_folder)
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
    folder = tmp_path_factory.mktemp("merging")
    tokenizer.save_pretrained(folder)
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(ascii_folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return load_model(folder)


def test_the_text_is_cut_into_tokens_as_a_whole(merging: LoadedModel) -> None:
    """A token that begins in one step and ends in the next is read as the one it is."""
    steps = ("one\n", "\ntwo")
    apart = [token for text in steps for token in merging.vocabulary.encode(text)]
    whole = merging.vocabulary.encode("".join(steps))
    assert apart != whole  # else this test says nothing
    reader = Reader(merging, FeatureSet())
    placed = reader._place(subjects(*steps)[1])
    assert placed.ids[-len(whole) :] == tuple(whole)
    assert merging.vocabulary.decode(placed.ids[placed.start :]) == "\n\ntwo"
    own = ContextIds(merging.tokenizer, merging.vocabulary, "").continued(
        Context.of(PROBLEM, (Piece(steps[0]),)), steps[1]
    )
    assert placed.ids == own.ids


def test_steps_that_were_given_without_separators_get_them_as_context(reader: Reader) -> None:
    given = read(reader, subjects("4 + 5 = 9", "so 18"))
    written = read(reader, subjects("4 + 5 = 9\n\n", "so 18\n\n"))
    assert all(same(one, other) for one, other in zip(given, written, strict=True))


@pytest.mark.parametrize(
    ("text", "problem", "reason"),
    [
        pytest.param(" \n\n", PROBLEM, "empty_step", id="blank"),
        pytest.param("a" * CONTEXT, PROBLEM, "context_too_long", id="long-step"),
        pytest.param("a", "b" * 10**6, "context_too_long", id="long-problem"),
        pytest.param("a\ud800", PROBLEM, "unreadable_text", id="half-a-surrogate"),
    ],
)
def test_what_cannot_be_read_says_why_and_stops_nobody_else(
    reader: Reader, text: str, problem: str, reason: str
) -> None:
    good = subjects(*STEPS)[0]
    bad = good.model_copy(update={"text": text, "problem": problem})
    first, between, last = reader.read([good, bad, good])
    assert isinstance(between, NoInternalsError)
    assert between.reason == reason
    assert isinstance(first, StepInternals)
    assert isinstance(last, StepInternals)


def test_the_context_may_be_filled_to_its_last_token(reader: Reader) -> None:
    room = CONTEXT - len(PROBLEM) - 2
    (full,) = read(reader, subjects("a" * (room + 1)))  # the last token is not fed
    assert full.tokens == room + 1
    over = reader.read(subjects("a" * (room + 2)))[0]
    assert isinstance(over, NoInternalsError)


def test_control_tokens_in_a_text_are_text(reader: Reader, loaded: LoadedModel) -> None:
    (step,) = read(reader, subjects("a<|end|>b"))
    assert step.tokens == len("a<|end|>b")
    assert loaded.vocabulary.special_ids <= blank_ids(loaded.vocabulary)


def test_a_question_is_asked_as_the_chat_template_has_it(tiny_chat: LoadedModel) -> None:
    from draftproof.drafting.chat_prompts import chat_ids

    reader = Reader(tiny_chat, FeatureSet(layers=(1,)))
    given = subjects("a b\n\n", "c <|end|> d")
    asked = chat_ids([{"role": "user", "content": PROBLEM}], tiny_chat.tokenizer)
    ids = torch.tensor([*asked, *b"a b\n\nc <|end|> d"])
    model = tiny_chat.model._model  # type: ignore[attr-defined]
    logprobs = torch.log_softmax(model(ids[None]).logits[0].float(), -1)
    at = torch.arange(len(ids) - len("c <|end|> d"), len(ids))
    torch.testing.assert_close(read(reader, given)[1].logprobs, logprobs[at - 1, ids[at]], rtol=1e-3, atol=1e-3)


def test_a_model_of_broken_weights_is_an_error_and_no_verdict(ascii_folder: Path) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(ascii_folder).eval()
    reader = Reader(
        load_model(model, tokenizer=AutoTokenizer.from_pretrained(ascii_folder), backend="transformers"), FeatureSet()
    )
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(NumericalError, match="NaN"):
        reader.read(subjects(*STEPS))


def test_windows_of_attention_are_those_of_eager_attention(ascii_folder: Path, plain_model: PreTrainedModel) -> None:
    loaded, attention = load_eager(ascii_folder)
    reader = Reader(loaded, FeatureSet(window=5), attention)
    found = read(reader, subjects(*STEPS))
    ids = torch.tensor(loaded.vocabulary.encode(PROBLEM + "\n\n" + "".join(STEPS)))
    taken = plain_model(ids[None], output_attentions=True).attentions
    begin = len(PROBLEM) + 2 + len(STEPS[0])
    for token in range(3):
        row = []
        for back in range(5):
            for layer in taken:
                row += layer[0, :, begin + token - 1, begin + token - 1 - back].tolist()
        assert found[1].attention is not None
        torch.testing.assert_close(found[1].attention[token], torch.tensor(row), rtol=1e-3, atol=1e-4)
    assert same(found[0], read(Reader(load_model(ascii_folder), FeatureSet()), subjects(*STEPS))[0])


def test_a_window_before_the_text_is_zero(plain_model: PreTrainedModel) -> None:
    windows = AttentionReader(plain_model).windows(torch.tensor([5, 6, 7, 8]), 1, 3)
    assert windows.shape == (3, 3 * 2 * 4)
    assert torch.equal(windows[0, 8:], torch.zeros(16))
    assert bool((windows[2] > 0).all())


def test_without_eager_attention_windows_are_refused(ascii_folder: Path, loaded: LoadedModel) -> None:
    from transformers import LlamaForCausalLM

    with pytest.raises(UsageError, match="attn_implementation='eager'"):
        AttentionReader(LlamaForCausalLM.from_pretrained(ascii_folder, attn_implementation="sdpa"))
    with pytest.raises(UsageError, match="load_eager"):
        Reader(loaded, FeatureSet(window=5))


def test_attention_that_does_not_come_is_an_error(ascii_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, attention = load_eager(ascii_folder)
    model = attention._model
    original = model.forward
    monkeypatch.setattr(model, "forward", lambda **asked: original(**(asked | {"output_attentions": False})))
    with pytest.raises(UsageError, match="gave no attention weights"):
        Reader(loaded, FeatureSet(window=5), attention).read(subjects(*STEPS))


def test_of_a_very_long_step_the_end_is_looked_at() -> None:
    count = MAX_TOKENS + 50
    step = StepInternals(torch.arange(count).float(), torch.zeros(count), torch.zeros(count))
    seen = step.features(FeatureSet())
    assert seen.shape == (MAX_TOKENS, 3)
    assert float(seen[-1, 0]) == count - 1


@pytest.mark.parametrize(
    "wrong",
    [{"layers": (1, 1)}, {"layers": (-1,)}, {"statistics": False}, {"top": 65}, {"window": -1}, {"layers": (True,)}],
)
def test_feature_sets_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FeatureSet(**wrong)  # type: ignore[arg-type]


def test_layers_are_those_of_the_model(loaded: LoadedModel) -> None:
    with pytest.raises(UsageError, match=r"layers 0 … 2, and \[3\]"):
        Reader(loaded, FeatureSet(layers=(3,)))
    assert default_layers(loaded.model.info) == (1, 2)


def test_no_more_probabilities_are_looked_at_than_there_are_tokens(loaded: LoadedModel) -> None:
    few = replace(loaded.model.info, vocab_size=5)
    FeatureSet(top=5).check(few)
    with pytest.raises(UsageError, match="5 tokens, and the 6"):
        FeatureSet(top=6).check(few)
