"""Models behind a server, over real HTTP to a real model: what they give, what they do not, and how they fail."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.language_models.server import ServerLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import ContextLengthError, ModelError, UsageError
from draftproof.language_model import GREEDY, Ability, Context, Decoding, Piece, Request, StopCause, require
from draftproof.pipelines.glimp_router import create_glimp_router
from tests.drafting.language_models.openai_server import Served, serving
from tests.drafting.language_models.writing import after, joined, stepwise

QUESTION = Context.of("What is 12?")
SECRET = "sk-very-secret-4711"


@pytest.fixture
def served(stepper: LoadedModel) -> Iterator[Callable[..., Served]]:
    """Starts servers of the model without a chat template."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(serving(Served(LocalLanguageModel(stepper), **how)))


@pytest.fixture
def chat_served(chatter: LoadedModel) -> Iterator[Callable[..., Served]]:
    """And of the one that has one."""
    with ExitStack() as stack:
        how = {"completions": False}
        yield lambda **more: stack.enter_context(serving(Served(LocalLanguageModel(chatter), **how, **more)))


def client(served: Served, **how: Any) -> ServerLanguageModel:
    return ServerLanguageModel(served.url, "tiny", **{"retries": 0, "timeout": 10.0} | how)


# What it gives


@pytest.mark.parametrize("kind", ["served", "chat_served"])
@pytest.mark.parametrize("tells_stop", [True, False])
def test_a_server_writes_what_its_model_writes(kind: str, tells_stop: bool, request: pytest.FixtureRequest) -> None:
    """Step by step, whether or not the server says what ended a step."""
    served: Served = request.getfixturevalue(kind)(tells_stop=tells_stop)
    model = client(served)
    for decoding in (GREEDY, Decoding(0.7, top_k=8, seed=3)):
        there = stepwise(model, QUESTION, 40, decoding=decoding)
        here = stepwise(_forgetting_ids(served.model), QUESTION, 40, decoding=decoding)
        if decoding is GREEDY or tells_stop:
            assert [(s.text, s.cause, s.tokens, s.stopped_by) for s in there] == [
                (s.text, s.cause, s.tokens, s.stopped_by) for s in here
            ]
            assert joined(there, "logprobs") == pytest.approx(joined(here, "logprobs"), abs=1e-4)
        assert all(step.ids == () for step in there)


def _forgetting_ids(model: LocalLanguageModel) -> Any:
    """Reads its own text as it reads everybody's, and its separators as a server gives them back."""

    class Forgetting:
        identity = "somebody else"

        def generate(self, requests: Any) -> Any:
            return [_as_served(answer) for answer in model.generate(requests)]

    return Forgetting()


def _as_served(answer: Any) -> Any:
    if not answer.stopped_by:
        return answer
    return dataclasses.replace(answer, text=answer.text.partition(answer.stopped_by)[0] + answer.stopped_by)


@pytest.mark.parametrize("kind", ["served", "chat_served"])
def test_first_tokens_are_those_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    served: Served = request.getfixturevalue(kind)()
    for context in (QUESTION, after(QUESTION, Piece("12."))):
        (there,) = client(served).first_token([context], 5)
        (here,) = served.model.first_token([context], 5)
        assert there.of == 5
        assert there.entropy == pytest.approx(here.entropy, abs=1e-6)
        assert [t for t, _ in there.top] == [t for t, _ in here.top]
        assert [p for _, p in there.top] == pytest.approx([p for _, p in here.top], abs=1e-6)


def test_a_server_that_tells_five_alternatives_gives_five(served: Callable[..., Served]) -> None:
    model = client(served(most_logprobs=5))
    assert model.first_token([QUESTION], 20)[0].of == 5
    with pytest.raises(UsageError, match="most probable"):
        model.first_token([QUESTION], 0)


