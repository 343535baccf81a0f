"""How much memory can still be had, so that a model that does not fit is refused before the system ends the process."""

from __future__ import annotations

import re
from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still use: the system's and its control group's; None where neither is told."""
    limits = [limit for limit in (_of_system(root), _of_control_group(root)) if limit is not None]
    return min(limits, default=None)


def _of_system(root: Path) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def _of_control_group(root: Path) -> int | None:
    """Of version 2, seen from inside a container. Pages of files that it holds are given back on demand."""
    group = root / "sys/fs/cgroup"
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        cached = re.search(r"^file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return max(0, limit - used + (int(cached[1]) if cached else 0))
