"""What users ask with: text, chat messages or token ids, read into token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from draftproof.drafting.chat_prompts import chat_ids
from draftproof.errors import UsageError

Message = Mapping[str, str]
"""`{"role": …, "content": …}`, as chat templates take it."""

Prompt = str | Sequence[int] | Sequence[Message]
"""Text to go on from, token ids, or the messages of a chat."""


def prompts_of(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts from one or several. Arrays and tensors of ids count as lists."""
    prompts = _listed(prompts)
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise _no_prompt(prompts)
    first = _listed(next(iter(prompts), None))
    if isinstance(first, Integral | Mapping):
        return [prompts]  # type: ignore[list-item]
    return [_listed(prompt) for prompt in prompts]


def ids_of(prompt: Prompt, tokenizer: Any, model: str) -> list[int]:
    """Token ids of one prompt. Raises UsageError.

    Chat messages go through the tokenizer's chat template, and are text whatever they say. A prompt that is text is
    read as transformers reads it, control tokens included: so come in prompts that hold a whole template already.
    """
    prompt = _listed(prompt)
    if isinstance(prompt, str):
        if not prompt.isascii():
            _require_unicode(prompt)
        # Too many ids for the context are refused later, with what to do about it: transformers need not warn as well.
        return [int(token) for token in _present(tokenizer, "text")(prompt, verbose=False)["input_ids"]]
    if not isinstance(prompt, Sequence):
        raise _no_prompt(prompt)
    if len(prompt) and all(isinstance(part, Mapping) for part in prompt):
        template = _present(tokenizer, "chat messages")
        if not getattr(template, "chat_template", None):
            raise UsageError(f"{model} has no chat template.", remedy="Give the prompt as text or token ids.")
        return chat_ids(prompt, template)  # type: ignore[arg-type]
    if not all(isinstance(part, Integral) and not isinstance(part, bool) for part in prompt):
        raise _no_prompt(prompt)
    return [int(part) for part in prompt]  # type: ignore[arg-type]


def _listed(prompt: Any) -> Any:
    """Tensors and arrays as lists."""
    return prompt.tolist() if hasattr(prompt, "tolist") else prompt


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"A prompt holds half a surrogate pair at {error.start}, which is no text.") from error


def _present(tokenizer: Any, what: str) -> Any:
    if tokenizer is None:
        raise UsageError(
            f"The target was loaded without a tokenizer and cannot read {what}.",
            remedy="Give token ids, or load it with load_model.",
        )
    return tokenizer


def _no_prompt(given: Any) -> UsageError:
    return UsageError(
        f"A prompt is text, token ids, or messages with a role and a content; got {type(given).__name__}.",
        remedy='Give "text", [1, 2, 3] or [{"role": "user", "content": "text"}].',
    )
