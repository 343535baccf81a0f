"""Bookkeeping of rows and slots, without any model."""

from __future__ import annotations

import pytest
import torch

from draftproof.drafting.backends.slot_tree import RowTable, SlotTree
from draftproof.drafting.model import RowTokens
from draftproof.errors import ContextLengthError, UsageError

LAYERS = 3


def written(tree: SlotTree, parents: list[int] | None, count: int, start: int = 0) -> SlotTree:
    return tree.written(parents, count, start, 0, LAYERS)


def tokens(row: int, count: int, start: int = 0, parents: list[int] | None = None) -> RowTokens:
    return RowTokens(row, torch.arange(count), None if parents is None else torch.tensor(parents), start)


@pytest.fixture
def table() -> RowTable:
    table = RowTable(vocab_size=10, context_length=8, n_layers=LAYERS)
    table.add(4)
    return table


def test_depths_are_counted_from_the_committed_end() -> None:
    tree = written(SlotTree(), [-1, 0, 0, 2, -1], 5)
    assert tree.depths == (0, 1, 1, 2, 0)
    assert not tree.is_chain


def test_a_slot_sees_its_ancestors_and_itself() -> None:
    tree = written(SlotTree(), [-1, 0, 0, 2, -1], 5)
    seen = [[slot for slot in range(5) if row[slot]] for row in tree.visible(0)]
    assert seen == [[0], [0, 1], [0, 2], [0, 2, 3], [4]]
    assert torch.equal(tree.visible(3), tree.visible(0)[3:])


def test_a_chain_sees_what_a_tree_of_one_branch_sees() -> None:
    chain, tree = written(SlotTree(), None, 4), written(SlotTree(), [-1, 0, 1, 2], 4)
    assert chain == tree
    assert chain.is_chain
    assert torch.equal(chain.visible(2), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool())


def test_what_is_a_chain_follows_what_is_left_of_the_slots() -> None:
    branched = written(written(SlotTree(), None, 2), [0, 2], 2, start=2)
    assert not branched.is_chain
    assert not written(branched, None, 1, start=3).is_chain
    assert written(branched, None, 1, start=2).is_chain
    assert written(branched, None, 3).is_chain


def test_slots_from_the_start_of_a_pass_on_are_forgotten() -> None:
    tree = written(written(SlotTree(), None, 5), [0], 1, start=2)
    assert tree.parents == (-1, 0, 0)


@pytest.mark.parametrize(
    ("parents", "count", "start", "message"),
    [
        pytest.param([-1, 1], 2, 0, "Slot 1 hangs under slot 1", id="its-own-parent"),
        pytest.param([1, -1], 2, 0, "Slot 0 hangs under slot 1", id="parent-after-child"),
        pytest.param([-2], 1, 0, "slot -2", id="below-the-committed-end"),
        pytest.param([-1], 2, 0, "2 tokens came with 1 parents", id="too-few-parents"),
        pytest.param(None, 1, 4, "begins at slot 4, but the row has 3", id="a-gap"),
        pytest.param(None, 1, -1, "begins at slot -1", id="negative-start"),
    ],
)
def test_trees_that_are_none_are_refused(parents: list[int] | None, count: int, start: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        written(written(SlotTree(), None, 3), parents, count, start)


def test_layers_can_only_be_resumed_where_the_lower_ones_ran() -> None:
    lower = SlotTree().written([-1, 0, 0], 3, 0, 0, 2)
    resumed = lower.written([-1, 0, 0], 3, 0, 2, LAYERS)
    assert resumed.layers == (LAYERS,) * 3
    with pytest.raises(UsageError, match="no earlier pass wrote so"):
        lower.written([-1, 0, 1], 3, 0, 2, LAYERS)
    with pytest.raises(UsageError, match="no earlier pass wrote so"):
        lower.written([-1, 0, 0, 0], 4, 0, 2, LAYERS)
    with pytest.raises(UsageError, match="over which 2 layers have run, not 3"):
        lower.written([0], 1, 2, 0, LAYERS)
    with pytest.raises(UsageError, match="only 1 layers have run"):
        SlotTree().written(None, 1, 0, 0, 1).written(None, 1, 0, 2, LAYERS)


def test_only_paths_that_ran_through_all_layers_are_committed() -> None:
    tree = written(SlotTree(), [-1, 0, 0, 2], 4)
    for path in ([], [0], [0, 1], [0, 2, 3]):
        tree.check_path(path, LAYERS)
    for path in ([1], [0, 3], [0, 1, 2], [4], [-1], [0, 0]):
        with pytest.raises(UsageError, match=r"Slot -?\d was to be committed"):
            tree.check_path(path, LAYERS)
    with pytest.raises(UsageError, match="only 1 of 3 layers"):
        SlotTree().written(None, 1, 0, 0, 1).check_path([0], LAYERS)


def test_a_plan_says_columns_and_positions_and_changes_nothing(table: RowTable) -> None:
    table.apply(table.plan([tokens(4, 3)]))
    table.committed(4, 3)
    table.apply(table.plan([tokens(4, 3, parents=[-1, -1, 1])]))
    (part,) = table.plan([tokens(4, 2, start=2, parents=[0, 2])])
    assert (part.length, part.start, part.count) == (3, 2, 2)
    assert (part.first_column, part.columns) == (5, 7)
    assert part.positions == [4, 5]
    assert table.slots(4).parents == (-1, -1, 1)
    table.apply([part])
    assert table.slots(4).parents == (-1, -1, 0, 2)


def test_a_path_that_lies_in_place_is_not_moved(table: RowTable) -> None:
    table.apply(table.plan([tokens(4, 4, parents=[-1, 0, 0, 2])]))
    assert table.check_commit(4, [0, 1]) == (0, None)
    assert table.check_commit(4, []) == (0, None)
    assert table.check_commit(4, [0, 2, 3]) == (0, [0, 2, 3])
    table.committed(4, 3)
    assert table.length(4) == 3
    assert len(table.slots(4)) == 0


def test_committed_and_scratch_together_must_fit_the_context(table: RowTable) -> None:
    table.apply(table.plan([tokens(4, 6)]))
    table.committed(4, 6)
    table.apply(table.plan([tokens(4, 2)]))
    with pytest.raises(ContextLengthError, match="Row 4 would hold 9 tokens, the model's context holds 8"):
        table.plan([tokens(4, 1, start=2)])
    with pytest.raises(ContextLengthError):
        table.plan([tokens(4, 3)])


def test_truncation_forgets_slots_and_keeps_to_what_is_there(table: RowTable) -> None:
    table.apply(table.plan([tokens(4, 4)]))
    table.committed(4, 3)
    table.apply(table.plan([tokens(4, 2)]))
    table.truncate(4, 3)
    assert (table.length(4), len(table.slots(4))) == (3, 0)
    for length in (4, -1):
        with pytest.raises(UsageError, match="it holds 3"):
            table.truncate(4, length)


def test_rows_come_and_go(table: RowTable) -> None:
    with pytest.raises(ValueError, match="Row 4 is in use"):
        table.add(4)
    table.drop(4)
    with pytest.raises(UsageError, match="no row 4"):
        table.length(4)
    table.add(4)
    assert table.length(4) == 0
