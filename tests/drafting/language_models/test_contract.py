"""What every backend holds to, whatever it runs on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.language_models.open import open_language_model
from draftproof.drafting.language_models.server import ServerLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import ContextLengthError, UsageError
from draftproof.language_model import Ability, Context, Decoding, LanguageModel, Message, Piece, Request, StopCause
from tests.drafting.language_models.openai_server import Served, serving
from tests.drafting.language_models.writing import after, piece_of, stepwise

QUESTION = Context.of("What is 12?")
CONTEXTS = (QUESTION, Context.of("abc"), after(QUESTION, Piece("12."), Piece("\n\nb")), Context.of("é€ <|end|>"))
BACKENDS = ("lean", "drafted", "transformers", "completions", "chat", "silent")


@pytest.fixture(scope="module", params=BACKENDS)
def model(request: pytest.FixtureRequest, stepper: LoadedModel, chatter: LoadedModel) -> Iterator[LanguageModel]:
    with ExitStack() as stack:

        def client(loaded: LoadedModel, **how: bool | int) -> ServerLanguageModel:
            served = stack.enter_context(serving(Served(LocalLanguageModel(loaded), **how)))  # type: ignore[arg-type]
            return ServerLanguageModel(served.url, "tiny", retries=0)

        makers: dict[str, Callable[[], LanguageModel]] = {
            "lean": lambda: LocalLanguageModel(stepper),
            "drafted": lambda: LocalLanguageModel(stepper, drafter="suffix"),
            "transformers": lambda: LocalLanguageModel(chatter),
            "completions": lambda: client(stepper),
            "chat": lambda: client(chatter, completions=False),
            "silent": lambda: client(stepper, most_logprobs=0, tells_stop=False),
        }
        yield makers[request.param]()


def test_it_is_a_language_model_that_says_who_it_is(model: LanguageModel) -> None:
    assert isinstance(model, LanguageModel)
    assert re.fullmatch(r".+#[0-9a-f]{12}", model.identity)
    assert model.identity.startswith(model.name)


def test_answers_come_in_the_order_of_the_questions(model: LanguageModel) -> None:
    requests = [Request(context, size) for size, context in enumerate(CONTEXTS, 3)]
    together = model.generate(requests)
    assert [a.tokens for a in together if a.cause is StopCause.LENGTH] == [
        r.max_new_tokens for r, a in zip(requests, together, strict=True) if a.cause is StopCause.LENGTH
    ]
    assert [a.text for a in together] == [model.generate([request])[0].text for request in requests]
    assert [
        list(model.generate([])),
        list(model.first_token([]) if Ability.FIRST_TOKEN in model.abilities else []),
    ] == [
        [],
        [],
    ]


def test_a_text_ends_with_the_stop_string_that_ended_it(model: LanguageModel) -> None:
    causes = set()
    for context in CONTEXTS[:3]:
        for step in stepwise(model, context, 30, ("\n\n", "S")):
            causes.add(step.cause)
            assert 0 < step.tokens <= 30
            assert step.seconds > 0
            assert step.prompt_tokens > step.cached_tokens - 1
            if step.cause is StopCause.STOP:
                assert step.text.rstrip("\n").endswith(step.stopped_by.rstrip("\n"))
                assert step.text.endswith(step.stopped_by)
                assert step.stopped_by in ("\n\n", "S")
            else:
                assert step.stopped_by == ""
            body = step.text.removesuffix(step.stopped_by).rstrip("\n")
            assert not any(stop in body for stop in ("\n\n", "S"))
    assert StopCause.STOP in causes


def test_figures_are_there_where_the_ability_is(model: LanguageModel) -> None:
    (answer,) = model.generate([Request(QUESTION, 12)])
    if Ability.LOGPROBS in model.abilities:
        assert len(answer.logprobs) == answer.tokens
        assert all(value <= 0 and math.isfinite(value) for value in answer.logprobs)
    else:
        assert answer.logprobs == ()
    for figures in (answer.entropies, answer.margins):
        assert len(figures) in (0, answer.tokens)
        assert all(value >= 0 for value in figures)
    if Ability.HIDDEN in model.abilities:
        (answer,) = model.generate([Request(QUESTION, 12, hidden_layers=(0, -1))])
        assert {layer: tuple(states.shape) for layer, states in answer.hidden.items()} == {0: (12, 64), -1: (12, 64)}
    else:
        with pytest.raises(UsageError):
            model.generate([Request(QUESTION, 12, hidden_layers=(-1,))])


def test_the_first_token_is_a_distribution(model: LanguageModel) -> None:
    if Ability.FIRST_TOKEN not in model.abilities:
        with pytest.raises(UsageError):
            model.first_token([QUESTION])
        return
    for first, context in zip(model.first_token(CONTEXTS, 4), CONTEXTS, strict=True):
        chances = [chance for _, chance in first.top]
        assert len(chances) == first.of == 4
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1 + 1e-6
        assert 0 <= first.entropy <= math.log(4) + 1e-6
        (answer,) = model.generate([Request(context, 1)])
        assert answer.text == first.top[0][0] or "\ufffd" in first.top[0][0] or answer.cause is StopCause.END


def test_scores_are_log_probabilities_of_the_text(model: LanguageModel) -> None:
    if Ability.SCORE not in model.abilities:
        with pytest.raises(UsageError):
            model.score([QUESTION], ["abc"])
        return
    texts = ["12.", "", "abc.\n\nS", "\n\n"]
    scored = model.score(CONTEXTS, texts)
    assert [len(each.logprobs) > 0 for each in scored] == [True, False, True, True]
    assert all(value <= 0 and math.isfinite(value) for each in scored for value in each.logprobs)
    (answer,) = model.generate([Request(QUESTION, 6)])
    likely, unlikely = model.score([QUESTION, QUESTION], [answer.text, answer.text[::-1] + "~~~"])
    assert sum(likely.logprobs) > sum(unlikely.logprobs)
    with pytest.raises(UsageError):
        model.score([QUESTION], [])


def test_a_text_goes_on_where_it_ends(model: LanguageModel) -> None:
    """Greedy text, cut where it may be cut, goes on as it did."""
    (whole,) = model.generate([Request(QUESTION, 24)])
    (step,) = model.generate([Request(QUESTION, 24, ("\n\n",))])
    if step.cause is StopCause.STOP and whole.text.startswith(step.text) and len(whole.text) > len(step.text):
        (rest,) = model.generate([Request(after(QUESTION, piece_of(model, step)), 24 - step.tokens)])
        assert rest.text
        if step.ids:
            assert step.text + rest.text == whole.text


@pytest.mark.parametrize(
    "request_of",
    [lambda: Request(QUESTION, 0), lambda: Request(QUESTION, 4, stop=("a", ""))],
    ids=["no tokens", "an empty stop string"],
)
def test_what_cannot_be_asked_is_a_usage_error(model: LanguageModel, request_of: Callable[[], Request]) -> None:
    with pytest.raises(UsageError):
        model.generate([request_of()])


def test_a_context_that_is_too_long_is_said_to_be(model: LanguageModel) -> None:
    with pytest.raises(ContextLengthError):
        model.generate([Request(Context.of("a" * 300), 4)])
    assert model.generate([Request(QUESTION, 4)])[0].tokens == 4


def test_seeds_are_heeded(model: LanguageModel) -> None:
    def texts(seed: int) -> list[str]:
        decoding = Decoding(temperature=1.0, top_k=20, top_p=0.95, seed=seed)
        return [answer.text for answer in model.generate([Request(c, 16, decoding=decoding) for c in CONTEXTS[:2]])]

    if model.deterministic:
        assert texts(3) == texts(3)
    assert texts(3) != texts(4)


# How they are named


def test_a_word_opens_a_model(stepper_folder: Path, stepper: LoadedModel) -> None:
    local = open_language_model(stepper_folder, name="m")
    assert isinstance(local, LocalLanguageModel)
    assert local.identity == LocalLanguageModel(stepper, name="m").identity
    with serving(Served(LocalLanguageModel(stepper))) as served:
        there = open_language_model(f"{served.url}#tiny")
        assert isinstance(there, ServerLanguageModel)
        assert there.generate([Request(QUESTION, 5)])[0].text == local.generate([Request(QUESTION, 5)])[0].text
        chat = open_language_model(f"{served.url}#chat:tiny")
        assert Ability.SCORE not in chat.abilities
        assert chat.identity != there.identity


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("http://127.0.0.1:9/v1", {}),
        ("http://127.0.0.1:9/v1#", {}),
        ("http://127.0.0.1:9/v1#m", {"drafter": "suffix"}),
        ("/nowhere/at/all", {}),
        (".", {"api_key_env": "KEY"}),
    ],
    ids=["no model", "an empty name", "a drafter for a server", "no folder", "a key for a folder"],
)
def test_what_names_no_model_is_a_usage_error(source: str, how: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        open_language_model(source, **how)  # type: ignore[arg-type]


def test_messages_of_several_roles_are_read(model: LanguageModel) -> None:
    context = Context((Message("system", "abc"), Message("user", "12")), (Piece("S"),))
    assert model.generate([Request(context, 3)])[0].tokens == 3
