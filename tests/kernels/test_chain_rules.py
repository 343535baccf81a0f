"""Token by token and block verification: kernel against definition with equal random numbers, adversarial rows, the
law by Monte Carlo, and the mistakes that these checks are there to catch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from draftproof.kernels import decide_block, decide_token, residual
from draftproof.kernels.decide_block import decide_block_torch
from draftproof.kernels.decide_block_triton import decide_block_triton
from draftproof.kernels.decide_token import decide_token_torch
from draftproof.kernels.decide_token_triton import decide_token_triton
from draftproof.kernels.drafted import TARGET, DraftRows, columns_of
from draftproof.kernels.race import draw_from_logits, draw_from_weights
from draftproof.kernels.row_law import RowLaw, probs
from draftproof.kernels.row_stats import row_stats_torch
from tests.kernels.rounds import Chain, Round, assert_same, assert_well_formed, packed, random_chains

INF = float("inf")
RULES = {
    "token": (decide_token_torch, decide_token_triton),
    "block": (decide_block_torch, decide_block_triton),
}


@pytest.fixture(params=list(RULES))
def rule(request):
    return RULES[request.param]


def decided(function, given: Round, **options):
    return function(given.logits, given.stats, given.drafted, given.q, **options)


@pytest.mark.parametrize(
    ("vocab", "block", "top_k"),
    [
        pytest.param(31, 16, 0, id="odd"),
        pytest.param(97, 16, 40, id="slices of two blocks, rows cut by top-k"),
        pytest.param(1000, 256, 0, id="a block that does not divide the vocabulary"),
    ],
)
def test_the_kernel_decides_as_the_definition_does(rule, vocab, block, top_k, device):
    """Ragged: chains of 4, 2, 1 and 0 tokens, and a greedy one."""
    chains = random_chains([4, 2, 1, 0, 3], vocab, seed=vocab, noise=0.5)
    greedy = chains[4].logits.argmax(-1).tolist()
    chains[4] = replace(chains[4], inv_temp=0.0, tokens=[*greedy[:2], (greedy[2] + 1) % vocab])
    given = packed(chains, seed=5, top_k=top_k)
    one = decided(rule[0], given)
    assert_well_formed(one, vocab)
    assert one.num[4] == 3
    assert one.out[4, :3].tolist() == greedy[:3]
    assert_same(one, decided(rule[1], given.on(device), block=block))


def test_small_vocabularies_where_every_factor_decides(rule, device):
    """Few tokens and drafts far from the target: ratios below 1, prefixes kept in part, residuals that they shape."""
    given = packed(random_chains([4] * 40, 7, seed=21, noise=2.0), seed=2)
    one = decided(rule[0], given)
    accepted = (one.path >= 0).sum(1)
    assert {0, 1, 2, 3, 4} == set(accepted.tolist())
    assert_same(one, decided(rule[1], given.on(device), block=16))


def adversarial(vocab: int) -> tuple[list[Chain], dict[str, int]]:
    """Requests of two drafted tokens each, by name."""
    g = torch.Generator().manual_seed(0)
    normal = torch.randn(3, vocab, generator=g)
    law = normal[:2].softmax(-1)
    hot = torch.eye(vocab)
    spike = torch.full((vocab,), -INF)
    spike[5] = 2.0
    low, high = normal.clone(), torch.zeros(2, vocab)
    low[:, vocab // 2 :] = -INF
    high[:, vocab // 2 :] = 2.0 / (vocab - vocab // 2)
    flat = torch.zeros(3, vocab)
    nan_second = normal.clone()
    nan_second[1, 7] = torch.nan
    nan_bonus = normal.clone()
    nan_bonus[2] = -INF
    nan_q = law.clone()
    nan_q[0, :] = torch.nan
    named = {
        "p equals q": Chain(normal, law, [1, 2]),
        "disjoint supports": Chain(low, high / high.sum(-1, keepdim=True), [vocab - 1, vocab - 2]),
        "one-hot p": Chain(torch.stack([spike] * 3), law, [5, 5]),
        "one-hot p, another token drafted": Chain(torch.stack([spike] * 3), law, [4, 5]),
        "one-hot q": Chain(normal, hot[[1, 2]], [1, 2]),
        "q is 0 at the token": Chain(normal, hot[[1, 2]], [2, 2]),
        "ties everywhere": Chain(flat, flat[:2].softmax(-1), [0, vocab - 1]),
        "token -1": Chain(normal, law, [-1, 2]),
        "token beyond the vocabulary": Chain(normal, law, [1, vocab]),
        "token far beyond": Chain(normal, law, [2**40, 2]),
        "no draft row": Chain(normal, law, [1, 2], of=[-(10**6), 10**6]),
        "NaN in the second row": Chain(nan_second, law, [1, 2]),
        "no finite bonus": Chain(nan_bonus, law, [1, 2]),
        "NaN in q": Chain(normal, nan_q, [1, 2]),
        "nothing drafted": Chain(normal[:1], law[:0], []),
    }
    return list(named.values()), {name: i for i, name in enumerate(named)}


def test_adversarial_rows(rule, device):
    vocab = 31
    chains, at = adversarial(vocab)
    given = packed(chains)
    one = decided(rule[0], given)
    assert_well_formed(one, vocab)
    accepted = (one.path >= 0).sum(1).tolist()
    assert accepted[at["p equals q"]] == 2
    assert accepted[at["one-hot p"]] == 2
    assert one.out[at["one-hot p"]].tolist() == [5, 5, 5]
    for name in (
        "disjoint supports",
        "one-hot p, another token drafted",
        "q is 0 at the token",
        "token -1",
        "token far beyond",
        "no draft row",
        "NaN in q",
    ):
        assert accepted[at[name]] == 0, name
        assert one.num[at[name]] == 1, name
    assert one.out[at["disjoint supports"], 0] < vocab // 2
    assert accepted[at["token beyond the vocabulary"]] <= 1
    assert one.num[at["nothing drafted"]] == 1
    spoiled = [name for name, i in at.items() if one.bad[i] >= 0]
    assert "no finite bonus" not in spoiled or one.bad[at["no finite bonus"]] == 2
    assert set(spoiled) <= {"NaN in the second row", "no finite bonus"}
    assert_same(one, decided(rule[1], given.on(device), block=32))


def test_rows_that_are_not_reached_may_hold_anything(device):
    """Token by token, a chain that ends before a NaN row is not spoiled by it; one that reaches it is."""
    logits = torch.randn(3, 31, generator=torch.Generator().manual_seed(2))
    logits[1] = torch.nan
    law = logits[:2].softmax(-1).nan_to_num(1 / 31)
    given = packed([Chain(logits, law, [-1, 3]), Chain(logits, law, [4, 3])])
    for one in (decided(decide_token_torch, given), decided(decide_token_triton, given.on(device))):
        assert one.bad.tolist() == [-1, 1]
        assert one.num.tolist() == [1, 1]
        assert one.out[1].tolist() == [4, -1, -1]


def test_draft_rows_given_as_logits_or_over_few_ids_decide_as_full_probabilities_do(rule, device):
    vocab = 97
    ids = torch.arange(0, vocab, 3)
    chains = []
    for chain in random_chains([3, 2], vocab, seed=8, noise=0.3):
        few = torch.zeros_like(chain.q)
        few[:, ids] = chain.q[:, ids]
        tokens = [int(ids[t % len(ids)]) for t in chain.tokens]
        chains.append(replace(chain, q=few / few.sum(-1, keepdim=True), tokens=tokens))
    given = packed(chains, seed=1)
    full = decided(rule[0], given)
    q = given.q
    trimmed = DraftRows(q.values[:, ids].contiguous(), q.of, columns=columns_of(ids, vocab))
    raw = q.values[:, ids].log() + 3.0
    law = RowLaw(torch.ones(5), torch.full((5,), -INF), raw.logsumexp(-1))
    from_logits = DraftRows(raw, q.of, law=law, columns=columns_of(ids, vocab))
    for other in (trimmed, from_logits):
        again = replace(given, q=other)
        assert_same(full, decided(rule[0], again))
        assert_same(full, decided(rule[1], again.on(device), block=64))


def test_draft_rows_may_be_narrower_or_wider_than_the_vocabulary(rule, device):
    """Missing columns have probability 0, and surplus ones, as of a padded table, are not looked at."""
    vocab = 31
    chains = random_chains([3, 2, 2], vocab, seed=12, noise=1.0)
    chains[0] = replace(chains[0], tokens=[30, 2, 3])
    given = packed(chains)
    narrow = replace(given, q=replace(given.q, values=given.q.values[:, :29].contiguous()))
    wide = replace(given, q=replace(given.q, values=torch.nn.functional.pad(given.q.values, (0, 9), value=0.5)))
    assert decided(rule[0], narrow).path[0, 0] == -1
    assert_same(decided(rule[0], given), decided(rule[0], wide))
    for other in (narrow, wide):
        assert_same(decided(rule[0], other), decided(rule[1], other.on(device), block=32))


def test_strided_logits_of_half_precision(rule, device):
    chains = random_chains([2, 1], 97, seed=3)
    given = packed(chains)
    wide = torch.full((len(given.logits), 128), torch.nan, dtype=torch.bfloat16)
    wide[:, :97] = given.logits
    stats = row_stats_torch(wide[:, :97], given.stats.inv_temp)
    given = replace(given, logits=wide[:, :97], stats=stats)
    on = replace(given.on(device), logits=wide.to(device)[:, :97])
    assert_same(decided(rule[0], given), decided(rule[1], on, block=128))


def first_tokens(function, chain: Chain, draws: int) -> torch.Tensor:
    """Law of the first emitted token, [V]: the drafted tokens are drawn anew each time, by numbers of their own."""
    g = torch.Generator().manual_seed(11)
    tokens = torch.stack([torch.multinomial(row, draws, replacement=True, generator=g) for row in chain.q], 1)
    batch = [replace(chain, tokens=drawn) for drawn in tokens.tolist()]
    out = decided(function, packed(batch)).out
    return out[:, 0].bincount(minlength=chain.q.shape[1]).double()


def chi_squared(counts: torch.Tensor, law: torch.Tensor) -> float:
    expected = law.double() * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


BOUND = 28.0
"""Chi-squared of 5 degrees of freedom is beyond it once in 27,000."""
LAW = Chain(
    torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5, 0.0], [1.0, 0.0, 0.5, 0.5, -1.0, 2.0], [0.0] * 6]),
    torch.tensor([[0.3, 0.1, 0.1, 0.3, 0.1, 0.1], [0.05, 0.35, 0.2, 0.2, 0.1, 0.1]]),
    [0, 0],
)


def test_the_law_is_that_of_the_target(rule):
    assert chi_squared(first_tokens(rule[0], LAW, 1500), LAW.logits[0].softmax(-1)) < BOUND


def test_the_most_likely_token_drafted_with_a_soft_q_would_show(rule):
    batch = [replace(LAW, tokens=LAW.q.argmax(-1).tolist())] * 1500
    counts = decided(rule[0], packed(batch)).out[:, 0].bincount(minlength=6).double()
    assert chi_squared(counts, LAW.logits[0].softmax(-1)) > BOUND


def test_the_leading_run_instead_of_the_last_success_would_show():
    """A success after a failure counts; a rule that stops at the failure accepts too little and follows another law."""
    g = torch.Generator().manual_seed(11)
    tokens = torch.stack([torch.multinomial(row, 3000, replacement=True, generator=g) for row in LAW.q], 1).tolist()
    given = packed([replace(LAW, tokens=drawn) for drawn in tokens])
    first = torch.tensor([_leading_run(given.logits, given.stats, given.drafted, given.q, b) for b in range(3000)])
    assert chi_squared(first.bincount(minlength=6).double(), LAW.logits[0].softmax(-1)) > BOUND


def _leading_run(logits, stats, drafted, q, b):
    start, seed, position = int(drafted.cu_rows[b]), int(drafted.seeds[b]), int(drafted.positions[b])
    law = stats.law
    p = probs(logits[start : start + 2], RowLaw(law.inv_temp[:2], law.threshold[:2], law.lse[start : start + 2]))
    rows = [q.row(int(q.of[b, i]), 6) for i in range(2)]
    first = int(drafted.tokens[b, 0])
    one = decide_block.grown(torch.ones(()), p[0], rows[0], first)
    mass = residual.positive_part(one * p[1], rows[1]).sum()
    if decide_block.coin(seed, position, 0) < decide_block.prefix_success(mass, one):
        return first
    return residual.residual_draw(residual.residual(p[0], rows[0]), seed, position)


def test_noise_shared_by_draft_and_residual_would_show():
    """A draft raced with numbers that the residual is raced with again: lawful each, biased together."""
    chain = Chain(LAW.logits[:2], LAW.q[:1], [0])
    for shared, draws in ((False, 1000), (True, 3000)):
        batch = packed([chain] * draws)
        tokens = [
            draw_from_weights(LAW.q[0], int(s), 2 if shared else 0, int(p))
            for s, p in zip(batch.drafted.seeds, batch.drafted.positions, strict=True)
        ]
        batch = replace(batch, drafted=replace(batch.drafted, tokens=torch.tensor(tokens).unsqueeze(1)))
        counts = decided(decide_token_torch, batch).out[:, 0].bincount(minlength=6).double()
        assert (chi_squared(counts, chain.logits[0].softmax(-1)) > BOUND) == shared


def test_accepting_at_equality_would_show(monkeypatch):
    """u q underflows to 0 beside p = 0: `u q <= p` accepts what the target never says."""
    logits = torch.zeros(2, 6)
    logits[0, 3] = -INF
    q = torch.tensor([[0.2, 0.2, 0.2, 1e-45, 0.2, 0.2]])
    batch = [Chain(logits, q, [3])] * 20
    assert (decided(decide_token_torch, packed(batch)).out[:, 0] != 3).all()
    monkeypatch.setattr(decide_token, "accepts", lambda u, p, q: bool((q > 0) & (u * q <= p)))
    assert (decided(decide_token_torch, packed(batch)).out[:, 0] == 3).any()


def test_one_lane_for_all_steps_would_show(rule, device, monkeypatch):
    given = packed(random_chains([4, 4, 4, 4, 4, 4, 4, 4], 31, seed=9, noise=1.5))
    expected = decided(rule[1], given.on(device), block=32)
    original = decide_token.coin
    for module in (decide_token, decide_block):
        monkeypatch.setattr(module, "coin", lambda seed, position, lane=0: original(seed, position))
    with pytest.raises(AssertionError):
        assert_same(decided(rule[0], given), expected)


def test_the_bonus_is_what_plain_decoding_draws(rule):
    """All accepted: the token after them is the target's own draw at that position."""
    logits = torch.randn(3, 31, generator=torch.Generator().manual_seed(4))
    given = packed([Chain(logits, logits[:2].softmax(-1), [1, 2])])
    assert decided(rule[0], given).out[0, 2] == draw_from_logits(logits[2], 0, TARGET, 9)
