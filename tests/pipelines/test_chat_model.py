"""The engine inside LangChain and LangGraph: the same text, streamed, batched, from several threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.models.load import load_model
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.turns import Turn
from draftproof.errors import UsageError
from draftproof.pipelines.chat_model import ChatSpeculative


@pytest.fixture
def model(tiny_chat: Any) -> ChatSpeculative:
    decoder = SpeculativeDecoder(tiny_chat, "prompt-lookup", policy="fixed")
    return ChatSpeculative(decoder=decoder, max_new_tokens=20, sampling=SAMPLED)


@pytest.fixture
def said(tiny_chat: Any) -> str:
    """What the engine itself makes of the conversation that the tests use."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    return SpeculativeDecoder(tiny_chat, None).generate([chat], max_new_tokens=20, sampling=SAMPLED)[0].text


CONVERSATION = [SystemMessage("Be brief."), HumanMessage("Hello")]
SAMPLED = Sampling(temperature=1.0, seed=3)
"""Greedily, the random model ends its answer at once."""


def test_it_says_what_the_engine_says(model: ChatSpeculative, said: str) -> None:
    message = model.invoke(CONVERSATION)
    assert message.content == said
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 20
    assert message.response_metadata["drafter"] == "prompt-lookup"
    assert message.response_metadata["acceptance_length"] >= 1.0
    assert message.response_metadata["finish_reason"] == "length"


def test_a_stream_adds_up_to_the_message(model: ChatSpeculative, said: str) -> None:
    chunks = list(model.stream(CONVERSATION))
    assert len(chunks) > 2
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk  # type: ignore[assignment]
    assert whole.content == said
    assert whole.response_metadata["rounds"] >= 1


def test_threads_wait_for_each_other(model: ChatSpeculative, said: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert {message.content for message in pool.map(lambda _: model.invoke(CONVERSATION), range(8))} == {said}


@pytest.mark.timeout(60)
def test_a_call_inside_a_stream_takes_its_turn(model: ChatSpeculative, said: str) -> None:
    texts = []
    for chunk in model.stream(CONVERSATION):
        texts.append(chunk.content)
        if len(texts) == 2:
            assert model.invoke(CONVERSATION, temperature=None, max_tokens=None).content == said
    assert "".join(map(str, texts)) == said


def test_options_of_a_call_are_sampling(model: ChatSpeculative) -> None:
    one = model.invoke(CONVERSATION, temperature=1.0, seed=1).content
    assert one == model.bind(temperature=1.0, seed=1).invoke(CONVERSATION).content
    assert one != model.invoke(CONVERSATION, temperature=1.0, seed=2).content
    assert model.invoke(CONVERSATION, max_tokens=3).usage_metadata["output_tokens"] == 3  # type: ignore[index]
    with pytest.raises(UsageError, match="best_of"):
        model.invoke(CONVERSATION, best_of=4)


def test_a_graph_takes_it_where_it_takes_a_chat_model(model: ChatSpeculative, said: str) -> None:
    def answer(state: MessagesState) -> dict[str, list[Any]]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    last = graph.compile().invoke({"messages": CONVERSATION})["messages"][-1]
    assert isinstance(last, AIMessage)
    assert last.content == said


def test_pictures_are_refused(model: ChatSpeculative) -> None:
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    with pytest.raises(UsageError, match="Only text"):
        model.invoke([picture])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("decoders", [1, 2], ids=["one-decoder", "two-decoders"])
def test_models_over_one_target_take_turns(tiny_chat: Any, said: str, decoders: int) -> None:
    """Rows and cache belong to the target: its passes never overlap, and no two rows have one id."""
    made = [SpeculativeDecoder(tiny_chat, "prompt-lookup", policy="fixed") for _ in range(decoders)]
    models = [ChatSpeculative(decoder=made[i % decoders], max_new_tokens=20, sampling=SAMPLED) for i in range(2)]
    overlaps = Overlaps(tiny_chat.model)
    with overlaps.watched(), ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda i: models[i % 2].invoke(CONVERSATION).content, range(8)))
    assert texts == [said] * 8
    assert overlaps.seen == 0

    streams = [model.stream(CONVERSATION) for model in models]
    pieces: list[list[str]] = [[], []]
    for both in zip_longest(*streams):
        for chunk, words in zip(both, pieces, strict=True):
            words.append("" if chunk is None else str(chunk.content))
    assert ["".join(words) for words in pieces] == [said] * 2


