"""`draftproof train`: drafters and stopping heads that are trained for one target, from text of its own."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from draftproof.cli import (
    train_draft,
    train_exits,
    train_history,
    train_pocket,
    train_process_reward,
    train_router,
    train_uncertainty,
)
from draftproof.cli.options import Json
from draftproof.cli.train_options import (
    Backend,
    Batch,
    Data,
    Epochs,
    Estimating,
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

HELP = """Train what makes drafting faster for one target model.

A drafter guesses what the target will say next, and is taught on what the target itself says: so each command
lets the target answer prompts, and learns from the answers. Nothing of it changes the target or its output; a
better drafter is accepted more often, and that is all.

    draftproof train heads --target smollm2-135m --out heads/

Every stage is kept in the folder `--out`. A run that was stopped goes on where it stood: give the same command."""

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
    learning_rate: LearningRate = 1e-3,
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


app.command("draft", help=train_draft.DRAFT_HELP)(train_draft.draft)
app.command("acceptance-head", help=train_draft.ACCEPTANCE_HELP)(train_draft.acceptance_head)
app.command("history", help=train_history.HELP)(train_history.history)
app.command("exit-adapter", help=train_exits.ADAPTER_HELP)(train_exits.exit_adapter)
app.command("kangaroo", help=train_exits.KANGAROO_HELP)(train_exits.kangaroo)
app.command("pocket", help=train_pocket.HELP)(train_pocket.pocket)
app.command("router", help=train_router.HELP)(train_router.router)
app.command("uncertainty-head", help=train_uncertainty.HELP)(train_uncertainty.uncertainty_head)
app.command("process-reward", help=train_process_reward.HELP)(train_process_reward.process_reward)
