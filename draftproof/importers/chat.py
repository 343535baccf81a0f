"""Chat JSON Lines: message lists, completion objects and the lines of a batch's output.

The last assistant message is the solution and the user message before it the problem. A completion object names
no question unless the request stands beside it; its traces then have an empty problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from draftproof.errors import UsageError
from draftproof.importers.messages import Message, SolutionCutter, read_message, read_messages
from draftproof.importers.record import (
    Record,
    RecordError,
    content_id,
    make_trace,
    mapping,
    objects,
    optional_text,
    rest,
)
from draftproof.rejects import RejectCode
from draftproof.trace import Source, Trace


def matches(record: Record) -> bool:
    return (
        isinstance(record.get("messages"), list)
        or isinstance(record.get("choices"), list)
        or ("custom_id" in record and "response" in record)
    )


@dataclass(frozen=True)
class ChatImporter:
    segmentation: str = "blank_line"
    reasoning: str = "include"
    turns: str = "last"

    def __post_init__(self) -> None:
        SolutionCutter(self.segmentation, self.reasoning)
        if self.turns not in ("last", "all"):
            raise UsageError(f"chat:turns must be last or all, not {self.turns!r}.")

    def parse(self, record: Record, *, source: Source) -> Iterable[Trace]:
        if "custom_id" in record and "response" in record:
            return self._batch_line(record, source)
        if "choices" in record:
            return self._completion(record, source, name=optional_text(record, "id"), request=record)
        return self._conversation(record, source)

    def _conversation(self, record: Record, source: Source) -> Iterator[Trace]:
        messages = read_messages(record, "messages")
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if self.turns == "last":
            turns = [index for index in turns if messages[index].content or messages[index].reasoning][-1:]
        if not turns:
            raise RecordError(RejectCode.NO_SOLUTION, "there is no assistant message with a text")
        name = optional_text(record, "id") or content_id(*(message.content for message in messages))
        meta = rest(record, "id", "messages", "model")
        for index in turns:
            yield self._trace(
                source,
                name if self.turns == "last" else f"{name}/{index}",
                _question(messages[:index]),
                messages[index],
                generator=optional_text(record, "model"),
                meta={**meta, "turn": index},
            )

    def _batch_line(self, record: Record, source: Source) -> Iterator[Trace]:
        if record.get("error") is not None or record["response"] is None:
            raise RecordError(RejectCode.NO_SOLUTION, "the batch line reports an error instead of a response")
        response = mapping(record, "response")
        if response.get("status_code", 200) != 200:
            raise RecordError(RejectCode.NO_SOLUTION, "the batch line's response was not successful")
        body = mapping(response, "body")
        name = optional_text(record, "custom_id")
        request = record["request"] if isinstance(record.get("request"), dict) else {}
        yield from self._completion(body, source, name=name, request=request.get("body", request))

    def _completion(self, body: Record, source: Source, *, name: str | None, request: Any) -> Iterator[Trace]:
        choices = objects(body, "choices")
        if not choices:
            raise RecordError(RejectCode.NO_SOLUTION, "`choices` is empty")
        problem = _asked(request)
        messages = [_choice(choice) for choice in choices]
        name = name or content_id(problem, *(message.content for message in messages))
        for index, message in enumerate(messages):
            yield self._trace(
                source,
                name if len(choices) == 1 else f"{name}/{index}",
                problem,
                message,
                generator=optional_text(body, "model"),
                meta={
                    **rest(body, "id", "model", "choices", "messages", "prompt"),
                    "finish_reason": choices[index].get("finish_reason"),
                },
            )

    def _trace(
        self, source: Source, name: str, problem: str, message: Message, *, generator: str | None, meta: Record
    ) -> Trace:
        cutter = SolutionCutter(self.segmentation, self.reasoning)
        steps, about = cutter.cut(message)
        return make_trace(
            source=source,
            id=name,
            problem=problem,
            steps=steps,
            segmentation=cutter.name,
            generator=generator,
            meta={**meta, **about},
        )


def _question(before: list[Message]) -> str:
    asked = [message.content for message in before if message.role == "user" and message.content.strip()]
    if not asked:
        raise RecordError(RejectCode.MISSING_FIELD, "no user message stands before the assistant's")
    return asked[-1]


def _choice(choice: Record) -> Message:
    if isinstance(choice.get("message"), dict):
        return read_message({"role": "assistant", **choice["message"]})
    return read_message({"role": "assistant", "content": choice.get("text")})


def _asked(request: Any) -> str:
    if isinstance(request, dict):
        if isinstance(request.get("messages"), list):
            return _question(read_messages(request, "messages"))
        if isinstance(request.get("prompt"), str):
            return str(request["prompt"])
    return ""
