"""`draftproof train history`: the target's answers as a history, which the drafter `suffix` copies from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from draftproof.cli.options import Json
from draftproof.cli.train_options import Backend, Batch, MaxNew, Quiet, Seed, Target, Temperature, Text
from draftproof.cli.train_text import loaded_model, need_engine, prompts_of, text_plan, written
from draftproof.errors import UsageError

HELP = """Let the target answer prompts, and keep the answers for the drafter suffix to copy from.

Nothing is trained, so this is the cheapest of all; it pays where answers resemble each other, as they do when prompts
are of one kind (forms, code of one project, one sort of exercise). Give prompts like those you will ask.

    draftproof train history --target smollm2-135m --out answers.history --text prompts.jsonl
    draftproof generate "Name three rivers." --target smollm2-135m --drafter suffix:history=answers.history

At the end you see how many tokens a verification gave with and without it, on answers to prompts that were held out.
The file holds all answers, those included. With --data of another training, the text is made once."""

MOST = 1_000_000
"""Tokens: what `suffix` keeps of a history that it is given."""

HistoryFile = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the history is written.")]


def history(
    target: Target,
    out: HistoryFile,
    text: Text = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Where the target's text is kept. Name the same one for several trainings of one target, and it is "
            "made once. [default: FILE.stages/]",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, max=MOST, help="How many tokens the target writes.")] = (
        100_000
    ),
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
    from draftproof.drafting.training.history import history_of, worth_of_history

    if out.is_dir():
        raise UsageError(f"{out} is a folder; a history is one file.", remedy=f"Give --out {out / 'answers.history'}.")
    started = time.monotonic()
    prompts = prompts_of(text)
    loaded = loaded_model(target, backend)
    info = loaded.model.info
    plan = text_plan(loaded, prompts, tokens, temperature, max_new_tokens, batch, seed)
    with StageBars(quiet) as bars:
        texts = written(loaded, plan, data or out.with_name(f"{out.name}.stages"), bars)
        made = history_of(texts, info.vocab_size, loaded.vocabulary)
        out.parent.mkdir(parents=True, exist_ok=True)
        made.save(out)
        bars.report("measuring", 0, 1, "")
        worth = worth_of_history(texts, loaded.model)
        bars.report("measuring", 1, 1, "")
    figures: dict[str, Any] = {
        "file": str(out),
        "target": info.name,
        "answers": len(made.sequences),
        "tokens": len(made),
        "tokens_per_pass": None if worth is None else {"without": worth.without, "with": worth.with_history},
        "seconds": time.monotonic() - started,
    }
    if json_output:
        print(json.dumps(figures))
        return
    print(f"{figures['answers']:,} answers of {figures['tokens']:,} tokens in {out}")
    if worth is not None:
        print(f"{worth.with_history:.2f} tokens a verification on held-out answers, {worth.without:.2f} without it")
    print(f"took {duration(figures['seconds'])}")
