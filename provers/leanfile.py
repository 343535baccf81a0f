"""Theorems as text: files that Lean's own front end reads, and what its messages are worth.

The slow route, for proofs by outsiders (one a file), and for anybody who wants to see our claims pass an
ordinary `lean`: `export` writes them. The exit status proves nothing and silence proves nothing. A theorem
passes only if its own `#print axioms` report is there, exactly once, on the line where we put it, says
that it depends on no axioms, and no error lies in its lines.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from draftproof.provers.environment import Limits
from draftproof.provers.toolchain import LeanRun, Prelude

HEADER = """\
prelude
import Draftproof.Claims
set_option autoImplicit false
set_option linter.all false
open Draftproof Draftproof.Term Draftproof.Relation Draftproof.Hypotheses
"""
_MAX_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class Theorem:
    name: str
    proposition: str
    proof: str


@dataclass(frozen=True, slots=True)
class Report:
    passed: bool
    axioms: tuple[str, ...] | None
    """What the axiom report lists; None when there was not exactly one report."""
    messages: tuple[str, ...]
    reason: str = ""


def export(theorems: Sequence[Theorem]) -> str:
    """A file that states and proves the theorems and asks for each one's axioms."""
    return "".join(block for block, _, _ in _blocks(theorems))


def check_file(prelude: Prelude, theorems: Sequence[Theorem], limits: Limits) -> list[Report]:
    """One report a theorem, in order. A file that dies is halved until what kills it stands alone."""
    if not theorems:
        return []
    run = _run(prelude, export(theorems), limits)
    if run.timed_out or run.status not in (0, 1):
        if len(theorems) > 1:
            middle = len(theorems) // 2
            return [
                *check_file(prelude, theorems[:middle], limits),
                *check_file(prelude, theorems[middle:], limits),
            ]
        reason = "timeout" if run.timed_out else "lean_crashed"
        return [Report(False, None, (run.stderr[-500:],) if run.stderr else (), reason)]
    messages = list(_messages(run))
    return [
        _report(theorem.name, first, last, messages, alone=len(theorems) == 1)
        for theorem, (_, first, last) in zip(theorems, list(_blocks(theorems))[1:], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Message:
    line: int
    severity: str
    text: str


def _blocks(theorems: Sequence[Theorem]) -> Iterator[tuple[str, int, int]]:
    """Pieces of the file with their first and last line, from 1; the header first. A block's last line asks."""
    yield HEADER, 1, HEADER.count("\n")
    line = HEADER.count("\n") + 1
    for theorem in theorems:
        proof = theorem.proof.replace("\n", "\n  ")
        block = f"theorem {theorem.name} : {theorem.proposition} :=\n  {proof}\n#print axioms {theorem.name}\n"
        last = line + block.count("\n") - 1
        yield block, line, last
        line = last + 1


def _run(prelude: Prelude, text: str, limits: Limits) -> LeanRun:
    with tempfile.TemporaryDirectory(prefix="draftproof-lean-") as folder:
        file = Path(folder) / "Claims.lean"
        file.write_text(text, encoding="utf-8")
        options = ["--json", "-j1", f"-M{limits.megabytes}", f"-DmaxHeartbeats={limits.heartbeats}"]
        options += ["-DElab.async=false", "-DmaxErrors=100000"]
        return prelude.lean.run(
            [*options, str(file)], modules=prelude.modules, seconds=limits.seconds + 1.0, cwd=Path(folder)
        )


def _messages(run: LeanRun) -> Iterator[_Message]:
    """The messages; a line that is none counts as an error of the whole file."""
    for line in run.stdout.splitlines():
        try:
            message = json.loads(line)
            yield _Message(int(message["pos"]["line"]), str(message["severity"]), str(message["data"]))
        except (ValueError, KeyError, TypeError):
            yield _Message(0, "error", line[:500])


def _report(name: str, first: int, last: int, messages: Sequence[_Message], *, alone: bool) -> Report:
    own = [m for m in messages if first <= m.line <= last or m.line == 0]
    errors = [m for m in (messages if alone else own) if m.severity == "error"]
    shown = tuple(m.text for m in own if m.severity != "information")[:_MAX_MESSAGES]
    asked = [m for m in messages if m.severity == "information" and m.text.startswith(f"'{name}' ")]
    if len(asked) != 1 or asked[0].line != last:
        return Report(False, None, shown, "no_axiom_report")
    axioms = _axioms(name, asked[0].text)
    if errors:
        return Report(False, axioms, shown, "not_proved")
    if axioms != ():
        return Report(False, axioms, shown, "axioms")
    return Report(True, axioms, shown)


def _axioms(name: str, text: str) -> tuple[str, ...] | None:
    """The axioms a report lists; a report in other words than the two we know is no report."""
    if text == f"'{name}' does not depend on any axioms":
        return ()
    before, found, rest = text.partition("depends on axioms: [")
    if not found or before != f"'{name}' " or not rest.endswith("]"):
        return None
    return tuple(axiom.strip() for axiom in rest[:-1].split(","))
