"""What servers answer, read with suspicion: fields are there or not, and numbers are what they should be or refused.

Functions here raise ModelError for an answer that makes no sense, and TypeError, KeyError and their like for one that
is not built as it should be; the caller turns the latter into the former.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from draftproof.errors import ModelError
from draftproof.language_model import FirstToken, StopCause

_ROUNDING = 1e-3


@dataclass(frozen=True)
class Answer:
    text: str
    cause: StopCause
    stopped_by: str
    ambiguous: bool
    """The text ended at a stop string, or because the model ended it: the server does not say which."""
    tokens: int | None
    """None where the server does not say."""
    logprobs: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int

    def stopped(self, by: str) -> Answer:
        """With the stop string that ended it, which servers leave out; or none."""
        cause = StopCause.STOP if by else StopCause.END
        return replace(self, text=self.text + by, cause=cause, stopped_by=by, ambiguous=False)


def answer_of(body: Any, stop: Sequence[str], *, wanted: bool) -> Answer:
    """`wanted`: log-probabilities were asked for, of a server that tells them."""
    choice = _only_choice(body)
    text = _text_of(choice)
    usage = body.get("usage") or {}
    logprobs = tuple(_logprob(value) for value in _token_logprobs(choice)) if wanted else ()
    counted = usage.get("completion_tokens")
    tokens = len(logprobs) if wanted else None if counted is None else _count(counted)
    details = usage.get("prompt_tokens_details") or {}
    answer = Answer(
        *(text, StopCause.END, "", False, tokens, logprobs),
        prompt_tokens=_count(usage.get("prompt_tokens", 0)),
        cached_tokens=_count(details.get("cached_tokens") or 0),
    )
    match choice.get("finish_reason"):
        case "length":
            return replace(answer, cause=StopCause.LENGTH)
        case "stop":
            return _stopped(answer, choice, stop)
        case other:
            raise ModelError(
                f"The server ended a text for the reason {str(other)[:40]!r}; stop or length was expected."
            )


def tokens_of(answer: Answer) -> int:
    """How many tokens were written. Raises ModelError where there was text and no count of it: taken for none, nothing
    would ever be spent, and a text that was cut off would look like a full context."""
    if not answer.tokens and (answer.text or (answer.tokens is None and answer.cause is StopCause.LENGTH)):
        raise ModelError(
            "The server counts no tokens: its answer has neither usage.completion_tokens nor log-probabilities.",
            remedy="Have the server tell its usage, or use another one, or a local model.",
        )
    return answer.tokens or 0


def _stopped(answer: Answer, choice: Mapping[str, Any], stop: Sequence[str]) -> Answer:
    if not stop:
        return answer.stopped("")
    for key in ("stop_reason", "matched_stop"):  # vLLM, SGLang: a string, or the token that ended the answer, or none
        if key in choice:
            by = choice[key]
            return answer.stopped(by if isinstance(by, str) and by in stop else "")
    kept = [each for each in stop if answer.text.endswith(each)]
    if kept:
        by = max(kept, key=len)
        return replace(answer, cause=StopCause.STOP, stopped_by=by)
    return replace(answer, ambiguous=True)


def first_token_of(body: Any, seconds: float) -> FirstToken:
    choice = _only_choice(body)
    logprobs = choice["logprobs"]
    if "content" in logprobs:
        given = [(each["token"], each["logprob"]) for each in logprobs["content"][0]["top_logprobs"]]
    else:
        given = list(logprobs["top_logprobs"][0].items())
    top = sorted(((str(token), math.exp(_logprob(value))) for token, value in given), key=lambda each: -each[1])
    mass = math.fsum(chance for _, chance in top)
    if not 0.0 < mass <= 1.0 + _ROUNDING:
        raise ModelError(f"The server's probabilities of the next token come to {mass:.3g}.")
    entropy = -math.fsum(chance / mass * math.log(chance / mass) for _, chance in top if chance > 0.0)
    usage = body.get("usage") or {}
    return FirstToken(max(entropy, 0.0), len(top), tuple(top), _count(usage.get("prompt_tokens", 0)), 0, seconds)


def echoed_logprobs(body: Any, before: str, text: str) -> tuple[tuple[float, ...], int]:
    """Of the tokens that hold something of `text`, which was sent behind `before`; and how many come before them."""
    choice = _only_choice(body)
    told = choice["logprobs"]
    tokens, values = told["tokens"], told["token_logprobs"]
    size = len(before) + len(text)
    begins = told.get("text_offset") or _summed(tokens)
    if not choice["text"].startswith(before + text) or len(begins) != len(values) or len(tokens) != len(values):
        raise ModelError("The server was asked to repeat a text with its log-probabilities, and did not.")
    if sorted(begins) != list(begins) or begins[0] != 0:
        raise ModelError("The server's tokens do not follow each other in the text.")
    ends = [*begins[1:], max(size, begins[-1])]
    own = [index for index in range(len(tokens)) if begins[index] < size and ends[index] > len(before)]
    if not own or own[0] == 0:
        raise ModelError(
            "The server tells no log-probability of the first token, and there is no token before the text."
        )
    return tuple(_logprob(values[index]) for index in own), own[0]


def _summed(tokens: Sequence[str]) -> list[int]:
    at = [0]
    for token in tokens:
        at.append(at[-1] + len(token))
    return at[:-1]


def _only_choice(body: Any) -> Mapping[str, Any]:
    choices = body["choices"]
    if not isinstance(choices, list) or len(choices) != 1:
        raise ValueError(f"one choice was asked for, and {len(choices) if isinstance(choices, list) else 'none'} came")
    (choice,) = choices
    if not isinstance(choice, Mapping):
        raise TypeError("a choice is no object")
    return choice


def _text_of(choice: Mapping[str, Any]) -> str:
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"the text is a {type(text).__name__}")
    return text


def _token_logprobs(choice: Mapping[str, Any]) -> list[Any]:
    told = choice["logprobs"]
    if "content" in told:
        return [each["logprob"] for each in told["content"] or ()]
    return list(told["token_logprobs"])


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > _ROUNDING:
        raise ModelError(f"The server gave {value!r:.40} for a log-probability.")
    return min(float(value), 0.0)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ModelError(f"The server gave {value!r:.40} for a number of tokens.")
    return value
