"""The target as its own drafter: verification goes on where drafting left, and nothing is lost by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.draft import Draft, Resume
from draftproof.drafting.drafter import Binding, Commit, DraftRequest
from draftproof.drafting.drafters.adapter_files import CONFIG_FILE, WEIGHTS_FILE, AdapterTarget
from draftproof.drafting.drafters.early_exit import EarlyExit
from draftproof.drafting.drafters.exit_adapter import ExitAdapter, ExitAdapterConfig
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, LayeredModel, Pass, RowTokens, Wanted
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import ContractError, InputError, UsageError
from tests.drafting.drafters.decoding import (
    BACKENDS,
    IMPROBABLE,
    Wrap,
    decode,
    pair_law_chance,
    random_prompts,
    session_of,
)

PROMPT = [5, 17, 44, 8, 9, 23]
EXIT = 2


@pytest.fixture(scope="module")
def four_layers() -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.15, bos_token_id=1, eos_token_id=2,
        pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture
def target(four_layers: PreTrainedModel) -> TransformersModel:
    return TransformersModel(four_layers, name="four")


def adapter_for(target: CachedModel, *, layer: int = EXIT, kept: Tensor | None = None) -> ExitAdapter:
    """Of random weights that change what is drafted."""
    trimmed = None if kept is None else TrimmedVocabulary(kept, target.info.vocab_size)
    adapter = ExitAdapter(ExitAdapterConfig(layer, rank=4), AdapterTarget.of(target.info), trimmed)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        adapter.down.copy_(torch.randn(adapter.down.shape, generator=random))
        adapter.up.copy_(torch.randn(adapter.up.shape, generator=random))
    return adapter


def request(rows: Sequence[int], budgets: Sequence[int], sampling: Sampling = GREEDY) -> DraftRequest:
    return DraftRequest(
        tuple(rows), tuple(budgets), (sampling,) * len(rows), tuple(KeyedRng(sampling.seed + row) for row in rows)
    )


def begun(drafter: EarlyExit, target: LayeredModel, texts: dict[int, list[int]]) -> EarlyExit:
    """Rows of target and drafter, the last token of each text pending."""
    drafter.bind(Binding(target, None))
    for row, text in texts.items():
        target.add_row(row)
        target.forward([RowTokens(row, torch.tensor(text[:-1]))], Wanted(logits="none"))
        target.commit(row, range(len(text) - 1))
        drafter.start(Commit(row, tuple(text), (), len(text), reason="prefill"))
    return drafter


@pytest.mark.parametrize("options", [{}, {"candidates": (1, 2, 3)}, {"law": "match"}], ids=["plain", "scored", "match"])
@pytest.mark.parametrize("wrap", BACKENDS)
def test_greedy_text_is_that_of_plain_decoding(
    four_layers: PreTrainedModel, wrap: Wrap, options: dict[str, object]
) -> None:
    target = wrap(four_layers)
    prompts = random_prompts(20)
    plain = decode(session_of(target, None), prompts, 24)
    drafter = EarlyExit(EXIT, adapters=[adapter_for(target)], **options)  # type: ignore[arg-type]
    assert decode(session_of(target, drafter), prompts, 24) == plain


class Misplaced(EarlyExit):
    """Hands over states of which one is wrong."""

    def propose(self, request: DraftRequest) -> Draft:
        draft = super().propose(request)
        if draft.resume is None:
            return draft
        hidden = draft.resume.hidden.clone()
        hidden[:, 1] = hidden[:, 0]
        return replace(draft, resume=Resume(draft.resume.layer, hidden))


def test_verification_really_starts_from_the_drafters_states(target: TransformersModel) -> None:
    prompts = random_prompts(20)
    plain = decode(session_of(target, None), prompts, 24)
    assert decode(session_of(target, Misplaced(EXIT)), prompts, 24) != plain


@pytest.mark.parametrize("rule", ["block", pytest.param("token", marks=pytest.mark.slow)])
def test_sampled_text_follows_the_targets_law(target: TransformersModel, rule: str) -> None:
    """Drafted from an eighth of the vocabulary and its four likeliest tokens: what is left out must come back."""
    drafter = EarlyExit(EXIT, adapters=[adapter_for(target, kept=torch.arange(1, 97, 8))])
    assert pair_law_chance(session_of(target, drafter, rule=rule), PROMPT, 320) > IMPROBABLE


def test_the_layers_below_the_exit_run_once(target: TransformersModel) -> None:
    ran: list[tuple[int, int, int]] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(target, name)

        def run_layers(self, batch: Sequence[RowTokens], first: int, last: int, *rest: object, **more: object) -> Pass:
            ran.append((first, last, sum(len(each.tokens) for each in batch)))
            return target.run_layers(batch, first, last, *rest, **more)  # type: ignore[arg-type]

        def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
            ran.append((0, 4, sum(len(each.tokens) for each in batch)))
            return target.forward(batch, wanted)

    session = session_of(Watched(), EarlyExit(EXIT), length=3)  # type: ignore[arg-type]
    session.open({0: PROMPT})
    ran.clear()
    session.round([0])
    assert ran == [(0, EXIT, 1)] * 4 + [(EXIT, 4, 4)], "pending and three drafted tokens, then the layers above for all"


def test_rows_that_do_not_draft_are_ready_to_resume_too(target: TransformersModel) -> None:
    texts = {3: [5, 17, 44], 8: [9, 23, 1, 1]}
    drafter = begun(EarlyExit(EXIT), target, texts)
    draft = drafter.propose(request([3, 8], [2, 0]))
    assert draft.n_nodes.tolist() == [2, 0]
    assert draft.resume is not None
    assert draft.resume.hidden.shape == (2, 3, 64)
    expected = target.forward([RowTokens(8, torch.tensor([1]))], Wanted(logits="none", taps=(EXIT,))).hidden[EXIT]
    torch.testing.assert_close(draft.resume.hidden[1, :1], expected)
    assert drafter.propose(request([3, 8], [0, 0])).resume is None, "no row drafts: a plain step needs no states"


def test_only_kept_tokens_are_drafted_and_reported(target: TransformersModel) -> None:
    kept = torch.arange(0, 97, 3)
    drafter = begun(EarlyExit(EXIT, trimmed=TrimmedVocabulary(kept, 97)), target, {0: PROMPT})
    draft = drafter.propose(request([0], [4], Sampling(temperature=1.0, seed=2)))
    assert draft.q is not None
    assert draft.q.ids is not None
    assert draft.q.ids.tolist() == kept.tolist()
    assert set(draft.tokens[0].tolist()) <= set(kept.tolist())
    columns = [kept.tolist().index(token) for token in draft.tokens[0].tolist()]
    assert all(float(draft.q.probs[0, node, column]) > 0 for node, column in enumerate(columns))


def test_an_untrained_adapter_changes_nothing(target: TransformersModel) -> None:
    states = torch.randn(5, 64)
    fresh = ExitAdapter(ExitAdapterConfig(EXIT), AdapterTarget.of(target.info))
    assert torch.equal(fresh(states), states)
    assert not torch.allclose(adapter_for(target)(states), states)


def test_scores_say_what_each_exit_would_have_drafted(
    target: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hits of every candidate against hidden states of a plain pass, below and above the exit in use."""
    drafter = EarlyExit(2, candidates=(1, 2, 3))
    exits = drafter.spec.exits
    assert exits is not None
    noted: list[tuple[int, int, int, int]] = []
    monkeypatch.setattr(exits, "note", lambda *facts: noted.append(facts))
    session = session_of(target, drafter, length=3)
    session.open({0: PROMPT}, stop_ids=frozenset())
    hits_below = 0
    for _ in range(20):
        before = len(session.rows[0].tokens)
        noted.clear()
        session.round([0])
        text = session.rows[0].tokens
        target.add_row(99)
        states = target.forward([RowTokens(99, torch.tensor(text[:-1]))], Wanted(logits="none", taps=(1, 2, 3))).hidden
        target.drop_row(99)
        said = torch.tensor(text[before:])
        hits = {layer: int((target.head(states[layer][before - 1 :]).argmax(-1) == said).sum()) for layer in (1, 2, 3)}
        assert noted == [(0, layer, hits[layer], len(said)) for layer in (1, 2, 3)]
        hits_below += hits[1]
    assert hits_below > 0, "or nothing was compared"


