"""Choose where to leave the target and how much to draft there, every round, from what each exit would have got right.

Zarch et al., arXiv 2504.05598 (DEL): of the exits ℓ and draft lengths d take the pair with the most tokens per layer,
`(1 - α^(d+1)) / (1 - α) / (d ℓ + L)`, where α is the recent acceptance of what layer ℓ would have drafted. That
counts a verification of d + 1 tokens like one of 1 token, which it is not on most machines. Here layers cost what
passes were measured to cost: d + 1 steps through ℓ layers, then a pass of d + 1 tokens through the other L - ℓ. With
v(k) = 1 the two are the same. What drafting and verifying then really took corrects both. Plain decoding is one of the
choices.

Within a round, drafting goes on while one more token is expected to bring more per millisecond than the round as
planned; how sure the exit was of a token is translated into acceptance by how that came out before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.exits import Exits
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.rounds import RowRound
from draftproof.errors import UsageError

MEMORY = 0.95
BINS = 8
"""Of confidence, for its translation into acceptance."""

GAIN = 1.03
"""Drafting must promise this much over plain decoding; the gap keeps noise from deciding."""

RAREST_SCORE = 64
"""Rounds: while drafting does not pay, exits are scored at doubling intervals, because scoring costs head rows."""


@dataclass
class _Drafted:
    """What a row drafted in the round that is running."""

    confidences: list[float] = field(default_factory=list)
    path: float = 1.0
    """Estimated probability that all of it is accepted."""


class DEL:
    """For drafters that offer `DrafterSpec.exits`, such as `EarlyExit(..., candidates=...)`."""

    name = "del"
    needs_costs = True

    def __init__(self, max_length: int = 12) -> None:
        if max_length < 1:
            raise UsageError(f"max_length is {max_length}, it must be at least 1.")
        self.max_length = max_length
        self._drafted: dict[int, _Drafted] = {}
        self._translation: dict[tuple[int, int], list[float]] = {}
        """(layer, bin of confidence) -> running accepted and tested tokens."""
        self._draft_overrun: dict[int, float] = {}
        """Layer -> what drafting takes, as a multiple of what its layers should."""
        self._verify_overrun = 1.0
        """The same of verification, plain steps included: texts grow, machines are shared."""
        self._speed = 0.0
        """Tokens per millisecond that the running round promises."""
        self._rows = 1

    def bind(self, costs: PassCosts | None, drafter: DrafterSpec) -> None:
        assert costs is not None, "declared by needs_costs"
        if drafter.exits is None:
            raise UsageError(
                f"The policy 'del' chooses among exits of the target, and the drafter {drafter.name!r} offers none.",
                remedy="Name exits that it may choose from: --drafter early-exit:exit_layer=10,candidates=6+10+14.",
            )
        self._costs = costs
        self._exits: Exits = drafter.exits
        self._longest = min(self.max_length, drafter.max_nodes)

    def budgets(self, rows: Sequence[int]) -> tuple[int, ...]:
        self._rows = len(rows)
        self._drafted = {row: _Drafted() for row in rows}
        plain = self._rows / self._verify_ms(0, 0)
        layer, length, speed = self.best(rows)
        if speed < GAIN * plain:
            self._exits.interval = min(2 * self._exits.interval, RAREST_SCORE)
            return (0,) * self._rows
        self._exits.interval = 1
        self._exits.layer = layer
        self._speed = speed
        return (length,) * self._rows

    def best(self, rows: Sequence[int]) -> tuple[int, int, float]:
        """Exit layer, draft length and the tokens per millisecond that they promise, all rows together."""
        found = (self._exits.layer, 1, 0.0)
        for layer in self._exits.candidates:
            acceptances = [self._exits.acceptance(row, layer) for row in rows]
            tokens, paths = float(len(rows)), [1.0] * len(rows)
            for length in range(1, self._longest + 1):
                paths = [path * acceptance for path, acceptance in zip(paths, acceptances, strict=True)]
                tokens += sum(paths)
                speed = tokens / self._round_ms(layer, length)
                if speed > found[2]:
                    found = (layer, length, speed)
        return found

    def go_on(self, signal: StepSignal) -> bool:
        drafted = self._drafted.setdefault(signal.row, _Drafted())
        drafted.confidences.append(signal.top_probability)
        layer = self._exits.layer
        drafted.path *= self._translated(layer, signal.top_probability)
        gain = drafted.path * self._exits.acceptance(signal.row, layer)
        share = self._round_ms(layer, signal.step + 1) - self._round_ms(layer, signal.step)
        return gain >= self._speed * share / self._rows

    def cut(self, rows: Sequence[int], draft: Draft) -> Draft:
        return draft

    def observe(self, rounds: Sequence[RowRound]) -> None:
        for record in rounds:
            drafted = self._drafted.get(record.row)
            if drafted is None or not record.drafted:
                continue
            for depth, confidence in enumerate(drafted.confidences[: record.accepted + 1]):
                seen = self._translation.setdefault((self._exits.layer, _bin(confidence)), [0.0, 0.0])
                seen[0] = MEMORY * seen[0] + (1.0 if depth < record.accepted else 0.0)
                seen[1] = MEMORY * seen[1] + 1.0
        length = max((record.depth for record in rounds), default=0)
        layer = self._exits.layer if length else 0
        verify = sum(record.verify_ms for record in rounds) / self._pass_ms(layer, length)
        self._verify_overrun = MEMORY * self._verify_overrun + (1.0 - MEMORY) * verify
        if length:
            draft = sum(record.draft_ms for record in rounds) / self._steps_ms(layer, length)
            self._draft_overrun[layer] = MEMORY * self._draft_overrun.get(layer, draft) + (1.0 - MEMORY) * draft

    def forget(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._drafted.pop(row, None)

    # Costs of all rows together, in milliseconds

    def _round_ms(self, layer: int, length: int) -> float:
        known = self._draft_overrun.values()
        overrun = self._draft_overrun.get(layer, sum(known) / len(known) if known else 1.0)
        return overrun * self._steps_ms(layer, length) + self._verify_ms(layer, length)

    def _verify_ms(self, layer: int, length: int) -> float:
        return self._verify_overrun * self._pass_ms(layer, length)

    def _steps_ms(self, layer: int, length: int) -> float:
        """Drafting, as measured passes have it."""
        return (length + 1) * layer / self._exits.n_layers * self._costs.pass_ms(self._rows)

    def _pass_ms(self, layer: int, length: int) -> float:
        """Verification from `layer` on, as measured passes have it; 0 and 0 for a plain step."""
        return (1.0 - layer / self._exits.n_layers) * self._costs.pass_ms(self._rows * (length + 1))

    def _translated(self, layer: int, confidence: float) -> float:
        """Acceptance of tokens that the exit was as sure of, with the confidence itself as one observation."""
        hits, trials = self._translation.get((layer, _bin(confidence)), (0.0, 0.0))
        return (hits + confidence) / (trials + 1.0)


def _bin(confidence: float) -> int:
    return min(BINS - 1, int(confidence * BINS))
