"""`draftproof train`: drafters and stopping heads that are trained for one target, from text of its own."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from draftproof.cli import train_exits, train_history
from draftproof.cli.options import Json
from draftproof.cli.screen import say
from draftproof.cli.train_options import (
    Backend,
    Batch,
    Data,
    Epochs,
    Estimating,
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

HELP = """Train what makes drafting faster for one target model.

A drafter guesses what the target will say next, and is taught on what the target itself says: so each command
lets the target answer prompts, and learns from the answers. Nothing of it changes the target or its output; a
better drafter is accepted more often, and that is all.

    draftproof train heads --target smollm2-135m --out heads/

Every stage is kept in the folder `--out`. A run that was stopped goes on where it stood: give the same command."""

USELESS = (
    "On held-out text the head is no better than always saying the same, so that specdec++ would stop no better than a "
    "fixed draft length. Train it on more text (--tokens), or use the policy confidence, which needs no training."
)
"""What is said of an acceptance head that learnt nothing."""

app = typer.Typer(no_args_is_help=True, help=HELP, rich_markup_mode="markdown")

HEADS_HELP = """Train draft heads: small layers on the target's last hidden state that guess the next tokens.

*medusa* heads guess each place by itself; *hydra* heads (the default) also see the tokens guessed before, and are
accepted more often. Both share one output matrix over the tokens that the target uses most (`--vocab`), since
the whole vocabulary would cost more than all the rest.

    draftproof train heads --target smollm2-135m --out heads/ --estimate
    draftproof train heads --target smollm2-135m --out heads/ --text prompts.jsonl --tokens 200000
    draftproof generate "Name three rivers." --target smollm2-135m --drafter hydra:heads=heads/

FILE has a prompt a line, or, as .jsonl, an object with a field `prompt`, `problem`, `question`, `instruction`,
`text`, `turns` or `messages`. Prompts like those you will really ask work best. At the end you see, for text that
was held out: how often each head was right, how much of the text the trimmed vocabulary covers, and how many
tokens a verification would have given."""

DRAFT_HELP = """Train a small draft model that agrees with the target (DistillSpec).

It has the target's vocabulary, `--layers` layers of width `--hidden`, and begins with the target's embeddings on
their principal axes. The result is an ordinary Hugging Face folder.

    draftproof train draft --target smollm2-135m --out draft/ --tokens 200000
    draftproof generate "Name three rivers." --target smollm2-135m --drafter small-lm:model=draft/

The figure to watch is *accepted*: the probability that a drafted token is kept, on text that was held out."""

ACCEPTANCE_HELP = """Train the head by which the policy specdec++ stops drafting.

It learns, from the draft model's hidden states, whether the target will accept the token just drafted.

    draftproof train acceptance-head --target smollm2-135m --draft draft/ --out stop/
    draftproof generate "Name three rivers." --drafter small-lm:model=draft/ --policy specdec++:head=stop/

Without any training, the policy *confidence* does something similar from the draft model's probabilities."""