def test_a_target_that_is_out_of_step_is_an_error(target: TransformersModel) -> None:
    drafter = begun(EarlyExit(EXIT), target, {0: PROMPT})
    target.truncate(0, 3)
    with pytest.raises(ContractError, match="holds 3 tokens of row 0, and 5 were expected"):
        drafter.propose(request([0], [2]))


def test_exits_that_the_target_does_not_have_are_refused(target: TransformersModel) -> None:
    with pytest.raises(UsageError, match=r"can be left after 1 … 3 of them; .* told 4"):
        EarlyExit(4).bind(Binding(target, None))
    with pytest.raises(UsageError, match="not among the candidates"):
        EarlyExit(2, candidates=(1, 3))
    kept = [adapter_for(target, layer=layer, kept=torch.arange(0, 97, layer)) for layer in (2, 3)]
    with pytest.raises(UsageError, match=r"different vocabularies, of 49 and 33"):
        EarlyExit(2, adapters=kept, candidates=(2, 3))
    with pytest.raises(UsageError, match="never used"):
        EarlyExit(2, adapters=[adapter_for(target, layer=3)]).bind(Binding(target, None))


def test_a_target_whose_layers_cannot_be_called_is_refused(tiny_gpt2: PreTrainedModel) -> None:
    with pytest.raises(UsageError, match="runs layers of the target"):
        EarlyExit(1).bind(Binding(TransformersModel(tiny_gpt2), None))


