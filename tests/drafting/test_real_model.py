"""Greedy identity on a real model and real problems: with every drafter, the text is that of plain decoding.

A forward pass over many tokens adds in another order than a pass over one, so logits differ in the last bits. A
difference of texts is excused only where the two best logits lie closer than that noise, which is measured here, on
the very text; each is printed. A rule that takes the second best token now and then fails the same check.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.drafters.head_models import save_heads
from draftproof.drafting.drafters.kangaroo_adapter import KangarooConfig
from draftproof.drafting.drafters.vocab_trim import trim_vocabulary
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.rule import Decision, Rule, RuleSpec, Verification
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.training.exit_training import ExitTraining
from draftproof.drafting.training.features import extract
from draftproof.drafting.training.heads import HeadsTraining, train_heads
from draftproof.drafting.training.kangaroo import train_kangaroo
from draftproof.drafting.training.self_text import SelfText
from tests.drafting.drafters.two_vocabularies import byte_level

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


def texts(
    loaded: LoadedModel,
    drafter: str | None,
    prompts: Sequence[str],
    policy: str = "fixed",
    rule: str | Rule = "auto",
    *,
    rejected: bool = False,
) -> list[tuple[int, ...]]:
    decoder = SpeculativeDecoder(loaded, drafter, rule=rule, policy=policy)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    made = decoder.generate(chats, max_new_tokens=TOKENS, stop_ids=frozenset(), max_batch=1)
    if drafter is not None:
        drafted, accepted = (sum(getattr(each.totals, of) for each in made) for of in ("drafted", "accepted"))
        print(f"{drafter}, {policy}: {accepted} of {drafted} drafted tokens accepted")
        assert drafted > accepted or not rejected, "without a rejection nothing is on trial"
    return [each.tokens for each in made]


def next_logits(model: CachedModel, tokens: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """Logits after `tokens`, fed in pieces of these sizes and what is before them at once."""
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


def unexcused(
    loaded: LoadedModel, prompt: str, one: Sequence[int], other: Sequence[int], by: CachedModel | None = None
) -> str | None:
    """What is wrong about `other`, which another backend may have written, differing from `one`; None for rounding."""
    decoder = SpeculativeDecoder(loaded, None)
    at = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    tokens = [*decoder.encode([{"role": "user", "content": prompt}]), *one[:at]]
    single = next_logits(loaded.model, tokens, [1] * at)  # as plain decoding wrote it: prompt, then token by token
    passes = [(loaded.model, size) for size in (2, 3, 4, 6, 8, 16)] + ([] if by is None else [(by, 1)])
    noise = max(
        float((next_logits(model, tokens, [size] * (at // size)) - single).abs().max()) for model, size in passes
    )
    best = single.topk(2)
    gap = float(best.values[0] - best.values[1])
    print(f"differs at {at}: gap {gap:.2e}, noise {noise:.2e}, {one[at]} and {other[at]}")
    # Two tokens change places when their logits move against each other by the gap between them. The noise is the
    # most that any one of all the vocabulary's logits moved in any of the passes: up to a gap of that size each of the
    # two need only move half as far as what was seen to happen, and no larger gap was seen to close.
    if gap <= noise and other[at] in best.indices.tolist():
        return None
    return f"{prompt[:60]!r} differs at {at}: the best two are {gap} apart, the noise is {noise}"


def faults(
    loaded: LoadedModel,
    prompts: Sequence[str],
    plain: Sequence[tuple[int, ...]],
    other: Sequence[tuple[int, ...]],
    by: CachedModel | None = None,
) -> list[str]:
    """Differences of texts that rounding does not explain, and too many that it does."""
    differing = [i for i, (one, another) in enumerate(zip(plain, other, strict=True)) if one != another]
    found = [fault for i in differing if (fault := unexcused(loaded, prompts[i], plain[i], other[i], by))]
    return [*found, f"{len(differing)} texts differ"] if len(differing) > 2 else found


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


@pytest.fixture(scope="module")
def lower_layers(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A draft model of the same vocabulary: the target's first 26 layers of 30, with its norm and head."""
    folder = tmp_path_factory.mktemp("lower-layers")
    for file in smollm2.glob("*"):
        if file.suffix in (".json", ".jinja"):
            shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 26}), encoding="utf-8")
    with safe_open(smollm2 / "model.safetensors", framework="pt") as weights:
        layer = re.compile(r"model\.layers\.(\d+)\.")
        kept = [name for name in weights.keys() if not (found := layer.match(name)) or int(found[1]) < 26]  # noqa: SIM118
        save_file({name: weights.get_tensor(name) for name in kept}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def other_words(
    loaded: LoadedModel, prompts: list[str], plain: list[tuple[int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A draft model of another vocabulary, which cuts words in its own way and learnt the very texts a little."""
    folder = tmp_path_factory.mktemp("other-words")
    backend = byte_level([*prompts, *map(loaded.vocabulary.decode, plain)], 1000, ["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=2048, bos_token_id=None, eos_token_id=0, **sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    written = torch.tensor(tokenizer.encode("".join(map(loaded.vocabulary.decode, plain))))
    pieces = written[: len(written) // 64 * 64].reshape(-1, 64)
    chance = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        batch = pieces[torch.randint(len(pieces), (8,), generator=chance)]
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


DRAFTERS = [
    *("prompt-lookup", "ngram", "trigram", "suffix", "input-copy", "hybrid"),
    "early-exit:exit_layer=20",
    "kangaroo:adapter={trained}/kangaroo",
    "medusa:heads={trained}/medusa",
    "hydra:heads={trained}/hydra",
    "hybrid:drafters=suffix+hydra,hydra.heads={trained}/hydra",
    "small-lm:model={target}",
    "small-lm:model={lower_layers}",
    "small-lm:model={lower_layers},max_depth=3,width=3,beam=2",
    "token-intersection:model={other_words}",
    "string-match:model={other_words}",
    ("suffix", "cost"),
    ("early-exit:exit_layer=20,candidates=14+20+25", "del"),
]


def named(drafter: str, request: pytest.FixtureRequest) -> str:
    """With the folders of what was trained or made for it."""
    fixtures = {"trained": "trained", "lower_layers": "lower_layers", "other_words": "other_words", "target": "smollm2"}
    places = {key: request.getfixturevalue(name) for key, name in fixtures.items() if f"{{{key}}}" in drafter}
    return drafter.format(**places)


@pytest.mark.parametrize(
    ("drafter", "policy"), [(each, "fixed") if isinstance(each, str) else each for each in DRAFTERS]
)
def test_a_drafter_leaves_the_text_as_it_is(
    loaded: LoadedModel,
    prompts: list[str],
    plain: list[tuple[int, ...]],
    request: pytest.FixtureRequest,
    drafter: str,
    policy: str,
) -> None:
    # Other policies may find that drafting does not pay here; the target accepts all that it drafts for itself.
    rejected = policy == "fixed" and "{target}" not in drafter
    drafted = texts(loaded, named(drafter, request), prompts, policy, rejected=rejected)
    assert faults(loaded, prompts, plain, drafted) == []


class Lax:
    """Takes a drafted token that the target finds second best, at every seventh position."""

    spec = RuleSpec("greedy", lossless=False, laws=create_rule("greedy").spec.laws)

    def decide(self, verification: Verification) -> Sequence[Decision]:
        decisions = list(create_rule("greedy").decide(verification))
        for row, position in enumerate(verification.positions):
            root = verification.bounds[row]
            second = int(verification.logits[root].topk(2).indices[1])
            tokens, parents = verification.draft.tree(row)
            node = next((n for n, token in enumerate(tokens) if parents[n] < 0 and token == second), None)
            if position % 7 == 0 and node is not None:
                decisions[row] = Decision((node,), int(verification.logits[root + 1 + node].argmax()))
        return decisions


def test_a_rule_that_takes_the_second_best_token_now_and_then_is_found(
    loaded: LoadedModel, smollm2: Path, prompts: list[str], plain: list[tuple[int, ...]]
) -> None:
    """The negative control, by a fifth of the prompts; the same drafts under the right rule are no fault."""
    few, drafter = prompts[:10], f"small-lm:model={smollm2},max_depth=1,width=2"
    found = faults(loaded, few, plain[:10], texts(loaded, drafter, few, rule=Lax()))
    assert any("the best two are" in fault for fault in found), "a difference that rounding does not explain"
    assert faults(loaded, few, plain[:10], texts(loaded, drafter, few, rule="greedy")) == []


def test_both_backends_write_the_same_text(
    loaded: LoadedModel, smollm2: Path, prompts: list[str], plain: list[tuple[int, ...]]
) -> None:
    reference = load_model(smollm2, backend="transformers")
    written = texts(reference, None, prompts[:10])
    assert faults(loaded, prompts[:10], plain[:10], written, by=reference.model) == []
