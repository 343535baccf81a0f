"""Write a text step by step with any language model: one step is one request, and nothing is ever added to it.

A step ends behind the separator, with the answer, at its limit of tokens, or where the model's context is full; these
are different causes, and the separator is in the text only where the model wrote it. Contexts hold each step with its
writer's own token ids, so that a model that goes on from its own steps writes, token for token, what it would have
written at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from draftproof.errors import ModelError
from draftproof.language_model import Completion, Context, Decoding, LanguageModel, Message, Piece, Request, StopCause
from draftproof.pipelines.step_features import step_features
from draftproof.pipelines.step_state import Finish, Phase, Role, StepSettings, WrittenStep, WrittenText
from draftproof.subject import Granularity, SubjectKey
from draftproof.verifiers.internals import TakesInternals

THINKING_ENDS = "</think>"


@dataclass(frozen=True)
class Writer:
    """A model that writes steps, in a role."""

    role: Role
    model: LanguageModel
    decoding: Decoding
    settings: StepSettings
    internals: TakesInternals | None = None
    """Is told what the model knew while it wrote."""

    def write(
        self, problem: str, steps: Sequence[WrittenStep], phase: Phase, *, attempt: int = 0, opening: str = ""
    ) -> WrittenText:
        """The step behind `steps`; `opening` is what verdicts about it are stored under.

        Raises whatever the model raises, and ModelError for an answer that breaks the protocol.
        """
        thinking = self.settings.thinks and phase == "thinking"
        request = Request(
            context=context_of(problem, steps, self.settings.system),
            max_new_tokens=min(self.settings.max_step_tokens, tokens_left(steps, phase, self.settings)),
            stop=(self.settings.separator, THINKING_ENDS) if thinking else (self.settings.separator,),
            decoding=replace(self.decoding, seed=self.decoding.seed + attempt),
            hidden_layers=() if self.internals is None else self.internals.needs_layers,
            top=0 if self.internals is None else self.internals.needs_top,
        )
        completions = self.model.generate([request])
        if len(completions) != 1:
            raise ModelError(f"{self.model.name} gave {len(completions)} texts for one question.")
        (completion,) = completions
        _hold_protocol(self.model.name, completion)
        if self.internals is not None:
            key = SubjectKey(trace_digest=opening, granularity=Granularity.STEP, position=len(steps))
            self.internals.offer(key, completion, writer=self.model.identity)
        return {
            "text": completion.text,
            "role": self.role,
            "model": self.model.identity,
            "ids": [int(token) for token in completion.ids],
            "tokens": completion.tokens,
            "cause": completion.cause.value,
            "prompt_tokens": completion.prompt_tokens,
            "seconds": completion.seconds,
            "score": None,
            "features": step_features(completion, steps),
        }


def context_of(problem: str, steps: Sequence[WrittenStep], system: str = "") -> Context:
    """The problem and what was kept of its answer so far."""
    user = Message("user", problem)
    messages = (Message("system", system), user) if system else (user,)
    return Context(messages, tuple(Piece(step["text"], step["model"], tuple(step["ids"])) for step in steps))


def tokens_left(steps: Sequence[WrittenStep], phase: Phase, settings: StepSettings) -> int:
    """How much more of this phase may be written."""
    budget = settings.thinking_tokens if phase == "thinking" else settings.answer_tokens
    return budget - sum(step["tokens"] for step in steps if step["phase"] == phase)


def begins_answer(text: str, settings: StepSettings) -> bool:
    """Whether a step of a model that does not think in tags is where its answer begins."""
    return not settings.thinks and settings.answer_begins != "" and re.search(settings.answer_begins, text) is not None


def phase_of(text: str, phase: Phase, settings: StepSettings) -> Phase:
    """The phase that a step with this text belongs to, written while in `phase`."""
    return "answer" if begins_answer(text, settings) else phase


def after(steps: Sequence[WrittenStep], settings: StepSettings) -> tuple[Phase, Finish | None]:
    """The phase behind the last step, and why to stop there, or None to go on.

    A model that thinks in tags goes on with its answer however its thinking ended. A closing tag behind the thinking,
    or in a draft that was not kept, is text like any other.
    """
    phase = steps[-1]["phase"]
    why = _stopped(steps, phase, settings)
    if settings.thinks and phase == "thinking":
        if closed_thinking(steps):
            phase, why = "answer", None if why != "context" else why
        elif why not in (None, "context"):
            phase, why = "answer", None
    return phase, why


def closed_thinking(steps: Sequence[WrittenStep]) -> bool:
    """Whether the last step ends the thinking itself: the tag may have begun in the step before, cut at its limit."""
    before = steps[-2]["text"][1 - len(THINKING_ENDS) :] if len(steps) > 1 else ""
    return THINKING_ENDS in before + steps[-1]["text"]


def closing_step(separator: str) -> WrittenStep:
    """The closing tag of a thinking that the model did not close."""
    return {
        "text": THINKING_ENDS + separator,
        "role": "pipeline",
        "model": "",
        "ids": [],
        "tokens": 0,
        "cause": "closing",
        "prompt_tokens": 0,
        "seconds": 0.0,
        "score": None,
        "features": {},
        "phase": "thinking",
        "route": None,
        "discarded": None,
    }


def _stopped(steps: Sequence[WrittenStep], phase: Phase, settings: StepSettings) -> Finish | None:
    cause = steps[-1]["cause"]
    if cause == StopCause.END:
        return "end"
    if cause == StopCause.CONTEXT:
        return "context"
    of_phase = [step for step in steps if step["phase"] == phase]
    if cause != StopCause.LENGTH and _repeats(_whole(of_phase)):
        return "repeat"
    if tokens_left(steps, phase, settings) < 1:
        return "budget"
    if len(of_phase) >= settings.max_steps:
        return "max_steps"
    return None


def _whole(steps: Sequence[WrittenStep]) -> list[str]:
    """Their texts, with the parts of one that was cut at its limit put together again."""
    texts: list[str] = []
    cut = False
    for step in steps:
        if cut:
            texts[-1] += step["text"]
        else:
            texts.append(step["text"])
        cut = step["cause"] == StopCause.LENGTH
    return texts


def _repeats(texts: Sequence[str]) -> bool:
    """Whether the last two steps are the same, or the last two the same as the two before. Repetition inside of steps
    is no sign of anything: formulas repeat rightly."""
    return len(texts) > 1 and (texts[-1] == texts[-2] or (len(texts) > 3 and texts[-4:-2] == texts[-2:]))


def _hold_protocol(name: str, completion: Completion) -> None:
    if min(completion.tokens, completion.prompt_tokens) < 0 or not 0.0 <= completion.seconds < inf:
        counted = f"{completion.tokens} tokens behind {completion.prompt_tokens}, in {completion.seconds} seconds"
        raise ModelError(f"{name} counts {counted}.")
    if completion.cause is StopCause.STOP and not (
        completion.stopped_by and completion.text.endswith(completion.stopped_by)
    ):
        raise ModelError(f"{name} says that a stop string ended its text, and the text does not end with one.")
    try:
        completion.text.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"{name} wrote half a surrogate pair at {error.start}, which is no text.") from error
