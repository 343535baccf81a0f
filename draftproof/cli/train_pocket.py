"""`draftproof train pocket`: the draft and target models that come with draftproof, made anew."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from draftproof.cli.options import Json
from draftproof.cli.train_options import Out, Quiet, Seed
from draftproof.cli.train_text import CHECKPOINT, STAGES, need_engine

HELP = """Train the pocket pair: a draft and a target model that solve small word problems, a calculation a step.

They come with draftproof, so nobody needs this to begin (`--target pocket-target`). Train your own to change the
problems, the sizes or the seed. Problems are drawn by a program, so that the truth of every step is known; the draft
is smaller and less sure, and makes mistakes of several kinds for verifiers and routers to find.

    draftproof train pocket --out pocket/ --fast
    draftproof train pocket --out pocket/

The first takes minutes and makes models that know little, the second makes a pair like the shipped one.

A run that was stopped goes on where it stood: give the same command. At the end you see the share of right answers
to problems that were held out, and what went wrong in the others."""


def pocket(
    out: Out,
    fast: Annotated[bool, typer.Option("--fast", help="Smaller and shorter: to see that it works.")] = False,
    only: Annotated[str, typer.Option("--only", metavar="draft|target", help="Train one of the two.")] = "",
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.drafting.pocket.card import save_pocket
    from draftproof.drafting.pocket.tokenizer import pocket_tokenizer
    from draftproof.drafting.pocket.training import FAST, FULL, train_pocket
    from draftproof.errors import UsageError

    if only not in ("", "draft", "target"):
        raise UsageError(f"--only is draft or target, not {only!r}.")
    started = time.monotonic()
    tokenizer = pocket_tokenizer()
    figures: dict[str, Any] = {"folder": str(out), "models": {}}
    for role, size in (FAST if fast else FULL).items():
        if only and role != only:
            continue
        with StageBars(quiet) as bars:
            model = train_pocket(
                size,
                tokenizer,
                seed=seed,
                checkpoint=out / STAGES / role / CHECKPOINT,
                report=bars.report,
                stage=f"training the {role}",
            )
        name = f"pocket-{role}"
        solved = save_pocket(out / name, name, model, tokenizer, size, seed)
        figures["models"][role] = {
            "folder": str(out / name),
            "accuracy": solved.accuracy,
            "problems": solved.problems,
            "faults": {fault.value: count for fault, count in solved.faults.most_common()},
        }
    figures["seconds"] = time.monotonic() - started
    if json_output:
        print(json.dumps(figures))
        return
    for role, facts in figures["models"].items():
        print(
            f"{role:7} {facts['accuracy']:.1%} of {facts['problems']:,} held-out problems right, in {facts['folder']}"
        )
        faults = ", ".join(f"{fault.replace('_', ' ')} {count}" for fault, count in facts["faults"].items())
        print(f"{'':7} first faults: {faults or 'none'}")
