"""What goes into a corpus, what is rejected with its place, and what never loads."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draftproof.drafting.retrieval import build
from draftproof.drafting.retrieval.build import build_corpus
from draftproof.drafting.retrieval.chunking import Chunking
from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.documents import Fields
from draftproof.drafting.retrieval.manifest import Counts
from draftproof.drafting.retrieval.open import open_retriever
from draftproof.errors import InputError, UsageError


def rejects(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


def conserved(counts: Counts) -> bool:
    return counts.entries == counts.documents + counts.repeated + counts.rejected


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "docs"
    (place / "deep").mkdir(parents=True)
    (place / "guide.md").write_text("Preface.\n\n## The otter ##\n\nIt eats fish.")
    (place / "deep" / "notes.txt").write_text("Herons wait.")
    lines(place / "facts.jsonl", {"id": 7, "title": "Bread", "text": "Bread is baked."}, {"text": "No id here."})
    return place


def test_json_markdown_and_text_become_documents_with_ids_and_titles(folder: Path, tmp_path: Path) -> None:
    corpus = build_corpus([folder], tmp_path / "c")
    told = {
        (place.document_id, place.title, chunk.text)
        for chunk in map(corpus.chunk, range(len(corpus)))
        for place in chunk.places
    }
    assert {document for document, _, _ in told} >= {"guide.md", "deep/notes.txt", "7"}
    assert ("guide.md", "The otter", "Preface.\n\n## The otter ##\n\nIt eats fish.") in told
    assert ("deep/notes.txt", "notes.txt", "Herons wait.") in told
    assert ("7", "Bread", "Bread is baked.") in told
    assert corpus.manifest.counts.documents == 4
    assert conserved(corpus.manifest.counts)


def test_a_chunks_id_is_the_digest_of_its_text_and_its_offsets_lead_back_to_it(tmp_path: Path) -> None:
    text = "".join(f"Sentence number {n} is här. " for n in range(200))
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    corpus = build_corpus([tmp_path / "long.txt"], tmp_path / "c", chunking=Chunking(30, 6))
    assert len(corpus) > 20
    for row in range(len(corpus)):
        chunk = corpus.chunk(row)
        assert chunk.id == "sha256:" + hashlib.sha256(chunk.text.encode()).hexdigest()
        for place in chunk.places:
            assert text[place.start : place.end] == chunk.text
        assert corpus.find(chunk.id) == chunk
    with pytest.raises(UsageError, match="no chunk"):
        corpus.find("sha256:" + "0" * 64)
    assert corpus.row_of("sha256:xyz") is None


def test_the_same_documents_make_the_same_corpus_in_any_order_and_place(tmp_path: Path) -> None:
    records = [{"id": str(n), "title": f"T{n % 3}", "text": f"Text {n % 7} of some."} for n in range(40)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    lines(tmp_path / "one" / "a.jsonl", *records)
    random.Random(1).shuffle(records)
    lines(tmp_path / "two" / "z.jsonl", *records[:9])
    lines(tmp_path / "two" / "b.jsonl", *records[9:])
    first = build_corpus([tmp_path / "one"], tmp_path / "c1")
    second = build_corpus([tmp_path / "two" / "z.jsonl", tmp_path / "two" / "b.jsonl"], tmp_path / "c2")
    assert first.manifest.digest == second.manifest.digest
    for name in ("texts.bin", "ids.npy", "places.npy", "documents.jsonl", "text_spans.npy"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    records[0]["text"] += "!"
    lines(tmp_path / "two" / "z.jsonl", *records[:9])
    third = build_corpus([tmp_path / "two"], tmp_path / "c3")
    assert third.manifest.digest != first.manifest.digest


def test_a_text_in_two_documents_is_one_chunk_with_both_places(tmp_path: Path) -> None:
    file = lines(tmp_path / "d.jsonl", {"id": "a", "title": "A", "text": "Same."}, {"id": "b", "text": "Same."})
    corpus = build_corpus([file], tmp_path / "c")
    (chunk,) = map(corpus.chunk, range(len(corpus)))
    assert {place.document_id for place in chunk.places} == {"a", "b"}
    assert (corpus.manifest.counts.documents, corpus.manifest.counts.places) == (2, 2)


def test_a_document_that_comes_twice_is_counted_once_and_told(tmp_path: Path) -> None:
    same = {"id": "a", "text": "Same."}
    corpus = build_corpus([lines(tmp_path / "d.jsonl", same, same, {"text": "X y."}, {"text": "X y."})], tmp_path / "c")
    counts = corpus.manifest.counts
    assert (counts.entries, counts.documents, counts.repeated, counts.rejected) == (4, 2, 2, 0)
    assert corpus.manifest.counts.places == 2


def test_an_id_that_two_texts_claim_is_rejected_with_both_lines(tmp_path: Path) -> None:
    file = lines(tmp_path / "d.jsonl", {"id": "a", "text": "First."}, {"id": "a", "text": "Second."})
    corpus = build_corpus([file], tmp_path / "c")
    assert [corpus.text(row) for row in range(len(corpus))] == ["First."]
    (reject,) = rejects(tmp_path / "c")
    assert (reject["line"], reject["code"]) == (2, "wrong_value")
    assert "line 1" in reject["message"]
    assert conserved(corpus.manifest.counts)


def test_every_line_that_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "d.jsonl", {"text": "Good."}, "no json", {"body": "x"}, {"text": 5}, {"text": "  "}, ["list"], "",
        '{"text": "a", "text": "b"}', {"text": "bell " + "\x07" * 50},
    )  # fmt: skip
    corpus = build_corpus([file], tmp_path / "c")
    told = {reject["line"]: reject["code"] for reject in rejects(tmp_path / "c")}
    assert told == {
        2: "invalid_json", 3: "missing_field", 4: "wrong_type", 5: "empty_text", 6: "not_an_object",
        8: "duplicate_key", 9: "wrong_value",
    }  # fmt: skip
    assert all(reject["file"] == str(file) and "; " in reject["message"] for reject in rejects(tmp_path / "c"))
    assert corpus.manifest.counts == corpus.manifest.counts.model_copy(
        update={"entries": 8, "documents": 1, "rejected": 7, "repeated": 0}
    )


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        pytest.param("noise.txt", random.Random(0).randbytes(5000), "invalid_utf8", id="random-bytes"),
        pytest.param("nul.txt", b"text\x00text", "nul_character", id="nul"),
        pytest.param("controls.txt", bytes(range(1, 9)) * 200, "wrong_value", id="valid-utf8-that-is-no-text"),
        pytest.param("late.txt", b"Fine words. " * 50_000 + b"\xff\xfe", "invalid_utf8", id="garbage-at-the-end"),
        pytest.param("x.md", b"PK\x03\x04" + bytes(100), "unknown_format", id="zip"),
        pytest.param("weights.pkl", b"\x80\x04\x95" + bytes(100), "unknown_format", id="pickle"),
        pytest.param("utf16.txt", "text".encode("utf-16"), "unknown_format", id="utf-16"),
        pytest.param("cut.txt.gz", gzip.compress(b"words and words " * 900)[:-20], "cut_stream", id="cut-gzip"),
        pytest.param("empty.txt", b"", "empty_text", id="empty-text"),
        pytest.param("space.md", b" \n\n ", "empty_text", id="white-space"),
        pytest.param("empty.jsonl", b"\n\n", "empty_file", id="empty-jsonl"),
        pytest.param("noise.jsonl", b"\x00\xff" * 500, "invalid_utf8", id="noise-as-jsonl"),
    ],
)
def test_what_is_no_text_is_rejected_whole_and_the_rest_is_built(
    tmp_path: Path, name: str, data: bytes, code: str
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / name).write_bytes(data)
    (docs / "good.txt").write_text("Good words.")
    corpus = build_corpus([docs], tmp_path / "c")
    (reject,) = rejects(tmp_path / "c")
    assert (reject["code"], reject["file"]) == (code, str(docs / name))
    assert [corpus.text(row) for row in range(len(corpus))] == ["Good words."]
    assert conserved(corpus.manifest.counts)
    assert corpus.manifest.counts.entries == 2


def test_a_broken_link_and_a_pipe_are_told_and_not_waited_for(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(docs / "pipe.txt")
    (docs / ".hidden").write_text("not looked at")
    (docs / "good.txt").write_text("Good words.")
    corpus = build_corpus([docs], tmp_path / "c")
    assert corpus.manifest.counts.rejected == 2
    assert corpus.manifest.counts.files == 3


def test_compressed_files_and_other_field_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "q", "name": "N", "body": "Some text."}\n'))
    corpus = build_corpus([tmp_path / "d.jsonl.gz"], tmp_path / "c", fields=Fields.parse("id=_id,title=name,text=body"))
    (place,) = corpus.chunk(0).places
    assert (place.document_id, place.title) == ("q", "N")


@pytest.mark.parametrize("given", ["text", "text=", "words=x", "id=a,id=b", ""])
def test_fields_that_cannot_be_read_are_refused(given: str) -> None:
    with pytest.raises(UsageError, match="id=_id"):
        Fields.parse(given)


def test_a_document_of_50_mb_is_read_in_parts(tmp_path: Path, fresh_python: Callable[..., str]) -> None:
    sentence = b"The quick otter number %d swims over a lazy heron and eats fish. "
    with (tmp_path / "big.txt").open("wb") as file:
        for block in range(1000):
            file.write(b"".join(sentence % (block * 800 + n) for n in range(800)))
    assert (tmp_path / "big.txt").stat().st_size > 50_000_000
    code = f"""
