"""Find personal data in a text by rules."""

from collections.abc import Callable, Iterable

from reports.privacy.contacts import (
    find_addresses,
    find_emails,
    find_ip_addresses,
    find_telephones,
)
from reports.privacy.items import SECRET, Item
from reports.privacy.keys import find_keys
from reports.privacy.numbers import find_cards, find_ibans, find_national_ids

Finder = Callable[[str], Iterable[Item]]

# Where two overlap, the first in this order is counted: the more certain before the less.
_FINDERS: tuple[Finder, ...] = (
    find_keys,
    find_emails,
    find_ibans,
    find_cards,
    find_national_ids,
    find_addresses,
    find_telephones,
    find_ip_addresses,
)
# Cut so, no text takes long: rules look at most a few hundred characters ahead.
_PIECE, _OVERLAP = 20_000, 1_000


def find_personal(text: str, *, more: Iterable[Finder] = ()) -> list[Item]:
    """Personal data in a text, by rules: forms, checksums, numbering plans, entropy.

    Items are in order and do not overlap. Rules have false positives and false negatives. A canary
    secret that overlaps other items becomes one item with them, so that no part of it is shown.

    more : further finders, such as those of `reports.privacy.names` and `reports.privacy.secrets`

    >>> text = "Write to ann@example.org from 198.51.100.7"
    >>> [(i.kind, text[i.start : i.end]) for i in find_personal(text)]
    [('e-mail', 'ann@example.org'), ('IP address', '198.51.100.7')]
    """
    kept: list[Item] = []
    for finder in (*_FINDERS, *more):
        for item in _find_all(finder, text):
            touched = [o for o in kept if item.start < o.end and o.start < item.end]
            if not touched:
                kept.append(item)
            elif item.kind == SECRET:
                kept = [other for other in kept if other not in touched]
                ends = [(o.start, o.end) for o in (*touched, item)]
                kept.append(Item(min(a for a, _ in ends), max(b for _, b in ends), SECRET))
    return sorted(kept, key=lambda item: item.start)


def _find_all(finder: Finder, text: str) -> Iterable[Item]:
    """Apply a finder to a text of any length, piece by piece."""
    found = {}
    for at in range(0, max(len(text) - _OVERLAP, 1), _PIECE - _OVERLAP):
        piece = text[at : at + _PIECE]
        for item in finder(piece):
            # What touches a cut may be a part only; the next piece holds it whole.
            at_cut = (item.start == 0 and at > 0) or (
                item.end == len(piece) and at + len(piece) < len(text)
            )
            if not at_cut:
                moved = Item(at + item.start, at + item.end, item.kind, item.detail)
                found[moved.start, moved.end] = moved
    return list(found.values())
