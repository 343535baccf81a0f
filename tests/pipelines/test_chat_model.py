"""The engine inside LangChain and LangGraph: the same text, streamed, batched, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.sampling import Sampling
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
