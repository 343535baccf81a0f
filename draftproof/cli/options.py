"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Verdict store: sqlite:///FILE or postgresql://USER@HOST/DATABASE. "
        "[default: $DRAFTPROOF_STORE, or sqlite:///draftproof.db]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most this many.")]


def store_url(given: str | None) -> str:
    """The store to use: the option, else the environment, else the default."""
    if given:
        return given
    from draftproof.settings import settings

    return settings().store


def store_arguments(given: str | None) -> str:
    """` --store URL` for commands that are suggested to the reader; empty for the default store."""
    return f" --store {given}" if given else ""
