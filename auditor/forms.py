"""Whether plain data, read from a JSON file that anyone may have written, has the form it should.

A form is a type (`str`, `int`, `float`, `bool`, `object` for anything), a tuple of forms of which
one is enough, a list of one form for lists, or a dict: `{str: form}` for a table of anything, else
names with their forms, where `"name?"` may be missing and more names may be there.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any


def misfit(value: Any, form: Any, where: str = "") -> str | None:
    """Where data does not have its form, in words; None if it has.

    >>> misfit({"a": [1, 2], "b": None}, {"a": [int], "b?": (str, None)})
    >>> misfit({"a": [1, "2"]}, {"a": [int]})
    "a[1] is '2'"
    >>> misfit({}, {"a": int})
    'a is missing'
    """
    if isinstance(form, tuple):
        each = [misfit(value, one, where) for one in form]
        return None if None in each else each[0]
    if isinstance(form, list | dict):
        if not isinstance(value, type(form)):
            return _is(where, value)
        inner = _named(value, form) if isinstance(form, dict) else _listed(value, form[0])
        for key, item, wanted in inner:
            place = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".lstrip(".")
            if item is _NOTHING:
                return f"{place} is missing"
            if told := misfit(item, wanted, place):
                return told
        return None
    return None if _fits(value, form) else _is(where, value)


_NOTHING = object()


def _listed(value: Any, form: Any) -> list[tuple[Any, Any, Any]]:
    return [(n, item, form) for n, item in enumerate(value)]


def _named(value: Any, form: dict) -> list[tuple[Any, Any, Any]]:
    if str in form:
        return [(key, item, form[str]) for key, item in value.items()]
    found = []
    for name, wanted in form.items():
        key = name.removesuffix("?")
        if key in value or key == name:
            found.append((key, value.get(key, _NOTHING), wanted))
    return found


def _fits(value: Any, form: Any) -> bool:
    if form is None or form is object:
        return form is object or value is None
    if form is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    # Python counts True as a whole number; a file that says so is wrong.
    return isinstance(value, form) and (form is bool or not isinstance(value, bool))


def _is(where: str, value: Any) -> str:
    shown = repr(value)
    return f"{where or 'it'} is {shown if len(shown) <= 40 else shown[:39] + '…'}"


def is_inside(name: str) -> bool:
    """Whether a file's name, as a manifest has it, stays within the manifest's own folder.

    >>> is_inside("samples/top-n-00000.parquet"), is_inside("../x"), is_inside("/etc/passwd")
    (True, False, False)
    """
    path = PurePosixPath(name)
    parts = path.parts
    return bool(parts) and not path.is_absolute() and ".." not in parts and "\0" not in name
