"""What the engine makes sure of before anything reaches the target: parts that fit, prompts and drafts that are legal.

Nothing that a user or a drafter says is indexed unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, DraftRequest
from draftproof.drafting.model import CachedModel, LayeredModel, ModelInfo
from draftproof.drafting.rule import RuleSpec
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import ContextLengthError, ContractError, UsageError


def check_parts(target: CachedModel, drafter: DrafterSpec, rule: RuleSpec, vocabulary: Vocabulary | None) -> None:
    """Raises UsageError, naming the two, for a drafter that the rule or the target is not made for."""
    if drafter.law not in rule.laws:
        raise UsageError(
            f"The rule {rule.name!r} cannot verify drafts of the law {drafter.law!r}, which the drafter "
            f"{drafter.name!r} makes.",
            remedy="Use rule='auto', which picks one for the drafter.",
        )
    if "layers" in drafter.needs and not (isinstance(target, LayeredModel) and target.supports_layers):
        raise UsageError(
            f"The drafter {drafter.name!r} runs layers of the target, which {target.info.architecture} on the "
            f"backend {target.info.backend!r} does not offer."
        )
    if "text" in drafter.needs and vocabulary is None:
        raise UsageError(
            f"The drafter {drafter.name!r} needs the target's tokenizer, and the target was loaded without one."
        )


def check_prompt(prompt: Sequence[int], target: ModelInfo) -> None:
    """Raises UsageError for an empty prompt or an id out of range, ContextLengthError for one that is too long."""
    if not len(prompt):
        raise UsageError("A prompt is empty.", remedy="Begin with at least one token, such as the model's BOS.")
    wrong = next((token for token in prompt if not 0 <= token < target.vocab_size), None)
    if wrong is not None:
        raise UsageError(f"A prompt holds token {wrong}; the vocabulary has 0 … {target.vocab_size - 1}.")
    if len(prompt) >= target.context_length:
        raise ContextLengthError(
            f"A prompt has {len(prompt)} tokens, and the context of {target.name} holds {target.context_length}.",
            remedy="Shorten the prompt.",
        )


def check_draft(draft: Draft, request: DraftRequest, vocab_size: int, drafter: str) -> None:
    """Raises ContractError, naming the drafter and the row, for a draft that is no legal answer to `request`."""
    rows = len(request.rows)
    width = draft.tokens.shape[-1]
    if draft.tokens.shape != (rows, width) or draft.parent.shape != (rows, width) or draft.n_nodes.shape != (rows,):
        raise ContractError(
            f"Drafter {drafter!r} answered {rows} rows with tokens {tuple(draft.tokens.shape)}, parents "
            f"{tuple(draft.parent.shape)} and counts {tuple(draft.n_nodes.shape)}; expected [{rows}, N], [{rows}, N], "
            f"[{rows}]."
        )
    if draft.tokens.dtype is not torch.int64 or draft.parent.dtype is not torch.int64:
        raise ContractError(
            f"Drafter {drafter!r} drafted tokens of {draft.tokens.dtype} under parents of {draft.parent.dtype}; int64 "
            "was expected."
        )
    if draft.score is not None and draft.score.shape != (rows, width):
        raise ContractError(f"Drafter {drafter!r} gave scores {tuple(draft.score.shape)}; expected [{rows}, {width}].")
    if len(draft.source) not in (0, rows):
        raise ContractError(f"Drafter {drafter!r} named {len(draft.source)} sources for {rows} rows.")
    counts = draft.n_nodes.tolist()
    for index, (row, budget, count) in enumerate(zip(request.rows, request.budget, counts, strict=True)):
        if not 0 <= count <= min(budget, width):
            raise ContractError(
                f"Drafter {drafter!r} drafted {count} nodes for row {row}, whose budget is {budget} (N is {width})."
            )
        fault = tree_fault(draft.tokens[index, :count].tolist(), draft.parent[index, :count].tolist(), vocab_size)
        if fault:
            raise ContractError(f"Drafter {drafter!r} drafted a broken tree for row {row}: {fault}.")
        fault = _score_fault(draft, index, count)
        if fault:
            raise ContractError(f"Drafter {drafter!r} scored its draft for row {row} wrongly: {fault}.")
    if draft.law != "match" and draft.q is None:
        raise ContractError(f"Drafter {drafter!r} declares the law {draft.law!r} and reports no q.")
    if draft.resume is not None and draft.resume.hidden.shape[:2] != (rows, width + 1):
        raise ContractError(
            f"Drafter {drafter!r} resumes from states {tuple(draft.resume.hidden.shape)}; expected "
            f"[{rows}, {width + 1}, H]."
        )


def tree_fault(tokens: list[int], parents: list[int], vocab_size: int) -> str | None:
    """What is wrong with a row's tree, so that nothing may be indexed with it; None for a tree."""
    seen: set[tuple[int, int]] = set()
    for node, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
        if not 0 <= token < vocab_size:
            return f"node {node} is token {token}, and the vocabulary has 0 … {vocab_size - 1}"
        if not -1 <= parent < node:
            return f"node {node} hangs under {parent}; a parent comes before its children"
        if (parent, token) in seen:
            return f"node {node} repeats its sibling's token {token}"
        seen.add((parent, token))
    return None


def _score_fault(draft: Draft, index: int, count: int) -> str | None:
    """Scores are probabilities of whole paths: a child's is not above its parent's, but for rounding."""
    if draft.score is None:
        return None
    scores, parents = draft.score[index, :count].tolist(), draft.parent[index, :count].tolist()
    for node, (score, parent) in enumerate(zip(scores, parents, strict=True)):
        above = scores[parent] if parent >= 0 else 1.0
        if not -1e-6 <= score <= above + 1e-3:
            return f"node {node} has the score {score}, its parent {above}"
    return None


def depth_of(parents: list[int]) -> int:
    """Depth of the deepest node; 0 for no nodes."""
    depths: list[int] = []
    for parent in parents:
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return max(depths, default=0)
