"""The engine as a LangChain chat model, so that LangGraph graphs can use it wherever they take a chat model.

from draftproof.pipelines.chat_model import ChatSpeculative

model = ChatSpeculative(decoder=SpeculativeDecoder("smollm2-135m"))
model.invoke("Name three rivers.").response_metadata["acceptance_length"]
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NoReturn

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.generation import FinishReason, Generation
from draftproof.drafting.prompts import Message
from draftproof.drafting.sampling import Sampling
from draftproof.errors import UsageError


class ChatSpeculative(BaseChatModel):
    """A chat model that drafts and verifies.

    Graphs may call it from several threads, and while a stream is being read: the rounds of all decoders over one model
    take turns. Each call draws a seed of its own, so that the same question gets other answers when it is sampled,
    unless `seed` is given, here or with the call; `response_metadata` has the one that was used.

    Tools are not offered: `bind_tools` and `with_structured_output` raise NotImplementedError, and messages that call
    tools or answer for them are refused.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    decoder: SpeculativeDecoder
    sampling: Sampling = Sampling()
    """`temperature`, `top_k`, `top_p` and `repetition_penalty` of a call replace its fields. Its seed counts as given
    unless it is 0, which nobody needs to have chosen; `seed=0` is."""
    seed: int | None = None
    """Of every call that brings none of its own: the same messages then get the same answer."""
    max_new_tokens: int = 256

    @property
    def _llm_type(self) -> str:
        return "draftproof-speculative"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        info = self.decoder.model.info
        own = {"seed": self.seed, "max_new_tokens": self.max_new_tokens, "sampling": asdict(self.sampling)}
        return {"model": info.name, "digest": info.digest, **self.decoder.parts, **own}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "ChatSpeculative offers no tools, nor structured output, which is built on them: ask for a form of answer "
            "in the messages, and check the text."
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        (generation,) = self.decoder.generate([_chat(messages)], stop=stop or (), **self._options(kwargs))
        message = AIMessage(
            content=generation.text, response_metadata=_facts(generation), usage_metadata=_usage(generation)
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self.decoder.stream(_chat(messages), stop=stop or (), **self._options(kwargs)):
            message = AIMessageChunk(content=piece.text)
            if piece.generation is not None:
                message.response_metadata = _facts(piece.generation)
                message.usage_metadata = _usage(piece.generation)
                message.chunk_position = "last"
            chunk = ChatGenerationChunk(message=message)
            if run_manager is not None and piece.text:
                run_manager.on_llm_new_token(piece.text, chunk=chunk)
            yield chunk

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of one call, as LangChain passes them on; None is as if not given."""
        given = {name: value for name, value in given.items() if value is not None}
        known = {"temperature", "top_k", "top_p", "repetition_penalty", "seed"}
        unknown = sorted(set(given) - known - {"max_tokens", "max_new_tokens"})
        if unknown:
            raise UsageError(f"ChatSpeculative does not take {', '.join(unknown)}.")
        chosen = {name: value for name, value in given.items() if name in known}
        if "seed" not in chosen:
            own = self.sampling.seed or None if self.seed is None else self.seed
            chosen["seed"] = secrets.randbits(53) if own is None else own
        limit = given.get("max_new_tokens", given.get("max_tokens", self.max_new_tokens))
        return {"sampling": replace(self.sampling, **chosen), "max_new_tokens": limit}


def _chat(messages: Sequence[BaseMessage]) -> list[Message]:
    if any(_is_of_tools(message) for message in messages):
        raise UsageError(
            "A message calls a tool or answers for one, and ChatSpeculative knows no tools: it would be lost.",
            remedy="Say in a message's text what the tool was asked and what came of it.",
        )
    chat: list[Message] = []
    for message in convert_to_openai_messages(list(messages)):
        assert isinstance(message, dict), "a list of messages gives a list"
        if not isinstance(message.get("content"), str):
            raise UsageError("Only text can be read, and a message has parts that are no text.")
        chat.append({"role": message["role"], "content": message["content"]})
    return chat


def _is_of_tools(message: BaseMessage) -> bool:
    if message.type in ("tool", "function"):
        return True
    calls = [getattr(message, name, None) for name in ("tool_calls", "invalid_tool_calls", "tool_call_chunks")]
    return any(calls) or any(message.additional_kwargs.get(name) for name in ("tool_calls", "function_call"))


def _facts(generation: Generation) -> dict[str, Any]:
    figures = generation.totals
    reason = "length" if generation.finish_reason is FinishReason.LENGTH else "stop"
    return {
        "finish_reason": reason,
        "seed": generation.sampling.seed,
        "model_name": generation.model.name,
        "acceptance_length": figures.acceptance_length,
        "block_efficiency": figures.block_efficiency,
        "drafted": figures.drafted,
        "accepted": figures.accepted,
        "rounds": figures.rounds,
        **generation.parts,
    }


def _usage(generation: Generation) -> UsageMetadata:
    given, made = len(generation.prompt), len(generation.tokens)
    return UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=given + made)
