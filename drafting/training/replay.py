"""Decoding given text again from cached features: what a drafter is worth, without a pass of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.training.features import Features


@dataclass(frozen=True)
class Replay:
    """What decoding the held-out texts again would have taken."""

    rounds: int
    tokens: int

    @property
    def block_efficiency(self) -> float:
        """Tokens a pass of the target."""
        return self.tokens / self.rounds if self.rounds else 0.0


def replay(drafter: Drafter, model: CachedModel, features: Features, texts: Sequence[int], *, budget: int) -> Replay:
    """Decode texts of the target again with a drafter that needs its last hidden state, from the cached features.

    Exactly the rounds that the engine would make under the rule `match`, since the text is the target's own choice,
    but without a pass of the target.
    """
    drafter.bind(Binding(model, None))
    at: dict[int, int] = {}
    """Of each text: index of its pending token."""
    for text in texts:
        begin, pending = int(features.bounds[text]), int(features.prompt_lengths[text])
        ids = features.text(text)
        if len(ids) > pending + 1:
            states = {-1: features.hidden[begin : begin + pending]}
            drafter.start(Commit(text, tuple(ids[: pending + 1].tolist()), (), pending + 1, states, reason="prefill"))
            at[text] = pending
    rounds = tokens = 0
    while at:
        rows = tuple(at)
        left = [len(features.text(row)) - 1 - at[row] for row in rows]
        request = DraftRequest(
            rows=rows,
            budget=tuple(min(budget, n - 1) for n in left),
            sampling=tuple(Sampling(temperature=float(features.temperatures[row])) for row in rows),
            rng=tuple(KeyedRng(row) for row in rows),
        )
        draft = drafter.propose(request)
        events = []
        for index, row in enumerate(rows):
            begin, pending = int(features.bounds[row]), at[row]
            ids = features.text(row)
            path = accepted_path(draft, index, ids[pending + 1 :].tolist())
            new = ids[pending + 1 : pending + 2 + len(path)]
            states = {-1: features.hidden[begin + pending : begin + pending + len(new)]}
            events.append(Commit(row, tuple(new.tolist()), tuple(path), pending + 1 + len(new), states))
            rounds += 1
            tokens += len(new)
            at[row] = pending + len(new)
        drafter.commit(events)
        ended = [row for row in rows if at[row] >= len(features.text(row)) - 1]
        drafter.stop(ended)
        for row in ended:
            del at[row]
    return Replay(rounds, tokens)


def accepted_path(draft: Draft, row: int, truth: Sequence[int]) -> list[int]:
    """Nodes of a draft that agree with what the target says, which leaves at least one token to the target."""
    tokens, parents = draft.tree(row)
    path: list[int] = []
    at = -1
    for token in truth[:-1]:
        children = [n for n, above in enumerate(parents) if above == at and tokens[n] == token]
        if not children:
            break
        at = children[0]
        path.append(at)
    return path
