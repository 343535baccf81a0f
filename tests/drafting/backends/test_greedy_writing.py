"""Models that write by themselves: the same tokens, logits and cache as a pass for each token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends import lean_native, native
from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.model import GreedyModel, GreedyWish
from draftproof.errors import ContextLengthError, OutOfMemoryError, UsageError
from tests.drafting.backends import reference

FAMILIES = ("llama", "mistral", "mistral_window", "qwen2", "qwen3")


@pytest.fixture(params=FAMILIES)
def plain(request: pytest.FixtureRequest) -> PreTrainedModel:
    model: PreTrainedModel = request.getfixturevalue(f"tiny_{request.param}")
    return model


def nowhere(model: LeanLlama) -> torch.Tensor:
    return torch.zeros(model._ends.head.out_features, dtype=torch.bool)


def check_greedy_writing(model: LeanLlama, plain: PreTrainedModel) -> None:
    """Rows of several lengths, one of which halts early, and then again from where each ended."""
    vocab = model.info.vocab_size
    texts = [reference.some_text(seed, length, vocab) for seed, length in ((1, 9), (2, 31), (3, 1))]
    halts = nowhere(model)
    third = greedily(plain, texts[1], 3)
    halts[third[2]] = True
    with reference.rows(model, *(text[:-1] for text in texts)) as ids:
        for most, halting in (((5, 8, 8), halts), ((3, 4, 2), nowhere(model))):
            plans = zip(ids, texts, most, (nowhere(model), halting, nowhere(model)), strict=True)
            written = model.write_greedily(
                {row: GreedyWish(text[-1], count, where) for row, text, count, where in plans}, taps=(1, 0)
            )
            for place, row in enumerate(ids):
                tokens, logits = written[row].tokens, written[row].logits
                count = most[place]
                if place == 1 and bool(halting.any()):
                    count = third.index(third[2]) + 1
                assert tokens == greedily(plain, texts[place], count), f"row {place}"
                begin = len(texts[place]) - 1
                texts[place] = [*texts[place], *tokens]
                expected = reference.plain_logits(plain, texts[place])[begin:-1]
                reference.assert_close(logits, expected, f"row {place}")
                assert list(written[row].hidden) == [1, 0]
                for layer, states in written[row].hidden.items():
                    expected = reference.plain_states(plain, texts[place])[layer][begin:-1]
                    reference.assert_close(states, expected, f"layer {layer} of row {place}")
                assert model.length(row) == len(texts[place]) - 1
        after = model.forward([reference.row_tokens(ids[1], [texts[1][-1], 3])]).logits
        reference.assert_close(after, reference.plain_logits(plain, [*texts[1], 3])[-2:], "passes go on behind it")


def greedily(model: PreTrainedModel, text: list[int], count: int) -> list[int]:
    tokens = list(text)
    for _ in range(count):
        tokens.append(int(reference.plain_logits(model, tokens)[-1].argmax()))
    return tokens[len(text) :]


def test_what_is_written_is_the_arg_max_of_the_plain_forward(plain: PreTrainedModel) -> None:
    model = LeanLlama.from_transformers(plain)
    assert isinstance(model, GreedyModel)
    assert model.tokens_at_once > 1
    check_greedy_writing(model, plain)


def test_writing_through_the_growth_of_the_cache(tiny_llama: PreTrainedModel) -> None:
    model = LeanLlama.from_transformers(tiny_llama)
    text = reference.some_text(5, 250, model.info.vocab_size)
    with reference.rows(model, text[:-1]) as (row,):
        written = model.write_greedily({row: GreedyWish(text[-1], 16, nowhere(model))})[row]
        assert written.tokens == greedily(tiny_llama, text, 16)
        assert written.hidden == {}
        assert written.logits.shape == (16, model._ends.head.out_features)
        assert model._rows[row].columns == 512


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_embeddings_of_half_precision_are_read_as_they_are(dtype: torch.dtype, tiny_llama: PreTrainedModel) -> None:
    rounded = {name: each.to(torch.bfloat16) for name, each in tiny_llama.state_dict().items()}
    model = LeanLlama.from_transformers(tiny_llama)
    made = LeanLlama(model.info, model._shape, lambda name: rounded[name].to(dtype) if name in rounded else None)
    assert made._ends.embeddings.dtype is dtype
    with reference.rows(made, [1, 2]) as (row,):
        written = made.write_greedily({row: GreedyWish(3, 6, nowhere(made))})[row]
        made.truncate(row, 2)
        for token, expected in zip([3, *written.tokens], written.logits, strict=False):
            got = made.forward([reference.row_tokens(row, [token])]).logits
            made.commit(row, [0])
            assert got is not None
            assert torch.equal(got[0], expected)


def test_half_precision_of_another_kind_is_left_to_passes(tiny_llama: PreTrainedModel) -> None:
    model = LeanLlama.from_transformers(tiny_llama)
    state = tiny_llama.state_dict()
    made = LeanLlama(model.info, model._shape, lambda name: state[name].half() if name in state else None)
    assert made.tokens_at_once == 1
    with pytest.raises(UsageError, match="does not write by itself"):
        made.write_greedily({})


def test_logits_that_are_no_numbers_give_no_token(tiny_llama: PreTrainedModel) -> None:
    model = LeanLlama.from_transformers(tiny_llama)
    with reference.rows(model, [1, 2], [1, 2]) as (good, bad):
        model._rows[bad]._stored[:, :, :2] = float("nan")
        wish = GreedyWish(3, 4, nowhere(model))
        written = model.write_greedily({bad: wish, good: wish})
        assert written[bad].tokens == []
        assert written[good].tokens == greedily(tiny_llama, [1, 2, 3], 4)
        assert (model.length(bad), model.length(good)) == (2, 6)


def test_wrong_wishes_are_refused_and_change_nothing(tiny_llama: PreTrainedModel) -> None:
    model = LeanLlama.from_transformers(tiny_llama)
    wish = GreedyWish(3, 4, nowhere(model))
    with reference.rows(model, [1, 2]) as (row,):
        for wrong in (
            replace(wish, pending=-1),
            replace(wish, pending=model.info.vocab_size),
            replace(wish, most=0),
            replace(wish, halts=wish.halts[1:]),
            replace(wish, halts=wish.halts.to(torch.uint8)),
        ):
            with pytest.raises(UsageError):
                model.write_greedily({row: wrong})
        with pytest.raises(UsageError, match="states of layer"):
            model.write_greedily({row: wish}, taps=(model.info.n_layers + 1,))
        with pytest.raises(ContextLengthError):
            model.write_greedily({row: replace(wish, most=model.info.context_length - 1)})
        with pytest.raises(UsageError, match="no row"):
            model.write_greedily({row: wish, row + 10**6: wish})
        assert model.length(row) == 2


def test_a_run_without_memory_keeps_what_was_committed(
    tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LeanLlama.from_transformers(tiny_llama)

    def exhausted(*given: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    with reference.rows(model, [1, 2]) as (row,):
        wish = GreedyWish(3, 4, nowhere(model))
        with monkeypatch.context() as patched:
            patched.setattr(model._native, "write", exhausted)
            with pytest.raises(OutOfMemoryError):
                model.write_greedily({row: wish})
        assert model.length(row) == 2
        assert model.write_greedily({row: wish})[row].tokens == greedily(tiny_llama, [1, 2, 3], 4)


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ("if (mine->halts[mine->pending]) mine->pending = -1;", ""),
        ("|| mine->made == mine->most", "|| mine->made == mine->most - 1"),
        ("going[count].length += mine->made;", ""),
        ("logits[v] > logits[best]", "logits[v] < logits[best]"),
        ("mine->logits + mine->made * vocabulary, logits", "mine->logits + mine->made * vocabulary, fresh"),
        ("kept[taps[k]] + g * hidden", "kept[taps[k]]"),
        ("kept[taps[k]] + g * hidden", "kept[taps[0]] + g * hidden"),
        ("k * mine->most + mine->made) * hidden", "k * mine->most) * hidden"),
        ("table + token * width", "table + (token ? token - 1 : 0) * width"),
    ],
)
def test_native_runs_that_do_something_else_are_found(
    found: str, put: str, tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*native.SOURCES, *native.HEADERS):
        source = (native.FOLDER / name).read_text()
        (tmp_path / name).write_text(source.replace(found, put) if name == "native_run.c" else source)
        assert name != "native_run.c" or found in source
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    wrong = native.built()
    monkeypatch.setattr(lean_native, "library", lambda: wrong)
    with pytest.raises(AssertionError):
        check_greedy_writing(LeanLlama.from_transformers(tiny_llama), tiny_llama)
