"""Drafting with Medusa and Hydra heads: the right candidates under the right nodes, files, and refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import draftproof.drafting.drafters.head_products as head_products
from draftproof.drafting.backends.packed_linear import PackedLinear, best_layout
from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, DraftRequest
from draftproof.drafting.drafters.head_models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    DraftHeads,
    HeadsConfig,
    HeadsRecord,
    load_heads,
    save_heads,
)
from draftproof.drafting.drafters.head_products import HeadProducts
from draftproof.drafting.drafters.heads import HeadsDrafter
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, normalised, output_rows
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import InputError, UsageError
from tests.drafting.drafters.decoding import decode, random_prompts, session_of
from tests.drafting.drafters.factories import Tiny, random_heads

Kind = Literal["hydra", "medusa"]
KINDS: tuple[Kind, ...] = ("hydra", "medusa")


@pytest.fixture
def target(tiny: Tiny) -> CachedModel:
    return tiny.target


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_products, "in_eight_bits", lambda weight: weight)


def untrained(target: CachedModel, kind: Kind, n_layers: int = 1) -> tuple[DraftHeads, HeadsRecord]:
    info = target.info
    trimmed = TrimmedVocabulary(torch.arange(10, 90), info.vocab_size)
    config = HeadsConfig(kind, 3, info.hidden_size, info.vocab_size, n_layers)
    heads = DraftHeads(config, trimmed, output_rows(target, trimmed.ids)).requires_grad_(False)
    return heads, HeadsRecord(info.name, info.digest)


def stirred(heads: DraftHeads, strength: float = 0.3) -> DraftHeads:
    """The heads with random branches, so that each says something of its own."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in [*heads.first.parameters(), *heads.deeper.parameters(), heads.rest]:
            parameter.add_(strength * torch.randn(parameter.shape, generator=random))
    return heads


def some_state(target: CachedModel, seed: int = 0) -> Tensor:
    return 5.0 * torch.randn(3, target.info.hidden_size, generator=torch.Generator().manual_seed(seed))


