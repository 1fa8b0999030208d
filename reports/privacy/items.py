"""One piece of personal data in a text, and the kinds that the rules tell."""

from dataclasses import dataclass

KINDS = (
    "API key",
    "e-mail",
    "IBAN",
    "payment card",
    "national id",
    "address",
    "telephone",
    "IP address",
    "name",
)


@dataclass(frozen=True)
class Item:
    """A piece of personal data: text[start:end] in characters, one of KINDS, and which of them.

    >>> Item(0, 11, "national id", "US ssn").kind
    'national id'
    """

    start: int
    end: int
    kind: str
    detail: str = ""
