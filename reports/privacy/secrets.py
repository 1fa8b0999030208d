"""Canary secrets in texts: found by the list of them, so that a page or table can mask them."""

import re
from collections.abc import Iterable, Iterator, Sequence

from reports.privacy.finding import Finder
from reports.privacy.items import SECRET, Item
from reports.privacy.redaction import mask

_SHORT = 6  # a secret of fewer letters and digits also occurs by chance, as a year or a price
_LEAST_PART = 4  # letters and digits of a secret that the end of a text cuts off
_BEFORE = 12  # characters of the prefix that must stand before a short secret


def secret_finder(secrets: Sequence[tuple[str, str]]) -> Finder:
    """A finder of canary secrets, for `find_personal`.

    secrets : (prefix, secret) of each canary

    A secret is found wherever it is a word of its own, in any case; one with fewer than six letters
    and digits only after the end of its prefix. A part of at least four letters and digits is found
    where the text begins or ends within a secret. The length of each secret stays visible.

    >>> find = secret_finder([("The code is ", "519498"), ("The PIN is ", "2026")])
    >>> text = "In 2026 the PIN is 2026, the code 519498; code 5194"
    >>> [text[i.start : i.end] for i in find(text)]
    ['519498', '5194', '2026']
    """
    known = {(_tail(prefix), secret.lower()) for prefix, secret in secrets if secret.strip()}
    long = sorted({secret for _, secret in known if _n_letters(secret) >= _SHORT})
    short = sorted((tail, secret) for tail, secret in known if _n_letters(secret) < _SHORT)

    def find(text: str) -> Iterator[Item]:
        lower = text.lower()
        if len(lower) != len(text):  # a few letters change their length; lower only the others
            lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        for secret in long:
            if secret in lower:
                yield from _places(rf"(?<!\w){re.escape(secret)}(?!\w)", lower)
            yield from _cut(secret, lower)
        for tail, secret in short:
            if tail + secret in lower:
                yield from _places(rf"(?<={re.escape(tail)}){re.escape(secret)}(?!\w)", lower)

    return find


def mask_whole(secret: str) -> str:
    """A secret with all of its letters and digits masked.

    >>> mask_whole("ab-12")
    '••-••'
    """
    return mask(secret, [Item(0, len(secret), SECRET)]).text


def _tail(prefix: str) -> str:
    return prefix[-_BEFORE:].lower()


def _n_letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _places(pattern: str, text: str) -> Iterable[Item]:
    return [Item(*match.span(), SECRET) for match in re.finditer(pattern, text)]


def _cut(secret: str, text: str) -> Iterator[Item]:
    """The longest part of a secret that the end of a text, or its beginning, cuts off."""
    if secret[:_LEAST_PART] in text[1 - len(secret) :]:
        for n in range(len(secret) - 1, _LEAST_PART - 1, -1):
            if text.endswith(secret[:n]) and _n_letters(secret[:n]) >= _LEAST_PART:
                yield Item(len(text) - n, len(text), SECRET)
                break
    if secret[-_LEAST_PART:] in text[: len(secret) - 1]:
        for n in range(len(secret) - 1, _LEAST_PART - 1, -1):
            if text.startswith(secret[-n:]) and _n_letters(secret[-n:]) >= _LEAST_PART:
                yield Item(0, n, SECRET)
                break
