"""A tiny random model that speaks ASCII, and traces whose wrong steps say so.

Every character is a token, so that what the model writes is cut into tokens as it was written. Weights are drawn wide,
so that logits differ by whole units, as a trained model's do.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.trace import Step, StepLabel, Trace
from draftproof.verifiers.uncertainty_head.examples import Examples, collect, split
from draftproof.verifiers.uncertainty_head.features import FeatureSet
from draftproof.verifiers.uncertainty_head.head import HeadConfig
from draftproof.verifiers.uncertainty_head.head_files import Base, HeadRecord, save_head
from draftproof.verifiers.uncertainty_head.labels import label
from draftproof.verifiers.uncertainty_head.reader import Reader
from draftproof.verifiers.uncertainty_head.training import HeadTraining, train_head

CONTEXT = 256


def save_ascii_model(folder: Path, seed: int = 0, context: int = CONTEXT) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    blanks = ["Ġ", "Ċ", "ĉ"]  # what byte-level tokenizers write for space, line end and tab
    table = {"<|end|>": 0} | {each: 1 + i for i, each in enumerate([*blanks, *map(chr, range(33, 127))])}
    inner = Tokenizer(models.BPE(vocab=table, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")
    config = LlamaConfig(
        vocab_size=len(table), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.2, eos_token_id=0,
        bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[0] = 0.0  # it seldom ends a text
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def ascii_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ascii_model(tmp_path_factory.mktemp("ascii") / "model")


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape and tokenizer with other weights."""
    return save_ascii_model(tmp_path_factory.mktemp("ascii") / "other", seed=1)


@pytest.fixture(scope="session")
def loaded(ascii_folder: Path) -> LoadedModel:
    return load_model(ascii_folder)


@pytest.fixture(scope="session")
def plain_model(ascii_folder: Path) -> PreTrainedModel:
    """The same weights as transformers has them, to compare with."""
    return LlamaForCausalLM.from_pretrained(ascii_folder, attn_implementation="eager").eval().requires_grad_(False)


@pytest.fixture(scope="session")
def writer(loaded: LoadedModel) -> LocalLanguageModel:
    return LocalLanguageModel(loaded)


def marked_traces(count: int, seed: int = 0) -> list[Trace]:
    """Wrong steps say *no*, right ones *ok*, in the middle: the model's states know it from there on."""
    chance = random.Random(seed)
    traces = []
    for number in range(count):
        wrong = chance.randrange(1, 4) if chance.random() < 0.6 else None
        steps = []
        for place in range(3):
            word = "no" if wrong == place else "ok"
            steps.append(f"so {word} {chance.randrange(10, 99)}.\n\n")
        labels = [StepLabel.CORRECT] * 3
        if wrong is not None and wrong < 3:
            labels[wrong] = StepLabel.INCORRECT
            labels[wrong + 1 :] = [StepLabel.UNKNOWN] * (2 - wrong)
        traces.append(
            Trace(
                problem=f"Sum {number}?",
                steps=tuple(Step(text=text) for text in steps),
                segmentation="blank_line@1",
                step_labels=tuple(labels),
            )
        )
    return traces


WANTED = FeatureSet(layers=(1, 2))
TRAINING = HeadTraining(epochs=12, patience=4, batch=32, learning_rate=3e-3)


@pytest.fixture(scope="session")
def reader(loaded: LoadedModel) -> Reader:
    return Reader(loaded, WANTED)


@pytest.fixture(scope="session")
def examples(reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return collect(reader, WANTED, label(marked_traces(120), None), tmp_path_factory.mktemp("internals"))


@pytest.fixture(scope="session")
def trained_folder(examples: Examples, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that was trained on the marked traces."""
    config = HeadConfig(examples.features[0].shape[1], width=32, heads=2)
    result = train_head(examples, split(examples), config, TRAINING)
    folder = tmp_path_factory.mktemp("head")
    base = Base.of(reader.info, reader.writer)
    save_head(folder, result.head, HeadRecord(base, WANTED, tuple(sorted(reader.blank)), {"seed": 0}))
    return folder


@pytest.fixture
def head_copy(trained_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    import shutil

    return Path(shutil.copytree(trained_folder, tmp_path / "copy"))