@app.command("heads", help=HEADS_HELP)
def heads(
    target: Target,
    out: Out,
    text: Text = None,
    data: Data = None,
    kind: Annotated[str, typer.Option("--kind", metavar="hydra|medusa", help="Kind of head.")] = "hydra",
    tokens: Tokens = 100_000,
    n_heads: Annotated[int, typer.Option("--heads", min=1, max=32, help="Tokens that are guessed in a row.")] = 4,
    layers: Annotated[int, typer.Option("--layers", min=1, max=32, help="Layers of each head.")] = 1,
    vocab: Annotated[int, typer.Option("--vocab", min=1, help="Tokens that can be guessed at all.")] = 8192,
    epochs: Epochs = 4,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Peak of the schedule.")] = 1e-3,
    temperature: Temperature = None,
    max_new_tokens: MaxNew = 256,
    batch: Batch = 32,
    backend: Backend = "auto",
    seed: Seed = 0,
    estimate: Estimating = False,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.cli.train_report import show_heads, tell_estimate
    from draftproof.drafting.drafters.head_models import save_heads
    from draftproof.drafting.drafters.heads import HeadsDrafter
    from draftproof.drafting.drafters.vocab_trim import forced_ids, head_times, trim_vocabulary
    from draftproof.drafting.training import features as feature_store
    from draftproof.drafting.training import self_text
    from draftproof.drafting.training.estimates import estimate_heads, fastest_dtype
    from draftproof.drafting.training.heads import HeadsTraining, held_out_texts, train_heads
    from draftproof.drafting.training.replay import replay

    if kind not in ("hydra", "medusa"):
        raise UsageError(f"--kind is hydra or medusa, not {kind!r}.")
    training = HeadsTraining(
        kind="hydra" if kind == "hydra" else "medusa",
        n_heads=n_heads,
        n_layers=layers,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
    )
    started = time.monotonic()
    prompts = prompts_of(text)
    loaded = loaded_model(target, backend)
    model = loaded.model
    plan = text_plan(loaded, prompts, tokens, temperature, max_new_tokens, batch, seed)
    check_text_can_be_held_out(plan)
    check_vocabulary_holds_what_must_be_kept(loaded, vocab)
    if n_heads >= max_new_tokens:
        raise UsageError(
            f"The last of --heads {n_heads} guesses the token {n_heads + 1} places on, and answers have at most "
            f"{max_new_tokens} tokens (--max-new-tokens).",
            remedy="Ask for fewer heads, or for longer answers.",
        )
    dtype = fastest_dtype(model.info.hidden_size, min(vocab, model.info.vocab_size))
    if estimate:
        expected = estimate_heads(model, plan, training, vocab, dtype)
        tell_estimate(
            {"generating": expected.generating, "reading": expected.reading, "training": expected.training}, json_output
        )
        return
    with StageBars(quiet) as bars:
        texts = written(loaded, plan, data or out / STAGES, bars)
        features = feature_store.extract(model, texts, (data or out / STAGES) / "features", report=bars.report)
        held = held_out_texts(features)
        trimmed = trim_vocabulary(
            [each.ids[each.prompt_length :] for each, out_ in zip(texts, held.tolist(), strict=True) if not out_],
            vocab,
            model.info.vocab_size,
            forced=forced_ids(loaded.vocabulary, model.info.eos_ids),
        )
        trained, record = train_heads(
            model,
            features,
            trimmed,
            training,
            data_digest=self_text.digest(texts),
            checkpoint=out / STAGES / CHECKPOINT,
            dtype=dtype,
            report=bars.report,
        )
        save_heads(out, trained, record)
        rows = held.nonzero().flatten().tolist()
        replays = {
            nodes: replay(HeadsDrafter(trained, record, max_nodes=nodes), model, features, rows, budget=nodes)
            for nodes in (7, 15)
        }
    times = head_times(model, trimmed.ids)
    figures: dict[str, Any] = {
        "kind": kind,
        "folder": str(out),
        "target": model.info.name,
        "text_tokens": sum(each.generated for each in texts),
        "train_positions": record.training["train_positions"],
        "held_out_positions": record.training["held_out_positions"],
        "top1": [row[0] for row in record.accuracies],
        "top3": [sum(row[:3]) for row in record.accuracies],
        "coverage": record.training["held_out_coverage"],
        "vocabulary": trimmed.size,
        "tokens_per_pass": {str(nodes): done.block_efficiency for nodes, done in replays.items()},
        "full_head_ms": times.full_ms,
        "trimmed_head_ms": times.trimmed_ms,
        "seconds": time.monotonic() - started,
    }
    if json_output:
        print(json.dumps(figures))
    else:
        show_heads(figures)


@app.command("draft", help=DRAFT_HELP)
def draft(
    target: Target,
    out: Out,
    text: Text = None,
    data: Data = None,
    tokens: Tokens = 200_000,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Layers of the draft model.")] = 2,
    hidden: Annotated[int, typer.Option("--hidden", min=64, help="Its width, a multiple of 64.")] = 192,
    divergence: Annotated[
        str, typer.Option("--divergence", metavar="fkl|rkl|jsd|tvd", help="What is minimised on the target's text.")
    ] = "fkl",
    on_policy: Annotated[
        float, typer.Option("--on-policy", min=0.0, max=0.5, help="Share of steps on the draft model's own text.")
    ] = 0.2,
    epochs: Epochs = 3,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Peak of the schedule.")] = 1e-3,
    temperature: Temperature = None,
    max_new_tokens: MaxNew = 256,
    batch: Batch = 32,
    backend: Backend = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.cli.train_report import duration
    from draftproof.drafting.training import features as feature_store
    from draftproof.drafting.training import self_text
    from draftproof.drafting.training.distill import (
        Distillation,
        distill,
        save_draft,
        small_draft_config,
        small_draft_model,
    )

    if divergence not in ("fkl", "rkl", "jsd", "tvd"):
        raise UsageError(f"--divergence is fkl, rkl, jsd or tvd, not {divergence!r}.")
    distillation = Distillation(
        divergence=divergence,  # type: ignore[arg-type]  # one of the four, as was just checked
        on_policy=on_policy,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
    )
    started = time.monotonic()
    prompts = prompts_of(text)
    loaded = loaded_model(target, backend)
    model = loaded.model
    plan = text_plan(loaded, prompts, tokens, temperature, max_new_tokens, batch, seed)
    check_text_can_be_held_out(plan)
    student = small_draft_model(model, small_draft_config(model.info, layers=layers, hidden=hidden), seed=seed)
    with StageBars(quiet) as bars:
        texts = written(loaded, plan, data or out / STAGES, bars)
        features = feature_store.extract(model, texts, (data or out / STAGES) / "features", report=bars.report)
        result = distill(
            student,
            model,
            features,
            distillation,
            data_digest=self_text.digest(texts),
            checkpoint=out / STAGES / CHECKPOINT,
            report=bars.report,
        )
    save_draft(out, result.model, loaded.tokenizer)
    figures: dict[str, Any] = {
        "folder": str(out),
        "target": model.info.name,
        "text_tokens": sum(each.generated for each in texts),
        "parameters": sum(each.numel() for each in result.model.parameters()),
        "accepted": list(result.acceptance),
        "seconds": time.monotonic() - started,
    }
    if json_output:
        print(json.dumps(figures))
        return
    steps = " → ".join(f"{value:.1%}" for value in result.acceptance)
    print(f"draft model of {figures['parameters']:,} parameters in {out}")
    print(f"accepted on held-out text: {steps}")
    print(f"took {duration(figures['seconds'])}")


@app.command("acceptance-head", help=ACCEPTANCE_HELP)
def acceptance_head(
    target: Target,
    out: Out,
    draft: Annotated[str, typer.Option("--draft", metavar="MODEL", help="The draft model that it is trained for.")],
    text: Text = None,
    data: Data = None,
    tokens: Tokens = 20_000,
    layers: Annotated[int, typer.Option("--layers", min=1, max=32, help="Layers of the head.")] = 3,
    epochs: Epochs = 3,
    temperature: Temperature = None,
    max_new_tokens: MaxNew = 256,
    batch: Batch = 32,
    backend: Backend = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.cli.train_report import duration
    from draftproof.drafting.training import self_text
    from draftproof.drafting.training.acceptance_head import (
        AcceptanceTraining,
        check_comparable,
        collect,
        save_acceptance_head,
        train_acceptance_head,
    )

    training = AcceptanceTraining(n_layers=layers, epochs=epochs, seed=seed)
    started = time.monotonic()
    prompts = prompts_of(text)
    loaded, drafting = loaded_model(target, backend), loaded_model(draft, backend)
    plan = text_plan(loaded, prompts, tokens, temperature, max_new_tokens, batch, seed)
    check_comparable(drafting.model, loaded.model)
    longest = max(map(len, plan.prompts)) + max_new_tokens
    if drafting.model.info.context_length < longest:
        raise UsageError(
            f"The context of the draft model {drafting.model.info.name} holds "
            f"{drafting.model.info.context_length:,} tokens, and a prompt with its answer may have {longest:,}.",
            remedy="Give a smaller --max-new-tokens, or shorter prompts.",
        )
    with StageBars(quiet) as bars:
        texts = written(loaded, plan, data or out / STAGES, bars)
        examples = collect(drafting.model, loaded.model, texts, training, report=bars.report)
        head, figures = train_acceptance_head(
            examples,
            training,
            data_digest=self_text.digest(texts) + drafting.model.info.digest,
            checkpoint=out / STAGES / CHECKPOINT,
            report=bars.report,
        )
    save_acceptance_head(
        out,
        head,
        draft_digest=drafting.model.info.digest,
        target_digest=loaded.model.info.digest,
        figures=figures,
    )
    better = figures["held_out_loss"] < figures["held_out_loss_of_a_constant"]
    warning = None if better else USELESS
    seconds = time.monotonic() - started
    if json_output:
        told = {"seconds": seconds, "folder": str(out), "better_than_a_constant": better, "warning": warning}
        print(json.dumps(figures | told))
        return
    print(f"acceptance head in {out}, from {figures['examples']:,.0f} drafted tokens")
    print(
        f"held-out loss {figures['held_out_loss']:.3f}; the best constant has "
        f"{figures['held_out_loss_of_a_constant']:.3f}"
    )
    print(f"took {duration(seconds)}")
    if warning:
        say(f"Warning: {warning}")


app.command("history", help=train_history.HELP)(train_history.history)
app.command("exit-adapter", help=train_exits.ADAPTER_HELP)(train_exits.exit_adapter)
app.command("kangaroo", help=train_exits.KANGAROO_HELP)(train_exits.kangaroo)
