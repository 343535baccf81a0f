"""Compile every Triton kernel for sm_90 without a device, and record registers and spills.

The kernels are launched on small CPU tensors with Triton's launcher replaced by one that only notes the signature, so
what is compiled is what the wrappers launch. Then `ptxas -v`, which Triton brings along, says what the kernel takes.

    python benchmarks/compile_kernels.py > benchmarks/results/kernels_sm90.jsonl
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from draftproof.kernels import layout_triton
from draftproof.kernels.compact_triton import compact_triton
from draftproof.kernels.decide_block_triton import decide_block_triton
from draftproof.kernels.decide_match_triton import decide_match_triton
from draftproof.kernels.decide_siblings_triton import decide_siblings_triton
from draftproof.kernels.decide_token_triton import decide_token_triton
from draftproof.kernels.drafted import Drafted, DraftRows, columns_of
from draftproof.kernels.race_triton import target_draw_triton
from draftproof.kernels.row_law import RowLaw
from draftproof.kernels.row_stats import row_stats_torch
from draftproof.kernels.row_stats_triton import row_stats_triton
from draftproof.kernels.walk_triton import walk_triton

TARGET = GPUTarget("cuda", 90, 32)
_TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.bool: "i1",
}
ROWS, VOCAB, NODES = 6, 131072, 5
PROCESSORS = 132
"""Multiprocessors of the device compiled for; how rows are split depends on it."""


@dataclass(frozen=True)
class Launch:
    kernel: JITFunction
    case: str
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        return f"{self.kernel.__module__.rsplit('.', 1)[-1]}.{self.kernel.__name__.lstrip('_')}"


def launches() -> list[Launch]:
    """Every launch of every case, each distinct one once."""
    found: dict[str, Launch] = {}
    original = JITFunction.run
    case = ""

    def note(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        warps = kwargs.pop("num_warps", 4)
        bound = inspect.signature(self.fn).bind(*args, **kwargs).arguments
        constants = {name: value for name, value in bound.items() if name.isupper()}
        signature = {name: "constexpr" if name in constants else _type(value) for name, value in bound.items()}
        launch = Launch(self, case, signature, constants, warps)
        found.setdefault(f"{launch.name} {signature} {constants}", launch)

    layout_triton.PROCESSORS_WITHOUT_DEVICE = PROCESSORS
    JITFunction.run = note
    try:
        for name, run in _cases():
            case = name
            run()
    finally:
        JITFunction.run = original
    return list(found.values())


def compiled(launch: Launch) -> dict[str, Any]:
    """One line of the table. Raises what the compiler raises."""
    source = ASTSource(fn=launch.kernel, signature=launch.signature, constexprs=launch.constants)
    kernel = triton.compile(source, target=TARGET, options={"num_warps": launch.warps, "enable_fp_fusion": True})
    report = _assembler_report(kernel.asm["ptx"])
    registers = re.search(r"Used (\d+) registers", report)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    if registers is None or spills is None:
        raise RuntimeError(f"ptxas reported no registers for {launch.name}: {report}")
    return {
        "benchmark": "kernels_sm90",
        "kernel": launch.name,
        "case": launch.case,
        "target": "sm_90a",
        "warps": launch.warps,
        "registers": int(registers[1]),
        "spill_store_bytes": int(spills[1]),
        "spill_load_bytes": int(spills[2]),
        "shared_bytes": kernel.metadata.shared,
        "triton": triton.__version__,
    }


def _assembler_report(ptx: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [get_ptxas(TARGET.arch).path, "-v", "--gpu-name=sm_90a", str(source), "-o", str(source) + ".cubin"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ptxas failed: {done.stderr}")
    return done.stdout + done.stderr


def _type(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + _TYPES[value.dtype]
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """Launches in the shapes that serving has: bfloat16 logits, and every branch that is a compile-time choice."""
    logits = torch.zeros((ROWS, VOCAB), dtype=torch.bfloat16)
    inv_temp = torch.ones(ROWS)
    stats = row_stats_torch(logits, inv_temp)
    top_k = torch.full((ROWS,), 50)
    top_p = torch.full((ROWS,), 0.9)
    each = torch.arange(ROWS)
    chain = Drafted(torch.zeros((1, NODES), dtype=torch.int64), torch.tensor([0, ROWS]), each[:1], each[:1])
    tree = Drafted(
        chain.tokens, chain.cu_rows, chain.seeds, chain.positions, torch.full((1, NODES), -1, dtype=torch.int64)
    )
    of = torch.arange(NODES).unsqueeze(0)
    given = DraftRows(torch.full((NODES, VOCAB), 1.0 / VOCAB), of)
    trimmed = DraftRows(given.values[:, ::4].contiguous(), of, columns=columns_of(torch.arange(0, VOCAB, 4), VOCAB))
    law = RowLaw(torch.ones(NODES), torch.full((NODES,), -torch.inf), torch.zeros(NODES))
    from_logits = DraftRows(logits[:NODES], of, law=law)
    caches = [torch.zeros((1, 8, 256, 128), dtype=torch.bfloat16) for _ in range(4)]

    yield "greedy", lambda: row_stats_triton(logits, inv_temp, ids=each)
    yield "top-k, top-p", lambda: row_stats_triton(logits, inv_temp, top_k=top_k, top_p=top_p)
    yield "float32", lambda: row_stats_triton(logits.float(), inv_temp)
    yield "plain", lambda: target_draw_triton(logits, inv_temp, None, each, each)
    yield "chain", lambda: walk_triton(each, chain)
    yield "tree", lambda: walk_triton(each, tree)
    yield "chain", lambda: decide_match_triton(logits, inv_temp, None, chain)
    yield "tree, threshold", lambda: decide_match_triton(logits, inv_temp, stats.threshold, tree)
    for name, decide in (
        ("token", decide_token_triton),
        ("block", decide_block_triton),
        ("siblings", decide_siblings_triton),
    ):
        drafted = tree if name == "siblings" else chain
        yield f"{name}, probabilities", lambda d=decide, t=drafted: d(logits, stats, t, given)
        yield f"{name}, trimmed", lambda d=decide, t=drafted: d(logits, stats, t, trimmed)
        yield f"{name}, logits", lambda d=decide, t=drafted: d(logits, stats, t, from_logits)
    yield "cache", lambda: compact_triton(caches, each[:1], each[:NODES].unsqueeze(0))


if __name__ == "__main__":
    for launch in launches():
        sys.stdout.write(json.dumps(compiled(launch)) + "\n")
        sys.stdout.flush()
