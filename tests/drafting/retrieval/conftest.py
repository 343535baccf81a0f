"""A small corpus, and a random encoder that is a real checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from draftproof.drafting.retrieval.build import build_corpus
from draftproof.drafting.retrieval.corpus import Corpus

TEXTS = (
    "The otter eats fish in the cold river. It sleeps on its back.",
    "A heron stands in the river and waits for fish. The heron is patient.",
    "Bread is made of flour, water and salt. Bakers rise early.",
    "The baker sells bread and cake. The bread is warm.",
    "Numbers such as 42 and 1984 are written with digits.",
)


def write_jsonl(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """Builds a corpus of texts, one document each, with their numbers as ids."""
    made = iter(range(100))

    def make(*texts: str, **options: Any) -> Corpus:
        number = next(made)
        records = [{"id": str(index), "title": f"T{index}", "text": text} for index, text in enumerate(texts)]
        file = write_jsonl(tmp_path / f"documents-{number}.jsonl", records)
        return build_corpus([file], tmp_path / f"corpus-{number}", **options)

    return make


@pytest.fixture
def small(make_corpus: Callable[..., Corpus]) -> Corpus:
    return make_corpus(*TEXTS)


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of width 16 that reads whole words, as sentence-transformers lays out a model."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    known = sorted({word for text in TEXTS for word in text.lower().replace(".", " ").replace(",", " ").split()})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *known])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    return folder
