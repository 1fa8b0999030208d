"""Select the text, the id and the tokens of a record, whatever its format."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from auditor.corpus.problems import FileReport
from auditor.errors import CorpusError

TEXT_FIELDS = ("text", "content", "body", "document")
_USUAL = ", ".join(TEXT_FIELDS)
ID_FIELDS = ("id", "doc_id")
# Limits of an error message: nesting depth, elements of a list, and field names.
_DEPTH, _ELEMENTS, _NAMES = 8, 100, 40
# Fields of the samples that a run writes.
TOKEN_FIELDS = ("prompt_token_ids", "token_ids")
SAMPLE_FIELDS = ("sample_id", *TOKEN_FIELDS)

# Token ids in brackets, as in CSV; longer numbers are not ids.
_TOKEN_LIST = re.compile(r"\[\s*(?:[0-9]{1,18}(?:[,\s]+[0-9]{1,18})*)?[,\s]*\]")

Tokens = tuple[tuple[int, ...], tuple[int, ...]]


def values_at(record: Mapping[str, Any], path: str) -> list[Any] | None:
    """All values at a path in a record, or None if the record has no such field.

    A path is a field name, or names of nested fields joined by dots; `[]` after a name selects
    each element of a list and may be omitted before another name. Elements that are null or lack
    the field are skipped. A field whose own name contains dots takes precedence.

    >>> chat = {"messages": [{"content": "Why?"}, {"content": "So."}], "a.b": 1, "tags": ["x", "y"]}
    >>> values_at(chat, "messages[].content"), values_at(chat, "messages.content")
    (['Why?', 'So.'], ['Why?', 'So.'])
    >>> values_at(chat, "tags"), values_at(chat, "tags[]"), values_at(chat, "a.b")
    ([['x', 'y']], ['x', 'y'], [1])
    >>> values_at(chat, "messages[].text") is None
    True
    """
    for name, rest in _splits(record, path):
        found = _follow(record[name], rest)
        if found is not None:
            return found
    return None


def field_of(record: Mapping[str, Any], path: str) -> str:
    """The record's top-level field in which an existing path begins.

    >>> field_of({"translation": {"en": "a"}}, "translation.en")
    'translation'
    """
    splits = _splits(record, path)
    return next(name for name, rest in splits if _follow(record[name], rest) is not None)


def _splits(record: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Splits of a path into one of the record's fields and the rest, longest name first."""
    if path in record:
        yield path, ""
    for end in range(len(path) - 1, 0, -1):
        if (path[end] == "." or path.startswith("[]", end)) and path[:end] in record:
            yield path[:end], path[end:]


def _follow(value: Any, rest: str) -> list[Any] | None:
    """The values at `rest`, which is empty or begins with "[]" or ".", below a value."""
    if not rest:
        return [value]
    below = rest.removeprefix("[]")
    if below and not below.startswith((".", "[]")):
        return None
    if value is None:
        return []
    if isinstance(value, list | tuple):
        found = [_follow(item, below) for item in value if item is not None]
        if found and all(part is None for part in found):
            return None
        return [item for part in found if part for item in part if item is not None]
    if rest.startswith("[]") or not isinstance(value, Mapping):
        return None
    return values_at(value, rest[1:])


def with_text(record: Mapping[str, Any], fields: Sequence[str], text: str) -> dict[str, Any]:
    """A record with only these fields, nested as in `record`: `text` in the first, others empty.

    >>> chat = {"messages": [{"role": "user", "content": "Why?"}]}
    >>> with_text(chat, ["messages.content", "messages.role"], "So.")
    {'messages': [{'content': 'So.', 'role': ''}]}
    """
    made: dict[str, Any] = {}
    for path, value in zip(fields, [text, *[""] * len(fields)], strict=False):
        name = field_of(record, path)
        rest = next(rest for first, rest in _splits(record, path) if first == name)
        made = _merged(made, {name: _around(record[name], rest, value)})
    return made


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        shared = {name: _merged(one[name], other[name]) for name in other if name in one}
        return {**one, **other, **shared}
    if isinstance(one, list) and isinstance(other, list):
        return [_merged(a, b) for a, b in zip(one, other, strict=True)]
    return other


def _around(value: Any, rest: str, text: str) -> Any:
    if not rest:
        return text
    if isinstance(value, list | tuple) or rest.startswith("[]"):
        below = rest.removeprefix("[]")
        inside = (item for item in value or () if _follow(item, below))
        return [_around(next(inside, None), below, text)]
    if isinstance(value, Mapping):
        return with_text(value, [rest[1:]], text)
    return {rest[1:]: text}


def _names(path: str, value: Any, depth: int) -> Iterator[str]:
    """The paths of the fields at and below a value, to a bounded depth."""
    if isinstance(value, Mapping) and value and depth:
        for name in value:
            yield from _names(f"{path}.{name}", value[name], depth - 1)
    elif isinstance(value, list) and depth and any(isinstance(v, Mapping | list) for v in value):
        for item in value[:_ELEMENTS]:
            yield from _names(f"{path}[]", item, depth - 1)
    else:
        yield path


