"""How tests have models write step by step, as pipelines do."""

from __future__ import annotations

from typing import Any

from draftproof.language_model import Completion, Context, LanguageModel, Piece, Request, StopCause


def after(context: Context, *pieces: Piece) -> Context:
    return Context(context.messages, (*context.written, *pieces))


def piece_of(model: LanguageModel, answer: Completion) -> Piece:
    return Piece(answer.text, model.identity, answer.ids)


def stepwise(
    model: LanguageModel, context: Context, tokens: int, stop: tuple[str, ...] = ("\n\n",), **request: Any
) -> list[Completion]:
    """Steps until `tokens` are written or the answer ends."""
    steps: list[Completion] = []
    while tokens > 0:
        (answer,) = model.generate([Request(context, tokens, stop, **request)])
        steps.append(answer)
        context = after(context, piece_of(model, answer))
        tokens -= answer.tokens
        if answer.cause is not StopCause.STOP:
            break
    return steps


def joined(answers: list[Completion], field: str) -> Any:
    """Texts or tuples of several answers as one."""
    parts = [getattr(answer, field) for answer in answers]
    return "".join(parts) if field == "text" else tuple(each for part in parts for each in part)
