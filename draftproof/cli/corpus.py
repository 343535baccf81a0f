"""`draftproof corpus`: build a corpus of documents, search it, and show what it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftproof.cli.options import Json
from draftproof.errors import ExitStatus, MissingExtraError, UsageError

if TYPE_CHECKING:
    from draftproof.cli.train_progress import StageBars
    from draftproof.drafting.retrieval.corpus import Corpus

app = typer.Typer(
    no_args_is_help=True,
    help="Build a corpus of documents, search it, and show what it is. A corpus is a folder.",
)

BUILD_HELP = """Cut documents into chunks and index them.

DOCS are files, or folders of them (hidden files are left out):

- **JSON Lines** (.jsonl, .ndjson, .json): a document a line, with the fields `text` and, if any, `id` and `title`.
- **Markdown** (.md) and **plain text** (any other name): a document a file. Large ones are read in parts.

Each may be compressed (.gz, .zst). What cannot be read is counted, and named with its reason in DIR/rejects.jsonl;
the exit status is then 3.

A chunk is whole sentences, up to --words of them, and repeats at most --overlap words of the one before. It is named by
the digest of its text: the same text is one chunk, wherever and however often it occurs.

The index of words (BM25) is always made. **--dense** adds vectors by a sentence-embedding model, for searching by
meaning: on a CPU some thirty chunks a second a core. A build that is stopped goes on, or starts again, with the same
command.

Example: draftproof corpus build handbook/ faq.jsonl --out my-corpus"""

SEARCH_HELP = """Find the chunks of a corpus that are best for a query.

**--by bm25** looks for the query's words, **dense** for its meaning (vectors, see `build --dense`), **hybrid** for
both, by reciprocal rank fusion. A query of which the corpus knows no word finds nothing by bm25.

Example: draftproof corpus search "who wrote the handbook" --corpus my-corpus"""


@app.command("build", help=BUILD_HELP)
def build(
    documents: Annotated[list[str], typer.Argument(metavar="DOCS…", help="Files, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The corpus: a new folder, or one to go on with.")],
    dense: Annotated[bool, typer.Option("--dense", help="Add vectors, for searching by meaning.")] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", metavar="NAME|PATH", help="What makes the vectors, with --dense. [default: all-minilm-l6-v2]"
        ),
    ] = None,
    words: Annotated[int, typer.Option("--words", help="Words of a chunk, at most.")] = 120,
    overlap: Annotated[int, typer.Option("--overlap", help="Words that a chunk repeats of the one before.")] = 24,
    fields: Annotated[
        str | None,
        typer.Option("--fields", metavar="id=…,title=…,text=…", help="What the fields of JSON documents are called."),
    ] = None,
    json_output: Json = False,
) -> None:
    if encoder and not dense:
        raise UsageError("--encoder says what makes the vectors, and none are asked for.", remedy="Add --dense.")
    from draftproof.cli.corpus_view import print_built
    from draftproof.cli.screen import say
    from draftproof.cli.train_progress import StageBars

    with packages_needed():
        from draftproof.drafting.retrieval.build import build_corpus
        from draftproof.drafting.retrieval.chunking import Chunking
        from draftproof.drafting.retrieval.documents import Fields

        asked = Fields.parse(fields) if fields else Fields()
        try:
            with StageBars(json_output) as bars:
                corpus = build_corpus(
                    documents, out, chunking=Chunking(words, overlap), fields=asked, report=bars.report
                )
                if dense:
                    _embed(corpus, encoder, bars)
        except KeyboardInterrupt:
            say(f"\nStopped. To go on: draftproof {shlex.join(sys.argv[1:])}")
            raise typer.Exit(ExitStatus.INTERRUPTED) from None
    print_built(corpus, json_output)
    raise typer.Exit(ExitStatus.ITEMS_FAILED if corpus.manifest.counts.rejected else ExitStatus.SETTLED)


@app.command("search", help=SEARCH_HELP)
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.")],
    corpus: Annotated[Path, typer.Option("--corpus", metavar="DIR", help="Folder of a corpus.")],
    by: Annotated[str, typer.Option("--by", metavar="bm25|dense|hybrid", help="How to search.")] = "bm25",
    number: Annotated[int, typer.Option("--number", "-n", help="How many chunks, at most.")] = 10,
    json_output: Json = False,
) -> None:
    from draftproof.cli.corpus_view import print_hits

    with packages_needed():
        from draftproof.drafting.retrieval.open import open_retriever

        retriever = open_retriever(corpus, by)
        (hits,) = retriever.search([query], number)
    print_hits(hits, query, retriever, json_output)


@app.command("show", help="What a corpus is: how many documents and chunks, what it was built from, its digests.")
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a corpus. Its files are checked.")],
    json_output: Json = False,
) -> None:
    from draftproof.cli.corpus_view import print_corpus

    with packages_needed():
        from draftproof.drafting.retrieval.corpus import Corpus
        from draftproof.drafting.retrieval.manifest import check_files

        opened = Corpus.open(folder)
        check_files(opened.folder, opened.manifest.files)
    print_corpus(opened, json_output)


def _embed(corpus: Corpus, encoder: str | None, bars: StageBars) -> None:
    from draftproof.drafting.retrieval.dense_index import embed_corpus
    from draftproof.drafting.retrieval.encoder import DEFAULT_ENCODER, SentenceEncoder

    embed_corpus(
        corpus,
        SentenceEncoder(encoder or DEFAULT_ENCODER),
        report=lambda done, total: bars.report("embedding", done, total, "chunks"),
    )


@contextmanager
def packages_needed() -> Iterator[None]:
    """Turns a package that is not there into how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("draftproof") or isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError(
            f"A corpus needs the package {error.name}.", remedy="Install it: pip install 'draftproof[rag]'"
        ) from error
