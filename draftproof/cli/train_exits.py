"""`draftproof train exit-adapter` and `train kangaroo`: what makes an early exit of the target readable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftproof.cli.options import Json
from draftproof.cli.screen import say
from draftproof.cli.train_options import (
    Backend,
    Batch,
    Data,
    Epochs,
    LearningRate,
    MaxNew,
    Out,
    Quiet,
    Seed,
    Target,
    Temperature,
    Text,
    Tokens,
)
from draftproof.cli.train_text import (
    CHECKPOINT,
    STAGES,
    check_text_can_be_held_out,
    check_vocabulary_holds_what_must_be_kept,
    loaded_model,
    need_engine,
    prompts_of,
    text_plan,
    written,
)
from draftproof.errors import UsageError

if TYPE_CHECKING:
    from draftproof.drafting.drafters.exit_adapter import ExitAdapter
    from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter
    from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
    from draftproof.drafting.models.load import LoadedModel
    from draftproof.drafting.training.exit_training import Epoch
    from draftproof.drafting.training.progress import Report
    from draftproof.drafting.training.self_text import TextPlan

ADAPTER_HELP = """Train a readout of an early exit: the target drafts with its lower layers.

It is some ten thousand weights beside the layers that are there already; the exit's states go through it to the
target's own head, over the tokens that the target uses most (`--vocab`).

    draftproof train exit-adapter --target smollm2-135m --out exit/ --layer 10
    draftproof generate "Name three rivers." --target smollm2-135m --drafter early-exit:adapter=exit/

The figure to watch is *accepted*: the probability that a drafted token is kept, on text that was held out, before
training and after. Drafting costs `--layer` of the target's layers for every token, so it must be high to pay."""

KANGAROO_HELP = """Train Kangaroo's adapter: a few layers of the target and one attention block draft.

    draftproof train kangaroo --target smollm2-135m --out kangaroo/ --layer 3
    draftproof generate "Name three rivers." --target smollm2-135m --drafter kangaroo:adapter=kangaroo/

It leaves the target earlier than `exit-adapter` does, and knows more of the text. The figures are the same."""

USELESS = "Training did not raise acceptance: this adapter drafts no better than the bare exit. Try a later --layer."


def _layer(default: str) -> Any:
    return typer.Option("--layer", min=1, help=f"Layers of the target that draft. [default: {default}]")


Vocab = Annotated[int, typer.Option("--vocab", min=1, help="Tokens that can be drafted at all.")]
Train = Callable[
    ["Sequence[tuple[int, ...]]", "TrimmedVocabulary", "Report"],
    "tuple[ExitAdapter | KangarooAdapter, tuple[Epoch, ...]]",
]
"""From the texts, the tokens that can be drafted, and whom to tell of progress."""