def text_fields(
    record: Mapping[str, Any], text_field: str | None, strings: Sequence[str] = ()
) -> tuple[str, ...]:
    """The paths of a record's text fields; empty if there are none.

    `text_field` is a path (see `values_at`), or several joined by "+"; by default the first present
    of text, content, body, document, else the only one of `strings`, the fields of type text.

    >>> text_fields({"question": "", "answer": ""}, "question+answer")
    ('question', 'answer')
    >>> text_fields({"translation": {"en": ""}}, "translation.en")
    ('translation.en',)
    >>> story = {"id": "", "story": ""}
    >>> text_fields(story, None, ["story"]), text_fields(story, None)
    (('story',), ())
    """
    if text_field is not None:
        if text_field in record:
            return (text_field,)
        several = tuple(text_field.split("+"))
        return several if all(values_at(record, name) is not None for name in several) else ()
    first = next((name for name in TEXT_FIELDS if name in record), None)
    if first is not None:
        return (first,)
    return (strings[0],) if len(strings) == 1 else ()


def no_field(record: Mapping[str, Any], text_field: str | None, kind: str = "field") -> str:
    """The clause that says that a record lacks the text field, with the fields that it has.

    >>> no_field({"url": "", "meta": {"title": ""}, "turns": [{"role": ""}]}, None)
    'has no text field (text, content, body, document); it has url, meta.title, turns[].role'
    """
    lacks = f"no {kind} {text_field!r}" if text_field else f"no text {kind} ({_USUAL})"
    names = list(dict.fromkeys(n for name in record for n in _names(name, record[name], _DEPTH)))
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return f"has {lacks}; it has {', '.join(names[:_NAMES]) or 'no other'}{more}"


def wrong_field(report: FileReport, what: str) -> CorpusError:
    """The error for a file without the text field: all its records would be skipped."""
    return CorpusError(f"{report.path}: {what}. Set --text-field to the one with the text.")


def joined_text(
    row: Mapping[str, Any],
    fields: tuple[str, ...],
    place: str,
    report: FileReport,
    *,
    read: Callable[[Any, str], Any] = lambda value, name: value,
    n_lines: int = 1,
) -> str | None:
    """A record's text, or None, reported, if it has none.

    Fields, and the elements selected by `[]`, are joined by newlines; empty ones are omitted. A
    list of strings (words, tokens) is joined by spaces. `place` is the record's location, for the
    report; `read` converts a value, given the field's name, where a format stores bytes.

    >>> from pathlib import Path
    >>> report = FileReport(Path("a"), strict=True)
    >>> joined_text({"q": "Why?", "a": ["Be", "cause"]}, ("q", "a"), "row 1", report)
    'Why?\\nBe cause'
    """
    parts = []
    for name in fields:
        values = values_at(row, name)
        if values is None:
            report.note("field", f"{place} {no_field(row, name)}", n_lines)
            return None
        for found in values:
            value = read(found, name)
            if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
                value = " ".join(value)
            if value is None and len(fields) > 1:
                continue
            if not isinstance(value, str):
                deeper = [n for n in dict.fromkeys(_names(name, found, _DEPTH)) if n != name]
                has = f"; it has {', '.join(deeper[:_NAMES])}" if deeper else ""
                what = f"{place}: {name} is not text but {type(value).__name__}{has}"
                report.note("field", what, n_lines)
                return None
            parts.append(value)
    text = "\n".join(part for part in parts if part)
    if not text:
        report.note("empty", f"{place} has empty text", n_lines)
    return text or None


def record_tokens(row: Mapping[str, Any]) -> Tokens | None:
    """The token ids of a sample's prompt and text, if a record has both.

    In CSV they are integers in brackets.

    >>> record_tokens({"prompt_token_ids": [0], "token_ids": "[5 6]"}), record_tokens({})
    (((0,), (5, 6)), None)
    """
    found = []
    for name in TOKEN_FIELDS:
        value = row.get(name)
        if isinstance(value, str) and _TOKEN_LIST.fullmatch(value):
            value = [int(number) for number in re.findall("[0-9]+", value)]
        if not isinstance(value, list) or not all(type(i) is int and i >= 0 for i in value):
            return None
        found.append(tuple(value))
    return found[0], found[1]


def record_id(row: Mapping[str, Any], name: str, ordinal: int, is_alone: bool) -> str:
    """The record's id (NAME#ID among several files), or NAME:ORDINAL if it has none.

    The id of a sample with tokens is its sample_id.

    >>> record_id({"id": 7}, "a.csv", 3, True), record_id({}, "a.csv", 3, True)
    ('7', 'a.csv:3')
    """
    for key in [*ID_FIELDS, *(["sample_id"] if TOKEN_FIELDS[1] in row else [])]:
        value = row.get(key)
        if isinstance(value, int) or (isinstance(value, str) and value):
            return str(value) if is_alone else f"{name}#{value}"
    return f"{name}:{ordinal}"
