"""Reasoning traces out of other people's files.

One format a file; `read_traces` is the way in, `formats` lists what it reads. An importer only says what the fields
of its format mean: files, compression, strict JSON, limits and rejects are handled before it is called.
"""

from __future__ import annotations

from draftproof.importers.reading import MAX_LINE_BYTES, MAX_MEMBER_BYTES, read_traces
from draftproof.importers.record import MAX_STEPS, Importer, RecordError
from draftproof.importers.registry import Format, formats
from draftproof.importers.streams import FileRefusedError, Progress

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_MEMBER_BYTES",
    "MAX_STEPS",
    "FileRefusedError",
    "Format",
    "Importer",
    "Progress",
    "RecordError",
    "formats",
    "read_traces",
]
