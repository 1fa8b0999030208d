"""The passages at the top of the page: what came out, and where the training text has it."""

import re
from dataclasses import dataclass

import pandas as pd

from reports.analysis.telling_passages import telling_passages
from reports.number_text import count

_MOST_CHARS = 320  # of a passage; the whole of it is in the table of candidates
_RULES = re.compile(r"([^\w\s•])\1{5,}")  # lines and borders made of one character


@dataclass(frozen=True)
class ShownPassage:
    """One passage as a person reads it.

    text : on one line; cut after some 300 characters, and long runs of a mark after three
    source : document, position and frequency in the training text
    length : in tokens and characters
    sample_id : the candidate that holds it
    """

    text: str
    source: str
    length: str
    sample_id: str


def shown_passages(candidates: pd.DataFrame) -> list[ShownPassage]:
    """Up to five distinct passages, the most telling first; see `telling_passages`.

    candidates : as they are shown, with personal data masked or not
    """
    return [_shown(row) for row in telling_passages(candidates).to_dict("records")]


def _shown(row: dict) -> ShownPassage:
    text = _RULES.sub(r"\1\1\1…", " ".join(row["matched"].split()))
    if len(text) > _MOST_CHARS:
        end = text.rfind(" ", _MOST_CHARS // 2, _MOST_CHARS)
        text = text[: end if end > 0 else _MOST_CHARS].rstrip() + " …"
    return ShownPassage(text, _source(row), _length(row), row["sample_id"])


def _source(row: dict) -> str:
    parts = [row["doc_id"] if isinstance(row.get("doc_id"), str) else "unknown document"]
    if (offset := _whole(row, "doc_offset")) is not None:
        parts.append(f"from character {offset:,}")
    documents, times = _whole(row, "n_documents"), _whole(row, "n_occurrences")
    if documents is not None and times is not None:
        often = "once" if times == 1 else f"{times:,} times"
        held = count(documents, "document")
        parts.append(f"occurs {often}" + ("" if times == 1 else f" in {held}"))
    return ", ".join(parts)


def _length(row: dict) -> str:
    units = (("match_n_tokens", "token"), ("match_n_chars", "character"))
    known = [(_whole(row, name), noun) for name, noun in units]
    return ", ".join(count(n, noun) for n, noun in known if n is not None)


def _whole(row: dict, name: str) -> int | None:
    value = row.get(name)
    return None if value is None or pd.isna(value) else int(value)
