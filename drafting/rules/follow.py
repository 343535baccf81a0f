"""The two walks that need no q, and the frame that all rules share.

Both walks choose the next token without a look at the draft, and go down while the draft holds it. Whatever was
drafted, the text is then that of plain decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from draftproof.drafting.draft import Law
from draftproof.drafting.rule import Decision, RuleSpec, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow, drafted_rows
from draftproof.drafting.rules.on_device import KERNELS, decide_on_device
from draftproof.errors import ContractError

ALL_LAWS: frozenset[Law] = frozenset({"match", "reject", "reject_wor", "reject_greedy"})


def follow(row: DraftedRow, choose: Callable[[int], int]) -> Decision:
    """From the root down the child that is the chosen token; the first token without a child ends the round."""
    path: list[int] = []
    node = -1
    while True:
        token = choose(node)
        child = row.child(node, token)
        if child is None:
            return Decision(tuple(path), token)
        path.append(child)
        node = child


def follow_arg_max(row: DraftedRow) -> Decision:
    """Greedy decoding."""
    return follow(row, row.arg_max_below)


def follow_draws(row: DraftedRow) -> Decision:
    """Plain sampling with the row's seed: each token is the one that the position's own numbers give."""
    return follow(row, row.draw_below)


def decide_rows(
    verification: Verification, spec: RuleSpec, decide: Callable[[DraftedRow], Decision]
) -> Sequence[Decision]:
    """`decide` for rows that are sampled from a draft with q; the others are followed."""
    law = verification.draft.law
    if law not in spec.laws:
        raise ContractError(
            f"The rule {spec.name!r} was handed a draft of law {law!r}; it verifies {', '.join(sorted(spec.laws))}."
        )
    plain = _plain_greedy(verification)
    if plain is not None:
        return plain
    rows, q = drafted_rows(verification)
    if verification.logits.is_cuda and spec.name in KERNELS:
        return decide_on_device(verification, rows, spec.name, q)
    return [
        follow_arg_max(row) if row.sampling.greedy else follow_draws(row) if law == "match" else decide(row)
        for row in rows
    ]


def _plain_greedy(verification: Verification) -> Sequence[Decision] | None:
    """A round of greedy rows without a draft is one look at the logits for all of them. None for other rounds, and for
    logits that an error is to be raised for."""
    logits = verification.logits
    if (
        verification.draft.tokens.shape[1]
        or logits.is_cuda
        or len(logits) != verification.draft.rows
        or not all(sampling.greedy for sampling in verification.sampling)
    ):
        return None
    values, best = logits.max(dim=-1)  # ties to the lowest id, as in `arg_max`
    return [Decision((), token) for token in best.tolist()] if all(map(isfinite, values.tolist())) else None
