"""Building a corpus: files are read in parts, cut, put in order, indexed; the manifest is written last.

A folder without its manifest is no corpus, so a build that is stopped leaves nothing that loads; the same command
starts it again. On a corpus that is there already, it looks whether the documents are the same, and builds nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from draftproof import __version__
from draftproof.canonical import digest
from draftproof.drafting.retrieval.chunking import CHUNKING_RULE, Chunking, chunks
from draftproof.drafting.retrieval.corpus import INPUTS_FILE, REJECTS_FILE, Corpus
from draftproof.drafting.retrieval.documents import Document, Fields, TextDigest, as_reject, read_documents
from draftproof.drafting.retrieval.inputs import Input, find_inputs, input_digest
from draftproof.drafting.retrieval.manifest import MANIFEST, CorpusManifest, Counts, stored, write_manifest
from draftproof.drafting.retrieval.staging import ORIGIN_FILE, STORE_FILES, Settled, Staging
from draftproof.drafting.retrieval.word_index import WORD_INDEX_FILES, Written, write_word_index
from draftproof.drafting.retrieval.words import WORD_RULE
from draftproof.errors import InputError, UsageError
from draftproof.importers.record import RecordError
from draftproof.importers.streams import Progress
from draftproof.rejects import Reject, RejectCode, RejectsFile

Report = Callable[[str, int, int, str], None]
"""Is told the stage, how much of it is done, of how much, and a word about it."""
_MARK = ".building"
"""Is there from the first to the last moment of a build, and tells our unfinished folders from those of others."""
_STAGING = "staging"


@dataclass
class _Tally:
    """What became of one input file."""

    file: str
    path: str
    bytes: int
    sha256: str | None
    entries: int = 0
    documents: int = 0
    repeated: int = 0
    rejected: int = 0


def build_corpus(
    documents: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    chunking: Chunking | None = None,
    fields: Fields | None = None,
    report: Report = lambda *_: None,
) -> Corpus:
    """Build a corpus of files, or of folders of them, in the folder `out`, and open it.

    Raises UsageError for names that are not there and for a folder with something else in it, InputError where there is
    not one document to be read: what was rejected then lies in `out`/rejects.jsonl all the same.
    """
    chunking, fields, folder = chunking or Chunking(), fields or Fields(), Path(out).expanduser()
    _require_ours(folder)
    given = find_inputs(documents, leave_out=folder)
    if not given:
        raise InputError(
            "There is no file in what was named: an empty corpus is not built.", remedy="Name files with text."
        )
    with _alone_in(folder):
        tallies = [_Tally(each.name, str(each.path), each.size, input_digest(each.path)) for each in given]
        if (folder / MANIFEST).exists():
            return _same_corpus(folder, tallies, chunking, fields)
        _clear(folder)
        building = _Building(folder, chunking, fields, report)
        return building.run(given, tallies)


class _Building:
    def __init__(self, folder: Path, chunking: Chunking, fields: Fields, report: Report) -> None:
        self._folder = folder
        self._chunking = chunking
        self._fields = fields
        self._report = report

    def run(self, given: list[Input], tallies: list[_Tally]) -> Corpus:
        with RejectsFile(self._folder / REJECTS_FILE) as rejects, Staging(self._folder / _STAGING) as staging:
            self._read(given, tallies, staging, rejects)
            if not staging.documents:
                raise _nothing(self._folder, rejects.count, tallies)
            self._report("ordering", 0, 1, "")
            settled = staging.settle(self._folder)
            self._account(tallies, settled, given, rejects)
        self._write_inputs(tallies)
        manifest = self._manifest(tallies, settled, Written(0, 0), [*STORE_FILES, ORIGIN_FILE, INPUTS_FILE])
        corpus = Corpus(self._folder, manifest)
        written = write_word_index(
            corpus.searched_text,
            settled.chunks,
            self._folder,
            self._folder / _STAGING,
            lambda done, total: self._report("indexing", done, total, ""),
        )
        shutil.rmtree(self._folder / _STAGING)
        names = [*STORE_FILES, ORIGIN_FILE, INPUTS_FILE, *WORD_INDEX_FILES]
        manifest = self._manifest(tallies, settled, written, names)
        write_manifest(self._folder / MANIFEST, manifest)
        return Corpus(self._folder, manifest)

    def _read(self, given: list[Input], tallies: list[_Tally], staging: Staging, rejects: RejectsFile) -> None:
        total, before = sum(each.size for each in given), 0
        self._report("reading", 0, total, "")
        for number, (each, tally) in enumerate(zip(given, tallies, strict=True)):
            progress = Progress()
            for document in read_documents(each, self._fields, _into(rejects, tally), _counting(tally), progress):
                self._take(document, each, number, tally, staging, rejects)
                self._report("reading", before + progress.bytes_read, total, each.name)
            before += each.size

    def _take(
        self, document: Document, given: Input, number: int, tally: _Tally, staging: Staging, rejects: RejectsFile
    ) -> None:
        """One document into the staging files, or into the rejects."""
        content = TextDigest()
        try:
            for piece in chunks(content.over(document.parts), self._chunking):
                staging.add(piece)
            if staging.empty:
                raise RecordError(RejectCode.EMPTY_TEXT, "the document has no text")
        except RecordError as error:
            staging.forget()
            tally.rejected += 1
            rejects.add(as_reject(given, document.line, error, document.head))
            return
        digested = content.hexdigest()
        staging.keep(
            id=document.name(digested), title=document.title, content=digested, characters=content.characters,
            file=number, line=document.line,
        )  # fmt: skip
        tally.documents += 1

    def _account(self, tallies: list[_Tally], settled: Settled, given: list[Input], rejects: RejectsFile) -> None:
        """Repetitions and conflicts are known only now."""
        for number in settled.repeated:
            tallies[number].documents -= 1
            tallies[number].repeated += 1
        for each in settled.conflicts:
            tallies[each.file].documents -= 1
            tallies[each.file].rejected += 1
            rejects.add(
                Reject(
                    file=str(given[each.file].path),
                    line=each.line,
                    code=RejectCode.WRONG_VALUE,
                    message=f"the id {each.id!r:.120} was given to another text in {given[each.first_file].path}, line "
                    f"{each.first_line}; give each document its own id, or none",
                )
            )

    def _write_inputs(self, tallies: list[_Tally]) -> None:
        with (self._folder / INPUTS_FILE).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(tally), ensure_ascii=False) + "\n" for tally in tallies)

    def _manifest(self, tallies: list[_Tally], settled: Settled, written: Written, names: list[str]) -> CorpusManifest:
        files = stored(self._folder, names)
        content = {name: files[name].sha256 for name in STORE_FILES}
        cut = {"chunking": CHUNKING_RULE, "words": self._chunking.words, "overlap": self._chunking.overlap}
        return CorpusManifest(
            draftproof=__version__,
            digest=digest({"content": content, **cut}),
            **cut,
            fields=str(self._fields),
            counts=Counts(
                files=len(tallies),
                entries=sum(tally.entries for tally in tallies),
                documents=settled.documents,
                repeated=len(settled.repeated),
                rejected=sum(tally.rejected for tally in tallies),
                chunks=settled.chunks,
                places=settled.places,
                characters=settled.characters,
                words=written.words,
                vocabulary=written.vocabulary,
            ),
            word_rule=WORD_RULE,
            files=files,
        )


def _into(rejects: RejectsFile, tally: _Tally) -> Callable[[Reject], None]:
    def add(reject: Reject) -> None:
        tally.rejected += 1
        rejects.add(reject)

    return add


def _counting(tally: _Tally) -> Callable[[], None]:
    def count() -> None:
        tally.entries += 1

    return count


def _require_ours(folder: Path) -> None:
    """Raises UsageError for a folder that holds anything of others."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and a corpus is a folder.", remedy="Name another with --out.")
    ours = (folder / MANIFEST).exists() or (folder / _MARK).exists()
    if folder.is_dir() and not ours and any(folder.iterdir()):
        raise UsageError(
            f"The folder {folder} has other things in it, and no corpus.", remedy="Name a new or empty one with --out."
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Holds the folder for this process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = (folder / _MARK).open("a")
    except OSError as error:
        raise UsageError(
            f"The corpus cannot be written into {folder}: {error.strerror}.", remedy="Name another folder with --out."
        ) from error
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"Another process is building the corpus {folder}.", remedy="Wait for it, or name another folder."
            ) from None
        yield
        if (folder / MANIFEST).exists():
            (folder / _MARK).unlink(missing_ok=True)


