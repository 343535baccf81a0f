"""Rules row by row and the verification kernels decide alike: two implementations, the same random numbers.

On the CPU the kernels are their torch definitions; their compiled twins are held to those by the kernels' own tests.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from draftproof.drafting.draft import QTable
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.rules.drafted_row import drafted_rows
from draftproof.drafting.rules.on_device import KERNELS, decide_on_device
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import ContractError, NumericalError
from tests.drafting.rules.enumeration import random_laws, sampled_chain, siblings_without_replacement
from tests.drafting.rules.staging import KeyedChoices, log_of, staged

SAMPLINGS = (Sampling(1.0), Sampling(0.7, top_k=4), Sampling(1.2, top_k=5, top_p=0.8), GREEDY)
ROWS = 120
CASES = [
    pytest.param("token", "reject", sampled_chain(3), id="token"),
    pytest.param("block", "reject", sampled_chain(3), id="block"),
    pytest.param("recursive", "reject_wor", siblings_without_replacement([2, 2, 1]), id="recursive"),
    pytest.param("match", "match", siblings_without_replacement([3, 1]), id="match on trees"),
    pytest.param("block", "match", sampled_chain(3), id="block with proposals"),
    pytest.param("greedy", "match", siblings_without_replacement([3, 2]), id="greedy"),
]


def some_verification(law, drafting, greedy=False):
    """Rows of several lengths and samplings."""
    target = random_laws(6, 4, 1)
    other = random_laws(6, 4, 2)
    rngs = [KeyedRng(seed) for seed in range(ROWS)]
    trees = [drafting(lambda text: 0.6 * target(text) + 0.4 * other(text), KeyedChoices(rng, 10)) for rng in rngs]
    for tree in trees[::5]:
        for part in (tree.tokens, tree.parents, tree.reported):
            del part[1:]
    for tree in trees[::7]:
        for part in (tree.tokens, tree.parents, tree.reported):
            part.clear()
    verification = staged(trees, log_of(target), law, rngs)
    mixed = (GREEDY,) * ROWS if greedy else tuple(SAMPLINGS[row % len(SAMPLINGS)] for row in range(ROWS))
    return replace(verification, sampling=mixed)


def by_kernels(verification, name):
    rows, q = drafted_rows(verification)
    return decide_on_device(verification, rows, name, q)


@pytest.mark.parametrize(("name", "law", "drafting"), CASES)
def test_kernels_decide_as_the_rules_do(name, law, drafting):
    verification = some_verification(law, drafting, greedy=name == "greedy")
    decisions = create_rule(name).decide(verification)
    assert list(decisions) == by_kernels(verification, name)
    assert name in KERNELS
    assert len({decision.path for decision in decisions}) > 2


@pytest.mark.parametrize("name", ["token", "block"])
def test_a_trimmed_vocabulary_of_the_drafter_is_read_alike(name):
    ids = torch.tensor([0, 2, 3, 5])
    verification = some_verification("reject", sampled_chain(2))
    table = verification.draft.q
    kept = table.probs[:, :, ids]
    trimmed = QTable(kept / kept.sum(-1, keepdim=True), table.of, ids)
    verification = replace(verification, draft=replace(verification.draft, q=trimmed))
    assert list(create_rule(name).decide(verification)) == by_kernels(verification, name)


def test_faults_are_named_alike():
    verification = some_verification("reject", sampled_chain(2))
    table = verification.draft.q
    for fault in (table.probs * 1.5, table.probs * float("nan"), table.probs - 1.0):
        broken = replace(verification, draft=replace(verification.draft, q=QTable(fault, table.of)))
        for decide in (create_rule("token").decide, lambda each: by_kernels(each, "token")):
            with pytest.raises(ContractError, match="no distribution"):
                decide(broken)
    astray = replace(verification, draft=replace(verification.draft, q=QTable(table.probs, table.of + 9)))
    with pytest.raises(ContractError, match="of q, which has"):
        by_kernels(astray, "token")
    logits = verification.logits.clone()
    logits[verification.bounds[3]] = float("nan")
    for name in ("token", "block", "match"):
        with pytest.raises(NumericalError, match=r"Row 3 of the batch, logits after its pending token \(position 10\)"):
            by_kernels(replace(verification, logits=logits), name)


def test_a_rule_that_differs_is_found():
    """The comparison can fail: block and token verification decide differently on the same numbers."""
    verification = some_verification("reject", sampled_chain(3))
    assert list(create_rule("token").decide(verification)) != by_kernels(verification, "block")