import resource
from draftproof.drafting.retrieval.build import build_corpus
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
build_corpus([{str(tmp_path / "big.txt")!r}], {str(tmp_path / "c")!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    mebibytes = int(fresh_python(code))
    assert mebibytes < 800  # most of it is the vocabulary of 800,000 numbers; as one list of words it is gigabytes
    corpus = Corpus.open(tmp_path / "c")
    assert (corpus.manifest.counts.documents, corpus.manifest.counts.vocabulary) == (1, 800_011)  # the title's too
    (hit,) = open_retriever(corpus).search(["otter number 799999"], 1)[0]
    assert "number 799999 " in hit.text


def test_a_line_of_20_mb_is_a_document_like_others(tmp_path: Path) -> None:
    text = ("The otter, which " + "eats a fish in the cold river and " * 10 + "rests. ") * 57_000
    assert len(text) > 20_000_000
    corpus = build_corpus([lines(tmp_path / "d.jsonl", {"text": text}, {"text": "Short."})], tmp_path / "c")
    counts = corpus.manifest.counts
    assert (counts.documents, counts.characters) == (2, len(text) + 6)
    assert counts.chunks < 10 < 10_000 < counts.places  # the same words over and over are few texts


@pytest.mark.parametrize("text", ["", "\x00\x01"])
def test_an_empty_corpus_is_refused_and_what_was_rejected_is_there(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.txt").write_text(text)
    with pytest.raises(InputError, match=r"Not one document.*rejects.jsonl"):
        build_corpus([tmp_path / "d.txt"], tmp_path / "c")
    assert len(rejects(tmp_path / "c")) == 1
    with pytest.raises(InputError, match="There is no corpus"):
        Corpus.open(tmp_path / "c")


def test_documents_of_stop_words_alone_and_folders_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No document has a word"):
        build_corpus([lines(tmp_path / "d.jsonl", {"text": "the and of"})], tmp_path / "c")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="empty corpus"):
        build_corpus([tmp_path / "nothing"], tmp_path / "c2")
    with pytest.raises(UsageError, match="no file or folder"):
        build_corpus([tmp_path / "gone"], tmp_path / "c2")


FILES = [
    "texts.bin", "text_spans.npy", "ids.npy", "places.npy", "place_starts.npy", "documents.jsonl", "document_spans.npy",
    "origins.npy", "inputs.jsonl", "bm25/data.csc.index.npy", "bm25/indices.csc.index.npy",
    "bm25/indptr.csc.index.npy", "bm25/vocab.index.json", "bm25/params.index.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["one bit", "cut", "gone", "longer"])
def test_a_file_that_was_changed_or_cut_is_refused_by_name(small: Corpus, name: str, how: str) -> None:
    path = small.folder / name
    assert open_retriever(small.folder).search(["otter"])[0]  # sound before
    data = bytearray(path.read_bytes())
    if how == "one bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if how == "cut" else data + b" ")
    with pytest.raises(InputError, match=rf"damaged: {name}"):
        open_retriever(small.folder)


def test_the_test_above_names_every_file_of_the_manifest(small: Corpus) -> None:
    assert sorted(small.manifest.files) == sorted(FILES)


def test_a_text_that_is_changed_while_the_corpus_is_open_is_not_given_out(small: Corpus) -> None:
    retriever = open_retriever(small.folder)
    assert retriever.search(["otter"])[0]
    with (small.folder / "texts.bin").open("r+b") as file:
        file.write(b"X" * 400)
    with pytest.raises(InputError, match="changed while it was open"):
        retriever.search(["otter"])


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"format": 2}, id="another-format"),
        pytest.param({"counts": {}}, id="no-counts"),
        pytest.param({"extra": 1}, id="what-is-not-known"),
    ],
)
def test_a_manifest_that_is_none_is_refused(small: Corpus, changed: dict[str, Any]) -> None:
    path = small.folder / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(InputError, match="manifest"):
        Corpus.open(small.folder)