def _same_corpus(folder: Path, tallies: list[_Tally], chunking: Chunking, fields: Fields) -> Corpus:
    """The corpus that is there. Raises UsageError where it is of other documents, or cut in another way."""
    corpus = Corpus.open(folder)
    there = {(each["file"], each["sha256"]) for each in corpus.inputs()}
    asked = {(tally.file, tally.sha256) for tally in tallies}
    if there != asked:
        other = sorted(file for file, _ in there ^ asked)[0]
        raise UsageError(
            f"The folder {folder} holds a corpus of other documents: {other} differs.",
            remedy="Name another folder with --out, or delete this one.",
        )
    there_by = corpus.manifest
    by = (there_by.chunking, there_by.words, there_by.overlap, there_by.fields)
    if by != (CHUNKING_RULE, chunking.words, chunking.overlap, str(fields)):
        raise UsageError(
            f"The folder {folder} holds a corpus of these documents that was read and cut in another way: by {by[0]}, "
            f"{by[1]} words, overlap {by[2]}, fields {by[3]}.",
            remedy="Name another folder with --out, or give the same --words, --overlap and --fields.",
        )
    return corpus


def _clear(folder: Path) -> None:
    """Takes away what a stopped build left."""
    for each in folder.iterdir():
        if each.name == _MARK:
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _nothing(folder: Path, rejected: int, tallies: list[_Tally]) -> InputError:
    if not rejected:
        return InputError("There is no document in what was named: an empty corpus is not built.")
    return InputError(
        f"Not one document could be read: {rejected:,} of {sum(tally.entries for tally in tallies):,} were rejected.",
        remedy=f"{folder / REJECTS_FILE} says of each why.",
    )
