"""Random streams that depend on a row's seed and on what a number is for, never on when it is drawn.

A number's address is (seed, purpose, absolute position of the token it decides, lane). Batches, draft lengths and
tree shapes do not move it, so seeded text is the same with and without drafting. Purposes are independent streams:
sharing one between the draft and the residual would bias the output.
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


@dataclass(frozen=True)
class KeyedRng:
    seed: int

    def uniform(self, purpose: Purpose, position: int, lane: int = 0) -> float:
        """One number in the open interval (0, 1)."""
        return ((word(self.seed, int(purpose), position, lane) >> 9) + 0.5) * 2.0**-23

    def exponentials(self, purpose: Purpose, position: int, ids: Tensor, lane: int = 0) -> Tensor:
        """Standard exponential draws, float32, one for each token id: `argmin(E_v / p_v)` is a draw from p."""
        return exponentials(self.seed, int(purpose), position, lane, ids)

    def exponential_row(self, purpose: Purpose, position: int, count: int, lane: int = 0) -> Tensor:
        """The same for ids 0 … count - 1, [count] on the CPU, in a fraction of the time."""
        return exponential_row(self.seed, int(purpose), position, lane, count)
