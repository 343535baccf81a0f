"""How much two verifiers say the same: where they always agree, asking both gains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftproof.errors import UsageError
from draftproof.metrics.arrays import aligned
from draftproof.verdict import Outcome


@dataclass(frozen=True)
class PairTable:
    """The 2×2 table of two verifiers on the subjects that both decided."""

    both_accept: int
    first_accepts: int
    """The first accepts, the second rejects."""
    second_accepts: int
    both_reject: int
    undecided: int = 0
    """Subjects that one of them left undecided; not in the table, and in no measure of it."""

    def __post_init__(self) -> None:
        if min(self.both_accept, self.first_accepts, self.second_accepts, self.both_reject, self.undecided) < 0:
            raise UsageError("Subjects are counted from 0.")

    @property
    def decided(self) -> int:
        return self.both_accept + self.first_accepts + self.second_accepts + self.both_reject

    @property
    def agreement(self) -> float | None:
        """Share of the decided subjects on which they say the same; None where there are none."""
        return (self.both_accept + self.both_reject) / self.decided if self.decided else None

    @property
    def kappa(self) -> float | None:
        """Cohen's κ: agreement beyond that of two independent verifiers with the same shares of accepts.

        None where chance alone must agree: nothing decided, or both say one and the same of everything.
        """
        n = self.decided
        if not n:
            return None
        first, second = self.both_accept + self.first_accepts, self.both_accept + self.second_accepts
        chance = first * second + (n - first) * (n - second)  # in n², exact
        if chance == n * n:
            return None
        return ((self.both_accept + self.both_reject) * n - chance) / (n * n - chance)


def pair_table(first: Sequence[Outcome], second: Sequence[Outcome]) -> PairTable:
    """The table of two verifiers' outcomes about the same subjects, in the same order.

    The caller holds to one proposition and granularity: outcomes about different ones do not compare.
    """
    aligned(("first outcomes", first), ("second outcomes", second))
    pairs = [(Outcome(a), Outcome(b)) for a, b in zip(first, second, strict=True)]
    accept, reject = Outcome.ACCEPT, Outcome.REJECT
    table = PairTable(
        both_accept=pairs.count((accept, accept)),
        first_accepts=pairs.count((accept, reject)),
        second_accepts=pairs.count((reject, accept)),
        both_reject=pairs.count((reject, reject)),
    )
    return PairTable(
        table.both_accept, table.first_accepts, table.second_accepts, table.both_reject, len(pairs) - table.decided
    )