@pytest.mark.parametrize("kind", ["served", "chat_served"])
def test_one_alternative_is_no_distribution(kind: str, request: pytest.FixtureRequest) -> None:
    """Renormalised, one token is always certain: whoever asks how certain must not be told so."""
    served: Served = request.getfixturevalue(kind)(most_logprobs=1, echo=False)
    model = client(served)
    assert model.abilities == {Ability.LOGPROBS}
    assert len(model.generate([Request(QUESTION, 3)])[0].logprobs) == 3
    with pytest.raises(UsageError, match="one token only"):
        model.first_token([QUESTION])
    with pytest.raises(UsageError, match="tiny gives none"):
        create_glimp_router(model, model, log=[])  # type: ignore[arg-type]


def test_a_server_that_tells_one_of_the_twenty_it_takes_has_no_distribution(served: Callable[..., Served]) -> None:
    def alter(made: Any) -> Any:
        told = made["choices"][0].get("logprobs") if "choices" in made else None
        if told and told["top_logprobs"]:
            told["top_logprobs"] = [dict([max(told["top_logprobs"][0].items(), key=lambda each: each[1])])]
        return made

    assert client(served(alter=alter, echo=False)).abilities == {Ability.LOGPROBS}


def test_how_many_alternatives_there_are_is_told(served: Callable[..., Served]) -> None:
    model = client(served(most_logprobs=5))
    assert model.most_alternatives == 5
    with pytest.raises(UsageError, match="tells 5 tokens at most"):
        create_glimp_router(model, model, log=[], top=0)  # type: ignore[arg-type]


def test_scores_are_those_of_the_model(served: Callable[..., Served]) -> None:
    server = served()
    contexts = [QUESTION, after(QUESTION, Piece("b."), Piece("\n")), QUESTION]
    texts = ["12 a.", "\nabc", ""]
    there = client(server).score(contexts, texts)
    here = server.model.score(contexts, texts)
    for got, expected in zip(there, here, strict=True):
        assert got.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_many_requests_come_back_in_order(served: Callable[..., Served]) -> None:
    server = served()
    requests = [Request(Context.of(text), 7) for text in ("a", "abc", "12", "S", "b2", "2", "a", "cab")]
    got = client(server, parallel=3).generate(requests)
    assert [a.text for a in got] == [a.text for a in server.model.generate(requests)]


def test_length_context_and_end_are_told_apart(served: Callable[..., Served]) -> None:
    model = client(served())
    assert model.generate([Request(QUESTION, 5)])[0].cause is StopCause.LENGTH
    assert model.generate([Request(Context.of("a" * 240), 50)])[0].cause is StopCause.CONTEXT


# What it does not give


@pytest.mark.parametrize("most", [0, -1], ids=["refuses to", "is silent"])
@pytest.mark.parametrize("kind", ["served", "chat_served"])
def test_a_server_without_logprobs_has_no_such_abilities(kind: str, most: int, request: pytest.FixtureRequest) -> None:
    served: Served = request.getfixturevalue(kind)(most_logprobs=most)
    model = client(served)
    assert model.abilities == frozenset()
    with pytest.raises(UsageError, match="tiny"):
        require(model, Ability.LOGPROBS, purpose="This test")
    with pytest.raises(UsageError, match="log-probabilities"):
        model.first_token([QUESTION])
    with pytest.raises(UsageError, match="log-probabilities"):
        model.score([QUESTION], ["a"])
    (answer,) = model.generate([Request(QUESTION, 8)])
    assert answer.text == served.model.generate([Request(QUESTION, 8)])[0].text
    assert (answer.logprobs, answer.tokens) == ((), 8)


def test_abilities_are_what_was_found(served: Callable[..., Served], chat_served: Callable[..., Served]) -> None:
    assert client(served()).abilities == {Ability.LOGPROBS, Ability.FIRST_TOKEN, Ability.SCORE}
    assert client(served(echo=False)).abilities == {Ability.LOGPROBS, Ability.FIRST_TOKEN}
    assert client(served(echo=False, refusal=500)).abilities == {Ability.LOGPROBS, Ability.FIRST_TOKEN}
    assert client(chat_served()).abilities == {Ability.LOGPROBS, Ability.FIRST_TOKEN}
    assert not client(served()).deterministic


