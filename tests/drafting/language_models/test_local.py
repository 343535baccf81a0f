"""Local models: steps are the whole text, figures are those of the model, nothing is read twice."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import ContextLengthError, NumericalError, UsageError
from draftproof.language_model import (
    GREEDY,
    Ability,
    Completion,
    Context,
    Decoding,
    LanguageModel,
    Piece,
    Request,
    StopCause,
)
from tests.drafting.language_models.counted import counted
from tests.drafting.language_models.writing import after, joined, piece_of, stepwise

QUESTION = Context.of("What is 12?")
OTHER = Context.of("abc")
SAMPLED = Decoding(temperature=0.7, top_k=8, seed=5)


def whole_of(model: LanguageModel, context: Context, tokens: int, decoding: Decoding = GREEDY) -> Completion:
    (answer,) = model.generate([Request(context, tokens, decoding=decoding)])
    return answer


# Steps


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", ["stepper", "other_stepper", "chatter"])
def test_steps_are_the_whole_text_token_for_token(
    kind: str, decoding: Decoding, request: pytest.FixtureRequest
) -> None:
    model = LocalLanguageModel(request.getfixturevalue(kind))
    whole = whole_of(model, QUESTION, 90, decoding)
    steps = stepwise(model, QUESTION, 90, decoding=decoding)
    assert len(steps) > 3  # else this tests nothing
    assert joined(steps, "ids") == whole.ids
    assert joined(steps, "text") == whole.text
    assert joined(steps, "logprobs") == pytest.approx(whole.logprobs, abs=1e-4)
    assert joined(steps, "entropies") == pytest.approx(whole.entropies, abs=1e-4)
    assert joined(steps, "margins") == pytest.approx(whole.margins, abs=1e-4)


def test_steps_behind_foreign_text_are_the_whole_text(stepper: LoadedModel, other_stepper: LoadedModel) -> None:
    """Each model writes two steps in turn; then the first goes on, in steps and at once."""
    models = [LocalLanguageModel(stepper, name="one"), LocalLanguageModel(other_stepper, name="two")]
    context = QUESTION
    for model in (*models, *models):
        for answer in stepwise(model, context, 1) + stepwise(model, context, 40)[:2]:
            context = after(context, piece_of(model, answer))
    assert {piece.writer for piece in context.written} == {model.identity for model in models}
    whole = whole_of(models[0], context, 60)
    assert joined(stepwise(models[0], context, 60), "ids") == whole.ids


def test_steps_without_their_ids_would_be_another_text(local: LocalLanguageModel) -> None:
    """The negative control: this model cuts its text otherwise than its tokenizer does."""
    whole = whole_of(local, QUESTION, 90, SAMPLED)
    assert tuple(local.loaded.vocabulary.encode(whole.text)) != whole.ids
    context, text = QUESTION, ""
    while len(text) < len(whole.text):
        (answer,) = local.generate([Request(context, 90, ("\n\n",), SAMPLED)])
        text += answer.text
        context = after(context, Piece(answer.text))
    assert not text.startswith(whole.text)
    assert joined(stepwise(local, QUESTION, 90, decoding=SAMPLED), "text") == whole.text


def test_a_step_that_is_rejected_is_forgotten(local: LocalLanguageModel) -> None:
    step = Request(QUESTION, 30, ("\n\n",))
    (first,) = local.generate([step])
    (other,) = local.generate([Request(after(QUESTION, Piece("12 12 12.\n\n")), 3)])
    assert other.cached_tokens >= first.prompt_tokens - 1
    (again,) = local.generate([step])
    assert again.ids == first.ids
    assert again.cached_tokens == again.prompt_tokens - 1
    (third,) = local.generate([step])
    assert third.ids == first.ids
    assert third.cached_tokens == third.prompt_tokens


def test_a_step_ends_behind_its_separator(local: LocalLanguageModel) -> None:
    for step in stepwise(local, QUESTION, 90)[:-1]:
        assert step.cause is StopCause.STOP
        assert step.stopped_by == "\n\n"
        assert step.text.rstrip("\n").count("\n\n") == 0
        assert step.text.endswith("\n\n")


def test_a_token_beyond_the_separator_is_cut(overrunner: LoadedModel) -> None:
    model = LocalLanguageModel(overrunner)
    steps = stepwise(model, QUESTION, 120)
    cut = [step for step in steps if step.cause is StopCause.STOP and not step.ids]
    assert cut
    for step in cut:
        assert step.text.endswith("\n\n")
        assert len(step.logprobs) == step.tokens


def test_an_answer_ends_where_the_model_ends_it(stepper: LoadedModel) -> None:
    plain = whole_of(LocalLanguageModel(stepper), OTHER, 60)
    end = plain.ids[7]
    model, loaded = counted(stepper)
    model.eos_ids = frozenset({end})
    answer = whole_of(LocalLanguageModel(loaded), OTHER, 60)
    count = plain.ids.index(end)
    assert answer.cause is StopCause.END
    assert answer.ids == plain.ids[:count]
    assert answer.tokens == count + 1 == len(answer.logprobs)


def test_length_and_context_are_told_apart(local: LocalLanguageModel) -> None:
    assert whole_of(local, OTHER, 5).cause is StopCause.LENGTH
    long = Context.of("a" * 240)
    answer = whole_of(local, long, 50)
    assert answer.cause is StopCause.CONTEXT
    assert answer.prompt_tokens + answer.tokens == 256
    exact = whole_of(local, long, answer.tokens)
    assert (exact.cause, exact.ids) == (StopCause.LENGTH, answer.ids)


# What is read


def test_steps_read_each_token_once(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    steps = stepwise(LocalLanguageModel(loaded), QUESTION, 60)
    assert len(steps) > 2
    prompt, written = steps[0].prompt_tokens, sum(step.tokens for step in steps)
    assert model.tokens == prompt + written - 1  # the last token is read by whoever goes on
    assert len(model.passes) == written
    assert all(step.cached_tokens == step.prompt_tokens - 1 for step in steps[1:])


def test_without_a_cache_steps_read_everything_again(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    steps = stepwise(LocalLanguageModel(loaded, max_cached_rows=0), QUESTION, 60)
    assert model.tokens == sum(step.prompt_tokens + step.tokens - 1 for step in steps)
    assert model.rows == set()


def test_a_probe_costs_one_pass_and_the_text_behind_it_begins_without_one(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    (probe,) = local.first_token([QUESTION])
    assert model.passes == [[probe.prompt_tokens]]
    assert probe.cached_tokens == 0
    for decoding in (GREEDY, SAMPLED, Decoding(0.7, seed=9)):
        model.passes.clear()
        answer = whole_of(local, QUESTION, 10, decoding)
        assert answer.cached_tokens == answer.prompt_tokens
        assert model.passes == [[1]] * 9
        assert answer.ids == whole_of(LocalLanguageModel(stepper), QUESTION, 10, decoding).ids
    model.passes.clear()
    assert local.first_token([QUESTION])[0].top == probe.top
    assert model.passes == []


def test_a_foreign_step_is_read_in_one_pass_with_the_token_after_it(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    (first,) = local.generate([Request(QUESTION, 30, ("\n\n",))])
    model.passes.clear()
    answer = whole_of(local, after(QUESTION, Piece("b2b2b2.\n\n")), 2)
    assert model.passes == [[answer.prompt_tokens - answer.cached_tokens], [1]]
    assert answer.cached_tokens >= first.prompt_tokens - 1


def test_requests_of_one_call_share_their_passes(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded, max_batch=4)
    contexts = [Context.of(text) for text in ("a", "b2", "abc", "12 a", "S", "2")]
    answers = local.generate([Request(context, 8) for context in contexts])
    assert len(model.passes) == 16  # four rows, then two
    assert [a.ids for a in answers] == [whole_of(LocalLanguageModel(stepper), c, 8).ids for c in contexts]


def test_rows_are_dropped_beyond_the_bound_the_oldest_first(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded, max_cached_rows=3)
    contexts = [Context.of(letter * 9) for letter in "abc12"]
    for context in contexts:
        whole_of(local, context, 3)
        assert len(model.rows) <= 3
    assert [whole_of(local, context, 3).cached_tokens > 0 for context in contexts[2:]] == [True] * 3
    assert whole_of(local, contexts[0], 3).cached_tokens == 0
    local.forget()
    assert model.rows == set()


def test_questions_with_the_same_instruction_do_not_take_each_others_rows(local: LocalLanguageModel) -> None:
    contexts = [Context.of("abc 12 " + letter * 20) for letter in "abS"]
    for context in contexts:
        whole_of(local, context, 3)
    assert all(whole_of(local, context, 3).cached_tokens > 20 for context in contexts)


# Figures


def reference(folder: str, ids: list[int]) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Logits [n, V] and the states behind the embedding and each layer, before the final norm, of a plain forward."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    kept: dict[int, torch.Tensor] = {}

    def keep(number: int) -> Callable[..., None]:
        def hook(module: object, args: object, output: object) -> None:
            kept[number] = (output[0] if isinstance(output, tuple) else output)[-len(ids) :].reshape(len(ids), -1)

        return hook

    model.model.embed_tokens.register_forward_hook(keep(0))
    for number, layer in enumerate(model.model.layers, 1):
        layer.register_forward_hook(keep(number))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    return logits, kept


def test_the_largest_probabilities_come_only_where_they_are_asked_for(stepper: LoadedModel) -> None:
    """Texts that are decoded together: each has as many as it asked for, and the rest is as it was."""
    model = LocalLanguageModel(stepper)
    none, two, five = model.generate([Request(QUESTION, 20, top=top) for top in (0, 2, 5)])
    assert none.top == ()
    assert {len(each) for each in two.top} == {2}
    assert len(two.top) == len(five.top) == none.tokens
    for fewer, more in zip(two.top, five.top, strict=True):
        assert more[:2] == pytest.approx(fewer, rel=1e-4)
        assert list(more) == sorted(more, reverse=True)
    assert none.logprobs == pytest.approx(five.logprobs, rel=1e-4)


@pytest.mark.parametrize("drafter", [None, "prompt-lookup"])
@pytest.mark.parametrize("probed", [False, True])
def test_figures_and_states_are_those_of_a_plain_forward(
    stepper_folder: str, stepper: LoadedModel, drafter: str | None, probed: bool
) -> None:
    model = LocalLanguageModel(stepper, drafter=drafter)
    if probed:
        model.first_token([QUESTION])
    (answer,) = model.generate([Request(QUESTION, 60, hidden_layers=(0, 1, 2, -1), top=3)])
    prompt = model._reader.ids(QUESTION)
    logits, states = reference(stepper_folder, [*prompt, *answer.ids])
    first, size = len(prompt) - 1, answer.tokens
    rows = logits[first : first + size]
    law = rows.log_softmax(-1)
    assert answer.logprobs == pytest.approx([float(law[i, t]) for i, t in enumerate(answer.ids)], abs=2e-4)
    assert answer.entropies == pytest.approx((-(law.exp() * law).sum(-1)).tolist(), abs=2e-4)
    best = rows.topk(2).values
    assert len(answer.top) == size
    torch.testing.assert_close(torch.tensor(answer.top), law.exp().topk(3).values, atol=1e-4, rtol=1e-3)
    assert answer.margins == pytest.approx((best[:, 0] - best[:, 1]).tolist(), abs=2e-3)
    for layer, place in ((0, 0), (1, 1), (2, 2), (-1, 2)):
        assert answer.hidden[layer].dtype is torch.float32
        torch.testing.assert_close(answer.hidden[layer], states[place][first : first + size], atol=1e-3, rtol=1e-3)


def test_a_text_that_is_given_has_the_figures_of_one_that_was_written(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    (answer,) = local.generate([Request(QUESTION, 40, hidden_layers=(1, -1))])
    local.forget()
    model.passes.clear()
    (read,) = local.read([QUESTION], [answer.text], [1, -1])
    assert len(model.passes) == 1
    same = tuple(stepper.vocabulary.encode(answer.text)) == answer.ids
    assert same == (read.ids == answer.ids)
    (mine,) = local.read([after(QUESTION, piece_of(local, answer))], ["S"])
    assert mine.prompt_tokens == answer.prompt_tokens + answer.tokens
    retold = local.generate([Request(after(QUESTION, Piece(answer.text[:20])), 30, hidden_layers=(1, -1))])[0]
    (again,) = local.read([after(QUESTION, Piece(answer.text[:20]))], [retold.text], (1, -1))
    if again.ids == retold.ids:
        assert again.logprobs == pytest.approx(retold.logprobs, abs=1e-4)
        for layer in (1, -1):
            torch.testing.assert_close(again.hidden[layer], retold.hidden[layer], atol=1e-4, rtol=1e-3)


def test_given_text_is_measured_as_a_plain_forward_measures_it(stepper_folder: str, local: LocalLanguageModel) -> None:
    text = "abc.\n\n12 a2b.\n\nS"
    whole_of(local, QUESTION, 5)  # some of it is cached
    (read,) = local.read([QUESTION], [text], (0, 2))
    ids = local.loaded.vocabulary.encode("What is 12?\n\n" + text)
    assert list(read.ids) == ids[read.prompt_tokens :]
    assert read.text[: read.ends[3]] == local.loaded.vocabulary.decode(read.ids[:4])
    logits, states = reference(stepper_folder, ids)
    first = read.prompt_tokens - 1
    law = logits.log_softmax(-1)
    expected = [float(law[first + i, token]) for i, token in enumerate(read.ids)]
    assert read.logprobs == pytest.approx(expected, abs=2e-4)
    assert local.score([QUESTION], [text])[0].logprobs == pytest.approx(expected, abs=2e-4)
    for layer in (0, 2):
        torch.testing.assert_close(read.hidden[layer], states[layer][first:-1], atol=1e-3, rtol=1e-3)
    wrong = [float(law[first + 1 + i, token]) for i, token in enumerate(read.ids[:-1])]
    assert read.logprobs[:-1] != pytest.approx(wrong, abs=2e-1)  # one position off would show


def test_scores_read_only_what_is_new(stepper: LoadedModel) -> None:
    model, loaded = counted(stepper)
    local = LocalLanguageModel(loaded)
    local.score([QUESTION], ["abc.\n\n"])
    model.passes.clear()
    (scored,) = local.score([QUESTION], ["12."])
    assert model.passes == [[3]] if len(scored.logprobs) == 3 else [[len(scored.logprobs)]]
    assert scored.cached_tokens == scored.prompt_tokens - 1
    model.passes.clear()
    answer = whole_of(local, QUESTION, 1)
    assert model.passes == [[1]]
    assert answer.cached_tokens == answer.prompt_tokens - 1


def test_an_empty_continuation_is_certain(local: LocalLanguageModel) -> None:
    (scored, other) = local.score([QUESTION, QUESTION], ["", "a"])
    assert scored.logprobs == ()
    assert len(other.logprobs) == 1


def test_the_first_token_is_that_of_a_plain_forward(stepper_folder: str, local: LocalLanguageModel) -> None:
    logits, _ = reference(stepper_folder, list(local._reader.ids(QUESTION)))
    law = logits[-1].double().softmax(-1)
    (whole,) = local.first_token([QUESTION], 0)
    assert (whole.of, whole.top) == (0, ())
    assert whole.entropy == pytest.approx(float(-(law * law.log()).sum()), abs=1e-4)
    best = law.topk(5)
    (five,) = local.first_token([QUESTION], 5)
    assert five.of == 5
    assert [p for _, p in five.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert [t for t, _ in five.top] == [local.loaded.vocabulary.decode([i]) for i in best.indices.tolist()]
    cut = best.values / best.values.sum()
    assert five.entropy == pytest.approx(float(-(cut * cut.log()).sum()), abs=1e-4)
    (all_of_them,) = local.first_token([QUESTION], 10**6)
    assert all_of_them.of == 266
    assert all_of_them.entropy == pytest.approx(whole.entropy, abs=1e-4)
    assert math.fsum(p for _, p in all_of_them.top) == pytest.approx(1.0, abs=1e-4)
    assert "<|end|>" in {text for text, _ in all_of_them.top}


# Drafters


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("drafter", ["prompt-lookup", "suffix", "ngram"])
def test_a_drafter_changes_nothing_but_the_passes(stepper: LoadedModel, drafter: str, decoding: Decoding) -> None:
    plain, (model, loaded) = LocalLanguageModel(stepper, name="m"), counted(stepper)
    drafted = LocalLanguageModel(loaded, drafter=drafter, name="m")
    for context in (QUESTION, OTHER):
        expected = stepwise(plain, context, 90, decoding=decoding, hidden_layers=(1,))
        got = stepwise(drafted, context, 90, decoding=decoding, hidden_layers=(1,))
        assert [(a.ids, a.text, a.tokens, a.cause) for a in got] == [
            (a.ids, a.text, a.tokens, a.cause) for a in expected
        ]
        assert joined(got, "logprobs") == pytest.approx(joined(expected, "logprobs"), abs=1e-4)
        torch.testing.assert_close(got[-1].hidden[1], expected[-1].hidden[1], atol=1e-4, rtol=1e-3)
        plain.first_token([context])
        drafted.first_token([context])
        drafted.score([context], ["abc.\n\n"])
    assert any(len(each) == 1 and 1 < each[0] < 12 for each in model.passes)  # it did draft


# What cannot be


def test_identities_tell_weights_apart(stepper: LoadedModel, other_stepper: LoadedModel, chatter: LoadedModel) -> None:
    loaded = (stepper, other_stepper, chatter)
    assert len({LocalLanguageModel(each, name="m").identity for each in loaded}) == 3
    assert LocalLanguageModel(stepper, name="m").identity == LocalLanguageModel(stepper, name="m").identity
    assert "/" not in LocalLanguageModel(stepper).identity


def test_all_abilities_are_there(local: LocalLanguageModel) -> None:
    assert isinstance(local, LanguageModel)
    assert local.abilities == set(Ability)
    assert local.deterministic


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: Request(QUESTION, 0),
        lambda: Request(QUESTION, 5, stop=("",)),
        lambda: Request(QUESTION, 5, stop="\n\n"),  # type: ignore[arg-type]
        lambda: Request(QUESTION, 5, hidden_layers=(3,)),
        lambda: Request(QUESTION, 5, hidden_layers=(-2,)),
        lambda: Request(QUESTION, 5, top=-1),
        lambda: Request(QUESTION, 5, top=10**6),
        lambda: Request(QUESTION, 5, decoding=Decoding(temperature=-1.0)),
    ],
    ids=[
        "no token",
        "an empty stop string",
        "one string for stops",
        "layer 3",
        "layer -2",
        "top -1",
        "more than there are",
        "temperature",
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(local: LocalLanguageModel, request_of: Callable[[], Request]) -> None:
    with pytest.raises(UsageError):
        local.generate([Request(OTHER, 3), request_of()])
    assert whole_of(local, OTHER, 3).tokens == 3


def test_a_context_without_room_is_refused(local: LocalLanguageModel) -> None:
    full = Context.of("a" * 255)
    with pytest.raises(ContextLengthError):
        local.generate([Request(full, 1)])
    with pytest.raises(ContextLengthError):
        local.first_token([full])
    with pytest.raises(ContextLengthError):
        local.score([Context.of("a" * 200)], ["b" * 56])
    assert len(local.score([Context.of("a" * 200)], ["b" * 55])[0].logprobs) == 55


def test_logits_that_are_no_numbers_are_an_error(fresh: Callable[[], LoadedModel]) -> None:
    model, loaded = counted(fresh())
    local = LocalLanguageModel(loaded)
    head = model.model.head
    model.model.head = lambda hidden, ids=None: head(hidden, ids) * float("nan")  # type: ignore[method-assign]
    for ask in (
        lambda: local.generate([Request(QUESTION, 5)]),
        lambda: local.first_token([QUESTION], 0),
        lambda: local.first_token([QUESTION], 5),
        lambda: local.score([QUESTION], ["abc"]),
    ):
        with pytest.raises(NumericalError):
            ask()
    model.model.head = head  # type: ignore[method-assign]
    assert whole_of(local, QUESTION, 5).ids == whole_of(LocalLanguageModel(fresh()), QUESTION, 5).ids


def test_nothing_asked_is_nothing_answered(local: LocalLanguageModel) -> None:
    assert local.generate([]) == local.first_token([]) == local.score([], []) == []
    with pytest.raises(UsageError):
        local.score([QUESTION], [])
