"""Two verifiers of the same subjects."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.metrics.pairs import PairTable, pair_table
from draftproof.verdict import Outcome

A, R, N, E = Outcome.ACCEPT, Outcome.REJECT, Outcome.ABSTAIN, Outcome.ERROR


def test_the_table_and_kappa_by_hand() -> None:
    table = pair_table([A, A, A, R, R, N, E], [A, A, R, A, R, A, N])
    assert table == PairTable(both_accept=2, first_accepts=1, second_accepts=1, both_reject=1, undecided=2)
    assert table.agreement == 0.6
    chance = (3 * 3 + 2 * 2) / 25
    assert table.kappa == pytest.approx((0.6 - chance) / (1 - chance))


def test_agreeing_always_is_no_skill_when_both_say_one_thing() -> None:
    assert pair_table([A] * 5, [A] * 5).agreement == 1.0
    assert pair_table([A] * 5, [A] * 5).kappa is None
    assert pair_table([A, R], [A, R]).kappa == 1.0
    assert pair_table([A, R], [R, A]).kappa == -1.0
    assert pair_table([N], [A]).kappa is None


def test_different_lengths_are_refused() -> None:
    with pytest.raises(UsageError):
        pair_table([A], [A, R])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([A, R]), st.sampled_from([A, R])), min_size=1, max_size=30))
def test_kappa_is_scikit_learns(pairs: list[tuple[Outcome, Outcome]]) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    kappa = pair_table([a for a, _ in pairs], [b for _, b in pairs]).kappa
    if kappa is not None:
        assert kappa == pytest.approx(sk.cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs]))