def test_a_stored_adapter_is_the_same_adapter(target: TransformersModel, tmp_path: Path) -> None:
    adapter = adapter_for(target, kept=torch.arange(0, 97, 5))
    adapter.save(tmp_path)
    again = ExitAdapter.load(tmp_path)
    states = torch.randn(3, 64)
    assert torch.equal(adapter(states), again(states))
    assert again.config == adapter.config
    assert again.trimmed is not None
    assert again.trimmed.ids.tolist() == list(range(0, 97, 5))
    EarlyExit(EXIT, adapters=[again]).bind(Binding(target, None))


def test_an_adapter_serves_its_target_on_every_backend(four_layers: PreTrainedModel) -> None:
    adapter = adapter_for(TransformersModel(four_layers))
    EarlyExit(EXIT, adapters=[adapter]).bind(Binding(LeanLlama.from_transformers(four_layers), None))


def test_an_adapter_of_another_target_is_refused(target: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    with pytest.raises(UsageError, match=r"was trained for four \(.*not for other"):
        EarlyExit(1, adapters=[adapter_for(target, layer=1)]).bind(
            Binding(TransformersModel(tiny_llama, name="other"), None)
        )


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        pytest.param(lambda folder: (folder / WEIGHTS_FILE).unlink(), UsageError, id="no-weights"),
        pytest.param(lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"\x08" + bytes(20)), InputError, id="garbage"),
        pytest.param(lambda folder: (folder / CONFIG_FILE).write_text("[]"), InputError, id="no-object"),
        pytest.param(lambda folder: edit(folder, "config", "rank", 9), InputError, id="other-shape"),
        pytest.param(lambda folder: edit(folder, "config", "rank", 10**9), UsageError, id="too-large-to-be-meant"),
        pytest.param(lambda folder: edit(folder, "config", "rank", "4"), InputError, id="no-number"),
        pytest.param(lambda folder: edit(folder, "target", "digest", "f00"), InputError, id="two-targets"),
        pytest.param(lambda folder: edit(folder, "format", None, "draftproof-kangaroo-1"), UsageError, id="other-kind"),
    ],
)
def test_damaged_files_are_refused(target: TransformersModel, tmp_path: Path, damage: object, error: type) -> None:
    adapter_for(target).save(tmp_path)
    ExitAdapter.load(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(error):
        ExitAdapter.load(tmp_path)


def edit(folder: Path, part: str, key: str | None, value: object) -> None:
    described = json.loads((folder / CONFIG_FILE).read_text())
    if key is None:
        described[part] = value
    else:
        described[part][key] = value
    (folder / CONFIG_FILE).write_text(json.dumps(described))
