"""Records: which fields hold the text and the id, whatever format they come in."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from auditor.corpora.problems import FileReport
from auditor.errors import CorpusError

TEXT_FIELDS = ("text", "content", "body", "document")
ID_FIELDS = ("id", "doc_id")
# What a run's samples are known by besides their text.
TOKEN_FIELDS = ("prompt_token_ids", "token_ids")
SAMPLE_FIELDS = ("sample_id", *TOKEN_FIELDS)

Tokens = tuple[tuple[int, ...], tuple[int, ...]]


def text_fields(
    there: Collection[str], text_field: str | None, strings: Sequence[str] = ()
) -> tuple[str, ...]:
    """The fields that hold a record's text, or none if there are none.

    Parameters
    ----------
    there : the record's fields
    text_field : str, optional
        A field, or several joined by "+"; by default the first there is of text, content, body,
        document, else the only one that holds text.
    strings : those of `there` that hold text, where a format says so

    >>> text_fields(["question", "answer"], "question+answer")
    ('question', 'answer')
    >>> text_fields(["id", "story"], None, ["story"]), text_fields(["id", "story"], None)
    (('story',), ())
    """
    if text_field is not None:
        if text_field in there:
            return (text_field,)
        several = tuple(text_field.split("+"))
        return several if all(name in there for name in several) else ()
    first = next((name for name in TEXT_FIELDS if name in there), None)
    if first is not None:
        return (first,)
    return (strings[0],) if len(strings) == 1 else ()


def no_field(there: Iterable[str], text_field: str | None, kind: str = "field") -> str:
    """The clause for a record that has no such field.

    >>> no_field(["url"], None)
    'has none of text, content, body, document as a field; it has url'
    """
    usual = f"none of {', '.join(TEXT_FIELDS)} as a {kind}"
    wanted = f"no {kind} {text_field!r}" if text_field else usual
    return f"has {wanted}; it has {', '.join(there) or 'no other'}"


def wrong_field(report: FileReport, what: str) -> CorpusError:
    """The error for a file that has not got the field: all its records would be skipped."""
    return CorpusError(f"{report.path}: {what}. Name the one that holds text with --text-field.")


def joined_text(
    row: Mapping[str, Any], fields: tuple[str, ...], place: str, report: FileReport
) -> str | None:
    """A record's text, or None if it has none, which is reported.

    Several fields are joined by a newline, empty ones left out; a list of texts (words, tokens) is
    joined by spaces.

    >>> from pathlib import Path
    >>> report = FileReport(Path("a"), strict=True)
    >>> joined_text({"q": "Why?", "a": ["Be", "cause"]}, ("q", "a"), "row 1", report)
    'Why?\\nBe cause'
    """
    parts = []
    for name in fields:
        value = row[name]
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            value = " ".join(value)
        if value is None and len(fields) > 1:
            continue
        if not isinstance(value, str):
            report.note("field", f"{place}: {name} is not text but {type(value).__name__}")
            return None
        parts.append(value)
    text = "\n".join(part for part in parts if part)
    if not text:
        report.note("empty", f"{place} has empty text")
    return text or None


def record_tokens(row: Mapping[str, Any]) -> Tokens | None:
    """The tokens of a sample's prompt and of its text, where a record has both.

    In CSV they are whole numbers between brackets.

    >>> record_tokens({"prompt_token_ids": [0], "token_ids": "[5 6]"}), record_tokens({})
    (((0,), (5, 6)), None)
    """
    found = []
    for name in TOKEN_FIELDS:
        value = row.get(name)
        if isinstance(value, str) and re.fullmatch(r"\[[\d,\s]*\]", value):
            value = [int(number) for number in re.findall(r"\d+", value)]
        if not isinstance(value, list) or not all(type(i) is int and i >= 0 for i in value):
            return None
        found.append(tuple(value))
    return found[0], found[1]


def record_id(row: Mapping[str, Any], name: str, ordinal: int, is_alone: bool) -> str:
    """The record's own id where it has one (NAME#ID among several files), else NAME:ORDINAL.

    A sample with its tokens has its sample_id.

    >>> record_id({"id": 7}, "a.csv", 3, True), record_id({}, "a.csv", 3, True)
    ('7', 'a.csv:3')
    """
    for key in [*ID_FIELDS, *(["sample_id"] if TOKEN_FIELDS[1] in row else [])]:
        value = row.get(key)
        if isinstance(value, int) or (isinstance(value, str) and value):
            return str(value) if is_alone else f"{name}#{value}"
    return f"{name}:{ordinal}"
