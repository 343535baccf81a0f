"""Plain greedy decoding, several tokens at a time, of a model that writes by itself.

The text is that of one round after the other. There is nothing to draft, draw or verify in between, so that for a small
model the time between two passes is all that rounds add.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from draftproof.drafting.model import GreedyModel, GreedyText, GreedyWish, ModelInfo
from draftproof.drafting.rows import Basis, RowOutcome, RowState, tap_of
from draftproof.drafting.session import Session


def can_run(session: Session) -> bool:
    """Whether the session's model writes by itself, and nobody drafts for it."""
    model = session.target
    return session.drafter is None and isinstance(model, GreedyModel) and model.tokens_at_once > 1


def run(session: Session, halts: Mapping[int, Tensor]) -> list[RowOutcome]:
    """Up to `tokens_at_once` tokens for each row of `halts` (where it stops, see `GreedyWish`) that is decoded plainly
    and greedily. Rows that are not, and those whose logits are no numbers, are left as they were and have no outcome:
    a round serves them, or says what is wrong."""
    model = session.target
    assert isinstance(model, GreedyModel)
    states = {row: session.rows[row] for row in halts if _is_plain(session.rows[row])}
    wishes = {
        row: GreedyWish(state.tokens[-1], min(model.tokens_at_once, state.limit - len(state.tokens)), halts[row])
        for row, state in states.items()
    }
    if not wishes:
        return []
    outcomes = []
    taps = {tap_of(layer, model.info) for state in states.values() for layer in state.hidden_layers}
    for row, text in model.write_greedily(wishes, sorted(taps)).items():
        state, tokens = states[row], text.tokens
        if not tokens:
            continue
        stop = next((index for index, token in enumerate(tokens) if token in state.stop_ids), None)
        if stop is not None and stop + 1 < len(tokens):
            tokens = tokens[: stop + 1]
            model.truncate(row, len(state.tokens) + stop)
        state.tokens.extend(tokens)
        state.done = stop is not None or len(state.tokens) >= state.limit
        state.rounds += len(tokens)
        basis = _basis(state, text, len(tokens), model.info) if state.basis else None
        outcomes.append(RowOutcome(row, tuple(tokens), state.done, None, basis=basis))
    return outcomes


def _basis(state: RowState, text: GreedyText, count: int, target: ModelInfo) -> Basis:
    """Of the first `count` tokens."""
    hidden = {layer: text.hidden[tap_of(layer, target)][:count] for layer in state.hidden_layers}
    return Basis(text.logits[:count], hidden)


def _is_plain(state: RowState) -> bool:
    return (
        state.sampling.greedy and state.sampling.repetition_penalty == 1.0 and state.logprobs is None and not state.done
    )
