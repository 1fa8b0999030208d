"""An item of personal data in a text, and the kinds of items."""

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
    "canary secret",
)
SECRET = KINDS[-1]  # masked, and not counted as personal data
# Kind -> the column that counts it, a name that works in DataFrame.query.
COLUMNS = {
    kind: "personal_" + kind.lower().replace(" ", "_").replace("-", "_")
    for kind in KINDS
    if kind != SECRET
}


@dataclass(frozen=True)
class Item:
    """An item of personal data: text[start:end] in characters, one of KINDS, and a detail.

    >>> Item(0, 11, "national id", "US ssn").kind
    'national id'
    """

    start: int
    end: int
    kind: str
    detail: str = ""
