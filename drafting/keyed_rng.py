"""Random streams that depend on a row's seed and on what a number is for, never on when it is drawn.

A number's address is (seed, purpose, absolute position of the token it decides, lane). Batches, draft lengths and
tree shapes do not move it, so under the rule `match` seeded text is the same with and without drafting. Purposes are
independent streams: sharing one between the draft and the residual would bias the output. So would drafting from one
number twice, which is why a drafter is given the streams of its round (`of_round`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from draftproof.kernels.philox import exponential_row, exponentials, word


class Purpose(IntEnum):
    """What a number is drawn for; the value is part of its address and never changes."""

    DRAFT = 0
    ACCEPT = 1
    RESIDUAL = 2
    TARGET = 3
    """The target's own draw: plain sampling, the `match` rule and bonus tokens."""
    LENGTH = 4
    ROUND = 5
    """Where the streams of a round's drafter come from."""
    PROMPT = 6
    """Where the seeds of several prompts under one seed come from."""


@dataclass(frozen=True)
class KeyedRng:
    seed: int

    def of_round(self, position: int) -> KeyedRng:
        """Streams that no other round has: what the drafter of the round that begins at `position` draws with.

        Which tokens block verification keeps depends on drafted tokens beyond them. Were those drawn from the same
        numbers again in the next round, the text would be biased: two tokens drafted at p = (1/3, 2/3) and
        q = (2/3, 1/3) miss the law of three tokens by 7/108 in total variation (`test_exact_laws.py` computes it).
        """
        return self._derived(Purpose.ROUND, position)

    def of_prompt(self, index: int) -> KeyedRng:
        """Streams of the prompt at `index` of a list under one seed; those of the first are the seed's own."""
        return self if index == 0 else self._derived(Purpose.PROMPT, index)

    def _derived(self, purpose: Purpose, number: int) -> KeyedRng:
        high, low = (word(self.seed, int(purpose), number, 0, index) for index in (0, 1))
        return KeyedRng((high >> 1) << 32 | low)

    def uniform(self, purpose: Purpose, position: int, lane: int = 0) -> float:
        """One number in the open interval (0, 1)."""
        return ((word(self.seed, int(purpose), position, lane) >> 9) + 0.5) * 2.0**-23

    def exponentials(self, purpose: Purpose, position: int, ids: Tensor, lane: int = 0) -> Tensor:
        """Standard exponential draws, float32, one for each token id: `argmin(E_v / p_v)` is a draw from p."""
        return exponentials(self.seed, int(purpose), position, lane, ids)

    def exponential_row(self, purpose: Purpose, position: int, count: int, lane: int = 0) -> Tensor:
        """The same for ids 0 … count - 1, [count] on the CPU, in a fraction of the time."""
        return exponential_row(self.seed, int(purpose), position, lane, count)
