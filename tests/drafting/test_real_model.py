"""Greedy identity on a real model and real problems: with every drafter, the text is that of plain decoding.

A forward pass over many tokens adds in another order than a pass over one, so logits differ in the last bits. A
difference of texts is excused only where the two best logits lie closer than that noise, which is measured here; each
is printed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.drafters.head_models import save_heads
from draftproof.drafting.drafters.kangaroo_adapter import KangarooConfig
from draftproof.drafting.drafters.vocab_trim import trim_vocabulary
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.training.exit_training import ExitTraining
from draftproof.drafting.training.features import extract
from draftproof.drafting.training.heads import HeadsTraining, train_heads
from draftproof.drafting.training.kangaroo import train_kangaroo
from draftproof.drafting.training.self_text import SelfText

PROBLEMS = 50
TOKENS = 128

OTHERS = (
    "Repeat this sentence three times: The quick brown fox jumps over the lazy dog.",
    "Write a Python function that returns the n-th Fibonacci number, with a docstring.",
    "Translate into French: I would like two coffees and a glass of water, please.",
    "Summarise in one sentence: The council met on Monday. It agreed to close the bridge for repairs until May.",
    "Correct the mistakes in this text: He go to school every days and he like it very much.",
    "List the planets of the solar system with one fact about each.",
    "Explain to a child why the sky is blue.",
    "Write a short poem about a river in winter.",
    "Give me a recipe for pancakes, with amounts.",
    "What is the difference between a list and a tuple in Python? Show code.",
    "Write a polite letter that asks a neighbour to turn the music down.",
    "Count from one to forty in words.",
    "Sort these words: pear, apple, fig, cherry, banana, date. Explain each move.",
    "Is 91 a prime number? Think step by step.",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def prompts(checkout: Path) -> list[str]:
    """Problems of GSM8K, each once, and others of several kinds."""
    found: dict[str, None] = dict.fromkeys(OTHERS)
    for file in sorted((checkout / "examples").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.setdefault(row.get("problem") or row["question"])
    assert len(found) >= PROBLEMS
    return list(found)[:PROBLEMS]


@pytest.fixture(scope="module")
def loaded(smollm2: Path) -> LoadedModel:
    return load_model(smollm2)


@pytest.fixture(scope="module")
def plain(loaded: LoadedModel, prompts: list[str]) -> list[tuple[int, ...]]:
    return texts(loaded, None, prompts)


def texts(loaded: LoadedModel, drafter: str | None, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    decoder = SpeculativeDecoder(loaded, drafter, policy="fixed")
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    made = decoder.generate(chats, max_new_tokens=TOKENS, stop_ids=frozenset(), max_batch=1)
    return [each.tokens for each in made]


def next_logits(model: CachedModel, tokens: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """Logits after `tokens`, fed in pieces of these sizes and the rest at once."""
    model.add_row(-1)
    try:
        bounds = [0, *(len(tokens) - sum(sizes[i:]) for i in range(len(sizes))), len(tokens)]
        for begin, end in pairwise(bounds):
            result = model.forward([RowTokens(-1, torch.tensor(tokens[begin:end]))], Wanted(logits="last"))
            model.commit(-1, range(end - begin))
    finally:
        model.drop_row(-1)
    assert result.logits is not None
    return result.logits[0]


def unexcused(loaded: LoadedModel, prompt: str, one: Sequence[int], other: Sequence[int]) -> str | None:
    """What is wrong about `other` differing from `one`; None when rounding explains it."""
    decoder = SpeculativeDecoder(loaded, None)
    at = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    tokens = [*decoder.encode([{"role": "user", "content": prompt}]), *one[:at]]
    single = next_logits(loaded.model, tokens, [1])
    noise = max(float((next_logits(loaded.model, tokens, [size]) - single).abs().max()) for size in (2, 4, 8))
    best = single.topk(2)
    gap = float(best.values[0] - best.values[1])
    print(f"differs at {at}: gap {gap:.2e}, noise {noise:.2e}, {one[at]} and {other[at]}")
    if gap <= 2 * noise and other[at] in best.indices.tolist():
        return None
    return f"{prompt[:60]!r} differs at {at}: the best two are {gap} apart, the noise is {noise}"


@pytest.fixture(scope="module")
def trained(
    loaded: LoadedModel, prompts: list[str], plain: list[tuple[int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Heads and a Kangaroo adapter, taught a little on the very texts: enough to be accepted and rejected often."""
    folder = tmp_path_factory.mktemp("trained")
    decoder = SpeculativeDecoder(loaded, None)
    starts = [decoder.encode([{"role": "user", "content": prompt}]) for prompt in prompts]
    written = [
        SelfText(job, 0.0, len(start), (*start, *text))
        for job, (start, text) in enumerate(zip(starts, plain, strict=True))
    ]
    model = loaded.model
    features = extract(model, written, folder / "features")
    trimmed = trim_vocabulary([text.ids for text in written], 1024, model.info.vocab_size)
    for kind in ("hydra", "medusa"):
        heads, record = train_heads(model, features, trimmed, HeadsTraining(kind=kind, epochs=2))
        save_heads(folder / kind, heads, record)
    adapter, _ = train_kangaroo(
        loaded.model,
        [text.ids for text in written],
        KangarooConfig(exit_layer=6, n_heads=9, n_kv_heads=3, head_size=64),
        trimmed=trimmed,
        training=ExitTraining(epochs=2),
    )
    adapter.save(folder / "kangaroo")
    return folder


DRAFTERS = [
    *("prompt-lookup", "ngram", "trigram", "suffix", "input-copy", "hybrid"),
    "early-exit:exit_layer=20",
    "kangaroo:adapter={trained}/kangaroo",
    "medusa:heads={trained}/medusa",
    "hydra:heads={trained}/hydra",
    "hybrid:drafters=suffix+hydra,hydra.heads={trained}/hydra",
    "small-lm:model={target}",
]


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_a_drafter_leaves_the_text_as_it_is(
    loaded: LoadedModel,
    smollm2: Path,
    prompts: list[str],
    plain: list[tuple[int, ...]],
    request: pytest.FixtureRequest,
    drafter: str,
) -> None:
    trained = request.getfixturevalue("trained") if "{trained}" in drafter else None
    drafted = texts(loaded, drafter.format(trained=trained, target=smollm2), prompts)
    differing = [i for i, (one, other) in enumerate(zip(plain, drafted, strict=True)) if one != other]
    faults = [unexcused(loaded, prompts[i], plain[i], drafted[i]) for i in differing]
    assert [fault for fault in faults if fault] == []
    assert len(differing) <= 2


def test_both_backends_write_the_same_text(
    loaded: LoadedModel, smollm2: Path, prompts: list[str], plain: list[tuple[int, ...]]
) -> None:
    reference = load_model(smollm2, backend="transformers")
    written = texts(reference, None, prompts[:10])
    differing = [i for i, (one, other) in enumerate(zip(plain, written, strict=False)) if one != other]
    assert [fault for i in differing if (fault := unexcused(loaded, prompts[i], plain[i], written[i]))] == []