def asked(
    drafter: HeadsDrafter, target: CachedModel, states: Tensor, *, budget: int = 8, sampling: Sampling = GREEDY
) -> Draft:
    """The draft of a row whose last state is `states[-1]` and whose pending token is 40."""
    drafter.bind(Binding(target, None))
    drafter.start(Commit(4, (7, 9, 11, 40), (), 4, {-1: states}, reason="prefill"))
    return drafter.propose(DraftRequest((4,), (budget,), (sampling,), (KeyedRng(0),)))


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_head_says_what_the_target_said(kind: Kind, n_layers: int, target: CachedModel) -> None:
    heads, record = untrained(target, kind, n_layers)
    states = some_state(target)
    draft = asked(HeadsDrafter(heads, record, floor=0.0), target, states)
    logits = target.head(states[-1])[10:90]
    tokens, parents = draft.tree(0)
    assert tokens[0] == 10 + int(logits.argmax())
    assert [t for t, above in zip(tokens, parents, strict=True) if above == -1] == [
        10 + i for i in logits.topk(parents.count(-1)).indices.tolist()
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [1, 3, 8])
def test_a_dynamic_tree_holds_the_most_probable_of_all_paths(
    kind: Kind, budget: int, target: CachedModel, unrounded: None
) -> None:
    """Against every path of three tokens, each evaluated by itself."""
    heads, record = untrained(target, kind)
    heads = stirred(heads)
    states = some_state(target)
    draft = asked(HeadsDrafter(heads, record, floor=0.0, width=20), target, states, budget=budget)
    hidden = normalised(states[-1:])
    best: dict[tuple[int, ...], float] = {(): 1.0}
    for depth in range(3):
        for path in [path for path in best if len(path) == depth]:
            ids = torch.tensor([40, *path])
            logits = heads.logits(heads.state(depth, hidden, normalised(target.embed(ids)).unsqueeze(0)))
            probabilities = torch.softmax(logits, dim=1)[0, :-1]
            for column in probabilities.topk(8).indices.tolist():
                best[(*path, 10 + column)] = best[path] * float(probabilities[column])
    del best[()]
    expected = sorted(best.values(), reverse=True)[:budget]
    tokens, parents = draft.tree(0)
    paths: list[tuple[int, ...]] = []
    for token, above in zip(tokens, parents, strict=True):
        paths.append((*(() if above < 0 else paths[above]), token))
    assert draft.score is not None
    scores = draft.score[0, : len(tokens)]
    torch.testing.assert_close(scores, torch.tensor([best[path] for path in paths]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.sort(descending=True).values, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_for_drafting_says_what_the_heads_say(
    kind: Kind, n_layers: int, target: CachedModel, unrounded: None
) -> None:
    heads = stirred(untrained(target, kind, n_layers)[0])
    products = HeadProducts(heads, torch.device("cpu"))
    random = torch.Generator().manual_seed(2)
    hidden = torch.randn(5, target.info.hidden_size, generator=random)
    for head in range(3):
        embedded = torch.randn(5, head + 1, target.info.hidden_size, generator=random)
        expected = heads.logits(heads.state(head, hidden, embedded))
        torch.testing.assert_close(products.logits(head, hidden, embedded), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(products.logits(head, hidden.roll(1, 0), embedded), expected, atol=0.1)


@pytest.mark.skipif(best_layout() != "native", reason="other layouts keep 32 bits")
@pytest.mark.parametrize("kind", KINDS)
def test_every_matrix_of_trained_heads_is_kept_in_eight_bits(kind: Kind, target: CachedModel, tmp_path: Path) -> None:
    heads, record = untrained(target, kind, 3)
    save_heads(tmp_path, stirred(heads), record)
    loaded, _ = load_heads(tmp_path)
    products = HeadProducts(loaded, torch.device("cpu"))
    for product in (products._output, *(product for blocks in products._blocks for product, _ in blocks)):
        assert isinstance(product, PackedLinear)
        assert product.form == "bytes"
    hidden, embedded = torch.randn(50, target.info.hidden_size), torch.randn(50, 2, target.info.hidden_size)
    expected = loaded.logits(loaded.state(1, hidden, embedded))
    off = products.logits(1, hidden, embedded) - expected
    assert 1e-4 < float(off.std() / expected.std()) < 0.03


def test_hydra_heads_see_the_drafted_tokens_and_medusa_heads_do_not(target: CachedModel) -> None:
    def children(kind: Kind) -> list[set[int]]:
        heads, record = untrained(target, kind)
        record = dataclasses.replace(record, accuracies=((0.5, 0.4, 0.3), (0.5, 0.4, 0.3)))
        draft = asked(
            HeadsDrafter(stirred(heads), record, tree="static", max_nodes=12), target, some_state(target), budget=12
        )
        tokens, parents = draft.tree(0)
        roots = [node for node, above in enumerate(parents) if above == -1]
        return [{t for t, above in zip(tokens, parents, strict=True) if above == root} for root in roots]

    assert len({frozenset(each) for each in children("medusa")}) == 1
    assert len({frozenset(each) for each in children("hydra")}) == 3


def test_a_static_tree_has_the_shape_that_was_measured_best(target: CachedModel) -> None:
    heads, record = untrained(target, "hydra")
    record = dataclasses.replace(record, accuracies=((0.9, 0.05), (0.9, 0.05), (0.9, 0.05)))
    draft = asked(HeadsDrafter(stirred(heads), record, tree="static"), target, some_state(target), budget=3)
    assert draft.tree(0)[1] == [-1, 0, 1]
    flat = dataclasses.replace(record, accuracies=((0.3, 0.3, 0.3), (0.01,)))
    assert asked(HeadsDrafter(heads, flat, tree="static"), target, some_state(target), budget=3).tree(0)[1] == [-1] * 3


def test_improbable_paths_are_not_drafted(target: CachedModel) -> None:
    heads, record = untrained(target, "hydra")
    whole = asked(HeadsDrafter(heads, record, floor=0.0), target, some_state(target))
    cut = asked(HeadsDrafter(heads, record, floor=0.2), target, some_state(target))
    assert whole.score is not None
    assert cut.score is not None
    assert 0 < int(cut.n_nodes[0]) < int(whole.n_nodes[0])
    assert float(cut.score[0, : int(cut.n_nodes[0])].min()) >= 0.2


def test_the_temperature_blurs_scores_and_greedy_sharpness_bounds_them(target: CachedModel) -> None:
    heads, record = untrained(target, "medusa")
    record = dataclasses.replace(record, sharpness=((0.6, 0.4),) * 3)

    def score(temperature: float) -> float:
        drafter = HeadsDrafter(heads, record, floor=0.0)
        draft = asked(drafter, target, some_state(target), sampling=Sampling(temperature=temperature))
        assert draft.score is not None
        return float(draft.score[0, 0])

    assert score(2.0) < score(1.0) < score(0.8) < score(0.0)
    assert score(0.01) == pytest.approx(score(0.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tree", ["dynamic", "static"])
def test_text_is_the_same_with_and_without_heads(kind: Kind, tree: Literal["dynamic", "static"], tiny: Tiny) -> None:
    prompts = random_prompts(4)
    for sampling in (Sampling(), Sampling(temperature=0.9, seed=3)):
        plain = decode(session_of(tiny.target, None), prompts, 24, sampling)
        drafted = decode(session_of(tiny.target, random_heads(tiny, kind, tree), length=6), prompts, 24, sampling)
        assert drafted == plain


def test_nothing_is_drafted_after_forced_tokens_until_a_state_comes(target: CachedModel) -> None:
    heads, record = untrained(target, "hydra")
    drafter = HeadsDrafter(heads, record, floor=0.0)
    request = DraftRequest((4,), (5,), (Sampling(),), (KeyedRng(0),))
    assert int(asked(drafter, target, some_state(target)).n_nodes[0]) > 0
    drafter.commit([Commit(4, (5, 6), (), 6, reason="forced")])
    assert int(drafter.propose(request).n_nodes[0]) == 0
    drafter.commit([Commit(4, (8,), (), 7, {-1: some_state(target)[:1]})])
    assert int(drafter.propose(request).n_nodes[0]) > 0


def test_heads_come_back_from_their_files(target: CachedModel, tmp_path: Path) -> None:
    heads, record = untrained(target, "hydra", n_layers=2)
    record = dataclasses.replace(record, accuracies=((0.5, 0.1),), sharpness=((1.5, 0.9),) * 3, training={"seed": 3})
    stirred(heads).half().float()
    save_heads(tmp_path, heads, record)
    loaded, known = load_heads(tmp_path, target_digest=target.info.digest)
    assert known == record
    states = some_state(target)
    first = asked(HeadsDrafter(heads, record), target, states)
    second = asked(HeadsDrafter(loaded, known), target, states)
    assert first.tree(0) == second.tree(0)
    assert asked(HeadsDrafter(loaded, known, max_nodes=2), target, states).tree(0)[0] == first.tree(0)[0][:2]


def test_heads_of_another_target_are_refused(target: CachedModel, tmp_path: Path) -> None:
    heads, record = untrained(target, "hydra")
    save_heads(tmp_path, heads, dataclasses.replace(record, target="somebody", target_digest="0" * 64))
    with pytest.raises(UsageError, match="trained for somebody"):
        load_heads(tmp_path, target_digest=target.info.digest)
    with pytest.raises(UsageError, match="trained for somebody"):
        HeadsDrafter(*load_heads(tmp_path)).bind(Binding(target, None))


def test_a_folder_without_heads_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="draftproof train heads"):
        load_heads(tmp_path)


def break_config(folder: Path, **changes: object) -> None:
    described = json.loads((folder / CONFIG_FILE).read_text())
    described["config"] |= changes
    (folder / CONFIG_FILE).write_text(json.dumps(described))


def break_weights(folder: Path, name: str, value: float) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors[name].flatten()[0] = value
    save_file(tensors, folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), "cannot be read"),
        (lambda folder: (folder / CONFIG_FILE).write_text('{"format": "other"}'), "format 'other'"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"\0" * 40), "cannot be read"),
        (lambda folder: break_config(folder, kind="eagle"), "'eagle'"),
        (lambda folder: break_config(folder, n_heads=10**9), "at most 32"),
        (lambda folder: break_config(folder, hidden_size=10**9), "not what it says"),
        (lambda folder: break_config(folder, n_heads=4), "cannot be read"),
        (lambda folder: break_config(folder, vocab_size=50), "the target has"),
        (lambda folder: break_weights(folder, "rest", float("nan")), "not numbers"),
        (lambda folder: break_weights(folder, "ids", -3), "the target has"),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(
    broken,
    match: str,
    target: CachedModel,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    save_heads(tmp_path, *untrained(target, "hydra"))
    load_heads(tmp_path)
    broken(tmp_path)
    with pytest.raises((InputError, UsageError), match=match):
        load_heads(tmp_path)


def test_a_static_tree_needs_measured_accuracies(target: CachedModel) -> None:
    with pytest.raises(UsageError, match="measured accuracies"):
        HeadsDrafter(*untrained(target, "hydra"), tree="static")


def test_every_level_of_every_tree_can_be_reached(target: CachedModel) -> None:
    """Deep chains are drafted where a head is sure: a token that is nearly certain at each level."""
    heads, record = untrained(target, "medusa")
    sure = dataclasses.replace(record, sharpness=((50.0, 50.0),) * 3)
    assert asked(HeadsDrafter(heads, sure), target, some_state(target)).tree(0)[1][:3] == [-1, 0, 1]
