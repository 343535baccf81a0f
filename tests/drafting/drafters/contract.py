"""What every drafter must hold, as checks that take any of them (the list is at the top of `drafting/drafter.py`).

A check builds the drafter anew, lives rounds with it on a real target, and raises AssertionError when an invariant is
broken. What is accepted in a round is decided by a keyed coin, not by the target: a drafter is told what happened and
may not assume why. `test_contract.py` runs all checks on every drafter of `factories.py`, and on broken ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from draftproof.drafting.checks import check_draft, depth_of
from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import GoOn
from tests.drafting.drafters.contract_life import ROUNDS, ROWS, Life, Subject, prompt_of, replace_target, run
from tests.drafting.rules.goodness import p_value

LAW_SEEDS = 500
IMPROBABLE = 1e-5
"""A truthful drafter fails a law check this rarely; seeds are fixed, so one that passes always passes."""


def assert_same(left: Draft, right: Draft, at: int, other: int, why: str) -> None:
    """Row `at` of one draft and row `other` of another say the same; figures up to rounding."""
    assert left.tree(at) == right.tree(other), f"{why}: {left.tree(at)} and {right.tree(other)}"
    assert left.law == right.law, why
    count = int(left.n_nodes[at])
    if not count:
        return
    assert (left.score is None) == (right.score is None), why
    if left.score is not None and right.score is not None:
        torch.testing.assert_close(left.score[at, :count], right.score[other, :count], rtol=1e-4, atol=1e-5)
    if left.q is not None and right.q is not None:
        first = left.q.probs[at][left.q.of[at, :count]]
        second = right.q.probs[other][right.q.of[other, :count]]
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


def check_spec(subject: Subject) -> None:
    with Life(subject) as life:
        spec, layers = life.drafter.spec, subject.target.info.n_layers
        assert spec.name
        assert spec.max_nodes >= 1
        assert spec.max_depth >= 1
        assert all(-1 <= layer <= layers for layer in spec.hidden_layers)
        assert bool(spec.hidden_layers) == ("hidden" in spec.needs)


def check_it_drafts(subject: Subject) -> None:
    """Drafting nothing is legal in a round, but not always."""
    with Life(subject) as life:
        life.start(ROWS[0], prompt_of(ROWS[0]))
        drafts = run(life, ROWS[:1])
        assert any(int(draft.n_nodes[0]) for draft in drafts), "never drafted"


def check_topology(subject: Subject) -> None:
    """Parents before children, siblings differ, ids in range, budget and depth kept, figures that make sense."""
    with Life(subject) as life:
        for row in ROWS:
            life.start(row, prompt_of(row))
        spec = life.drafter.spec
        for budget in (0, 1, 2, 5, spec.max_nodes, spec.max_nodes + 7):
            request = life.request(ROWS, budget)
            draft = life.drafter.propose(request)
            check_draft(draft, request, subject.target.info.vocab_size, spec.name)
            _check_figures(draft, spec.max_nodes, spec.max_depth)
            assert draft.law in (spec.law, "match")
            life.verify(ROWS, draft)


def _check_figures(draft: Draft, max_nodes: int, max_depth: int) -> None:
    for index in range(draft.rows):
        tokens, parents = draft.tree(index)
        count = len(tokens)
        assert count <= max_nodes, f"{count} nodes, {max_nodes} declared"
        assert depth_of(parents) <= max_depth, f"depth {depth_of(parents)}, {max_depth} declared"
        assert bool((draft.tokens[index, count:] == -1).all()), "padding is -1"
        if draft.law == "reject":
            assert len(set(parents)) == len(parents), "under the law reject no node has a sibling"
        if draft.score is not None:
            scores = draft.score[index, :count].tolist()
            for node, parent in enumerate(parents):
                above = 1.0 if parent < 0 else scores[parent]
                assert 0.0 <= scores[node] <= above + 1e-5, "a path is no likelier than its beginning"
        if draft.q is not None and count:
            rows = draft.q.probs[index][draft.q.of[index, :count]]
            torch.testing.assert_close(rows.sum(-1), torch.ones(count), rtol=0, atol=1e-4)
            ids = draft.q.ids
            assert ids is None or bool((ids[1:] > ids[:-1]).all()), "ids of q ascend"


def check_purity(subject: Subject) -> None:
    """Asked twice, or for less in between, a drafter says the same."""
    with Life(subject) as life:
        for row in ROWS:
            life.start(row, prompt_of(row))
        for _ in range(ROUNDS):
            first = life.propose(ROWS, 5)
            life.propose(ROWS[1:], 2)
            second = life.propose(ROWS, 5)
            for index in range(len(ROWS)):
                assert_same(first, second, index, index, "propose changed what it proposes")
            life.verify(ROWS, second)


def check_batch_invariance(subject: Subject) -> None:
    """A row's drafts are those it gets alone, whatever rows stand beside it and in whichever order."""
    with Life(subject) as life:
        for row in ROWS:
            life.start(row, prompt_of(row))
        for round_ in range(ROUNDS):
            order = ROWS if round_ % 2 else ROWS[::-1]
            together = life.propose(order, 5)
            for index, row in enumerate(order):
                assert_same(together, life.propose([row], 5), index, 0, f"row {row} alone and in the batch")
            life.verify(order, together)
    if subject.learns:
        return
    for row in ROWS:
        with Life(subject) as crowd, Life(replace_target(subject)) as alone:
            for each in ROWS:
                crowd.start(each, prompt_of(each))
            alone.start(row, prompt_of(row))
            for left, right in zip(run(crowd, ROWS, 3), run(alone, [row], 3), strict=True):
                assert_same(left, right, ROWS.index(row), 0, f"row {row} in a life of its own")


