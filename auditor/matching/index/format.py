"""The folder of an index, and its index.json.

    INDEX/
      index.json     version, corpus, each file's size and sha256; "complete" is set last
      00000.shard …  text, suffix array, documents and checksums of a part of the corpus
      repeats        the documents that have the id of an earlier document

The folder contains the whole training text, so only its owner may read it.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import BaseModel, Strict

from auditor.errors import CorpusError
from auditor.system.atomic_files import (
    LOCK,
    disk_trouble,
    is_free,
    owned,
    write_atomically,
)
from auditor.system.validation import STRICT, Text, fault

VERSION = 1
PLAN, REPEATS = "index.json", "repeats"

Plan = dict[str, Any]


def new_plan(shard_bytes: int, corpus: Plan) -> Plan:
    """The content of index.json before the first shard."""
    return {
        "format": "auditor index",
        "version": VERSION,
        "byteorder": sys.byteorder,
        "complete": False,
        "shard_bytes": shard_bytes,
        "corpus": corpus,
        "shards": [],
    }


def shard_name(number: int) -> str:
    """The file name of a shard.

    >>> shard_name(7)
    '00007.shard'
    """
    return f"{number:05}.shard"


def read_plan(folder: Path) -> Plan | None:
    """The content of index.json, or None if there is none.

    Raises
    ------
    CorpusError
        If it is damaged, or of another version or byte order.
    """
    file = folder / PLAN
    try:
        plan = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CorpusError(f"{file} cannot be read ({error.strerror}). Check it.") from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(_damaged(file, f"it is not JSON: {error}")) from None
    if not isinstance(plan, dict) or plan.get("format") != "auditor index":
        raise CorpusError(
            f"{file} is not of an index of text. Name a folder made by `auditor index build`."
        )
    if plan.get("version") != VERSION:
        raise CorpusError(
            f"{folder} is an index of version {plan.get('version')!r}; this auditor reads version "
            f"{VERSION}. Rebuild it in another folder."
        )
    if plan.pop("seal", None) != _seal(plan):
        raise CorpusError(_damaged(file, "its checksum differs"))
    if problem := plan_fault(plan):
        raise CorpusError(_damaged(file, problem))
    if plan["byteorder"] != sys.byteorder:
        raise CorpusError(
            f"{folder} was built on a {plan['byteorder']}-endian machine; this one is "
            f"{sys.byteorder}-endian. Rebuild it here."
        )
    return plan


def write_plan(folder: Path, plan: Plan) -> None:
    """Write index.json atomically."""
    sealed = {**plan, "seal": _seal(plan)}
    raw = (json.dumps(sealed, indent=1, sort_keys=True) + "\n").encode()
    write_atomically(folder / PLAN, raw, CorpusError)


def _seal(plan: Plan) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _damaged(file: Path, why: str) -> str:
    return f"{file} is damaged ({why}). Delete the folder and build the index again."


def damaged_file(path: Path, why: str) -> CorpusError:
    """The error for a damaged file other than index.json."""
    return CorpusError(
        f"{path} is damaged ({why}). Delete that file and build the index again; only that file is "
        "rebuilt."
    )


def unreadable_file(path: Path, error: OSError) -> CorpusError:
    """The error for a missing or unreadable file other than index.json."""
    return CorpusError(
        f"{path} cannot be read ({error.strerror}). Build the index again: only what is missing is "
        "rebuilt."
    )


def is_file_whole(path: Path, facts: Plan) -> bool:
    """Whether a file has the recorded size and sha256."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != facts["bytes"]:
                return False
            return hashlib.file_digest(stream, "sha256").hexdigest() == facts["sha256"]
    except OSError:
        return False


@contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for building an index; after an error, remove it if it has no shard.

    Raises
    ------
    CorpusError
        If it contains anything else, is in use, or is not writable.
    """
    with disk_trouble(folder, CorpusError):
        is_new, is_index = not folder.exists(), (folder / PLAN).exists()
        if not (is_index or is_free(folder, PLAN)):
            raise CorpusError(
                f"{folder} exists and is no index. Choose another folder, or empty it."
            )
    with owned(folder, CorpusError):
        try:
            yield
        except BaseException:
            _delete_empty_build(folder, is_new)
            raise


def _delete_empty_build(folder: Path, is_new: bool) -> None:
    """Delete what a build without any shard wrote, for instance after an empty corpus."""
    with suppress(OSError, CorpusError):
        plan = read_plan(folder)
        if plan is None or not plan["shards"]:
            for name in (PLAN, LOCK):
                (folder / name).unlink(missing_ok=True)
            if is_new:
                folder.rmdir()


# Bytes per entry of each section of a shard, in file order.
_WIDTHS = {"text": 1, "suffixes": 4, "starts": 8, "chars": 8, "id_ends": 8, "ids": 1}
ALIGN = 8  # each section begins at a multiple of this


class _Checked(BaseModel):
    model_config = STRICT


class _File(_Checked):
    file: Text
    bytes: int
    sha256: Text


class _Sections(_Checked):
    text: list[int]
    suffixes: list[int]
    starts: list[int]
    chars: list[int]
    id_ends: list[int]
    ids: list[int]


class _Shard(_File):
    checksums_sha256: Text
    sections: _Sections
    chars: int
    is_cut: bool
    corpus_sha256: Text


class _Corpus(_Checked):
    files: list[Annotated[tuple[Text, int, Text], Strict(False)]]  # path, bytes, sha256
    text_field: Text | None


class _Plan(_Checked):
    byteorder: Text
    complete: bool
    shard_bytes: int
    corpus: _Corpus
    shards: list[_Shard]
    repeats: _File = _File(file=REPEATS, bytes=0, sha256="")


def plan_fault(plan: dict[str, Any]) -> str | None:
    """A description of what is wrong in index.json; None if it is valid."""
    if problem := fault(_Plan, plan):
        return problem
    if plan["complete"] and "repeats" not in plan:
        return "repeats is missing"
    for facts in [*plan["shards"], *([plan["repeats"]] if "repeats" in plan else [])]:
        name = facts["file"]
        if not name or PurePath(name).name != name or "\0" in name:
            return f"{name[:80]!r} is no file of its folder"
    return next((problem for facts in plan["shards"] if (problem := _shard_fault(facts))), None)


def _shard_fault(facts: dict[str, Any]) -> str | None:
    sections, end = facts["sections"], 0
    for name, width in _WIDTHS.items():
        section = sections[name]
        if len(section) != 2 or section[0] != end or section[1] < 0:
            return f"{facts['file']} has its {name} in another place than after the section before"
        if section[0] + width * section[1] > facts["bytes"]:
            return f"{facts['file']} has no room for its {name}"
        end += width * section[1]
        end += -end % ALIGN
    n_bytes = sections["text"][1]
    if n_bytes < 1 or sections["suffixes"][1] != n_bytes:
        return f"{facts['file']} has a number of suffixes other than its bytes of text"
    if sections["starts"][1] != sections["id_ends"][1]:
        return f"{facts['file']} has a number of ids other than its documents"
    if not sections["chars"][1]:
        return f"{facts['file']} has no count of characters"
    return None
