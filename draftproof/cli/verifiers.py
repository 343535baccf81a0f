"""`draftproof verifiers`: what can judge, what it depends on, and whether it works on this machine."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Annotated

import typer

from draftproof.cli import calibrate
from draftproof.cli.options import Json
from draftproof.errors import DraftproofError, ExitStatus

if TYPE_CHECKING:
    from draftproof.batch.selftest import Case

app = typer.Typer(no_args_is_help=True, help="List verifiers, show one, calibrate one, or test that they work here.")
app.command("calibrate", help=calibrate.HELP)(calibrate.calibrate)


@app.command("list", help="All verifiers, built in and from other packages.")
def list_(json_output: Json = False) -> None:
    from draftproof.registry import listings

    for listing in listings().values():
        if json_output:
            print(json.dumps({"name": listing.name, "summary": listing.summary, "source": listing.source}))
        else:
            print(f"{listing.name:16} {listing.summary or listing.source}")


@app.command("info", help="One verifier: its arguments, its guarantee and what its verdicts depend on.")
def info(
    name: Annotated[str, typer.Argument(metavar="NAME[:key=value,…]", help="A verifier, as verify takes it.")],
    json_output: Json = False,
) -> None:
    from draftproof.registry import listings, parameters, parse_verifier
    from draftproof.verifier import identity

    verifier = parse_verifier(name)
    factory = listings()[verifier.name].load()
    facts = {
        "identity": identity(verifier),
        "granularity": verifier.granularity.value,
        "proposition": verifier.proposition.value,
        "guarantee": verifier.guarantee.value,
        "takes": parameters(factory),
        "arguments": dict(verifier.arguments),
        "fingerprint": dict(verifier.fingerprint),
        "about": inspect.getdoc(inspect.getmodule(factory)) or "",
    }
    if json_output:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        print(f"{key:>12}  {value if isinstance(value, str) else json.dumps(value)}".replace("\n", "\n" + " " * 14))


@app.command("selftest", help="Judge steps whose truth is known, right ones and wrong ones, and compare.")
def selftest(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Which; those of arithmetic when none is named.")
    ] = None,
    json_output: Json = False,
) -> None:
    from draftproof.batch.selftest import OF_ARITHMETIC, run_selftest
    from draftproof.registry import parse_verifier

    failed = False
    for name in names or OF_ARITHMETIC:
        try:
            cases = run_selftest(parse_verifier(name))
        except DraftproofError as error:
            failed = True
            print(f"✗ {name}: {error}")
            continue
        wrong = [case for case in cases if not case.passed]
        failed = failed or bool(wrong)
        if json_output:
            print(json.dumps({"verifier": name, "cases": len(cases), "failed": [_case_json(case) for case in wrong]}))
            continue
        print(
            f"{'✗' if wrong else '✓'} {name}: {len(cases) - len(wrong)} of {len(cases)} known steps judged as expected"
        )
        for case in wrong:
            print(f"    {case.text!r}: expected {case.expected.value}, got {case.outcome.value} ({case.reason})")
    if failed:
        raise typer.Exit(ExitStatus.BUG)


def _case_json(case: Case) -> dict[str, str]:
    return {"text": case.text, "expected": case.expected.value, "outcome": case.outcome.value, "reason": case.reason}
