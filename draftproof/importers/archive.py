"""Members of an inspect_ai `.eval` archive, one at a time.

Sizes written in an archive are claims: what counts is what comes out while reading, and reading stops at the
limit. A member stored with zstd (method 93, which Python's zipfile learns only in 3.14) is read here.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from draftproof.importers.lines import Raw, too_long
from draftproof.importers.streams import CHUNK, ZIP, FileRefusedError, Progress, StreamError, unzstd
from draftproof.rejects import RejectCode

_SAMPLES = "samples/"
_ZSTD_METHOD = 93
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


def is_archive(path: str) -> bool:
    """By the first bytes. A pipe is never one: the list of members stands at an archive's end."""
    if not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except OSError:
        # Whoever opens it next reports why it cannot be read.
        return False


def samples(path: str, limit: int, progress: Progress) -> Iterator[Raw]:
    """The sample members in the archive's order; of two with one name, the last. Numbers count all members from 1."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileRefusedError(
            f"{path} starts like a ZIP archive but cannot be opened as one: {error}.",
            code="corrupt_archive",
            remedy="The file may have been cut while it was copied: fetch it again.",
        ) from error
    with archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if not any(_is_sample(name) or name in ("header.json", "_journal/start.json") for name in names):
            raise FileRefusedError(
                f"{path} is a ZIP archive, but no inspect_ai log.",
                code="unsupported_file",
                remedy="Unpack it and give the files in it.",
            )
        progress.bytes_total = sum(member.compress_size for member in members)
        for number, member in enumerate(members, start=1):
            if _is_sample(member.filename) and archive.getinfo(member.filename) is member:
                yield _read(archive, member, number, limit)
            progress.bytes_read += member.compress_size


def _is_sample(name: str) -> bool:
    return name.startswith(_SAMPLES) and name.endswith(".json")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, number: int, limit: int) -> Raw:
    head = member.filename.encode("utf-8", errors="replace")[:512]
    parts: list[bytes] = []
    length = 0
    try:
        for part in _decompressed(archive, member):
            length += len(part)
            if length > limit:
                message = too_long(max(length, member.file_size), limit)
                return Raw(number, head, RejectCode.TOO_LONG, f"{member.filename[:80]}: {message}")
            parts.append(part)
    except StreamError as error:
        return Raw(number, head, error.code, f"{member.filename[:80]}: {error.message}")
    return Raw(number, b"".join(parts))


def _decompressed(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        if member.compress_type == _ZSTD_METHOD:
            yield from unzstd(_stored(archive, member))
            return
        with archive.open(member) as file:
            while part := file.read(CHUNK):
                yield part
    # What a damaged archive raises depends on where the damage is; an encrypted member is a RuntimeError.
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, struct.error, zlib.error) as error:
        raise StreamError(RejectCode.CORRUPT_STREAM, f"the member cannot be read: {error}") from error


def _stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The member's bytes as they lie in the archive, behind its local header."""
    file = archive.fp
    if file is None:
        raise StreamError(RejectCode.CORRUPT_STREAM, "the archive was closed")
    file.seek(member.header_offset)
    header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    file.seek(header[9] + header[10], 1)
    left = member.compress_size
    while left > 0:
        part = file.read(min(CHUNK, left))
        if not part:
            raise StreamError(RejectCode.CUT_STREAM, "the archive ends inside the member")
        left -= len(part)
        yield part