@pytest.mark.timeout(120)
def test_without_a_turn_they_would_overlap(tiny_chat_folder: Path) -> None:
    """The negative control, with a model of its own, because passes at the same time may leave it in any state."""
    loaded = load_model(tiny_chat_folder, backend="transformers")
    made = [SpeculativeDecoder(loaded, None) for _ in range(2)]
    for decoder in made:
        decoder._turn = Turn()
    overlaps, both = Overlaps(loaded.model), Barrier(2)

    def run(decoder: SpeculativeDecoder) -> None:
        both.wait()
        with suppress(Exception):
            decoder.generate("ab", max_new_tokens=5, stop_ids=frozenset())

    with overlaps.watched(), ThreadPoolExecutor(2) as pool:
        list(pool.map(run, made))
    assert overlaps.seen > 0


class Overlaps:
    """Counts passes that begin while another one is running."""

    def __init__(self, model: Any) -> None:
        self.seen = self._running = 0
        self._model, self._forward = model, model.forward

    @contextmanager
    def watched(self) -> Iterator[None]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            self.seen += self._running > 0
            self._running += 1
            try:
                sleep(0.005)  # gives another thread the time to come in
                return self._forward(*args, **kwargs)
            finally:
                self._running -= 1

        self._model.forward = forward
        try:
            yield
        finally:
            del self._model.forward


def test_each_call_draws_a_seed_unless_one_is_given(tiny_chat: Any) -> None:
    decoder = SpeculativeDecoder(tiny_chat, "prompt-lookup", policy="fixed")
    hot = Sampling(temperature=1.0)
    fresh = ChatSpeculative(decoder=decoder, max_new_tokens=20, sampling=hot)
    answers = [fresh.invoke(CONVERSATION) for _ in range(12)]
    assert len({answer.response_metadata["seed"] for answer in answers}) == 12
    assert len({answer.content for answer in answers}) > 3  # some may end at once
    seed = answers[1].response_metadata["seed"]
    assert fresh.invoke(CONVERSATION, seed=seed).content == answers[1].content
    for given in (0, 7):
        fixed = ChatSpeculative(decoder=decoder, max_new_tokens=20, sampling=hot, seed=given)
        assert fixed.invoke(CONVERSATION).content == fixed.invoke(CONVERSATION).content
        assert fixed.invoke(CONVERSATION).response_metadata["seed"] == given


def test_a_cache_of_answers_tells_models_apart(model: ChatSpeculative) -> None:
    other = ChatSpeculative(decoder=model.decoder, sampling=Sampling(temperature=0.5), max_new_tokens=20)
    assert model._get_llm_string() != other._get_llm_string()


def test_tools_are_refused_and_nothing_of_them_is_lost(model: ChatSpeculative) -> None:
    with pytest.raises(NotImplementedError, match="no tools"):
        model.bind_tools([])
    with pytest.raises(NotImplementedError, match="structured"):
        model.with_structured_output({"title": "answer", "type": "object", "properties": {}})
    call = {"name": "add", "args": {"a": 1}, "id": "1"}
    for message in (AIMessage("", tool_calls=[call]), ToolMessage("3", tool_call_id="1")):
        with pytest.raises(UsageError, match="tool"):
            model.invoke([HumanMessage("1 + 2?"), message])
    assert model.invoke([HumanMessage("1 + 2?"), AIMessage("3"), HumanMessage("Sure?")]).content