def exit_adapter(
    target: Target,
    out: Out,
    layer: Annotated[int | None, _layer("a third of them")] = None,
    text: Text = None,
    data: Data = None,
    tokens: Tokens = 50_000,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Width of the readout.")] = 32,
    vocab: Vocab = 8192,
    epochs: Epochs = 20,
    learning_rate: LearningRate = 1e-3,
    temperature: Temperature = None,
    max_new_tokens: MaxNew = 256,
    batch: Batch = 32,
    backend: Backend = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.drafting.training.exit_adapter import train_exit_adapter
    from draftproof.drafting.training.exit_training import ExitTraining

    training = ExitTraining(epochs=epochs, learning_rate=learning_rate, seed=seed)
    started = time.monotonic()
    prompts = prompts_of(text)
    loaded = loaded_model(target, backend)
    exit_layer = _exit_of(loaded, layer, share=3)
    if rank > loaded.model.info.hidden_size:
        raise UsageError(f"--rank {rank} is more than the width of the target, {loaded.model.info.hidden_size}.")
    plan = text_plan(loaded, prompts, tokens, temperature, max_new_tokens, batch, seed)

    train: Train = lambda texts, trimmed, report: train_exit_adapter(  # noqa: E731
        loaded.model,
        texts,
        exit_layer,
        rank=rank,
        trimmed=trimmed,
        training=training,
        checkpoint=out / STAGES / CHECKPOINT,
        report=report,
    )
    _train("exit-adapter", train, loaded, exit_layer, plan, vocab, out, data, started, quiet, json_output)


def kangaroo(
    target: Target,
    out: Out,
    layer: Annotated[int | None, _layer("a tenth of them")] = None,
    text: Text = None,
    data: Data = None,
    tokens: Tokens = 50_000,
    vocab: Vocab = 8192,
    epochs: Epochs = 20,
    learning_rate: LearningRate = 1e-3,
    temperature: Temperature = None,
    max_new_tokens: MaxNew = 256,
    batch: Batch = 32,
    backend: Backend = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.drafting.drafters.kangaroo_adapter import KangarooConfig
    from draftproof.drafting.training.exit_training import ExitTraining
    from draftproof.drafting.training.kangaroo import train_kangaroo

    training = ExitTraining(epochs=epochs, learning_rate=learning_rate, seed=seed)
    started = time.monotonic()
    prompts = prompts_of(text)
    loaded = loaded_model(target, backend)
    exit_layer = _exit_of(loaded, layer, share=10)
    plan = text_plan(loaded, prompts, tokens, temperature, max_new_tokens, batch, seed)
    width = loaded.model.info.hidden_size
    heads = max(1, width // 64)
    config = KangarooConfig(exit_layer, n_heads=heads, n_kv_heads=heads, head_size=max(2, width // heads // 2 * 2))

    train: Train = lambda texts, trimmed, report: train_kangaroo(  # noqa: E731
        loaded.model,
        texts,
        config,
        trimmed=trimmed,
        training=training,
        checkpoint=out / STAGES / CHECKPOINT,
        report=report,
    )
    _train("kangaroo", train, loaded, exit_layer, plan, vocab, out, data, started, quiet, json_output)


def _exit_of(loaded: LoadedModel, layer: int | None, *, share: int) -> int:
    """The exit that is meant; raises UsageError for one that the target cannot be left at."""
    from draftproof.drafting.drafter import Binding
    from draftproof.drafting.drafters.exit_chain import layered

    if loaded.model.info.n_layers < 2:
        raise UsageError(f"{loaded.model.info.name} has one layer, and cannot be left before its last one.")
    meant = layer if layer is not None else max(1, loaded.model.info.n_layers // share)
    layered(Binding(loaded.model, None), (meant,), "early exit")
    return meant


def _train(
    kind: str,
    train: Train,
    loaded: LoadedModel,
    exit_layer: int,
    plan: TextPlan,
    vocab: int,
    out: Path,
    data: Path | None,
    started: float,
    quiet: bool,
    json_output: bool,
) -> None:
    """Write the text, train on it, keep the adapter in `out` and say what it is worth."""
    from draftproof.cli.train_progress import StageBars
    from draftproof.cli.train_report import duration
    from draftproof.drafting.drafters.vocab_trim import forced_ids, trim_vocabulary
    from draftproof.drafting.training.features import TOP

    info = loaded.model.info
    check_text_can_be_held_out(plan)
    check_vocabulary_holds_what_must_be_kept(loaded, vocab)
    if min(vocab, info.vocab_size) <= TOP:
        raise UsageError(f"--vocab {vocab} is too few: at least {TOP + 1} tokens are needed.")
    with StageBars(quiet) as bars:
        texts = written(loaded, plan, data or out / STAGES, bars)
        trimmed = trim_vocabulary(
            [each.ids[each.prompt_length :] for each in texts],
            vocab,
            info.vocab_size,
            forced=forced_ids(loaded.vocabulary, info.eos_ids),
        )
        adapter, epochs = train([each.ids for each in texts], trimmed, bars.report)
    adapter.save(out)
    before, after = epochs[0].acceptance, max(each.acceptance for each in epochs)
    warning = None if after > before else USELESS
    figures: dict[str, Any] = {
        "kind": kind,
        "folder": str(out),
        "target": info.name,
        "layer": exit_layer,
        "layers": info.n_layers,
        "text_tokens": sum(each.generated for each in texts),
        "parameters": sum(each.numel() for each in adapter.parameters()),
        "vocabulary": trimmed.size,
        "accepted": [each.acceptance for each in epochs],
        "kept_accepted": after,
        "warning": warning,
        "seconds": time.monotonic() - started,
    }
    if json_output:
        print(json.dumps(figures))
        return
    print(f"{kind} of {figures['parameters']:,} parameters after {exit_layer} of {info.n_layers} layers, in {out}")
    print(f"accepted on held-out text: {before:.1%} before training, {after:.1%} now, after {len(epochs) - 1} epochs")
    print(f"took {duration(figures['seconds'])}")
    if warning:
        say(f"Warning: {warning}")
