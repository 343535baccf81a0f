"""Fixtures that tests of every part may use; each folder's own are beside its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository that the tests lie in. What is tested may be installed elsewhere."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def fresh_python(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a new interpreter, started in an empty folder, and returns what it printed."""

    def run(code: str, *, cwd: Path = tmp_path) -> str:
        environment = os.environ | {"PYTHONSAFEPATH": "1"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
