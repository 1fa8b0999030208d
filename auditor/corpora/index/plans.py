"""What index.json may say: anyone may have written it, and its positions lead into mapped files."""

from pathlib import PurePath
from typing import Any

from auditor.forms import misfit

# Bytes of one entry of each section of a shard, in the order in which they lie there.
_WIDTHS = {"text": 1, "suffixes": 4, "starts": 8, "chars": 8, "id_ends": 8, "ids": 1}
ALIGN = 8  # each begins at a multiple of this
_FILE = {"file": str, "bytes": int, "sha256": str}
_SHARD = {
    **_FILE,
    "checksums_sha256": str,
    "sections": {name: [int] for name in _WIDTHS},
    "chars": int,
    "is_cut": bool,
    "corpus_sha256": str,
}
_FORM = {
    "byteorder": str,
    "complete": bool,
    "shard_bytes": int,
    "corpus": {"files": [[(str, int)]], "text_field": (str, None)},
    "shards": [_SHARD],
    "repeats?": _FILE,
}


def plan_fault(plan: dict[str, Any]) -> str | None:
    """What is wrong with what index.json says, in words; None if nothing is."""
    if told := misfit(plan, _FORM):
        return told
    for row in plan["corpus"]["files"]:
        if len(row) != 3 or not isinstance(row[0], str):
            return "a file of the corpus is not told by path, size and sha256"
    if plan["complete"] and "repeats" not in plan:
        return "repeats is missing"
    for facts in [*plan["shards"], *([plan["repeats"]] if "repeats" in plan else [])]:
        name = facts["file"]
        if not name or PurePath(name).name != name or "\0" in name:
            return f"{name[:80]!r} is no file of its folder"
    return next((told for facts in plan["shards"] if (told := _shard_fault(facts))), None)


def _shard_fault(facts: dict[str, Any]) -> str | None:
    sections, end = facts["sections"], 0
    for name, width in _WIDTHS.items():
        section = sections[name]
        if len(section) != 2 or section[0] != end or section[1] < 0:
            return f"{facts['file']} has its {name} in another place than after what is before"
        if section[0] + width * section[1] > facts["bytes"]:
            return f"{facts['file']} has no room for its {name}"
        end += width * section[1]
        end += -end % ALIGN
    n_bytes = sections["text"][1]
    if n_bytes < 1 or sections["suffixes"][1] != n_bytes:
        return f"{facts['file']} has another number of suffixes than bytes of text"
    if sections["starts"][1] != sections["id_ends"][1]:
        return f"{facts['file']} has another number of ids than documents"
    if not sections["chars"][1]:
        return f"{facts['file']} has no count of characters"
    return None