def _without_usage(made: Any) -> Any:
    made.pop("usage", None)
    return made


def _with_null_usage(made: Any) -> Any:
    return made | {"usage": {"completion_tokens": None}}


def _with_a_count_of_none(made: Any) -> Any:
    return made | {"usage": {"prompt_tokens": 3, "completion_tokens": 0}}


@pytest.mark.parametrize("alter", [_without_usage, _with_null_usage, _with_a_count_of_none])
@pytest.mark.parametrize("kind", ["served", "chat_served"])
def test_a_server_that_counts_no_tokens_is_refused(kind: str, alter: Any, request: pytest.FixtureRequest) -> None:
    """Else nothing would ever be spent, and a text that was cut off be taken for a full context."""
    start = request.getfixturevalue(kind)
    with pytest.raises(ModelError, match="counts no tokens"):
        client(start(most_logprobs=0, alter=alter))
    later = start(most_logprobs=0)
    model = client(later)
    later.alter = alter
    with pytest.raises(ModelError, match="counts no tokens"):
        model.generate([Request(QUESTION, 3)])


def test_log_probabilities_are_a_count(served: Callable[..., Served]) -> None:
    server = served(alter=_without_usage)
    (answer,) = client(server).generate([Request(QUESTION, 3)])
    assert (answer.tokens, answer.cause) == (3, StopCause.LENGTH)


def test_the_same_name_at_another_address_is_another_model(served: Callable[..., Served]) -> None:
    """Else a run that is gone on with would take one model's solutions for the other's."""
    one, other = served(), served()
    assert client(one).identity != client(other).identity
    assert client(one).identity.partition("#")[0] == client(other).identity.partition("#")[0] == "tiny"
    slashed = ServerLanguageModel(one.url + "/", "tiny", retries=0)
    assert slashed.identity == client(one).identity == client(one).identity


def test_hidden_states_and_largest_probabilities_are_refused(served: Callable[..., Served]) -> None:
    model = client(served())
    with pytest.raises(UsageError, match="hidden"):
        model.generate([Request(QUESTION, 5, hidden_layers=(1,))])
    with pytest.raises(UsageError, match="largest probabilities"):
        model.generate([Request(QUESTION, 5, top=3)])


def test_a_chat_that_cannot_be_gone_on_with_is_refused(chat_served: Callable[..., Served]) -> None:
    model = client(chat_served(goes_on=False))
    assert model.generate([Request(QUESTION, 5)])[0].tokens == 5
    with pytest.raises(UsageError, match="go on"):
        model.generate([Request(after(QUESTION, Piece("12")), 5)])


# How it fails


def test_a_server_that_is_not_there(served: Callable[..., Served]) -> None:
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9/v1 cannot be reached.*Check that it runs"):
        ServerLanguageModel("http://127.0.0.1:9/v1", "tiny", retries=0)


def test_a_model_that_the_server_has_not(served: Callable[..., Served]) -> None:
    with pytest.raises(ModelError, match=r"no model 'huge'.*tiny, other"):
        ServerLanguageModel(served().url, "huge", retries=0)
    with pytest.raises(ModelError, match="no model huge"):
        ServerLanguageModel(served(lists_models=False).url, "huge", retries=0)
    assert ServerLanguageModel(served(lists_models=False).url, "tiny", retries=0).name == "tiny"


