"""What `import draftproof` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import draftproof

HEAVY = ("sqlalchemy", "alembic", "torch", "transformers", "langgraph", "pandas", "numpy")


def test_all_is_what_can_be_imported() -> None:
    assert sorted(draftproof.__all__) == sorted([*draftproof._HOMES, "__version__"])
    assert dir(draftproof) == sorted(draftproof.__all__)


@pytest.mark.parametrize("name", sorted(draftproof._HOMES))
def test_a_name_is_its_home_modules(name: str) -> None:
    assert getattr(draftproof, name) is getattr(import_module(draftproof._HOMES[name]), name)


def test_type_checkers_see_the_same_names(checkout: Path) -> None:
    tree = ast.parse((checkout / "draftproof" / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname or alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == draftproof._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'verfy'"):
        _ = draftproof.verfy


def test_importing_the_package_imports_no_dependency(fresh_python: Callable[..., str]) -> None:
    heavy = (*HEAVY, "pydantic", "typer", "rich")
    assert fresh_python(f"import sys, draftproof; print([m for m in {heavy!r} if m in sys.modules])") == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["--version"]])
def test_asking_for_help_imports_nothing_heavy(fresh_python: Callable[..., str], arguments: list[str]) -> None:
    code = f"""
import contextlib, io, sys
from draftproof.cli.main import run
with contextlib.redirect_stdout(io.StringIO()) as shown:
    assert run({arguments!r}) == 0
assert "draftproof" in shown.getvalue()
print([m for m in {HEAVY!r} if m in sys.modules])
"""
    assert fresh_python(code) == "[]"


def test_a_name_whose_extra_is_missing_says_what_to_install(fresh_python: Callable[..., str]) -> None:
    code = "import sys; sys.modules['torch'] = None\nimport draftproof\ntry: draftproof.SpeculativeDecoder\n"
    code += "except draftproof.DraftproofError as error: print(error.code, error.remedy)"
    said = fresh_python(code)
    assert said == "missing_extra Install it: pip install 'draftproof[engine]'."
