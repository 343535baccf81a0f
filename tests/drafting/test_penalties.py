"""The repetition penalty: transformers' own in plain decoding, and at each node that of the text that leads there."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from draftproof.drafting.distributions import probabilities
from draftproof.drafting.draft import empty_draft, pack
from draftproof.drafting.penalties import penalised
from draftproof.drafting.sampling import GREEDY, Sampling

VOCAB = 31


def raw(rows, seed=0):
    return 2.0 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_plain_decoding_is_that_of_transformers(penalty):
    """Processors included, in their order: penalty, temperature, top-k, top-p."""
    sampling = Sampling(0.8, top_k=9, top_p=0.85, repetition_penalty=penalty)
    texts = [[1, 5, 5, 30], [0], [2, 3, 4, 2, 3, 4]]
    logits = raw(3)
    ours = penalised(logits, (0, 1, 2, 3), empty_draft(3), texts, [sampling] * 3)
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            TemperatureLogitsWarper(0.8),
            TopKLogitsWarper(9),
            TopPLogitsWarper(0.85),
        ]
    )
    for row, text in enumerate(texts):
        ids = torch.tensor([text])
        assert torch.equal(ours[row : row + 1], processors[0](ids, logits[row : row + 1].clone()))
        theirs = torch.softmax(processors(ids, logits[row : row + 1].clone()), dim=-1)
        assert torch.allclose(probabilities(ours[row : row + 1], sampling), theirs, atol=1e-6)


def test_every_node_is_penalised_for_the_path_that_leads_to_it():
    """A chain, a tree that repeats itself, and a plain step: each row is that of plain decoding after its text."""
    texts = [[1, 2, 3], [4, 4], [7]]
    trees = [
        ([5, 3, 5], [-1, 0, 1]),
        ([6, 8, 6, 4, 9], [-1, -1, 1, 0, 3]),
        ([], []),
    ]
    bounds = (0, 4, 10, 11)
    logits = raw(11)
    sampling = [Sampling(1.0, repetition_penalty=1.7)] * 3
    ours = penalised(logits, bounds, pack(trees), texts, sampling)
    processor = RepetitionPenaltyLogitsProcessor(1.7)
    for index, (tokens, parents) in enumerate(trees):
        for node in range(-1, len(tokens)):
            path, at = [], node
            while at >= 0:
                path.append(tokens[at])
                at = parents[at]
            row = bounds[index] + 1 + node
            expected = processor(torch.tensor([texts[index] + path[::-1]]), logits[row : row + 1].clone())
            assert torch.equal(ours[row : row + 1], expected)


def test_siblings_do_not_penalise_each_other():
    logits = torch.ones(3, VOCAB)
    ours = penalised(logits, (0, 3), pack([([6, 8], [-1, -1])]), [[1]], [Sampling(repetition_penalty=2.0)])
    assert ours[1, 6] == 0.5
    assert ours[1, 8] == 1.0
    assert ours[2, 8] == 0.5
    assert ours[2, 6] == 1.0


def test_logits_are_handed_on_untouched_without_a_penalty_and_never_changed():
    logits = raw(2)
    before = logits.clone()
    assert penalised(logits, (0, 1, 2), empty_draft(2), [[1], [2]], [GREEDY, Sampling(1.0)]) is logits
    mixed = penalised(logits, (0, 1, 2), empty_draft(2), [[1], [2]], [GREEDY, Sampling(1.0, repetition_penalty=1.5)])
    assert torch.equal(logits, before)
    assert torch.equal(mixed[0], logits[0])
    assert not torch.equal(mixed[1], logits[1])


def test_half_precision_is_penalised_in_full_precision():
    logits = raw(1).to(torch.bfloat16)
    ours = penalised(logits, (0, 1), empty_draft(1), [[3]], [Sampling(repetition_penalty=1.1)])
    assert ours.dtype is torch.float32
    expected = logits.float()
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(1.1)(torch.tensor([[3]]), expected))
