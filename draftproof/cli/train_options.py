"""Options that the commands of `draftproof train` share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import typer

from draftproof.errors import UsageError


def writable_folder(path: Path) -> Path:
    """`path`, where there can be a folder that can be written to; nothing of what is tried stays.

    Raises UsageError now, rather than when all is trained.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to a folder {path}: {error.strerror}.", remedy="Name another with --out."
        ) from error
    finally:
        with suppress(OSError):
            for each in missing:
                each.rmdir()


Target = Annotated[
    str,
    typer.Option("--target", "-t", metavar="MODEL", help="A fetched model's name, a folder, a .gguf file or a hub id."),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="Where the result and the stages are kept.",
        callback=lambda path: writable_folder(path),
    ),
]
Text = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="Prompts for the target to answer. [default: 48 prompts of our own]"),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Where the target's text and its features are kept. Name the same one for several trainings of one "
        "target, and they are made once. [default: stages/ in --out]",
    ),
]
Tokens = Annotated[int, typer.Option("--tokens", min=1, help="How many tokens the target writes.")]
Temperature = Annotated[
    list[float] | None,
    typer.Option(
        "--temperature", min=0.0, help="Sampling temperature; may be repeated, then jobs take turns. [default: 0 0 0.7]"
    ),
]
MaxNew = Annotated[int, typer.Option("--max-new-tokens", min=2, help="Longest answer to one prompt, in tokens.")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="auto|lean|transformers",
        help="Forward pass that the target's text is written with. With many answers side by side (--batch), "
        "transformers may be faster.",
    ),
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Answers that are written side by side.")]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Times that all text is gone through.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Peak of the schedule.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of sampling and training. Equal seeds give equal results.")]
Estimating = Annotated[bool, typer.Option("--estimate", help="Say how long it will take, and stop.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
