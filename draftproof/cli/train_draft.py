"""`draftproof train draft` and `train acceptance-head`: a draft model for the target, and when it stops drafting."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

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
    loaded_model,
    need_engine,
    prompts_of,
    text_plan,
    written,
)
from draftproof.errors import UsageError

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

USELESS = (
    "On held-out text the head is no better than always saying the same, so that specdec++ would stop no better than a "
    "fixed draft length. Train it on more text (--tokens), or use the policy confidence, which needs no training."
)
"""What is said of an acceptance head that learnt nothing."""


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
