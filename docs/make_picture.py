"""Writes docs/picture.svg: what the program really prints about one bundled trace, as a terminal shows it.

With --check, only says whether the file is what the program prints now. Needs the `lean` extra.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS / "picture.svg"
INPUT = "examples/processbench_gsm8k.jsonl"
TRACE = "gsm8k-2"
COLUMNS = 96

# rich's own frame loads a font from the network; a reader's own monospaced font does as well
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> int:
    picture = drawn(printed())
    if "--check" not in sys.argv:
        PICTURE.write_text(picture, encoding="utf-8")
        return 0
    if picture == PICTURE.read_text(encoding="utf-8"):
        return 0
    print(f"{PICTURE} is not what the program prints. Run: make docs", file=sys.stderr)
    return 1


def printed() -> str:
    """The coloured output of `draftproof verdicts show`, from a store and a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "DRAFTPROOF_STORE": f"sqlite:///{folder}/verdicts.db",
            "XDG_CACHE_HOME": folder,
            "DRAFTPROOF_CACHE_DIR": folder,
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
            "PYTHONSAFEPATH": "1",
        }
        environment.pop("NO_COLOR", None)

        def draftproof(*arguments: str) -> str:
            command = [sys.executable, "-m", "draftproof", *arguments]
            done = subprocess.run(command, cwd=DOCS.parent, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603
            return done.stdout.decode()

        draftproof("verify", INPUT, "--limit", "2", "--verifier", "arithmetic", "--verifier", "lean")
        return draftproof("verdicts", "show", TRACE)


def drawn(output: str) -> str:
    """An SVG of `output`; its ANSI colours are kept."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text(f"$ draftproof verdicts show {TRACE}", style="bold"))
        console.print(Text.from_ansi(output.rstrip()))
        svg = console.export_svg(title="draftproof", code_format=FRAME, unique_id="picture")
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines())


if __name__ == "__main__":
    sys.exit(main())
