"""The bytes of a file, decompressed on the way, never held whole.

Compression is recognised by the first bytes, not by the name. A stream that ends early or is damaged gives
everything that could be decompressed first, and then raises `StreamError`: what was lost is always reported.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from draftproof.errors import ExitStatus, InputError, MissingExtraError
from draftproof.rejects import RejectCode

CHUNK = 1 << 18
_OUTPUT = 1 << 20
# One byte of zstd can stand for 32 KiB, and its decompressor cannot be told to stop: it is fed in small sips.
_ZSTD_SIP = 1 << 9
_ZSTD_WINDOW = 1 << 27

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
ZIP = b"PK\x03\x04"
_ZIP_EMPTY = b"PK\x05\x06"
_LFS = b"version https://git-lfs"
_MARK = b"\xef\xbb\xbf"


class StreamError(Exception):
    """The rest of the stream cannot be had."""

    def __init__(self, code: RejectCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FileRefusedError(InputError):
    """The file as a whole cannot be read; `code` says why."""

    exit_status = ExitStatus.ITEMS_FAILED

    def __init__(self, message: str, *, code: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


@dataclass
class Progress:
    """How far the reading has come. Lines are conserved: lines = read + skipped + blank + rejected."""

    bytes_total: int | None = None
    """Size of the file as stored; None for a pipe."""
    bytes_read: int = 0
    """Of the file as stored, so that a compressed file's share is right."""
    lines: int = 0
    """Lines, array elements or archive members seen."""
    read: int = 0
    """Those that gave at least one trace."""
    skipped: int = 0
    """Those that an option left out, or that repeat another."""
    blank: int = 0
    rejected: int = 0
    traces: int = 0


def check_file(path: str) -> None:
    """Refuse what can be refused before a byte is read."""
    if path == "-":
        return
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise FileRefusedError(
            f"There is no file {path}.", code="file_missing", remedy="Check the name; `-` reads standard input."
        ) from None
    except (OSError, ValueError) as error:
        raise FileRefusedError(
            f"Cannot look at {path!r}: {error}.", code="file_unreadable", remedy="Check the name and its permissions."
        ) from error
    if stat.S_ISDIR(mode):
        raise FileRefusedError(
            f"{path} is a directory.", code="is_a_directory", remedy=f"Name the files in it: {path.rstrip('/')}/*.jsonl"
        )


@contextmanager
def opened(path: str, progress: Progress) -> Iterator[Iterator[bytes]]:
    """The file's stored bytes in chunks, counted."""
    if path == "-":
        yield _chunks(sys.stdin.buffer, progress)
        return
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115  closed below
    except OSError as error:
        raise FileRefusedError(
            f"Cannot open {path}: {error.strerror}.", code="file_unreadable", remedy="Check its permissions."
        ) from error
    with file:
        status = os.fstat(file.fileno())
        progress.bytes_total = status.st_size if stat.S_ISREG(status.st_mode) else None
        yield _chunks(file, progress)


def _chunks(file: BinaryIO, progress: Progress) -> Iterator[bytes]:
    read = getattr(file, "read1", file.read)
    while True:
        try:
            chunk = read(CHUNK)
        except OSError as error:
            raise StreamError(RejectCode.CUT_STREAM, f"reading stopped: {error}") from error
        if not chunk:
            return
        progress.bytes_read += len(chunk)
        yield chunk


def decompressed(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The plain bytes behind gzip or zstd, or the chunks as they are; a byte-order mark is dropped."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(_LFS):
            break
    if not head:
        return
    _refuse_other_files(head, path)
    stored = prepended(head, chunks)
    if head.startswith(_GZIP):
        yield from _without_mark(_gunzip(stored))
    elif head.startswith(_ZSTD):
        yield from _without_mark(unzstd(stored))
    else:
        yield from _without_mark(stored)


def _refuse_other_files(head: bytes, path: str) -> None:
    if head.startswith(_LFS):
        raise FileRefusedError(
            f"{path} is a Git LFS pointer, not the data itself.",
            code="git_lfs_pointer",
            remedy="Fetch the data with `git lfs pull` in its repository.",
        )
    for magic, kind, tool in (
        (b"BZh", "bzip2", "bunzip2"),
        (b"\xfd7zXZ", "xz", "unxz"),
        (b"PAR1", "Parquet", "a data-frame library"),
        (b"\x80\x04\x95", "a Python pickle, which can run code when loaded; it is never opened", "its own program"),
    ):
        if head.startswith(magic):
            raise FileRefusedError(
                f"{path} is {kind}.", code="unsupported_file", remedy=f"Turn it into JSON Lines with {tool} first."
            )
    if head.startswith((ZIP, _ZIP_EMPTY)):
        raise FileRefusedError(
            f"{path} is a ZIP archive, which cannot be read from a pipe or as JSON Lines.",
            code="unsupported_file",
            remedy="Give the name of the .eval file itself, with --format auto or inspect.",
        )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileRefusedError(
            f"{path} is UTF-16 text.", code="unsupported_file", remedy="Convert it: iconv -f UTF-16 -t UTF-8"
        )


def prepended(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    try:
        for chunk in chunks:
            first += chunk
            if len(first) >= len(_MARK):
                break
    except StreamError:
        yield first.removeprefix(_MARK)
        raise
    yield first.removeprefix(_MARK)
    yield from chunks


def _gunzip(stored: Iterator[bytes]) -> Iterator[bytes]:
    """Any number of gzip members one after the other, at most 1 MiB of output at a time."""
    member = zlib.decompressobj(wbits=31)
    inside = True
    for chunk in stored:
        waiting = chunk
        while waiting:
            if not inside:
                # Tapes and some tools pad the end of a gzip file with zeros.
                waiting = waiting.lstrip(b"\x00")
                if not waiting:
                    break
                member, inside = zlib.decompressobj(wbits=31), True
            try:
                output = member.decompress(waiting, _OUTPUT)
            except zlib.error as error:
                raise StreamError(RejectCode.CORRUPT_STREAM, f"damaged gzip data: {error}") from error
            if output:
                yield output
            inside = not member.eof
            waiting = member.unconsumed_tail if inside else member.unused_data
    if inside:
        yield member.flush()
        raise StreamError(RejectCode.CUT_STREAM, "the gzip data ends early: the file was cut")


def unzstd(stored: Iterator[bytes]) -> Iterator[bytes]:
    zstandard = load_zstandard()
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = decompressor.decompressobj()
    inside = True
    for chunk in stored:
        for start in range(0, len(chunk), _ZSTD_SIP):
            waiting = chunk[start : start + _ZSTD_SIP]
            while waiting:
                if not inside:
                    frame, inside = decompressor.decompressobj(), True
                try:
                    output = frame.decompress(waiting)
                except zstandard.ZstdError as error:
                    raise StreamError(RejectCode.CORRUPT_STREAM, f"damaged zstd data: {error}") from error
                if output:
                    yield output
                inside = not frame.eof
                waiting = b"" if inside else frame.unused_data
    if inside:
        raise StreamError(RejectCode.CUT_STREAM, "the zstd data ends early: the file was cut")


def load_zstandard() -> Any:
    """The optional decompressor, or an error that says how to get it."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(
            "This file is compressed with zstd, which needs an optional package.",
            remedy="Install it: pip install 'draftproof[zstd]'",
        ) from error
    return zstandard