def check_rewind(subject: Subject) -> None:
    """After a rewind a drafter says what a fresh one would that knows those tokens only."""
    row = ROWS[0]
    prompt = prompt_of(row)
    for back in (1, 4, 9):
        with Life(subject) as life, Life(replace_target(subject)) as fresh:
            life.start(row, prompt)
            if subject.learns:
                life.force(row, prompt[3:17])
            else:
                run(life, [row], ROUNDS)
                life.force(row, [5, 6, 5, 6])
                run(life, [row], 2)
            length = max(len(prompt) + 1, len(life.texts[row]) - back)
            life.rewind(row, length)
            text = life.texts[row]
            if subject.prompt_matters:
                fresh.start(row, prompt, text[len(prompt)])
                if length > len(prompt) + 1:
                    fresh.force(row, text[len(prompt) + 1 :])
            else:
                fresh.start(row, text[:-1], text[-1])
            draft, wanted = life.propose([row], 5), fresh.propose([row], 5)
            if "hidden" in life.drafter.spec.needs and not int(draft.n_nodes[0]):
                life.plain_round(row)
                fresh.plain_round(row)
                draft, wanted = life.propose([row], 5), fresh.propose([row], 5)
            assert_same(draft, wanted, 0, 0, f"rewound by {back}")
            for _ in range(2):
                life.verify([row], draft)
                fresh.verify([row], wanted)
                draft, wanted = life.propose([row], 5), fresh.propose([row], 5)
                if not subject.learns:
                    assert_same(draft, wanted, 0, 0, f"rounds after a rewind by {back}")


def check_empty_and_forced_commits(subject: Subject) -> None:
    """Rounds where nothing is accepted, and tokens that nobody drafted."""
    row = ROWS[1]
    with Life(subject) as life:
        life.start(row, prompt_of(row))
        for round_ in range(ROUNDS):
            life.verify([row], life.propose([row], 5), accept=-1.0)
            if round_ % 2:
                life.force(row, [11 + round_, 12, 13])
                request = life.request([row], 5)
                check_draft(
                    life.drafter.propose(request), request, subject.target.info.vocab_size, life.drafter.spec.name
                )
            life.plain_round(row)


def check_rows_come_and_go(subject: Subject) -> None:
    """A stopped row leaves nothing to one that takes its id, and nothing to those that stay."""
    one, two, three = ROWS
    with Life(subject) as life, Life(replace_target(subject)) as quiet:
        life.start(one, prompt_of(one))
        life.start(two, prompt_of(two))
        quiet.start(two, prompt_of(two))
        run(life, [one], 2)
        life.stop(one)
        life.start(one, prompt_of(three))
        quiet.start(one, prompt_of(three))
        here, there = life.propose([two, one], 5), quiet.propose([one, two], 5)
        if not subject.learns:
            assert_same(here, there, 0, 1, f"row {two}, which stayed")
            assert_same(here, there, 1, 0, f"row {one}, which came back as another")
        life.verify([two, one], here)
        life.stop(two)
        run(life, [one], 2)


def check_law(subject: Subject) -> None:
    """Drawn tokens follow the `q` they are reported with, siblings in turn without replacement (Pearson's test).

    Half of the drafts may stop after an improbable token, as a length policy may have it.
    """
    row = ROWS[0]
    with Life(subject) as life:
        life.start(row, prompt_of(row))
        run(life, [row], 2)
        if "hidden" in life.drafter.spec.needs:
            life.plain_round(row)
        size = subject.target.info.vocab_size
        seen, expected = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        for seed in range(LAW_SEEDS):
            go_on: GoOn | None = (lambda signal: signal.probability > 0.2) if seed % 2 else None
            draft = life.drafter.propose(life.request([row], 3, seed=seed, go_on=go_on))
            _count(draft, seen, expected)
    if life.drafter.spec.law == "match":
        return
    assert float(expected.sum()) > 0, "no token was drawn from a reported q"
    impossible = seen[expected == 0].sum()
    assert not impossible, "drew a token that q gives no mass"
    chance = p_value(seen.numpy(), (expected / expected.sum()).numpy())
    assert chance > IMPROBABLE, f"tokens do not follow q: {chance:.0e} by chi-square"


def _count(draft: Draft, seen: torch.Tensor, expected: torch.Tensor) -> None:
    """Add a draft's drawn tokens, and what `q` expects at each of their places."""
    if draft.law == "match":
        return
    assert draft.q is not None
    tokens, parents = draft.tree(0)
    ids = torch.arange(len(seen)) if draft.q.ids is None else draft.q.ids
    for node, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
        law = torch.zeros(len(seen), dtype=torch.float64)
        law[ids] = draft.q.probs[0, draft.q.of[0, node]].double()
        if draft.law == "reject_greedy" and parent in parents[node + 1 :]:
            continue  # chosen, not drawn
        older = [tokens[other] for other in range(node) if parents[other] == parent]
        law[older] = 0.0
        expected += law / law.sum()
        seen[token] += 1


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_spec,
    check_it_drafts,
    check_topology,
    check_purity,
    check_batch_invariance,
    check_rewind,
    check_empty_and_forced_commits,
    check_rows_come_and_go,
)
"""Held at any temperature. `check_law` says something only where tokens are drawn."""