def test_counts_that_lose_something_are_no_counts(small: Corpus) -> None:
    path = small.folder / "corpus.json"
    manifest = json.loads(path.read_text())
    manifest["counts"]["documents"] -= 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"documents \+ repeated \+ rejected"):
        Corpus.open(small.folder)


@pytest.mark.parametrize("stage", ["settle", "write_word_index", "write_manifest"])
def test_a_build_that_is_stopped_leaves_nothing_that_loads_and_starts_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build.Staging if stage == "settle" else build, stage, stop)
        with pytest.raises(KeyboardInterrupt):
            build_corpus([folder], tmp_path / "c")
    with pytest.raises(InputError, match="There is no corpus"):
        Corpus.open(tmp_path / "c")
    again = build_corpus([folder], tmp_path / "c")
    fresh = build_corpus([folder], tmp_path / "d")
    assert again.manifest == fresh.manifest
    assert sorted(each.name for each in again.folder.iterdir()) == sorted(each.name for each in fresh.folder.iterdir())


@pytest.mark.parametrize("stage", ["reading", "ordering", "indexing"])
def test_a_build_that_is_killed_leaves_nothing_that_loads_and_starts_again(
    folder: Path, tmp_path: Path, stage: str
) -> None:
    code = f"""
import os, signal
from draftproof.drafting.retrieval.build import build_corpus

def report(stage, done, *_):
    if stage == {stage!r} and (done or stage == "ordering"):
        os.kill(os.getpid(), signal.SIGKILL)

build_corpus([{str(folder)!r}], {str(tmp_path / "c")!r}, report=report)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert any((tmp_path / "c").iterdir())
    with pytest.raises(InputError, match="There is no corpus"):
        Corpus.open(tmp_path / "c")
    assert build_corpus([folder], tmp_path / "c").manifest == build_corpus([folder], tmp_path / "d").manifest


def test_the_same_command_on_a_whole_corpus_builds_nothing(folder: Path, tmp_path: Path) -> None:
    first = build_corpus([folder], tmp_path / "c")
    stamp = (first.folder / "texts.bin").stat().st_mtime_ns
    again = build_corpus([folder], tmp_path / "c")
    assert again.manifest == first.manifest
    assert (first.folder / "texts.bin").stat().st_mtime_ns == stamp


def test_a_corpus_is_never_built_over_another(folder: Path, tmp_path: Path) -> None:
    corpus = build_corpus([folder], tmp_path / "c")
    with pytest.raises(UsageError, match="cut in another way"):
        build_corpus([folder], tmp_path / "c", chunking=Chunking(50, 5))
    (folder / "new.txt").write_text("More.")
    with pytest.raises(UsageError, match=r"new\.txt differs"):
        build_corpus([folder], tmp_path / "c")
    assert Corpus.open(tmp_path / "c").manifest == corpus.manifest


def test_a_folder_of_other_things_is_left_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other things"):
        build_corpus([folder / "guide.md"], folder)
    assert (folder / "guide.md").exists()
    with pytest.raises(UsageError, match="is a file"):
        build_corpus([folder], folder / "guide.md")


def test_a_corpus_inside_its_documents_does_not_read_itself(folder: Path) -> None:
    first = build_corpus([folder], folder / "corpus")
    again = build_corpus([folder], folder / "corpus")
    assert again.manifest == first.manifest
    assert first.manifest.counts.files == 3


def test_two_builds_of_one_folder_do_not_meet(folder: Path, tmp_path: Path) -> None:
    with (
        build._alone_in(tmp_path / "c"),
        pytest.raises(UsageError, match="Another process"),
    ):
        build_corpus([folder], tmp_path / "c")


def test_files_of_one_name_in_two_folders_are_two_documents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "readme.md").write_text(f"This is {name}.")
    corpus = build_corpus([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "readme.md"], tmp_path / "c")
    ids = {corpus.places(row, 1)[0].document_id for row in range(len(corpus))}
    assert ids == {"a/readme.md", "b/readme.md"}


def test_a_copied_corpus_opens_where_it_is(make_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    corpus = make_corpus("An otter.")
    copied = Corpus.open(shutil.copytree(corpus.folder, tmp_path / "elsewhere"))
    assert copied.manifest.digest == corpus.manifest.digest
    assert copied.text(0) == "An otter."


def test_no_file_of_a_corpus_is_a_pickle(small: Corpus) -> None:
    for path in small.folder.rglob("*.npy"):
        assert not np.load(path, allow_pickle=False).dtype.hasobject
    assert {path.suffix for path in small.folder.rglob("*") if path.is_file()} == {".npy", ".json", ".jsonl", ".bin"}
