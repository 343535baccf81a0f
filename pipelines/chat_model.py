"""The engine as a LangChain chat model, so that LangGraph graphs can use it wherever they take a chat model.

from draftproof.pipelines.chat_model import ChatSpeculative

model = ChatSpeculative(decoder=SpeculativeDecoder("smollm2-135m"))
model.invoke("Name three rivers.").response_metadata["acceptance_length"]
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from threading import Lock
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, PrivateAttr

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.generation import Chunk, FinishReason, Generation
from draftproof.drafting.prompts import Message
from draftproof.drafting.sampling import Sampling
from draftproof.errors import UsageError


class ChatSpeculative(BaseChatModel):
    """A chat model that drafts and verifies.

    Graphs may call it from several threads, and while a stream is being read: calls take turns, a stream for each of
    its rounds, because rows share one cache. Tools are not offered; `bind_tools` raises NotImplementedError, as for
    every LangChain model without them.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    decoder: SpeculativeDecoder
    sampling: Sampling = Sampling()
    """`temperature`, `top_k`, `top_p` and `seed` of a call replace its fields."""
    max_new_tokens: int = 256

    _turn: Lock = PrivateAttr(default_factory=Lock)

    @property
    def _llm_type(self) -> str:
        return "draftproof-speculative"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        info = self.decoder.model.info
        return {"model": info.name, "digest": info.digest, **self.decoder.parts}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self._turn:
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
        for piece in self._pieces(self.decoder.stream(_chat(messages), stop=stop or (), **self._options(kwargs))):
            message = AIMessageChunk(content=piece.text)
            if piece.generation is not None:
                message.response_metadata = _facts(piece.generation)
                message.usage_metadata = _usage(piece.generation)
                message.chunk_position = "last"
            chunk = ChatGenerationChunk(message=message)
            if run_manager is not None and piece.text:
                run_manager.on_llm_new_token(piece.text, chunk=chunk)
            yield chunk

    def _pieces(self, stream: Generator[Chunk, None, None]) -> Iterator[Chunk]:
        """The pieces of a stream, each made in a turn of its own; between them others may call."""
        try:
            while True:
                with self._turn:
                    piece = next(stream, None)
                if piece is None:
                    return
                yield piece
        finally:
            with self._turn:
                stream.close()

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of one call, as LangChain passes them on; None is as if not given."""
        given = {name: value for name, value in given.items() if value is not None}
        known = {"temperature", "top_k", "top_p", "repetition_penalty", "seed"}
        unknown = sorted(set(given) - known - {"max_tokens", "max_new_tokens"})
        if unknown:
            raise UsageError(f"ChatSpeculative does not take {', '.join(unknown)}.")
        fields = {name: getattr(self.sampling, name) for name in known}
        fields |= {name: value for name, value in given.items() if name in known}
        limit = given.get("max_new_tokens", given.get("max_tokens", self.max_new_tokens))
        return {"sampling": Sampling(**fields), "max_new_tokens": limit}


def _chat(messages: Sequence[BaseMessage]) -> list[Message]:
    chat: list[Message] = []
    for message in convert_to_openai_messages(list(messages)):
        assert isinstance(message, dict), "a list of messages gives a list"
        if not isinstance(message.get("content"), str):
            raise UsageError("Only text can be read, and a message has parts that are no text.")
        chat.append({"role": message["role"], "content": message["content"]})
    return chat


def _facts(generation: Generation) -> dict[str, Any]:
    figures = generation.totals
    reason = "length" if generation.finish_reason is FinishReason.LENGTH else "stop"
    return {
        "finish_reason": reason,
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
