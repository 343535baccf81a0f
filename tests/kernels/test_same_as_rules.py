"""The kernels' definitions and the engine's rules on the CPU are two programs for one law and the same random numbers:
given equal logits they decide alike."""

from __future__ import annotations

import pytest
import torch

from draftproof.drafting.draft import Draft, QTable
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.rule import Verification
from draftproof.drafting.rules.block import BlockRule
from draftproof.drafting.rules.greedy import GreedyRule
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.rules.recursive import RecursiveRule
from draftproof.drafting.rules.token import TokenRule
from draftproof.drafting.sampling import Sampling
from draftproof.kernels.decide_block import decide_block
from draftproof.kernels.decide_match import decide_match
from draftproof.kernels.decide_siblings import decide_siblings
from draftproof.kernels.decide_token import decide_token
from draftproof.kernels.drafted import Decided, Drafted, DraftRows
from draftproof.kernels.row_stats import RowStats, row_stats
from draftproof.kernels.walk import walk
from tests.kernels.rounds import random_chains, random_trees


def decide(name: str, logits: torch.Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    if name == "greedy":
        return walk(stats.argmax, drafted)
    if name == "match":
        return decide_match(logits, stats.inv_temp, stats.threshold, drafted)
    return {"token": decide_token, "block": decide_block, "recursive": decide_siblings}[name](logits, stats, drafted, q)


@pytest.mark.parametrize(
    ("rule", "law"),
    [
        pytest.param(GreedyRule(), "match", id="greedy"),
        pytest.param(MatchRule(), "match", id="match"),
        pytest.param(TokenRule(), "reject", id="token"),
        pytest.param(BlockRule(), "reject", id="block"),
        pytest.param(RecursiveRule(), "reject_wor", id="recursive"),
    ],
)
def test_rules_and_kernels_decide_alike(rule, law):
    name, vocab = rule.spec.name, 97
    for seed in range(12):
        sampling = Sampling(
            temperature=0.0 if name == "greedy" else 0.8, top_k=40, top_p=0.95 if seed % 2 else 1.0, seed=2**40 + seed
        )
        trees = law == "reject_wor"
        chains = random_trees(vocab, seed=seed) if trees else random_chains([4, 3, 0, 1], vocab, seed=seed, noise=0.7)
        width = max(len(c.tokens) for c in chains)
        tokens, parent, of = (torch.full((len(chains), width), -1) for _ in range(3))
        probs = torch.full((len(chains), width + 1, vocab), 1.0 / vocab)
        for b, c in enumerate(chains):
            k = len(c.tokens)
            tokens[b, :k] = torch.tensor(c.tokens, dtype=torch.int64)
            parent[b, :k] = torch.tensor(c.parent or list(range(-1, k - 1)), dtype=torch.int64)[:k]
            of[b, :k] = torch.tensor(c.of or list(range(k)), dtype=torch.int64)[:k]
            probs[b, : len(c.q)] = c.q
        counts = [len(c.tokens) for c in chains]
        bounds = (0, *torch.tensor([n + 1 for n in counts]).cumsum(0).tolist())
        logits = torch.cat([c.logits for c in chains])
        positions = tuple(100 * b + 3 for b in range(len(chains)))
        table = QTable(probs, of.clamp(min=0)) if law != "match" else None
        decisions = rule.decide(
            Verification(
                logits=logits,
                bounds=bounds,
                draft=Draft(tokens, parent, torch.tensor(counts), law=law, q=table),
                sampling=(sampling,) * len(chains),
                rng=tuple(KeyedRng(sampling.seed + b) for b in range(len(chains))),
                positions=positions,
            )
        )
        rows = len(logits)
        inv_temp = torch.full((rows,), 0.0 if sampling.greedy else 1.0 / sampling.temperature)
        stats = row_stats(
            logits, inv_temp, top_k=torch.full((rows,), sampling.top_k), top_p=torch.full((rows,), sampling.top_p)
        )
        drafted = Drafted(
            tokens=tokens,
            cu_rows=torch.tensor(bounds),
            seeds=torch.tensor([sampling.seed + b for b in range(len(chains))]),
            positions=torch.tensor(positions),
            parent=parent if trees else None,
        )
        offset = torch.arange(len(chains)).unsqueeze(1) * (width + 1)
        q = DraftRows(probs.reshape(-1, vocab), torch.where(of >= 0, of + offset, -1))
        found = decide(name, logits, stats, drafted, q)
        for b, decision in enumerate(decisions):
            path = [n for n in found.path[b].tolist() if n >= 0]
            assert (tuple(path), int(found.out[b, len(path)])) == (decision.path, decision.token)
