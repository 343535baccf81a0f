"""Chat messages as the common APIs write them, and the solution in an assistant's message.

A message's reasoning may stand in a field of its own (three names are in use), in parts of its content, or inline
between `<think>` and `</think>`. Templates often put the opening tag into the prompt, so the closing one alone ends
the reasoning too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from draftproof.errors import UsageError
from draftproof.importers.record import Record, RecordError, objects, text
from draftproof.rejects import RejectCode
from draftproof.segment import pieces, segmentation_name

_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_REASONING_USES = ("include", "exclude", "only")
_ATTACHMENT = "attachment://"


@dataclass(frozen=True)
class Message:
    role: str
    content: str
    reasoning: str = ""


def read_messages(record: Record, key: str, attachments: Mapping[str, Any] | None = None) -> list[Message]:
    return [read_message(entry, attachments) for entry in objects(record, key)]


def read_message(entry: Record, attachments: Mapping[str, Any] | None = None) -> Message:
    """Text parts joined; images, tool calls and redacted reasoning say nothing that could be cut into steps."""
    content: list[str] = []
    reasoning: list[str] = []
    for kind, said in _parts(entry.get("content")):
        (reasoning if kind == "reasoning" else content).append(_attached(said, attachments))
    answer = "".join(content)
    if not reasoning:
        reasoning = [value for key in _REASONING_FIELDS if isinstance(value := entry.get(key), str) and value][:1]
    if not reasoning:
        thought, answer = split_thinking(answer)
        reasoning = [thought]
    return Message(text(entry, "role"), answer, "".join(reasoning))


def split_thinking(answer: str) -> tuple[str, str]:
    """What stands before `</think>`, and what follows it; an unclosed `<think>` is all reasoning."""
    before, closing, after = answer.partition("</think>")
    opening = before.lstrip()
    if closing:
        return opening.removeprefix("<think>").lstrip("\n"), after.lstrip()
    if opening.startswith("<think>"):
        return opening.removeprefix("<think>").lstrip("\n"), ""
    return "", answer


@dataclass(frozen=True)
class SolutionCutter:
    """How an assistant's message becomes steps: the reasoning's first, then the answer's."""

    segmentation: str
    reasoning: str

    def __post_init__(self) -> None:
        segmentation_name(self.segmentation)
        if self.reasoning not in _REASONING_USES:
            raise UsageError(f"The option reasoning must be one of {', '.join(_REASONING_USES)}.")

    def cut(self, message: Message) -> tuple[list[str], dict[str, Any]]:
        """The steps, and what the trace's `meta` says about them."""
        thought = message.reasoning if self.reasoning != "exclude" else ""
        answer = message.content if self.reasoning != "only" else ""
        thought_steps = pieces(thought, self.segmentation) if thought.strip() else []
        answer_steps = pieces(answer, self.segmentation) if answer.strip() else []
        if not thought_steps and not answer_steps:
            raise RecordError(RejectCode.NO_SOLUTION, "the assistant's message holds no text")
        return [*thought_steps, *answer_steps], {"reasoning_steps": len(thought_steps)} if thought_steps else {}

    @property
    def name(self) -> str:
        return segmentation_name(self.segmentation)


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    if content is None:
        return
    if isinstance(content, str):
        yield "text", content
        return
    if not isinstance(content, list):
        raise RecordError(RejectCode.WRONG_TYPE, "`content` must be a string, null or a list of parts")
    for part in content:
        if isinstance(part, str):
            yield "text", part
            continue
        if not isinstance(part, dict):
            raise RecordError(RejectCode.WRONG_TYPE, "a part of `content` must be an object or a string")
        kind = part.get("type")
        if kind in ("text", "output_text"):
            yield "text", text(part, "text", blank=True)
        elif kind in ("reasoning", "thinking") and not part.get("redacted"):
            said = part.get("reasoning", part.get("thinking", part.get("text")))
            if isinstance(said, str):
                yield "reasoning", said


def _attached(said: str, attachments: Mapping[str, Any] | None) -> str:
    """Long strings of an inspect log are kept apart and named by their hash."""
    if attachments and said.startswith(_ATTACHMENT):
        found = attachments.get(said.removeprefix(_ATTACHMENT))
        if isinstance(found, str):
            return found
    return said
