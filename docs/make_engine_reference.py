"""Writes docs/reference/engine.md from the engine's catalogues. With --check, only says whether it is up to date."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.drafters.catalogue import LISTINGS as DRAFTERS
from draftproof.drafting.part_arguments import Listing
from draftproof.drafting.policies.catalogue import LISTINGS as POLICIES
from draftproof.drafting.rules.catalogue import LISTINGS as RULES

PAGE = Path(__file__).resolve().parent / "reference" / "engine.md"

HEAD = """# Engine

Written by `docs/make_engine_reference.py` from the program; a test compares the two. How the parts work together is
told in [the token-level engine](../explanation/engine.md), and how they are used in
[generate text sooner](../how-to/speculative-decoding.md).

A part is asked for as `NAME[:key=value,…]`, on the command line and in Python, or is an object of one's own. Arguments
without a default must be given."""


def main() -> int:
    page = "\n".join((HEAD, *sections())) + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if page == PAGE.read_text(encoding="utf-8"):
        return 0
    print(f"{PAGE} is not what the program says. Run: make docs", file=sys.stderr)
    return 1


def sections() -> Iterator[str]:
    for title, listings in (("Drafters", DRAFTERS), ("Rules", RULES), ("Length policies", POLICIES)):
        yield f"\n## {title}\n"
        yield from table(listings)
    for method in (SpeculativeDecoder, SpeculativeDecoder.generate, SpeculativeDecoder.stream):
        yield f"\n## {method.__qualname__}\n"
        yield f"```text\n{inspect.cleandoc(method.__doc__ or '')}\n```"


def table(listings: Sequence[Listing]) -> Iterator[str]:
    yield "| name | arguments | what it does |"
    yield "| --- | --- | --- |"
    for each in listings:
        arguments = ", ".join(f"`{argument}`" for argument in each.arguments if argument.in_text)
        yield f"| `{each.name}` | {arguments or 'none'} | {each.summary} |"


if __name__ == "__main__":
    sys.exit(main())
