"""Rules on rows as the engine hands them over: extremes of p and q, logits that are no numbers, broken drafts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from draftproof.drafting.draft import Draft, QTable, chain, empty_draft, pack
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.rule import Rule, Verification
from draftproof.drafting.rules.catalogue import LISTINGS, create_rule
from draftproof.drafting.rules.drafted_row import drafted_rows
from draftproof.drafting.rules.token import accept_probability
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import ContractError, NumericalError, UnknownNameError, UsageError
from tests.drafting.rules.broken_rules import accepts_in_the_closed_interval
from tests.drafting.rules.enumeration import Tree, random_laws, sampled_chain
from tests.drafting.rules.staging import SAMPLED, KeyedChoices, log_of, staged

NEVER = -float("inf")
CHAIN_RULES = ("token", "block", "auto")
SIBLING_LAWS = {"recursive": "reject_wor", "multi-draft": "reject_greedy"}
WITH_Q = [*((name, "reject") for name in CHAIN_RULES), *SIBLING_LAWS.items(), ("recursive", "reject")]


def laws(*rows):
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


def decided(name, law, tree, target_rows, seeds=range(30), sampling=SAMPLED):
    """Decisions for a chain whose target rows do not depend on the text, one for each seed."""
    seeds = list(seeds)
    verification = staged(
        [tree] * len(seeds), lambda text: target_rows[len(text)], law, [KeyedRng(seed) for seed in seeds], sampling
    )
    return create_rule(name).decide(verification)


@pytest.mark.parametrize(("name", "law"), WITH_Q)
def test_equal_laws_accept_everything(name, law):
    """Rounding of p against q must not turn into rejections whose residual is noise."""
    p = torch.softmax(torch.randn(1025, generator=torch.Generator().manual_seed(1)), -1)
    tree = Tree([700, 3], [-1, 0], [p, p])
    assert all(decision.path == (0, 1) for decision in decided(name, law, tree, [p.log()] * 3))


@pytest.mark.parametrize(("name", "law"), WITH_Q)
def test_a_token_that_the_target_never_says_is_never_emitted(name, law):
    p, q = laws([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.4, 0.6])
    for decision in decided(name, law, Tree([3, 2], [-1, 0], [q, q]), [p.log()] * 3):
        assert decision.path == ()
        assert decision.token in (0, 1)


@pytest.mark.parametrize(("name", "law"), WITH_Q)
def test_a_target_that_is_certain_emits_its_token(name, law):
    p, q = laws([0.0, 1.0, 0.0], [0.3, 0.4, 0.3])
    right, wrong = Tree([1, 1], [-1, 0], [q, q]), Tree([2, 1], [-1, 0], [q, q])
    assert {(d.path, d.token) for d in decided(name, law, right, [p.log()] * 3)} == {((0, 1), 1)}
    assert {(d.path, d.token) for d in decided(name, law, wrong, [p.log()] * 3)} == {((), 1)}


@pytest.mark.parametrize(("name", "law"), WITH_Q)
def test_a_drafter_that_is_certain_leaves_the_rest_of_the_target(name, law):
    p, q = laws([0.5, 0.3, 0.2], [1.0, 0.0, 0.0])
    tokens = {(d.path, d.token) for d in decided(name, law, Tree([0], [-1], [q]), [p.log()] * 2, range(60))}
    assert {token for path, token in tokens if not path} == {1, 2}
    assert {path for path, _ in tokens} == {(), (0,)}


@pytest.mark.parametrize(("name", "law"), WITH_Q)
def test_a_token_that_cannot_have_been_drawn_is_rejected(name, law):
    p, q = laws([0.9, 0.1], [0.0, 1.0])
    assert all(decision.path == () for decision in decided(name, law, Tree([0], [-1], [q]), [p.log()] * 2))


@pytest.mark.parametrize("name", [listing.name for listing in LISTINGS])
def test_nothing_drafted_is_a_plain_step(name):
    """Lengths of one batch differ, and no draft at all is legal."""
    rule = create_rule(name)
    sampling = GREEDY if name == "greedy" else SAMPLED
    logits = torch.randn(3, 13, generator=torch.Generator().manual_seed(2))
    plain = Verification(
        logits, (0, 1, 2, 3), empty_draft(3), (sampling,) * 3, tuple(map(KeyedRng, range(3))), (7,) * 3
    )
    tokens = [decision.token for decision in rule.decide(plain)]
    mixed = replace(
        plain, logits=logits[[0, 1, 0, 2]], bounds=(0, 1, 3, 4), draft=pack([chain([]), chain([5]), chain([])])
    )
    decisions = rule.decide(mixed)
    assert (decisions[0].token, decisions[2].token) == (tokens[0], tokens[2])
    assert decisions[1].path in ((), (0,))


@pytest.mark.parametrize("name", [listing.name for listing in LISTINGS])
def test_greedy_rows_follow_the_arg_max_whatever_the_rule(name):
    """Beside sampled rows; ties go to the lowest id, and banned tokens are out."""
    target = [torch.tensor(row) for row in ([0.0, 4.0, 4.0, 1.0], [9.0, 1.0, 0.0, NEVER], [NEVER, NEVER, NEVER, -3.0])]
    q = torch.full((4,), 0.25)
    law = SIBLING_LAWS.get(name, "reject")
    tree = Tree([1, 0], [-1, 0], [q, q])
    verification = staged([tree, tree], lambda text: target[len(text)], law)
    greedy = replace(verification, sampling=(GREEDY, GREEDY if name == "greedy" else SAMPLED))
    decision = create_rule(name).decide(greedy)[0]
    assert (decision.path, decision.token) == ((0, 1), 3)
    wrong = replace(greedy, draft=replace(greedy.draft, tokens=torch.tensor([[2, 0], [2, 0]])))
    decision = create_rule(name).decide(wrong)[0]
    assert (decision.path, decision.token) == ((), 1)


def test_the_rule_greedy_refuses_to_sample():
    with pytest.raises(UsageError, match=r"temperature 1\.0"):
        decided("greedy", "match", Tree([0], [-1], []), [torch.zeros(3)] * 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [listing.name for listing in LISTINGS])
def test_logits_that_are_no_numbers_raise_and_name_the_row(name, bad):
    q = torch.full((3,), 1 / 3)
    target = [torch.tensor([0.0, 5.0, bad]), torch.zeros(3)]
    law = SIBLING_LAWS.get(name, "reject")
    sampling = GREEDY if name == "greedy" else SAMPLED
    with pytest.raises(NumericalError, match=r"Row 0 of the batch.*position 10"):
        decided(name, law, Tree([1], [-1], [q]), target, range(1), sampling)


def test_rows_that_the_walk_does_not_reach_are_not_looked_at():
    """A bad row after a rejected node harms nobody: token by token it is never computed."""
    p, q = laws([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    bad = torch.full((3,), float("nan"))
    for name, law in [("token", "reject"), ("match", "match"), *SIBLING_LAWS.items()]:
        assert decided(name, law, Tree([1], [-1], [q]), [p.log(), bad], range(1))[0].token == 0


class AtTheEdge(KeyedRng):
    """Uniform numbers of 0, which the real streams never give."""

    def uniform(self, purpose, position, lane=0):
        return 0.0


@pytest.mark.parametrize(("name", "law"), WITH_Q)
def test_impossible_tokens_are_rejected_even_at_the_edge_of_the_interval(name, law):
    p, q = laws([0.5, 0.5, 0.0], [0.0, 0.0, 1.0])
    verification = staged([Tree([2], [-1], [q])], lambda text: p.log(), law, [AtTheEdge(1)])
    assert create_rule(name).decide(verification)[0].path == ()
    assert not accept_probability(0.0, 1.0) > 0.0
    assert accepts_in_the_closed_interval(0.0, 0.0, 1.0)  # the mistake that the strict test is there for


# Broken drafts


def good():
    q = torch.full((4,), 0.25)
    return staged([Tree([1, 2], [-1, 0], [q, q])], lambda text: torch.zeros(4), "reject")


def with_draft(**changes):
    verification = good()
    return replace(verification, draft=replace(verification.draft, **changes))


def with_q(**changes):
    verification = good()
    assert verification.draft.q is not None
    return with_draft(q=replace(verification.draft.q, **changes))


BROKEN = [
    pytest.param(lambda: with_draft(tokens=torch.tensor([[-1, 2]])), "token -1", id="padding inside"),
    pytest.param(lambda: with_draft(tokens=torch.tensor([[1, 4]])), "token 4", id="id beyond the vocabulary"),
    pytest.param(lambda: with_draft(parent=torch.tensor([[-1, 1]])), "a parent comes before", id="own parent"),
    pytest.param(lambda: with_draft(parent=torch.tensor([[0, 0]])), "a parent comes before", id="no root"),
    pytest.param(lambda: with_draft(parent=torch.tensor([[-2, 0]])), "a parent comes before", id="parent below -1"),
    pytest.param(lambda: with_draft(parent=torch.tensor([[-1, -1]])), "are chains", id="siblings under reject"),
    pytest.param(
        lambda: with_draft(parent=torch.tensor([[-1, -1]]), tokens=torch.tensor([[1, 1]]), law="match", q=None),
        "repeats its sibling's token 1",
        id="twins",
    ),
    pytest.param(lambda: with_draft(n_nodes=torch.tensor([3])), "3 drafted nodes", id="more nodes than room"),
    pytest.param(lambda: with_draft(n_nodes=torch.tensor([-1])), "-1 drafted nodes", id="fewer nodes than none"),
    pytest.param(lambda: with_draft(n_nodes=torch.tensor([1])), "3 rows of logits", id="logits of another draft"),
    pytest.param(lambda: with_draft(q=None), "reports no q", id="no q"),
    pytest.param(lambda: with_draft(law="reject_wor"), "law 'reject_wor'", id="another law than the rule's"),
    pytest.param(lambda: with_q(probs=torch.full((1, 2, 4), float("nan"))), "no distribution", id="NaN in q"),
    pytest.param(lambda: with_q(probs=torch.full((1, 2, 4), 0.3)), "sums to 1.2", id="q sums to 1.2"),
    pytest.param(
        lambda: with_q(probs=torch.tensor([[[1.5, -0.5, 0.0, 0.0]] * 2])), "smallest value is -0.5", id="negative q"
    ),
    pytest.param(lambda: with_q(probs=torch.full((1, 2, 5), 0.2)), "5 columns without ids", id="wider than the target"),
    pytest.param(lambda: with_q(of=torch.tensor([[0, 7]])), "row 7 of q", id="drawn from no row"),
    pytest.param(lambda: with_q(of=torch.tensor([[0]])), "and of", id="of misshapen"),
    pytest.param(
        lambda: with_q(ids=torch.tensor([0, 1, 2, 4])), "must lie in 0 … 3", id="column beyond the vocabulary"
    ),
    pytest.param(lambda: with_q(ids=torch.tensor([0, 1, -1, 3])), "must lie in 0 … 3", id="column of no token"),
    pytest.param(lambda: with_q(ids=torch.tensor([0, 2, 1, 3])), "not ascending", id="scrambled columns"),
    pytest.param(lambda: with_q(ids=torch.tensor([0, 1, 1, 3])), "not ascending", id="a token of two columns"),
    pytest.param(lambda: with_q(ids=torch.tensor([0, 1, 2])), "for 4 columns", id="fewer ids than columns"),
    pytest.param(lambda: replace(good(), positions=()), "0 positions", id="rows without a position"),
]


@pytest.mark.parametrize(("broken", "says"), BROKEN)
@pytest.mark.parametrize("name", ["token", "block"])
def test_a_broken_draft_is_an_error_and_never_a_wrong_token(name, broken, says):
    def decide_with_many_seeds(make):
        for seed in range(20):  # some faults show only where the walk gets
            create_rule(name).decide(replace(make(), rng=(KeyedRng(seed),)))

    with pytest.raises(ContractError, match=says):
        decide_with_many_seeds(broken)
    decide_with_many_seeds(good)


def test_siblings_of_different_laws_are_refused():
    q = torch.full((2, 4), 0.25)
    draft = Draft(
        torch.tensor([[1, 2]]),
        torch.tensor([[-1, -1]]),
        torch.tensor([2]),
        "reject_wor",
        QTable(q[None], torch.tensor([[0, 1]])),
    )
    verification = Verification(torch.zeros(3, 4), (0, 3), draft, (SAMPLED,), (KeyedRng(1),), (4,))
    with pytest.raises(ContractError, match="drawn from different rows of q"):
        create_rule("recursive").decide(verification)


@pytest.mark.parametrize("name", CHAIN_RULES)
def test_a_trimmed_vocabulary_decides_as_the_full_one(name):
    """Columns with ids, against the same q spread over all tokens."""
    full = random_laws(7, 3, 1)
    ids = torch.tensor([1, 2, 5, 6])

    def trimmed(text):
        law = torch.zeros(7, dtype=torch.float64)
        law[ids] = full(text)[ids]
        return law / law.sum()

    for seed in range(20):
        rng = KeyedRng(seed)
        tree = sampled_chain(2)(trimmed, KeyedChoices(rng, 10))
        wide = staged([tree], log_of(random_laws(7, 3, 2)), "reject", [rng])
        table = wide.draft.q
        narrow = replace(wide, draft=replace(wide.draft, q=QTable(table.probs[:, :, ids], table.of, ids)))
        assert create_rule(name).decide(wide) == create_rule(name).decide(narrow)


def test_a_row_reads_the_laws_that_it_was_given():
    """Positions, nodes and rows of q belong together: the exact tests run on the same numbers as the engine."""
    target, draft = random_laws(4, 3, 1), random_laws(4, 3, 2)
    trees = [sampled_chain(2)(draft, KeyedChoices(KeyedRng(seed), 10)) for seed in range(6)]
    rows, _ = drafted_rows(staged(trees, log_of(target), "reject"))
    for row, tree in zip(rows, trees, strict=True):
        for node in range(2):
            assert torch.allclose(row.p(node - 1).double(), target(tree.text(node - 1)), atol=1e-6)
            assert torch.allclose(row.q(node).double(), draft(tree.text(node - 1)), atol=1e-6)
            token = tree.tokens[node]
            assert row.p_of(node) == pytest.approx(float(target(tree.text(node - 1))[token]), abs=1e-6)
            assert row.q_of(node) == pytest.approx(float(draft(tree.text(node - 1))[token]), abs=1e-6)
            assert row.chance(node, node) == row.rng.uniform(Purpose.ACCEPT, 10 + node, node)
            assert row.position_below(node) == 11 + node


def test_processors_of_a_row_are_part_of_its_law():
    """Top-k 1 of a sampled row leaves one token, whatever was drafted."""
    p, q = laws([0.4, 0.35, 0.25], [0.2, 0.4, 0.4])
    for name in ("token", "block", "match"):
        for decision in decided(name, "reject", Tree([1], [-1], [q]), [p.log()] * 2, sampling=Sampling(1.0, top_k=1)):
            assert (decision.path, decision.token) == ((), 0)


# The catalogue


def test_every_rule_has_its_name_and_says_what_it_verifies():
    assert [listing.name for listing in LISTINGS] == [create_rule(listing.name).spec.name for listing in LISTINGS]
    for listing in LISTINGS:
        rule = create_rule(listing.name)
        assert isinstance(rule, Rule)
        assert "match" in rule.spec.laws
        assert rule.spec.lossless is (listing.name != "typical")
        assert ("LOSSY" in listing.summary) is not rule.spec.lossless


def test_unknown_names_and_arguments_say_what_there_is():
    with pytest.raises(UnknownNameError, match="There are: auto, greedy, match"):
        create_rule("nucleus")
    with pytest.raises(UsageError, match=r"Its arguments: epsilon=0\.09, delta=0\.3"):
        create_rule("typical", floor=1)
    with pytest.raises(UsageError, match="epsilon is 0"):
        create_rule("typical", epsilon=0)


def test_auto_decides_as_the_rule_of_the_draft_s_law():
    target, draft = random_laws(4, 3, 1), random_laws(4, 3, 2)
    for name, law in [("block", "reject"), ("recursive", "reject_wor"), ("multi-draft", "reject_greedy")]:
        trees = [sampled_chain(2)(draft, KeyedChoices(KeyedRng(seed), 10)) for seed in range(20)]
        verification = staged(trees, log_of(target), law)
        assert create_rule("auto").decide(verification) == create_rule(name).decide(verification)
    proposals = staged(trees, log_of(target), "match")
    assert create_rule("auto").decide(proposals) == create_rule("match").decide(proposals)
