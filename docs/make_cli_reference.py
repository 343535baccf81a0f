"""Writes docs/reference/cli.md from the program's own help. With --check, only says whether it is up to date.

The help is laid out for a fixed width and without colours, so that the page is the same on every machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "reference" / "cli.md"

HEAD = """# Command line

Written by `docs/make_cli_reference.py` from the program's own help; a test compares the two.
Standard output is data, standard error is progress and notes. What each exit status means is in
[exit codes](exit-codes.md); the variables that set defaults are in [settings](settings.md).
"""


def main() -> int:
    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH"):
        os.environ.pop(name, None)
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    page = "".join((HEAD, *map(section, command_lines())))
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if page == PAGE.read_text(encoding="utf-8"):
        return 0
    print(f"{PAGE} is not what the program says. Run: make docs", file=sys.stderr)
    return 1


def command_lines() -> Iterator[tuple[str, ...]]:
    """The program itself, then every command, each group before its members."""
    from typer.main import get_command

    from draftproof.cli.main import app

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*path, name))

    return below(get_command(app), ())


def section(path: tuple[str, ...]) -> str:
    command = " ".join(("draftproof", *path))
    return f"\n## {command}\n\n```text\n{shown_help(path)}\n```\n"


def shown_help(path: tuple[str, ...]) -> str:
    from draftproof.cli.main import run

    sys.argv[0] = "draftproof"  # what the usage line calls the program
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status = run([*path, "--help"])
    if status:
        raise SystemExit(f"draftproof {' '.join(path)} --help ends with {status}")
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines()).strip("\n")


if __name__ == "__main__":
    sys.exit(main())
