"""Build an index shard by shard; an interrupted build can be resumed.

The corpus is one stream: its documents, each followed by a byte that never occurs in UTF-8. Each
shard is a part of it. Only documents longer than a shard are cut; occurrences across a cut are
found separately (`shard_boundaries`), so that each is counted exactly once.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from auditor.corpus.text_files import Document
from auditor.errors import ConfigError, CorpusError
from auditor.matching.byte_blocks import CORPUS_SEPARATOR, read_pieces, repeated
from auditor.matching.index.format import (
    REPEATS,
    Plan,
    is_file_whole,
    new_plan,
    open_folder,
    read_plan,
    shard_name,
    write_plan,
)
from auditor.matching.index.query import Index, open_index
from auditor.matching.index.shard import Draft, Shard, write_shard
from auditor.system.atomic_files import part_name, publish, write_atomically
from auditor.system.memory import free_ram

_USUAL_BYTES, _LEAST_USUAL_BYTES = 256_000_000, 1_000_000
# The suffix array has 32-bit entries.
_MOST_BYTES = 2**31 - 1
_PIECE_BYTES = 8 << 20
# Memory per byte of a shard during the build; use at most 1 / _SHARE of the free memory.
_MEMORY_A_BYTE, _SHARE = 6, 2

Progress = Callable[[int], object]


def build_index(
    corpus: Iterable[Document],
    out: str | Path,
    *,
    shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> Index:
    """Build the index of a corpus in a folder, or resume an interrupted build.

    A resumed build keeps complete shards and produces the same bytes. If the index is already
    complete, nothing is done.

    Parameters
    ----------
    corpus : iterable of Document
        A `Corpus`, or a list.
    out : str or Path
        A folder: new, empty, or with an index of this corpus. The index takes 5 times the size of
        the corpus, and about 20 bytes per document.
    shard_bytes : int, optional
        Maximum bytes of text in a shard; building takes 6 times as much memory. By default the
        value of the build to resume, else 256 MB, or less if memory is scarce.
    progress : callable, optional
        Called with the bytes of text processed so far.

    Returns
    -------
    Index

    Raises
    ------
    ConfigError
        If shard_bytes lies outside 1 to 2**31 - 1.
    CorpusError
        If the corpus has no documents or has changed since the build began; if the folder
        contains anything else, is in use, or is not writable; if pydivsufsort is not installed.

    Source
    ------
    Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", §4.1.

    >>> import tempfile
    >>> text = [Document("a", "to be or not to be", ""), Document("b", "let it be", "")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = build_index(text, folder)
    ...     index.count("be"), index.count_documents("be"), index.find("be", 2)
    (3, 2, [('a', 3), ('a', 16)])
    """
    if shard_bytes is not None and not 1 <= shard_bytes <= _MOST_BYTES:
        raise ConfigError(
            f"A shard must have between 1 and {_MOST_BYTES:,} bytes; got {shard_bytes:,}. The "
            f"default is {_USUAL_BYTES:,}."
        )
    folder = Path(out)
    with open_folder(folder):
        source = describe_corpus(corpus)
        plan = read_plan(folder)
        if plan is None or not plan["shards"]:
            plan = new_plan(shard_bytes or _default_bytes(), source)
            write_plan(folder, plan)
        _refuse_other(folder, plan, source, shard_bytes)
        if not (plan["complete"] and source["files"] and _has_all(folder, plan)):
            _build(corpus, folder, plan, progress)
            _finish(folder, plan, changes(source, describe_corpus(corpus)))
    return open_index(folder)


def describe_corpus(corpus: Iterable[Document]) -> dict[str, Any]:
    """Identify a corpus before it is read, by its files' sizes and sha256."""
    prints = corpus.fingerprint() if hasattr(corpus, "fingerprint") else []
    return {
        "files": [list(row) for row in prints],
        "text_field": getattr(corpus, "text_field", None),
    }


def refuse_changed(index: Index, corpus: Iterable[Document]) -> None:
    """Raise a CorpusError unless the index was built from this corpus."""
    _refuse_other(index.path, index.plan, describe_corpus(corpus), None)


def changes(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between two descriptions of a corpus, one phrase each.

    Files are identified by name, size and sha256, so a moved folder is the same corpus.

    >>> old = {"files": [["x/a.txt", 3, "11"]], "text_field": None}
    >>> changes(old, {"files": [["a.txt", 3, "22"]], "text_field": None})
    ['a.txt has other content']
    """
    found = []
    if there["text_field"] != now["text_field"]:
        found.append(f"text_field was {there['text_field']!r}, now {now['text_field']!r}")
    old, new = there["files"], now["files"]
    if len(old) != len(new):
        found.append(f"the number of files was {len(old):,}, now {len(new):,}")
    for before, after in zip(old, new, strict=False):
        if Path(before[0]).name != Path(after[0]).name:
            found.append(f"{after[0]} is in the place of {before[0]}")
        elif before[1:] != after[1:]:
            found.append(f"{after[0]} has other content")
        else:
            continue
        break  # Report only the first: after a new file, all others are shifted.
    return found


def _default_bytes() -> int:
    """The usual shard size, or less if memory is scarce."""
    return max(_LEAST_USUAL_BYTES, min(_USUAL_BYTES, free_ram() // (_SHARE * _MEMORY_A_BYTE)))


def _refuse_other(folder: Path, plan: Plan, source: Plan, shard_bytes: int | None) -> None:
    different = changes(plan["corpus"], source)
    if different:
        raise CorpusError(
            f"{folder} holds an index of another corpus, or this one has changed since: "
            f"{'; '.join(different)}. Build in another folder, or delete this one."
        )
    if shard_bytes not in (None, plan["shard_bytes"]):
        raise CorpusError(
            f"{folder} was begun with shards of {plan['shard_bytes']:,} bytes; got "
            f"{shard_bytes:,}. Omit the size to resume, or build in another folder."
        )


def _has_all(folder: Path, plan: Plan) -> bool:
    """Whether all files exist with their sizes; contents are verified at use."""
    for facts in [*plan["shards"], plan["repeats"]]:
        file = folder / facts["file"]
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return False
    return True


def _build(corpus: Iterable[Document], folder: Path, plan: Plan, progress: Progress | None) -> None:
    """Write the missing shards."""
    known = plan["shards"]
    was_complete = plan["complete"]
    n_shards = n_bytes = 0
    for draft in _drafts(corpus, plan["shard_bytes"]):
        facts = known[n_shards] if n_shards < len(known) else None
        if facts["corpus_sha256"] != draft.digest() if facts else was_complete:
            raise CorpusError(_changed(folder))
        if not (facts and _has_shard(folder, facts)):
            _write(folder, plan, n_shards, draft)
        n_shards += 1
        n_bytes += len(draft.text) - draft.text.count(CORPUS_SEPARATOR)
        if progress:
            progress(n_bytes)
    if n_shards == 0:
        raise CorpusError("The corpus has no documents. Name files that hold text.")
    if n_shards < len(known):
        raise CorpusError(_changed(folder))


def _finish(folder: Path, plan: Plan, changed: list[str]) -> None:
    """Write the repeated ids, then mark the index as complete."""
    if changed:
        raise CorpusError(
            f"The corpus changed while it was indexed: {'; '.join(changed)}. Delete {folder} and "
            "build again when the corpus no longer changes."
        )
    raw = _repeats(folder, plan).tobytes()
    write_atomically(folder / REPEATS, raw, CorpusError)
    digest = hashlib.sha256(raw).hexdigest()
    plan["repeats"] = {"file": REPEATS, "bytes": len(raw), "sha256": digest}
    plan["complete"] = True
    write_plan(folder, plan)
    with suppress(OSError):  # temporary files of interrupted builds
        for temporary in folder.glob(".*.part"):
            temporary.unlink()


def _changed(folder: Path) -> str:
    return (
        f"The corpus has changed since the index in {folder} was begun: its text is not what the "
        "shards hold. Build in another folder, or delete this one."
    )


def _has_shard(folder: Path, facts: Plan) -> bool:
    """Whether a shard is complete; publishes one that an interrupted build left unpublished."""
    path = folder / facts["file"]
    if is_file_whole(path, facts):
        return True
    if is_file_whole(part_name(path), facts):
        publish(path, CorpusError)
        return True
    return False


def _write(folder: Path, plan: Plan, number: int, draft: Draft) -> None:
    """Write a shard. Record it in index.json before publishing, so that every file is recorded."""
    path = folder / shard_name(number)
    facts = write_shard(path, draft)
    plan["shards"][number : number + 1] = [facts]
    plan["complete"] = False
    write_plan(folder, plan)
    publish(path, CorpusError)


def _drafts(corpus: Iterable[Document], shard_bytes: int) -> Iterator[Draft]:
    """The stream, cut into shards."""
    draft = Draft()
    for piece in read_pieces(corpus, min(shard_bytes, _PIECE_BYTES)):
        end = CORPUS_SEPARATOR if piece.is_last else b""
        n_left = len(piece.raw) + len(end)
        # A document that fits into one shard is not cut.
        fits = piece.is_first and piece.is_last and n_left <= shard_bytes
        if draft.text and len(draft.text) + (n_left if fits else 1) > shard_bytes:
            draft.is_cut = not piece.is_first
            yield draft
            draft = Draft()
        if piece.is_first:
            draft.begin(piece.doc_id)
        done = 0
        while done < n_left:
            room = shard_bytes - len(draft.text)
            draft.text += piece.raw[done : done + room]
            done += room
            if done > len(piece.raw) and end:
                draft.text += end
            if done < n_left:
                draft.is_cut = True
                yield draft
                draft = Draft()
    if draft.text:
        yield draft


def _repeats(folder: Path, plan: Plan) -> np.ndarray:
    """Ordinals (document, first document with its id) of documents with a repeated id.

    Takes 8 bytes of memory per document, and more only for repeated ids.
    """
    hashes = array("q")
    for facts in plan["shards"]:
        shard = Shard(folder, facts)
        hashes.extend(hash(shard.doc_id(i)) for i in range(len(shard.starts)))
    maybe = repeated(hashes)
    first: dict[str, int] = {}
    pairs = []
    ordinal = 0
    for facts in plan["shards"] if maybe else []:
        shard = Shard(folder, facts)
        for i in range(len(shard.starts)):
            if hashes[ordinal] in maybe:
                # Two ids may share a hash: compare the ids.
                earlier = first.setdefault(shard.doc_id(i), ordinal)
                if earlier != ordinal:
                    pairs.append((ordinal, earlier))
            ordinal += 1
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
