"""Walks that need no q: arg-max ids, and the target's own draws (the `match` rule), over chains and trees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from draftproof.kernels.decide_match import decide_match_torch
from draftproof.kernels.decide_match_triton import decide_match_triton
from draftproof.kernels.drafted import TARGET, Drafted
from draftproof.kernels.philox import exponential_row
from draftproof.kernels.race import target_draw_torch
from draftproof.kernels.race_triton import target_draw_triton
from draftproof.kernels.walk import walk_torch
from draftproof.kernels.walk_triton import walk_triton
from tests.kernels.rounds import Chain, assert_same, assert_well_formed, packed, random_chains


@pytest.fixture(params=["torch", "triton"])
def walk(request):
    return walk_torch if request.param == "torch" else walk_triton


def drafted(tokens: list[list[int]], parent: list[list[int]] | None, cu_rows: list[int], device) -> Drafted:
    zeros = torch.zeros(len(tokens), dtype=torch.int64, device=device)
    above = None if parent is None else torch.tensor(parent, device=device)
    return Drafted(torch.tensor(tokens, device=device), torch.tensor(cu_rows, device=device), zeros, zeros, above)


def test_a_chain_is_followed_to_its_first_difference(walk, device):
    ids = torch.tensor([5, 6, 7, 8, 5, 9, 1, 4], device=device)
    found = walk(ids, drafted([[5, 6, 7], [5, 6, -1], [-1, -1, -1]], None, [0, 4, 7, 8], device))
    assert found.out.tolist() == [[5, 6, 7, 8], [5, 9, -1, -1], [4, -1, -1, -1]]
    assert found.num.tolist() == [4, 2, 1]
    assert found.path.tolist() == [[0, 1, 2], [0, -1, -1], [-1, -1, -1]]
    assert found.bad.tolist() == [-1, -1, -1]


def test_a_tree_is_followed_from_child_to_child(walk, device):
    """Tokens equal to the wanted one hang elsewhere too: as a sibling's child, and as a child of an earlier node."""
    tokens, parent = [[3, 5, 6, 6, 7]], [[-1, -1, 0, 1, 3]]
    ids = torch.tensor([5, 1, 6, 1, 7, 9], device=device)
    found = walk(ids, drafted(tokens, parent, [0, 6], device))
    assert found.path.tolist() == [[1, 3, 4, -1, -1]]
    assert found.out.tolist() == [[5, 6, 7, 9, -1, -1]]


def test_a_bad_row_ends_the_walk_where_it_is_reached(walk, device):
    chain = [[5, 6, 7]]
    reached = walk(torch.tensor([5, -1, 7, 8], device=device), drafted(chain, None, [0, 4], device))
    assert (reached.out.tolist(), reached.num.tolist(), reached.bad.tolist()) == ([[5, -1, -1, -1]], [1], [1])
    passed_by = walk(torch.tensor([4, -1, 7, 8], device=device), drafted(chain, None, [0, 4], device))
    assert (passed_by.out.tolist(), passed_by.num.tolist(), passed_by.bad.tolist()) == ([[4, -1, -1, -1]], [1], [-1])


def test_padding_and_ids_beyond_the_vocabulary_match_nothing(walk, device):
    found = walk(torch.tensor([5, 6, 7], device=device), drafted([[-1, 10**12]], [[-1, -1]], [0, 3], device))
    assert found.out.tolist() == [[5, -1, -1]]


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        pytest.param([0, 2, 1], [-1, -1, -1], id="at themselves and in a circle"),
        pytest.param([1, -1, 2], [1, -1, -1], id="a child that stands before its parent"),
    ],
)
def test_broken_parents_end_in_a_token_all_the_same(walk, parent, path, device):
    """Parents come before their children; nodes for which that is not so are not reached, and nothing loops."""
    found = walk(torch.tensor([5, 5, 5, 5], device=device), drafted([[5, 5, 5]], [parent], [0, 4], device))
    assert found.path.tolist() == [path]
    assert found.num.tolist() == [1 + sum(n >= 0 for n in path)]