def test_keys_come_from_the_environment_and_are_never_shown(
    served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(key=SECRET)
    monkeypatch.setenv("RIGHT", SECRET)
    monkeypatch.setenv("WRONG", SECRET + "x")
    model = client(server, api_key_env="RIGHT")
    assert model.generate([Request(QUESTION, 3)])[0].tokens == 3
    assert SECRET not in model.identity + model.name + repr(model)
    with pytest.raises(ModelError, match="401") as caught:
        client(server, api_key_env="WRONG")
    assert "WRONG" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error) + repr(error)
        error = error.__cause__
    with pytest.raises(UsageError, match="UNSET"):
        client(server, api_key_env="UNSET")


def test_a_key_that_was_not_named_is_not_sent(served: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(ModelError, match="none was given"):
        client(served(key=SECRET))


@pytest.mark.parametrize("url", ["localhost:80", "ftp://x/v1", "http://me:pass@x/v1", "http://x/v1?key=1", ""])
def test_addresses_that_are_none_or_hold_a_secret_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerLanguageModel(url, "tiny")
    assert "pass" not in caught.value.message.replace("password", "")


def test_a_server_that_takes_too_long(served: Callable[..., Served]) -> None:
    server = served()
    model = client(server, timeout=0.3)
    server.delay = threading.Event()
    with pytest.raises(ModelError, match=r"within 0\.3 s.*more time"):
        model.generate([Request(QUESTION, 3)])
    server.delay.set()


def test_a_context_that_is_too_long(served: Callable[..., Served]) -> None:
    with pytest.raises(ContextLengthError, match="Shorten"):
        client(served()).generate([Request(Context.of("a" * 300), 3)])


GARBAGE = [b"", b"<html>", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"text": 7}]}', b'"text"', b"\xff"]


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_garbage_is_a_model_error(served: Callable[..., Served], kind: str) -> None:
    server = served()
    model = client(server)
    server.kind = kind
    for server.garbage in GARBAGE:
        for ask in (
            lambda: model.generate([Request(QUESTION, 3)]),
            lambda: model.first_token([QUESTION]),
            lambda: model.score([QUESTION], ["abc"]),
        ):
            with pytest.raises(ModelError):
                ask()
    for server.garbage in GARBAGE[:5]:
        with pytest.raises(ModelError):
            client(server)


ALTERED: list[tuple[str, Any]] = [
    ("token_logprobs", float("nan")),
    ("token_logprobs", 0.5),
    ("token_logprobs", None),
    ("token_logprobs", "-1"),
    ("finish_reason", "content_filter"),
    ("finish_reason", None),
    ("usage", {"prompt_tokens": -1}),
]


@pytest.mark.parametrize(("key", "value"), ALTERED, ids=repr)
def test_figures_that_cannot_be_are_a_model_error(served: Callable[..., Served], key: str, value: Any) -> None:
    server = served()
    model = client(server)

    def alter(made: Any) -> Any:
        if key == "token_logprobs":
            made["choices"][0]["logprobs"][key][1] = value
        elif key == "usage":
            made[key] = value
        else:
            made["choices"][0][key] = value
        return json.loads(json.dumps(made))

    assert model.generate([Request(QUESTION, 3)])[0].tokens == 3
    server.alter = alter
    with pytest.raises(ModelError):
        model.generate([Request(QUESTION, 3)])


def test_probabilities_that_come_to_more_than_one_are_a_model_error(served: Callable[..., Served]) -> None:
    server = served()
    model = client(server)

    def alter(made: Any) -> Any:
        made["choices"][0]["logprobs"]["top_logprobs"][0] = {"a": -0.1, "b": -0.1}
        return made

    server.alter = alter
    with pytest.raises(ModelError, match="come to"):
        model.first_token([QUESTION])


def test_an_echo_of_another_text_is_a_model_error(served: Callable[..., Served]) -> None:
    server = served()
    model = client(server)

    def alter(made: Any) -> Any:
        made["choices"][0]["text"] = "x" + made["choices"][0]["text"]
        return made

    server.alter = alter
    with pytest.raises(ModelError, match="repeat"):
        model.score([QUESTION], ["abc"])
