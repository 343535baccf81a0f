"""A target whose text can be learnt in a second: its next token depends on the last one and hardly on those before."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.head_models import DraftHeads, HeadsRecord
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, trim_vocabulary
from draftproof.drafting.model import CachedModel
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.policy import Policy
from draftproof.drafting.rounds import RowRound, Totals, totals
from draftproof.drafting.rules.auto import AutoRule
from draftproof.drafting.rules.match import MatchRule
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.session import Session
from draftproof.drafting.training import features as feature_store
from draftproof.drafting.training.features import Features
from draftproof.drafting.training.heads import HeadsTraining, train_heads
from draftproof.drafting.training.self_text import SelfText, TextPlan, generate

VOCAB = 97


def markov_llama(seed: int = 0) -> PreTrainedModel:
    """Layers that add next to nothing: what is left is a map from the last token's embedding to logits."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.02)
            layer.mlp.down_proj.weight.mul_(0.02)
    return model.requires_grad_(False)


def some_prompts(count: int, length: int = 6, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    chance = random.Random(seed)
    return tuple(tuple(chance.randrange(3, VOCAB) for _ in range(length)) for _ in range(count))


@dataclass(frozen=True)
class Written:
    """The target's own text, and what was read from it."""

    texts: list[SelfText]
    features: Features
    trimmed: TrimmedVocabulary


@pytest.fixture(scope="session")
def markov_model() -> PreTrainedModel:
    return markov_llama()


@pytest.fixture(scope="session")
def markov(markov_model: PreTrainedModel) -> CachedModel:
    return TransformersModel(markov_model, name="markov")


@pytest.fixture(scope="session")
def written(markov: CachedModel, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    plan = TextPlan(some_prompts(240), tokens=9_000, temperatures=(0.5,), max_new_tokens=48, batch=64)
    texts = generate(markov, plan, folder / "text.jsonl")
    features = feature_store.extract(markov, texts, folder / "features")
    return Written(texts, features, trim_vocabulary([text.ids for text in texts], 80, VOCAB, forced=[2]))


TRAINING = HeadsTraining(n_heads=3, epochs=6, batch=128, learning_rate=4e-3)


@pytest.fixture(scope="session")
def trained(markov: CachedModel, written: Written) -> Callable[[str], tuple[DraftHeads, HeadsRecord]]:
    """Heads of a kind, trained once a session."""
    made: dict[str, tuple[DraftHeads, HeadsRecord]] = {}

    def of(kind: str) -> tuple[DraftHeads, HeadsRecord]:
        if kind not in made:
            training = HeadsTraining(**(TRAINING.__dict__ | {"kind": kind}))
            made[kind] = train_heads(markov, written.features, written.trimmed, training)
        return made[kind]

    return of


def decode(
    target: CachedModel,
    drafter: Drafter | None,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    new: int,
    draft_length: int = 0,
    policy: Policy | None = None,
) -> list[tuple[tuple[int, ...], Totals]]:
    """Each prompt's `new` tokens, decoded all together, and the figures of its rounds. No token ends a text."""
    policy = policy or Fixed(draft_length)
    session = Session(target, drafter, AutoRule() if drafter else MatchRule(), policy)
    if drafter is not None:
        policy.bind(None, drafter.spec)
    tokens: dict[int, list[int]] = {}
    rounds: dict[int, list[RowRound]] = {row: [] for row in range(len(prompts))}
    for row, prompt in enumerate(prompts):
        opened = session.open({row: prompt}, sampling=samplings[row], max_new_tokens=new, stop_ids=frozenset())
        tokens[row] = list(opened[0].tokens)
    while running := [row for row, state in session.rows.items() if not state.done]:
        for outcome in session.round(running):
            tokens[outcome.row] += outcome.tokens
            assert outcome.record is not None
            rounds[outcome.row].append(outcome.record)
    session.close(range(len(prompts)))
    return [(tuple(tokens[row]), totals(rounds[row])) for row in range(len(prompts))]


@pytest.fixture
def model_folder(tmp_path: Path, markov_model: PreTrainedModel) -> Path:
    """The target as an ordinary Hugging Face folder, with a byte-level tokenizer of 97 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    blanks = ["Ġ", "Ċ", "ĉ"]  # what byte-level tokenizers write for space, line end and tab
    ordered = blanks + [chr(code) for code in range(33, 124)]
    table = {"<unk>": 0, "<s>": 1, "</s>": 2} | {character: 3 + i for i, character in enumerate(ordered)}
    inner = Tokenizer(models.BPE(vocab=table, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    folder = tmp_path / "target"
    markov_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
