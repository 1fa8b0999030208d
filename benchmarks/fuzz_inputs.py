"""Inputs for fuzzing: files that are nearly right, drawn by hypothesis.

What finds faults is seldom noise: a file of noise is refused at its first byte. So a valid file is
taken and changed in a few places: its bytes, or the values of its tree where it is JSON or TOML.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

# Numbers that programs trip over: signs, the ends of 32, 53, 63 and 64 bits, no number at all.
_NUMBERS = [0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1]
_FLOATS = [0.5, -0.0, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")]
_TEXTS = ["", "..", "../../x", "/etc/passwd", "\x00", "\ud800", "\x1b[31m", "é", "a" * 300, "null"]

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(_NUMBERS),
    st.integers(-100, 100),
    st.sampled_from(_FLOATS),
    st.sampled_from(_TEXTS),
    st.text(max_size=8),
)
trees = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
_edits = st.lists(
    st.tuples(
        st.integers(0, 2**31),
        st.sampled_from(["flip", "put", "drop", "cut", "twice", "number"]),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def _edit(raw: bytes, edits: Sequence[tuple[int, str, bytes]]) -> bytes:
    """Bytes changed in a few places."""
    out = bytearray(raw)
    for at, kind, some in edits:
        place = at % (len(out) + 1)
        if kind == "flip" and out:
            out[place % len(out)] ^= some[0] or 1
        elif kind == "put":
            out[place:place] = some
        elif kind == "drop":
            del out[place : place + some[0]]
        elif kind == "cut":
            del out[place:]
        elif kind == "twice":
            out[place:place] = out[place : place + 8 * some[0]]
        elif kind == "number":  # lengths and offsets stand as numbers of 8 bytes
            out[place : place + 8] = int.from_bytes(some, "big").to_bytes(8, "little")
    return bytes(out)


def edited(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """One of the files with a few of its bytes changed; now and then nothing but noise."""
    changed = st.builds(_edit, st.sampled_from(seeds), _edits)
    return st.one_of(changed, changed, changed, st.binary(max_size=200))


def _paths(tree: Any, here: tuple = ()) -> list[tuple]:
    """Where the values of a tree stand."""
    found = [here]
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            found += _paths(value, (*here, key))
    return found


def _changed(tree: Any, changes: Sequence[tuple[tuple, str, Any, str]]) -> Any:
    tree = copy.deepcopy(tree)
    for path, kind, value, name in changes:
        if not path:
            if kind == "replace":
                tree = value
            continue
        try:
            parent = tree
            for key in path[:-1]:
                parent = parent[key]
            if isinstance(parent, dict) and not isinstance(path[-1], str):
                continue  # a list stood here; keys of JSON are strings
            if kind == "replace":
                parent[path[-1]] = value
            elif kind == "delete":
                del parent[path[-1]]
            elif isinstance(parent, dict):
                parent[name] = value
            elif isinstance(parent, list):
                parent.insert(0, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took that place away
    return tree


def changed_tree(tree: Any) -> st.SearchStrategy[Any]:
    """A tree of plain data with one to three of its values replaced, deleted or added."""
    change = st.tuples(
        st.sampled_from(_paths(tree)),
        st.sampled_from(["replace", "replace", "delete", "add"]),
        trees,
        st.text(max_size=6),
    )
    return st.builds(_changed, st.just(tree), st.lists(change, min_size=1, max_size=3))


def changed_json(tree: Any) -> st.SearchStrategy[bytes]:
    """A JSON file of such a tree; one in four has changed bytes instead."""
    whole = json.dumps(tree, indent=1).encode()
    values = changed_tree(tree).map(lambda t: json.dumps(t).encode())
    return st.one_of(values, values, values, edited(whole))


def changed_toml(tree: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A TOML file of such a tree."""

    def written(some: Any) -> bytes:
        table = some if isinstance(some, dict) else {"model": some}
        lines = [f"{json.dumps(str(key))} = {_toml(value)}" for key, value in table.items()]
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    values = changed_tree(tree).map(written)
    return st.one_of(values, values, values, edited(written(tree)))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return '""' if value is None else json.dumps(value)


def sealed(whole: Any, seal: Callable[[Any], Any]) -> st.SearchStrategy[bytes]:
    """A changed tree whose own checksum is right again: what an attacker would write."""

    def written(tree: Any) -> bytes:
        return json.dumps(seal(tree) if isinstance(tree, dict) else tree).encode()

    return changed_tree(whole).map(written)
