"""Weights on huge pages, so that reading them all is not held up by looking up addresses.

Every pass streams through hundreds of megabytes of packed weights. On pages of 4 KiB the processor looks up an address
135 thousand times for half a gigabyte, in a virtual machine at twice the price, and prefetching ends at each page; of
pages of 2 MiB there are 260. Linux gathers pages on request (MADV_COLLAPSE, since 6.1);
elsewhere, and where the system forbids it, all stays as it is. No content and no address changes.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Iterable

PAGE = 2 * 1024 * 1024
_LEAST_USED = 0.8
"""Of a huge page, as a share. What is not in use of it becomes resident, so that sparse ones would cost memory."""

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25

Block = tuple[int, int]
"""Address and bytes."""


def gather(blocks: Iterable[Block]) -> int:
    """Put the memory of `blocks`, which is in use already, on huge pages where they fill them; how many there are."""
    if not sys.platform.startswith("linux"):
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    gathered = 0
    for page in well_used(blocks):
        # The first only marks the memory, for systems that gather marked memory by themselves, with time.
        madvise(page, PAGE, _MADV_HUGEPAGE)
        gathered += madvise(page, PAGE, _MADV_COLLAPSE) == 0
    return gathered


def well_used(blocks: Iterable[Block]) -> list[int]:
    """Addresses of the huge pages of which the blocks together use enough."""
    used: Counter[int] = Counter()
    for address, size in blocks:
        end = address + size
        for page in range(address // PAGE * PAGE, end, PAGE):
            used[page] += min(end, page + PAGE) - max(address, page)
    return sorted(page for page, size in used.items() if size >= _LEAST_USED * PAGE)
