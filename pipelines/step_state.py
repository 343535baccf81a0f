"""What the step-level graphs carry: what goes in, what is written on the way, and what comes out.

All of it is plain JSON, so that any checkpointer keeps it and any graph can hold one of these as a part. Models,
verifiers and the verdict log are no state: they belong to the graph that was built with them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isnan
from typing import Literal, NotRequired, TypedDict

from draftproof.errors import UsageError

ModelRole = Literal["draft", "target"]
Role = Literal[ModelRole, "pipeline"]
"""Who wrote a step. `pipeline` is the tag that closes a model's thinking where the model did not write it itself."""

Phase = Literal["thinking", "answer"]

Finish = Literal["end", "max_steps", "budget", "repeat", "context", "error"]
"""Why a text ended: the model ended it; too many steps; too many tokens; the same again; a context is full; a model
failed. Only `end` is a finished answer."""

FINAL_ANSWER = r"(?i:\bthe\s(?:final\s)?answer\sis\b)|\\boxed\s?\{|\b(?:Answer|ANSWER):"
"""Where models that do not think in tags begin their answer."""


class StepInput(TypedDict):
    """A problem to solve."""

    problem: str
    id: NotRequired[str]
    """A name for people."""
    reference_answer: NotRequired[str]
    """Goes into the finished trace; no model or verifier sees it."""
    attempt: NotRequired[int]
    """Tells apart several solutions of one problem by one graph: each has an opening of its own, and draws with
    the decoding's seed plus this. 0 where none is given."""


class WrittenText(TypedDict):
    """What a model wrote in one go, kept or not."""

    text: str
    """Verbatim, with the separator that ended it."""
    role: Role
    model: str
    """`LanguageModel.identity` of the writer; empty for the pipeline."""
    ids: list[int]
    """The writer's token ids of exactly `text`, where they are known."""
    tokens: int
    """Generated and kept by the model, a token that ended the answer included."""
    cause: str
    """stop: a separator; end: the model ended its answer; length: it was cut off; context: its context is full;
    closing: the pipeline wrote it."""
    prompt_tokens: int
    """Of the context."""
    seconds: float
    score: float | None
    """What the verifier's verdict gave it; None where nobody judged it, or nobody could."""
    features: dict[str, float]
    """See `step_features`."""


class Route(TypedDict):
    """How it was decided who writes a step."""

    policy: str
    to: ModelRole
    score: float | None
    """What was compared, on the policy's own scale: a reward, an advantage, nats, a digit."""
    threshold: float | None
    """None where there is none, or where it is infinite."""
    reason: str
    calls: int
    """Texts that a verifier judged for it, or probes."""
    seconds: float
    """What that took."""


class WrittenStep(WrittenText):
    """A step of the answer."""

    phase: Phase
    route: Route | None
    """None where nothing was decided: the other model was never in question."""
    discarded: WrittenText | None
    """The other model's step in its place."""


class Undecided(TypedDict):
    """What there was of a step when it became clear that there would be none, because a model could not go on."""

    written: list[WrittenText]
    route: Route | None


class Counts(TypedDict):
    """What a text cost. Tokens and calls of what was discarded are in it; calls that failed are not."""

    draft_tokens_kept: int
    draft_tokens_discarded: int
    target_tokens: int
    """All that the target wrote, kept or not."""
    target_tokens_discarded: int
    draft_calls: int
    """Steps that the draft model was asked to write; probes are counted apart."""
    target_calls: int
    probe_calls: int
    judge_calls: int
    """Texts that a verifier was asked to judge."""
    escalations: int
    """Steps that the draft model might have written and the target was given."""


class Opening(TypedDict):
    """What is known before anything is written."""

    problem: str
    id: str
    reference_answer: str | None
    attempt: int
    pipeline: str
    """`name@version#digest` of the graph's configuration, the attempt included."""
    verifier: str
    """Identity of the verifier whose scores the steps carry; empty where there is none."""
    proposition: str
    """What those scores are the probability of."""
    opening: str
    """Digest of the trace that stands for this problem before anything is written: what verdicts are stored under."""


class StepOutput(Opening):
    """A text, and how it came about."""

    steps: list[WrittenStep]
    undecided: Undecided | None
    text: str
    """All steps, concatenated."""
    answer: str
    """The text of the answer phase; empty where it was never reached."""
    finish: Finish
    error: str
    """What failed, where `finish` is `error`."""
    trace: str
    """Digest of the finished trace, which `finished_trace` makes of this output."""
    counts: Counts
    seconds: dict[str, float]
    """Spent waiting, by what for: draft, target, probe, judge."""


class StepState(StepOutput):
    """What a graph carries from node to node."""

    phase: Phase
    candidates: dict[str, WrittenText]
    """Role -> what it wrote for the step that is being decided."""
    route: Route | None
    """The decision about this step, once there is one."""
    stop: Finish | None
    """Why to stop, as soon as that is known."""


@dataclass(frozen=True)
class StepSettings:
    """How text is cut into steps, and how much of it there may be.

    Limits hold for the thinking and the answer each on their own. Only kept tokens count.
    """

    system: str = ""
    """What both models are told before the problem; nothing where it is empty."""
    separator: str = "\n\n"
    """A step ends behind it."""
    max_step_tokens: int = 512
    """A longer step is cut here, kept, and goes on as the next one."""
    max_steps: int = 100
    thinking_tokens: int = 8192
    answer_tokens: int = 2048
    thinks: bool = False
    """Whether the models think in `<think>…</think>`, and answer behind it: then thinking ends with the closing tag,
    with its own budget or at a repeat, and an answer follows always."""
    answer_begins: str = FINAL_ANSWER
    """Where models that do not: the first step in which this regular expression is found begins the answer. Empty:
    there is no telling, and everything is thinking. That step is written before it is known to be the answer: what
    bounds it is `max_step_tokens` and the budget of thinking."""

    def __post_init__(self) -> None:
        for name in ("max_step_tokens", "max_steps", "thinking_tokens", "answer_tokens"):
            whole_number(name, getattr(self, name), least=1)
        for name in ("system", "separator", "answer_begins"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"{name} is a text, not {getattr(self, name)!r}.")
        if not self.separator:
            raise UsageError("The separator of steps is a text of at least one character.")
        if not isinstance(self.thinks, bool):
            raise UsageError(f"thinks is true or false, not {self.thinks!r}.")
        try:
            re.compile(self.answer_begins)
        except re.error as error:
            raise UsageError(f"answer_begins is no regular expression: {error}.") from error


def number(name: str, value: object) -> float:
    """`value` as a number, perhaps an infinite one. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
        raise UsageError(f"{name} is a number, not {value!r}.")
    return float(value)


def whole_number(name: str, value: object, *, least: int) -> int:
    """Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} is a number of at least {least}, not {value!r}.")
    return value
