"""The folders of the root are sub-packages of one import name; each known trap of that layout is shut here.

The traps are told in docs/explanation/architecture.md. That the wheel holds every file is checked by
`.ci/is_wheel.py`, which `make test` runs first.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def setuptools_table(checkout: Path) -> dict[str, Any]:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    table: dict[str, Any] = project["tool"]["setuptools"]
    return table


def source_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def test_every_folder_with_an_init_is_listed_as_a_package(checkout: Path, setuptools_table: dict[str, Any]) -> None:
    found = [
        ".".join((package, *init.parent.relative_to(checkout / folder).parts))
        for package, folder in setuptools_table["package-dir"].items()
        for init in source_files(checkout / folder)
        if init.name == "__init__.py"
    ]
    assert sorted(setuptools_table["packages"]) == sorted(found)


def test_every_module_lies_in_a_package(checkout: Path, setuptools_table: dict[str, Any]) -> None:
    homeless = [
        str(file.relative_to(checkout))
        for folder in setuptools_table["package-dir"].values()
        for file in source_files(checkout / folder)
        if file.suffix == ".py" and not (file.parent / "__init__.py").exists()
    ]
    assert homeless == []


def test_every_other_file_is_listed_as_package_data(checkout: Path, setuptools_table: dict[str, Any]) -> None:
    patterns = [
        f"{setuptools_table['package-dir'][package]}/{pattern}"
        for package, listed in setuptools_table["package-data"].items()
        for pattern in listed
    ]
    unlisted = [
        name
        for folder in setuptools_table["package-dir"].values()
        for file in source_files(checkout / folder)
        if file.suffix not in (".py", ".md")
        and not any(fnmatch(name := file.relative_to(checkout).as_posix(), pattern) for pattern in patterns)
    ]
    assert unlisted == []


def test_kernels_init_is_empty(checkout: Path) -> None:
    """transformers looks for a package `kernels` and reads its version: ours must not look like an answer."""
    assert (checkout / "kernels" / "__init__.py").read_bytes() == b""


def test_folders_of_the_checkout_are_not_importable_by_themselves(
    checkout: Path, fresh_python: Callable[..., str], setuptools_table: dict[str, Any]
) -> None:
    folders = [folder for folder in setuptools_table["package-dir"].values() if folder != "draftproof"]
    code = f"""
import importlib.util
for name in {folders!r}:
    spec = importlib.util.find_spec(name)
    print(spec.origin if spec else "")
"""
    assert str(checkout) not in fresh_python(code, cwd=checkout)


@pytest.mark.parametrize("file", ["Makefile", ".ci/run"])
def test_python_is_started_with_a_safe_path(checkout: Path, file: str) -> None:
    assert "export PYTHONSAFEPATH" in (checkout / file).read_text(encoding="utf-8")


def test_pytest_does_not_put_the_checkout_on_the_path(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    assert "--import-mode=importlib" in project["tool"]["pytest"]["ini_options"]["addopts"]


def bare_imports(source: str, folders: set[str]) -> list[int]:
    """Lines that import a folder of the root by its own name, or relatively."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            bare = any(alias.name.partition(".")[0] in folders for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            bare = node.level > 0 or (node.module or "").partition(".")[0] in folders
        else:
            continue
        if bare:
            lines.append(node.lineno)
    return lines


def test_sub_packages_are_imported_by_their_full_name(checkout: Path, setuptools_table: dict[str, Any]) -> None:
    folders = set(setuptools_table["package-dir"].values()) - {"draftproof"}
    wrong = [
        f"{file.relative_to(checkout)}:{line}"
        for root in ("draftproof", *folders, "tests", "benchmarks", "docs", ".ci")
        for file in source_files(checkout / root)
        if file.suffix == ".py"
        for line in bare_imports(file.read_text(encoding="utf-8"), folders)
    ]
    assert wrong == []


@pytest.mark.parametrize("source", ["import store.tables", "from kernels import acceptance", "from . import tables"])
def test_a_bare_import_is_seen(source: str) -> None:
    assert bare_imports(source, {"store", "kernels"}) == [1]
