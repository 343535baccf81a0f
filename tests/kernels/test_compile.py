"""Every kernel compiles for a GPU that is not there, without a spilled register, and the committed table says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> list[dict]:
    """In a process of its own: the interpreter, once chosen, replaces the compiler."""
    script = Path(request.config.rootpath) / "benchmarks" / "compile_kernels.py"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_no_kernel_spills(compiled):
    assert {line["kernel"] for line in compiled if line["spill_store_bytes"] or line["spill_load_bytes"]} == set()
    assert all(0 < line["registers"] <= 255 for line in compiled)


def test_every_kernel_that_is_launched_is_compiled(compiled, checkout):
    launched = {
        f"{path.stem}.{name}"
        for path in (checkout / "kernels").glob("*_triton.py")
        for name in re.findall(r"^ +_(\w+)\[\(", path.read_text(), re.MULTILINE)
    }
    assert len(launched) >= 10
    assert launched == {line["kernel"] for line in compiled}


def test_the_committed_table_lists_the_same_launches(compiled, checkout):
    table = (checkout / "benchmarks" / "results" / "kernels_sm90.jsonl").read_text().splitlines()
    committed = [(line["kernel"], line["case"]) for line in map(json.loads, table)]
    assert committed == [(line["kernel"], line["case"]) for line in compiled]
