"""`draftproof train process-reward`: a small process reward model, from a language model that solves the problems."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from draftproof.cli.options import Json
from draftproof.cli.train_options import Out, Quiet, Seed
from draftproof.cli.train_text import CHECKPOINT, STAGES, need_engine

HELP = """Train a process reward model that says of each step of a pocket solution whether it is right.

It starts as a copy of a language model, and learns from solutions that are made along with their problems, right ones
and ones with a mistake of a known kind: a wrong result, a lost carry, a wrong number, a wrong operation, a skipped
step, a wrong answer. The result is an ordinary Hugging Face folder, for the verifier process-reward.

    draftproof train process-reward --base pocket-target --out prm/
    draftproof verify solutions.jsonl --verifier process-reward:model=prm/

`--fast` is for trying it out: a minute or two, and a model that finds few mistakes. At the end you see how well it
tells wrong steps from right ones, in solutions of problems that it was not trained on."""


def process_reward(
    base: Annotated[
        str,
        typer.Option("--base", "-b", metavar="MODEL", help="Causal language model to start from: a name or a folder."),
    ],
    out: Out,
    fast: Annotated[bool, typer.Option("--fast", help="A short run, for trying it out.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps. [default: by --fast]")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.cli.train_report import duration
    from draftproof.verifiers.process_reward.training import FAST, FULL, train_process_reward

    training = replace(FAST if fast else FULL, seed=seed)
    if steps is not None:
        training = replace(training, steps=steps)
    started = time.monotonic()
    with StageBars(quiet) as bars:
        record = train_process_reward(base, out, training, checkpoint=out / STAGES / CHECKPOINT, report=bars.report)
    held = record.held_out
    figures: dict[str, Any] = {"folder": str(out), "base": base, **held, "seconds": time.monotonic() - started}
    if json_output:
        print(json.dumps(figures))
        return
    print(f"process reward model in {out}")
    print(
        f"held-out steps: {held['accuracy']:.1%} judged rightly; PR-AUC of wrong steps "
        f"{held['wrong_pr_auc']:.3f} (by chance {held['base_rate']:.3f})"
    )
    for fault, each in held["caught"].items():
        print(f"  {fault.replace('_', ' '):16} {each['below_half']} of {each['wrong']} found")
    print(f"took {duration(figures['seconds'])}")
