"""What a rule's decision comes to for a row: the tokens that it emits, and the record of the round.

A decision knows the draft only. Here it meets what the row is bound by, its stop tokens and its limit, which may cut
off tokens that were verified; what is cut off leaves no trace but the record's number of accepted tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from draftproof.drafting.checks import depth_of
from draftproof.drafting.draft import Draft
from draftproof.drafting.rounds import RowRound
from draftproof.drafting.rows import RowState
from draftproof.drafting.rule import Decision, Rule
from draftproof.drafting.rules.applied import applied


@dataclass(frozen=True)
class Settlement:
    """What is committed of a round."""

    tokens: tuple[int, ...]
    """Accepted ones, then the correction or bonus token, up to the first stop token and the row's limit."""
    path: tuple[int, ...]
    """Nodes of the draft that all tokens but the last are."""
    done: bool
    record: RowRound


def settle(
    row: int,
    state: RowState,
    index: int,
    draft: Draft,
    decision: Decision,
    rule: Rule,
    drafter: str,
    costs: tuple[float, float],
) -> Settlement:
    """
    Args:
        index: the row's place in the draft.
        drafter: who drafted, where the draft does not say it itself.
        costs: the row's share of drafting and of verifying, in milliseconds.
    """
    tokens, parents = draft.tree(index)
    emitted = [*(tokens[node] for node in decision.path), decision.token]
    stop = next((i for i, token in enumerate(emitted) if token in state.stop_ids), len(emitted) - 1)
    emitted = emitted[: min(stop + 1, state.limit - len(state.tokens))]
    name, lossless = applied(rule, draft.law, state.sampling)
    source = draft.source[index] if draft.source else drafter
    record = RowRound(
        row=row,
        index=state.rounds,
        position=len(state.tokens),
        drafter=source if parents else "none",
        law=draft.law,
        rule=name,
        lossless=lossless,
        drafted=len(parents),
        depth=depth_of(parents),
        accepted=len(decision.path),
        emitted=len(emitted),
        score=float(draft.score[index, : len(parents)].sum()) if draft.score is not None and parents else None,
        draft_ms=costs[0],
        verify_ms=costs[1],
    )
    return Settlement(
        tokens=tuple(emitted),
        path=tuple(decision.path[: len(emitted) - 1]),
        done=emitted[-1] in state.stop_ids or len(state.tokens) + len(emitted) >= state.limit,
        record=record,
    )
