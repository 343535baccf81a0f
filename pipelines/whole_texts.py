"""Write whole texts, several at once, and cut them into steps afterwards.

One request a text: for servers that cannot go on from a text, and where nothing is decided between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from draftproof.errors import ModelError
from draftproof.language_model import Completion, Context, Decoding, LanguageModel, Request, StopCause
from draftproof.pipelines.step_loop import THINKING_ENDS, phase_of
from draftproof.pipelines.step_state import Finish, Phase, StepSettings, WrittenStep

_FINISH: dict[StopCause, Finish] = {
    StopCause.END: "end",
    StopCause.STOP: "end",
    StopCause.LENGTH: "budget",
    StopCause.CONTEXT: "context",
}


def finish_of(cause: str) -> Finish:
    """Why a whole text ended, by the cause of its last step. Raises ValueError for what is no cause."""
    return _FINISH[StopCause(cause)]


class WholeText(NamedTuple):
    steps: list[WrittenStep]
    finish: Finish


def write_whole(
    model: LanguageModel, context: Context, decodings: Sequence[Decoding], settings: StepSettings
) -> list[WholeText]:
    """One text for each of `decodings`, all in one batch; its budget is that of thinking and answer together.

    Raises whatever the model raises, and ModelError for answers that break the protocol.
    """
    budget = settings.thinking_tokens + settings.answer_tokens
    completions = model.generate([Request(context, budget, decoding=decoding) for decoding in decodings])
    if len(completions) != len(decodings):
        raise ModelError(f"{model.name} gave {len(completions)} texts for {len(decodings)} questions.")
    return [_cut(completion, model.identity, settings) for completion in completions]


def _cut(completion: Completion, writer: str, settings: StepSettings) -> WholeText:
    """What the text cost stands with its last step: nobody says which token began which step."""
    try:
        completion.text.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"{writer} wrote half a surrogate pair at {error.start}, which is no text.") from error
    texts = split_behind(completion.text, settings.separator)
    steps: list[WrittenStep] = []
    phase: Phase = "thinking"
    for place, text in enumerate(texts):
        is_last = place == len(texts) - 1
        phase = phase_of(text, phase, settings)
        steps.append(
            {
                "text": text,
                "role": "target",
                "model": writer,
                "ids": list(completion.ids) if len(texts) == 1 else [],
                "tokens": completion.tokens if is_last else 0,
                "cause": completion.cause.value if is_last else StopCause.STOP.value,
                "prompt_tokens": completion.prompt_tokens if is_last else 0,
                "seconds": completion.seconds if is_last else 0.0,
                "score": None,
                "features": {},
                "phase": phase,
                "route": None,
                "discarded": None,
            }
        )
        if settings.thinks and phase == "thinking" and THINKING_ENDS in text:
            phase = "answer"
    return WholeText(steps, _FINISH[completion.cause])


def split_behind(text: str, separator: str) -> list[str]:
    """`text` cut behind every separator; the pieces concatenate to it. A piece with nothing to read joins the one
    before it, or the next where it is the first. At least one piece, be it empty."""
    parts = text.split(separator)
    pieces = [part + separator for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    joined: list[str] = []
    for piece in pieces:
        if joined and (not piece.strip() or not joined[-1].strip()):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined or [""]
