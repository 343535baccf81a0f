"""From a problem and its steps to token ids, and the token at which each step's score stands.

Everything is tokenised together, and the places come from what the tokeniser says about its own tokens: never from
steps that were tokenised one by one, whose ids are not those of the text, and never by looking for a tag's id, which a
step could write itself. Problem and steps are text and nothing else: a control token's name in them is cut like any
other word.

Two ways of marking a step's end differ in what a token may hold. Where a *separator* or a special token ends a step, it
is cut off from the text before it, as it was in training: `.` and a line break would otherwise become one token, at
which no score was ever learnt. Where an ordinary *tag* does, the text is tokenised as it stands, tag included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tokenizers import Encoding, Tokenizer

from draftproof.drafting.chat_prompts import chat_ids
from draftproof.errors import ModelError

SHEPHERD_TAG = "ки"
QWEN_TAG = "<extra_0>"
QWEN_SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."


@dataclass(frozen=True)
class Reading:
    """A text as a model reads it."""

    ids: tuple[int, ...]
    ends: tuple[int | None, ...]
    """For each step, the index into `ids` of the token at which its score stands; None for a step without text, and
    where the tokeniser left no such token. Ascending."""


class Reader(Protocol):
    by_step: bool
    """Whether each step is read by itself, with what comes before it; else all steps are read at once."""
    closing: tuple[int, ...]
    """Ids that stand behind a text that ends at a step's end; nothing but for encoders ([SEP])."""

    def read(self, problem: str, steps: Sequence[str]) -> Reading:
        """Steps are stripped of the white space around them; one that is empty is left out of the text."""
        ...


class SeparatorReader:
    """Problem, then each step with a separator behind it, all pieces of one encoding. Skywork and TRL."""

    by_step = False
    closing: tuple[int, ...] = ()

    def __init__(self, tokenizer: Any, *, problem_separator: str, step_separator: str) -> None:
        self._backend = plain_backend(tokenizer)
        self._opening = _opening(tokenizer)
        self._separators = problem_separator, step_separator
        if not _ids(self._backend, step_separator):
            raise ModelError(f"The separator {step_separator!r} has no tokens of its own: no score could stand there.")

    def read(self, problem: str, steps: Sequence[str]) -> Reading:
        after_problem, after_step = self._separators
        pieces, owners = [problem.strip() + after_problem], [-1]  # no score stands there: one text, as in training
        for index, step in enumerate(steps):
            if text := step.strip():
                pieces += [text, after_step]
                owners += [-1, index]
        encoding = self._backend.encode(pieces, is_pretokenized=True, add_special_tokens=False)
        ends: list[int | None] = [None] * len(steps)
        for place, piece in enumerate(encoding.word_ids, start=len(self._opening)):
            if piece is not None and owners[piece] >= 0:
                ends[owners[piece]] = place  # the last one of the separator's tokens stays
        return Reading((*self._opening, *encoding.ids), tuple(ends))


class ChatTagReader:
    """A chat whose answer has a special token behind each step. Qwen2.5-Math-PRM.

    What the template would write behind the answer is left out: no score depends on it.
    """

    by_step = False
    closing: tuple[int, ...] = ()

    def __init__(self, tokenizer: Any) -> None:
        self._backend = plain_backend(tokenizer)
        self._tokenizer = tokenizer
        tag = tokenizer.backend_tokenizer.token_to_id(QWEN_TAG)
        whole = _ids(tokenizer.backend_tokenizer, f"a{QWEN_TAG}b")
        apart = [*_ids(self._backend, "a"), tag, *_ids(self._backend, "b")]
        if tag is None or whole != apart:
            raise ModelError(
                f"The tokenizer has no special token {QWEN_TAG}, at which the scores of this layout stand."
            )
        if not tokenizer.chat_template:
            raise ModelError("The tokenizer has no chat template, and this layout reads a chat.")
        self._tag: int = tag

    def read(self, problem: str, steps: Sequence[str]) -> Reading:
        messages = [{"role": "system", "content": QWEN_SYSTEM}, {"role": "user", "content": problem}]
        ids = chat_ids(messages, self._tokenizer)
        ends: list[int | None] = []
        for step in steps:
            if text := step.strip():
                ids += [*_ids(self._backend, text), self._tag]  # a special token parts the text before and behind it
            ends.append(len(ids) - 1 if text else None)
        return Reading(tuple(ids), tuple(ends))


class TagReader:
    """Problem and steps in one text, each step with ` ки` behind it and a line break between them. Math-Shepherd."""

    by_step = False
    closing: tuple[int, ...] = ()

    def __init__(self, tokenizer: Any) -> None:
        self._backend = plain_backend(tokenizer)
        self._opening = _opening(tokenizer)
        self._tag = single_id(self._backend, SHEPHERD_TAG)

    def read(self, problem: str, steps: Sequence[str]) -> Reading:
        text = problem.strip()
        stops: dict[int, int] = {}
        for index, step in enumerate(steps):
            if stripped := step.strip():
                text += (" " if not stops else "\n") + f"{stripped} {SHEPHERD_TAG}"
                stops[len(text)] = index
        encoding = self._backend.encode(text, add_special_tokens=False)
        ends: list[int | None] = [None] * len(steps)
        for place, (token, (_, stop)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
            if token == self._tag and stop in stops:
                ends[stops[stop]] = place + len(self._opening)
        return Reading((*self._opening, *encoding.ids), tuple(ends))


class PrefixReader:
    """Problem and steps on lines of their own, up to a step's end. Sequence classifiers.

    Such a model was trained on whole texts, so that a step's text is tokenised without what follows it: its last token
    may be another one than in the longer text (`.` and a line break may be one). Only the last step has its place.
    """

    by_step = True

    def __init__(self, tokenizer: Any, step_separator: str) -> None:
        self._backend = plain_backend(tokenizer)
        self._separator = step_separator
        self._opening, self.closing = _around(tokenizer)

    def read(self, problem: str, steps: Sequence[str]) -> Reading:
        texts = [problem.strip(), *filter(None, (step.strip() for step in steps))]
        ids = (*self._opening, *_ids(self._backend, self._separator.join(texts)))
        ends: list[int | None] = [None] * len(steps)
        if steps and steps[-1].strip():
            ends[-1] = len(ids) - 1
        return Reading(ids, tuple(ends))


def plain_backend(tokenizer: Any) -> Tokenizer:
    """A copy of the tokeniser for which a text holds no control tokens. Raises ModelError where there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ModelError(
            "The tokenizer does not say which characters its tokens stand for.",
            remedy="Copy the model's tokenizer.json into the folder.",
        )
    copied: Tokenizer = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    copied.encode_special_tokens = True
    return copied


def single_id(backend: Tokenizer, word: str) -> int:
    """The one token of a word behind a space. Raises ModelError where it takes several."""
    before, both = _ids(backend, "a"), _ids(backend, f"a {word}")
    if len(both) != len(before) + 1 or both[:-1] != before:
        raise ModelError(f"The tokenizer has no single token for {word!r}, which this layout needs.")
    return both[-1]


def _ids(backend: Tokenizer, text: str) -> list[int]:
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    return ids


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Special tokens that the tokeniser writes before and behind a text."""
    encoding: Encoding = tokenizer.backend_tokenizer.encode("a", add_special_tokens=True)
    text = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return tuple(encoding.ids[: text[0]]), tuple(encoding.ids[text[-1] + 1 :])


def _opening(tokenizer: Any) -> tuple[int, ...]:
    """The token that opens a text, where there is one: these layouts' models were trained with it."""
    return () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
