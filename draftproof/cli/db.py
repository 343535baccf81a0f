"""`draftproof db`: create a store, bring its schema up to date, say how it stands."""

from __future__ import annotations

import dataclasses
import json

import typer

from draftproof.cli.options import Json, Store, store_url
from draftproof.errors import ExitStatus

app = typer.Typer(no_args_is_help=True, help="Create, upgrade and inspect the verdict store.")


@app.command("init", help="Create the store's tables. Harmless where they are there already.")
def init(store: Store = None) -> None:
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(store_url(store)) as opened:
        print(f"{opened.name} is ready")


@app.command("upgrade", help="Bring the schema of an older store up to date; its rows stay.")
def upgrade(store: Store = None) -> None:
    from draftproof.errors import UsageError
    from draftproof.store.migrations import status as store_status
    from draftproof.store.migrations import upgrade as upgrade_store

    if store_status(store_url(store)).installed is None:
        raise UsageError("There is no verdict store to upgrade.", remedy="Make one with draftproof db init.")
    status = upgrade_store(store_url(store))
    print(f"schema {status.installed}")


@app.command("status", help="Which schema the store has and which one this version needs. Exits with 6 on a mismatch.")
def status(store: Store = None, json_output: Json = False) -> None:
    from draftproof.store.migrations import status as store_status

    found = store_status(store_url(store))
    if json_output:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(f"installed {found.installed or 'none'}, needed {found.required}")
    if not found.current:
        raise typer.Exit(ExitStatus.STORE)