def test_random_walks_agree(device):
    g = torch.Generator().manual_seed(0)
    for trial in range(6):
        nodes = [0, 1, 7, 12]
        tokens = torch.randint(0, 3, (4, 12), generator=g)
        parent = (torch.rand(4, 12, generator=g) * torch.arange(13)[:12]).long() - 1
        cu_rows = [0, *torch.tensor([n + 1 for n in nodes]).cumsum(0).tolist()]
        ids = torch.randint(-1 if trial == 0 else 0, 3, (cu_rows[-1],), generator=g)
        one = walk_torch(ids, drafted(tokens.tolist(), parent.tolist(), cu_rows, "cpu"))
        assert_same(one, walk_triton(ids.to(device), drafted(tokens.tolist(), parent.tolist(), cu_rows, device)))


@pytest.mark.parametrize("tree", [False, True])
def test_match_decides_alike_and_as_plain_sampling(tree, device):
    """Drafts that follow the target's own draws for a while: what comes out is those draws, whatever was drafted."""
    vocab = 97
    chains = random_chains([3, 2, 0], vocab, seed=6)
    chains[1] = replace(chains[1], inv_temp=0.0)
    given = packed(chains, top_k=20)
    law, inner = given.stats.threshold, given.drafted
    rows, request = torch.arange(len(given.logits)), torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
    own = target_draw_torch(
        given.logits,
        given.stats.inv_temp,
        law,
        inner.seeds[request],
        inner.positions[request] + rows - inner.cu_rows[request],
    )
    tokens = torch.tensor([[int(own[0]), int(own[1]), 1], [int(own[4]), 2, -1], [-1, -1, -1]])
    parent = None
    if tree:  # the same chain, behind a sibling that is wrong: the root's row and positions stay
        parent = torch.tensor([[-1, 0, 1], [-1, -1, -1], [-1, -1, -1]])
    inner = replace(inner, tokens=tokens, parent=parent)
    given = replace(given, drafted=inner)
    one = decide_match_torch(given.logits, given.stats.inv_temp, law, inner)
    assert one.out[0, :3].tolist() == own[:3].tolist()
    assert one.out[1, 0] == chains[1].logits[0].argmax()
    on = given.on(device)
    assert_same(one, decide_match_triton(on.logits, on.stats.inv_temp, on.stats.threshold, on.drafted, block=64))


def test_a_tree_is_keyed_by_depth_and_not_by_index(device):
    """Two siblings: both their rows decide the same position, with the same numbers."""
    logits = torch.randn(31, generator=torch.Generator().manual_seed(3))
    rows = torch.stack([logits] * 3)
    own = target_draw_torch(rows[:2], torch.ones(2), None, torch.zeros(2).long(), torch.tensor([7, 8]))
    first = int(own[0])
    for tokens in ([first, 30 - first], [(first + 1) % 31, first]):
        given = packed([Chain(rows, rows[:2].softmax(-1), tokens, parent=[-1, -1])])
        for device_rows, decide in ((given, decide_match_torch), (given.on(device), decide_match_triton)):
            found = decide(device_rows.logits, device_rows.stats.inv_temp, None, device_rows.drafted)
            assert found.out.tolist() == [[first, int(own[1]), -1]]


def test_near_ties_are_the_only_differences_and_few(device):
    """Equal numbers give equal tokens but where rounding decides between two scores: in one draw of 64 at most."""
    rows = 3.0 * torch.randn(64, 97, generator=torch.Generator().manual_seed(5))
    each = torch.arange(64)
    one = target_draw_torch(rows, torch.ones(64), None, each, each)
    on = [t.to(device) for t in (rows, torch.ones(64), each)]
    other = target_draw_triton(on[0], on[1], None, on[2], on[2], block=128).cpu()
    differing = (one != other).nonzero().flatten().tolist()
    assert len(differing) <= 1
    for row in differing:
        score = rows[row].double() - exponential_row(row, TARGET, row, 0, 97).double().log()
        gap = abs(float(score[one[row]] - score[other[row]]))
        assert gap < 1e-6 * max(1.0, abs(float(score.max())))


def test_well_formed_when_nothing_is_drafted(device):
    given = packed(random_chains([0, 0], 31, seed=1))
    found = decide_match_torch(given.logits, given.stats.inv_temp, None, given.drafted)
    assert_well_formed(found, 31)
    assert found.num.tolist() == [1, 1]
