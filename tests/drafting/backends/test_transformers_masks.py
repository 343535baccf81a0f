"""Masks as such: what padding sees, windows by position, and the forms that attention takes."""

from __future__ import annotations

import torch

from draftproof.drafting.backends.slot_tree import PlannedRow, RowTable
from draftproof.drafting.backends.transformers_masks import (
    as_attention_takes,
    is_plain_chain,
    seen_columns,
    within_window,
)
from draftproof.drafting.model import RowTokens


def planned(*rows: tuple[int, list[int]]) -> list[PlannedRow]:
    """Rows of so many committed tokens and slots with these parents."""
    table = RowTable(vocab_size=9, context_length=99, n_layers=1)
    for row, (length, _) in enumerate(rows):
        table.add(row)
        if length:
            table.apply(table.plan([RowTokens(row, torch.zeros(length, dtype=torch.int64))]))
            table.committed(row, length)
    ids = [torch.zeros(len(parents), dtype=torch.int64) for _, parents in rows]
    return table.plan([RowTokens(row, ids[row], torch.tensor(parents)) for row, (_, parents) in enumerate(rows)])


def drawn(seen: torch.Tensor) -> list[str]:
    return ["".join(".#"[int(cell)] for cell in line) for line in seen]


def test_committed_tokens_ancestors_and_the_slot_itself_are_seen() -> None:
    long, short = seen_columns(planned((2, [-1, 0, 0, 1]), (4, [-1])))
    assert drawn(long) == ["###...", "####..", "###.#.", "####.#"]
    # three tokens of padding, which must see something
    assert drawn(short) == ["#####.", "#.....", "#.....", "#....."]


def test_a_window_goes_by_position_and_leaves_padding_something_to_see() -> None:
    rows = planned((3, [-1, -1, -1, 2, 3]), (7, [-1]))
    tree, chain = within_window(seen_columns(rows), rows, 3)
    assert drawn(tree) == [".###....", ".##.#...", ".##..#..", "..#..##.", ".....###"]
    assert drawn(chain)[0] == ".....###"
    assert set(drawn(chain)[1:]) == {"#......."}


def test_chains_that_begin_in_one_column_need_no_mask_of_ours() -> None:
    assert is_plain_chain(planned((3, [-1, 0]), (3, [-1])))
    assert not is_plain_chain(planned((3, [-1, 0]), (2, [-1])))
    assert not is_plain_chain(planned((3, [-1, -1])))


def test_sdpa_takes_truth_values_and_eager_attention_what_is_added_to_scores() -> None:
    seen = seen_columns(planned((1, [-1, -1])))
    cpu = torch.device("cpu")
    boolean = as_attention_takes(seen, eager=False, dtype=torch.float16, device=cpu)
    assert torch.equal(boolean, seen.unsqueeze(1))
    added = as_attention_takes(seen, eager=True, dtype=torch.float16, device=cpu)
    lowest = torch.finfo(torch.float16).min
    assert added.tolist() == [[[[0.0, 0.0, lowest], [0.0, lowest, 0.0]]]]
