"""`auditor index`: build, query and check an index of training text."""

from __future__ import annotations

import sys

import click

from auditor.cli.generated import json_option, options_of
from auditor.cli.printing import plain, print_json, say
from auditor.cli.verbosity import level, say_next, shown_progress, verbosity
from auditor.config.audit import AuditConfig

_TEXT_FIELD = options_of(AuditConfig, only=("text_field",))
_STRICT = click.option(
    "--strict", is_flag=True, help="Stop at the first record that cannot be read."
)


@click.group()
def index() -> None:
    """Index training text once, then count and find text in it.

    \b
    auditor index build training-text/ --out text.index
    auditor index count text.index "Once upon a time"
    """


@index.command()
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    help="Folder of the index; it takes 5 times the size of the text.",
)
@_TEXT_FIELD
@_STRICT
@click.option(
    "--shard-bytes",
    type=int,
    metavar="N",
    help="Text per shard; building one needs 6 times as much memory. Default: 256 MB or less.",
)
@json_option
@verbosity
def build(corpus, out, text_field, strict, shard_bytes, as_json) -> None:
    """Index training text: files, folders and globs.

    An interrupted build is resumed by the same command; finished shards are kept.
    """
    from auditor.corpus.problems import in_few_lines
    from auditor.corpus.reading import read_corpus
    from auditor.matching.index import build_index
    from auditor.system.progress import steps

    text = read_corpus(list(corpus), text_field=text_field, strict=strict)
    progress = shown_progress()
    with progress.stage("indexing", text.size(), "bytes") as bar:
        made = build_index(text, out, shard_bytes=shard_bytes, progress=steps(bar))
    told = [problem.message for problem in text.problems]
    for sentence in told if level() > 0 else in_few_lines(text.problems, text.problem_counts):
        progress.note(sentence)
    _show(made, as_json)
    say_next(f"auditor verify RUN --index {out}, or auditor index count {out} TEXT")


@index.command()
@click.argument("folder", metavar="DIR")
@click.argument("text")
@json_option
def count(folder, text, as_json) -> None:
    """Count the occurrences of TEXT and the documents that contain it."""
    from auditor.matching.index import open_index
    from reports.number_text import count as counted

    opened = open_index(folder)
    n, n_documents = opened.count(text), opened.count_documents(text)
    if as_json:
        print_json({"text": text, "occurrences": n, "documents": n_documents})
    else:
        say(f"{counted(n, 'occurrence')} in {counted(n_documents, 'document')}")


@index.command()
@click.argument("folder", metavar="DIR")
@click.argument("text")
@click.option(
    "--limit",
    type=click.IntRange(1, 10**9),
    default=10,
    show_default=True,
    help="Maximum number of matches.",
)
@json_option
def find(folder, text, limit, as_json) -> None:
    """Find the first occurrences of TEXT: document and character offset, from 0, one per line."""
    from auditor.matching.index import open_index

    places = open_index(folder).find(text, limit)
    if as_json:
        print_json([{"doc_id": doc_id, "offset": offset} for doc_id, offset in places])
        return
    for doc_id, offset in places:
        # A line feed in an id would look like another match.
        name = doc_id.replace("\n", "\\n")
        click.echo(f"{plain(name)}\t{offset}", file=sys.stdout)


@index.command()
@click.argument("folder", metavar="DIR")
@click.option(
    "--corpus", multiple=True, metavar="SPEC", help="Training text that the index was built from."
)
@_TEXT_FIELD
@json_option
@verbosity
def check(folder, corpus, text_field, as_json) -> None:
    """Check every file of an index against its sha256.

    With --corpus, also check the text that it was built from. The exit code is 1 if anything has
    changed.
    """
    from auditor.corpus.reading import read_corpus
    from auditor.matching.index import open_index
    from auditor.matching.index.build import refuse_changed
    from auditor.system.progress import steps

    opened = open_index(folder)
    if corpus:
        refuse_changed(opened, read_corpus(list(corpus), text_field=text_field))
    with shown_progress().stage("checking", opened.n_file_bytes, "bytes") as bar:
        opened.verify(steps(bar))
    _show(opened, as_json)
    say_next(f"auditor verify RUN --index {folder}")


def _show(opened, as_json) -> None:
    from reports.number_text import count as counted

    facts = {
        "index": str(opened.path),
        "documents": opened.n_documents,
        "bytes": opened.n_bytes,
        "shards": len(opened.shards),
        "file_bytes": opened.n_file_bytes,
    }
    if as_json:
        print_json(facts)
    else:
        say(
            f"{opened.path}: {counted(opened.n_documents, 'document')}, "
            f"{counted(opened.n_bytes, 'byte')} of text, {counted(len(opened.shards), 'shard')}, "
            f"{counted(opened.n_file_bytes, 'byte')} on disk"
        )
