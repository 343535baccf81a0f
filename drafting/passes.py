"""The passes of the target that a session makes: prompts in pieces, and drafts to be verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft
from draftproof.drafting.model import CachedModel, LayeredModel, Pass, RowTokens, Wanted

CHUNK = 512
"""Prompt tokens a pass: bounds the memory that attention needs."""


def prefill_pass(
    target: CachedModel, tokens: Mapping[int, Sequence[int]], taps: tuple[int, ...], *, logits: bool = True
) -> tuple[Tensor, dict[int, dict[int, Tensor]]]:
    """Feed and commit each row's tokens, all rows together, in pieces.

    Returns the logits [B, V] after each row's last token, empty without `logits`, and for each row the hidden states
    [n, H] of the layers `taps`.
    """
    hidden: dict[int, dict[int, list[Tensor]]] = {row: {tap: [] for tap in taps} for row in tokens}
    last: dict[int, Tensor] = {}
    for begin in range(0, max(len(ids) for ids in tokens.values()), CHUNK):
        batch = [
            RowTokens(row, torch.tensor(ids[begin : begin + CHUNK], dtype=torch.int64))
            for row, ids in tokens.items()
            if len(ids) > begin
        ]
        ends = logits and any(len(tokens[each.row]) <= begin + CHUNK for each in batch)
        result = target.forward(batch, Wanted(logits="last" if ends else "none", taps=taps))
        for index, each in enumerate(batch):
            target.commit(each.row, range(len(each.tokens)))
            if result.logits is not None:
                last[each.row] = result.logits[result.logit_bounds[index] : result.logit_bounds[index + 1]]
            for tap in taps:
                hidden[each.row][tap].append(result.hidden[tap][result.bounds[index] : result.bounds[index + 1]])
    joined = {row: {tap: torch.cat(pieces) for tap, pieces in of.items()} for row, of in hidden.items()}
    return (torch.cat([last[row] for row in tokens]) if logits else torch.empty(0)), joined


def verify_pass(target: CachedModel, pending: Mapping[int, int], draft: Draft, taps: tuple[int, ...]) -> Pass:
    """One pass over each row's pending token and the nodes drafted after it; nothing is committed."""
    batch = []
    for index, (row, token) in enumerate(pending.items()):
        tokens, parents = draft.tree(index)
        fed = torch.tensor([token, *tokens], dtype=torch.int64)
        is_chain = all(parent == node - 1 for node, parent in enumerate(parents))
        above = None if is_chain else torch.tensor([-1, *(parent + 1 for parent in parents)], dtype=torch.int64)
        batch.append(RowTokens(row, fed, above))
    if draft.resume is None or not int(draft.n_nodes.sum()):
        return target.forward(batch, Wanted(taps=taps))
    return _resumed_pass(target, batch, draft, taps)


def _resumed_pass(target: CachedModel, batch: list[RowTokens], draft: Draft, taps: tuple[int, ...]) -> Pass:
    """Layers above the drafter's exit only: those below have run on these slots while drafting."""
    assert draft.resume is not None
    assert isinstance(target, LayeredModel)
    top = target.info.n_layers
    known = torch.cat([draft.resume.hidden[i, : len(each.tokens)] for i, each in enumerate(batch)])
    upper = tuple(tap for tap in taps if tap > draft.resume.layer)
    result = target.run_layers(batch, draft.resume.layer, top, known, upper)
    hidden = {tap: result.hidden[tap] for tap in upper}
    if draft.resume.layer in taps:
        hidden[draft.resume.layer] = known
    return Pass(target.head(result.hidden[top]), result.bounds, hidden, result.bounds)
