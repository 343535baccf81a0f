"""What a training run says at its end, and before it begins."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from draftproof.cli.screen import out, plain


def tell_estimate(seconds: dict[str, float], as_json: bool) -> None:
    total = sum(seconds.values())
    if as_json:
        print(json.dumps(seconds | {"total": total}))
        return
    for stage, value in seconds.items():
        print(f"{stage:12} about {duration(value)}")
    print(f"{'in all':12} about {duration(total)}, less what an earlier run has done")


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show_heads(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['kind']} heads, on held-out text", title_justify="left")
    table.add_column("head")
    table.add_column("first guess right", justify="right")
    table.add_column("among the first three", justify="right")
    for number, (first, three) in enumerate(zip(figures["top1"], figures["top3"], strict=True), start=1):
        table.add_row(str(number), f"{first:.1%}", f"{three:.1%}")
    screen = out()
    screen.print(table)
    for nodes, value in figures["tokens_per_pass"].items():
        screen.print(plain(f"{value:.2f} tokens a verification with {nodes} drafted tokens"))
    screen.print(
        plain(
            f"{figures['vocabulary']:,} tokens can be drafted, {figures['coverage']:.1%} of the held-out text. "
            f"The head takes {figures['trimmed_head_ms']:.2f} ms, the whole one {figures['full_head_ms']:.2f} ms."
        )
    )
    if figures["coverage"] < 0.97:
        screen.print(plain("Less than 97 % is covered: more tokens (--vocab) would draft better."))
    screen.print(plain(f"in {figures['folder']}, after {duration(figures['seconds'])}"))
