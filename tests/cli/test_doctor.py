"""`draftproof doctor` on the engine: what would run text generation here, and what is missing for it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from draftproof.cli import doctor
from draftproof.settings import settings

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DRAFTPROOF_CACHE_DIR", str(tmp_path / "cache"))
    settings.cache_clear()
    yield tmp_path / "cache"
    settings.cache_clear()


def _checks(cli: Cli) -> dict[str, dict[str, str]]:
    ended = cli("doctor", "--store", "none.db", "--json")
    assert ended.status == 0
    return {row["check"]: row for row in ended.json_lines}


def test_the_engine_is_told_with_its_versions_and_what_to_fetch(cli: Cli) -> None:
    import torch

    from draftproof.drafting.backends.packed_linear import best_layout

    checks = _checks(cli)
    assert checks["engine"]["status"] == "ok"
    assert f"torch {torch.__version__} with {torch.get_num_threads()} thread" in checks["engine"]["detail"]
    assert "CUDA" in checks["engine"]["detail"]
    assert "Triton" in checks["engine"]["detail"]
    assert ("own code compiled" in checks["engine"]["detail"]) == (best_layout() == "native")


def test_without_a_compiler_the_engine_says_why_it_is_slower(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from draftproof.drafting.backends import native, packed_linear

    def missing() -> None:
        raise native.CannotBuildError("there is no C compiler (cc, gcc or clang) on the PATH")

    monkeypatch.setattr(packed_linear, "best_layout", lambda: "mkl")
    monkeypatch.setattr(native, "library", missing)
    checks = _checks(cli)
    assert checks["engine"]["status"] == "ok"
    assert "torch (mkl)" in checks["engine"]["detail"]
    assert "there is no C compiler" in checks["engine"]["detail"]
    assert checks["models"]["status"] == "note"
    assert "draftproof models fetch smollm2-135m" in checks["models"]["detail"]


def test_fetched_models_are_told_with_the_backend_of_the_default(cli: Cli, cache: Path, tiny_chat_folder: Path) -> None:
    from draftproof.drafting.models.catalogue import MARK, SMOLLM2_135M, mark_of

    folder = cache / "models" / SMOLLM2_135M.name
    shutil.copytree(tiny_chat_folder, folder)
    (folder / MARK).write_text(json.dumps(mark_of(SMOLLM2_135M)))
    found = _checks(cli)["models"]
    assert found["status"] == "ok"
    assert f"in {cache}/models; smollm2-135m would run on the lean backend" in found["detail"]


def test_a_missing_engine_is_a_note_with_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "torch" else found(name))
    checks = _checks(cli)
    for check in ("engine", "models"):
        assert checks[check]["status"] == "note"
        assert "pip install 'draftproof[engine]'" in checks[check]["detail"]
        assert checks[check]["detail"].startswith("torch: ")


def test_an_engine_that_cannot_be_imported_is_broken(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises ImportError
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    ended = cli("doctor", "--store", "none.db")
    assert ended.status == 1
    assert "✗ engine" in ended.out
