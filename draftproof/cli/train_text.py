"""What the commands of `draftproof train` begin with: the target, its prompts, and the text that it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from draftproof.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from draftproof.cli.train_progress import StageBars
    from draftproof.drafting.models.load import LoadedModel
    from draftproof.drafting.training.self_text import SelfText, TextPlan

STAGES = "stages"
"""Folder in `--out` for what a run that was stopped goes on with."""
CHECKPOINT = "checkpoint.safetensors"


def need_engine() -> None:
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"This needs PyTorch and transformers: {error}.", remedy="pip install 'draftproof[engine]'"
        ) from error


def loaded_model(source: str, backend: str) -> LoadedModel:
    from draftproof.drafting.models.load import load_model
    from draftproof.settings import settings

    folder = settings().models_folder
    return load_model(source, backend=backend, models_folder=folder)  # type: ignore[arg-type]  # it says which there are


def prompts_of(text: Path | None) -> Sequence[str]:
    from draftproof.drafting.training.prompts import BUILT_IN, read_prompts

    return BUILT_IN if text is None else read_prompts(text)


def text_plan(
    loaded: LoadedModel,
    prompts: Sequence[str],
    tokens: int,
    temperatures: Sequence[float] | None,
    max_new_tokens: int,
    batch: int,
    seed: int,
) -> TextPlan:
    """What the target will write. Raises UsageError where its context has no room for that."""
    from draftproof.drafting.training.prompts import encode_prompts, prompt_ids
    from draftproof.drafting.training.self_text import TextPlan

    encode: Callable[[str], Sequence[int]] = lambda prompt: prompt_ids(loaded.tokenizer, prompt)  # noqa: E731
    context = loaded.model.info.context_length
    shares = f"the context of {loaded.model.info.name} holds {context:,} tokens, and --max-new-tokens takes"
    if max_new_tokens >= context:
        raise UsageError(
            f"There is no room for any prompt: {shares} {max_new_tokens:,}.",
            remedy=f"Ask for fewer, such as --max-new-tokens {max(2, context // 2)}.",
        )
    return TextPlan(
        prompts=encode_prompts(
            prompts,
            encode,
            room=context - max_new_tokens,
            because=f"{shares} {max_new_tokens:,} of them",
            remedy="Give a smaller --max-new-tokens, or shorter prompts.",
        ),
        tokens=tokens,
        temperatures=tuple(temperatures or (0.0, 0.0, 0.7)),
        max_new_tokens=max_new_tokens,
        batch=batch,
        seed=seed,
    )


def check_text_can_be_held_out(plan: TextPlan) -> None:
    """Raises UsageError when there may be one prompt's text only: some text is held out, and some must be left."""
    if len(set(plan.prompts)) < 2:
        raise UsageError(
            "There is one prompt only, and the text of at least one must be held out to measure the result on.",
            remedy="Give more prompts (--text).",
        )
    if plan.tokens <= plan.max_new_tokens:
        raise UsageError(
            f"--tokens {plan.tokens:,} may be a single answer, since one may have {plan.max_new_tokens:,} "
            "(--max-new-tokens), and at least one more is held out to measure the result on.",
            remedy="Ask for more tokens, or for shorter answers.",
        )


def check_vocabulary_holds_what_must_be_kept(loaded: LoadedModel, vocab: int) -> None:
    """Raises UsageError when `--vocab` is less than the tokens that are kept whatever the text is."""
    from draftproof.drafting.drafters.vocab_trim import forced_ids

    info = loaded.model.info
    must, size = len(forced_ids(loaded.vocabulary, info.eos_ids)), min(vocab, info.vocab_size)
    if must > size:
        raise UsageError(
            f"--vocab {vocab:,} is too few: {must:,} tokens of {info.name} are kept whatever its text is (control "
            "tokens, digits, bytes, punctuation).",
            remedy=f"Give --vocab {must:,} or more; some thousands are usual.",
        )


def written(loaded: LoadedModel, plan: TextPlan, folder: Path, bars: StageBars) -> list[SelfText]:
    from draftproof.drafting.training import self_text

    return self_text.generate(loaded.model, plan, folder / "text.jsonl", report=bars.report)
