"""Mask personal data and keep its shape: `j•••@•••.org`, `•••• •••• •••• ••••`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reports.privacy.finding import Finder, find_personal
from reports.privacy.items import Item

DOT = "•"
_FEW, _MANY = 3 * DOT, 8 * DOT
_PUBLIC_PREFIX = 4  # "AKIA", "ghp_": says whose key it is, and is in every manual


@dataclass(frozen=True, eq=False)
class Masked:
    """A masked text.

    text : str
    place : int64 array (n_chars + 1,)
        The position in `text` of each character of the raw text; characters of an item of personal
        data have the position of its mask. The last is the end.
    items : list of Item
        The masks, by their positions in `text`.
    """

    text: str
    place: np.ndarray
    items: list[Item]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The range of a raw range in the masked text; includes every mask that it touches."""
        low, high = int(self.place[start]), int(self.place[end])
        for item in self.items:
            if start < end and item.start == high and self.place[end - 1] == high:
                high = item.end
        return low, high


def mask(text: str, items: Sequence[Item]) -> Masked:
    """The text with each item masked; items are in order, without overlaps.

    >>> mask("to joe@abc.org!", [Item(3, 14, "e-mail")]).text
    'to j•••@•••.org!'
    """
    parts: list[str] = []
    place = np.arange(len(text) + 1, dtype=np.int64)
    masks, at, shift = [], 0, 0
    for item in items:
        shown = _mask_of(text[item.start : item.end], item)
        parts += [text[at : item.start], shown]
        start = item.start + shift
        masks.append(Item(start, start + len(shown), item.kind, item.detail))
        place[at : item.start] += shift
        place[item.start : item.end] = start
        shift += len(shown) - (item.end - item.start)
        at = item.end
    place[at:] += shift
    return Masked("".join([*parts, text[at:]]), place, masks)


def mask_personal(text: str, *, more: Iterable[Finder] = ()) -> str:
    """The text with what rules tell of personal data masked.

    >>> mask_personal("card 4111 1111 1111 1111")
    'card •••• •••• •••• ••••'
    """
    return mask(text, find_personal(text, more=more)).text


def _mask_of(raw: str, item: Item) -> str:
    if item.kind == "e-mail":
        local, _, domain = raw.partition("@")
        first = local[0] if len(local) > 1 else ""
        return f"{first}{_FEW}@{_FEW}.{domain.rpartition('.')[2]}"
    if item.kind == "API key":
        is_public = item.detail not in ("private key", "by its name and entropy")
        return (raw[:_PUBLIC_PREFIX] if is_public else "") + _MANY
    return "".join(DOT if char.isalnum() else char for char in raw)
