"""Writes docs/reference/engine.md from the engine's catalogues. With --check, only says whether it is up to date."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.drafters.catalogue import LISTINGS as DRAFTERS
from draftproof.drafting.policies.catalogue import POLICIES
from draftproof.drafting.rules.catalogue import LISTINGS as RULES

PAGE = Path(__file__).resolve().parent / "reference" / "engine.md"

HEAD = """# Engine

Written by `docs/make_engine_reference.py` from the program; a test compares the two. How the parts work together is
told in [the token-level engine](../explanation/engine.md), and how they are used in
[generate text sooner](../how-to/speculative-decoding.md).

A part is asked for as `NAME[:key=value,…]`, on the command line and in Python, or is an object of one's own. Arguments
without a default must be given.
"""

BEHIND = {
    "suffix": "suffix:Suffix",
    "trigram": "trigram:Trigram",
    "small-lm": "small_lm:SmallLM",
    "token-intersection": "cross_vocab_tokens:TokenIntersection",
    "string-match": "cross_vocab_text:StringMatch",
    "early-exit": "early_exit:EarlyExit",
    "kangaroo": "kangaroo:Kangaroo",
    "medusa": "heads:HeadsDrafter",
    "hydra": "heads:HeadsDrafter",
}
"""Classes whose further settings a function of the catalogue hands on."""


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
    yield "## Drafters\n"
    yield from table([(each.name, arguments_of_drafter(each), each.summary) for each in DRAFTERS])
    yield "\n## Rules\n"
    yield from table([(each.name, plain_arguments(each.make), each.summary) for each in RULES])
    yield "\n## Length policies\n"
    policies = [(name, plain_arguments(loaded(path)), summary) for name, (path, summary) in POLICIES.items()]
    yield from table(policies)
    for method in (SpeculativeDecoder, SpeculativeDecoder.generate, SpeculativeDecoder.stream):
        yield f"\n## {method.__qualname__}\n"
        yield f"```text\n{inspect.cleandoc(method.__doc__ or '')}\n```"


def table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    yield "| name | arguments | what it does |"
    yield "| --- | --- | --- |"
    for name, arguments, summary in rows:
        yield f"| `{name}` | {arguments or 'none'} | {summary} |"


def arguments_of_drafter(listing: Any) -> str:
    make = loaded(listing.make) if isinstance(listing.make, str) else listing.make
    own = list(named(make))
    if listing.name in BEHIND:
        taken = {name for name, _ in own}
        behind = loaded(f"draftproof.drafting.drafters.{BEHIND[listing.name]}")
        own += [(name, text) for name, text in named(behind) if name not in taken]
    return ", ".join(text for _, text in own)


def plain_arguments(make: Callable[..., Any]) -> str:
    return ", ".join(text for _, text in named(make))


def named(make: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Arguments that can be written as text: those whose defaults are plain values, or that a function demands."""
    for name, parameter in inspect.signature(make).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD or name in ("name", "vocabulary"):
            continue
        if parameter.default is parameter.empty:
            if not inspect.isclass(make):
                yield name, f"`{name}`"
        elif isinstance(parameter.default, bool | int | float | str | None):
            yield name, f"`{name}={parameter.default}`"


def loaded(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    sys.exit(main())
