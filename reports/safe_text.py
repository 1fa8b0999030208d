"""Text made safe to show: one line, no control over a terminal, no formula in a spreadsheet.

A language model can say anything: escape sequences that recolour a terminal, marks that turn the
reading direction round, cells that a spreadsheet runs. Here such characters become visible escapes
in Python's notation, and nothing is lost: `restore` gives the text back.
"""

import re

# C0, DEL and C1 controls; bidirectional marks; line and paragraph separators; lone surrogates;
# and tag characters, which are invisible everywhere and can carry a hidden message.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_ESCAPED = re.compile(
    r"\\(?:([nrt\\])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))",
)
_FORMULA_STARTS = tuple("=+-@＝＋－＠'")  # full-width forms start formulas too


def _pattern(*, keep_newlines: bool, double_backslash: bool) -> re.Pattern[str]:
    hidden = _HIDDEN.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f") if keep_newlines else _HIDDEN
    return re.compile(f"[{hidden}{re.escape(chr(92)) if double_backslash else ''}]")


_PATTERNS = {
    (keep, double): _pattern(keep_newlines=keep, double_backslash=double)
    for keep in (False, True)
    for double in (False, True)
}


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str, *, keep_newlines: bool = False, double_backslash: bool = True) -> str:
    r"""The text with every hidden character shown as an escape.

    keep_newlines : leave line feeds as they are, for places that show more than one line.
    double_backslash : write a backslash as two, so that `restore` can distinguish it from an
        escape. The HTML report turns this off for readability.

    The result has no C0, C1 or bidirectional controls, tag characters, line separators or lone
    surrogates, so it can always be encoded as UTF-8.

    Source
    ------
    Bidirectional controls: Unicode Standard Annex 9.

    >>> print(visible("a\x1b[31m\tb\n\u202ec"))
    a\x1b[31m\tb\n\u202ec
    """
    return _PATTERNS[keep_newlines, double_backslash].sub(_escape, text)


def restore(text: str) -> str:
    r"""The text that `visible` was given: its inverse, for notebooks that read the CSV.

    text : what `visible` returned, backslashes doubled.

    >>> restore(visible("C:\\new\x00")) == "C:\\new\x00"
    True
    """
    plain = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}

    def unescape(match: re.Match[str]) -> str:
        short, *codes = match.groups()
        return plain[short] if short else chr(int(next(code for code in codes if code), 16))

    return _ESCAPED.sub(unescape, text)


def csv_cell(text: str) -> str:
    r"""The text as one cell of a CSV file: one line, and never a formula.

    This is `visible(text)`, with an apostrophe before it if it starts with = + - @ (or their
    full-width forms), a tab or a carriage return, which a spreadsheet may take for a formula; or
    with an apostrophe, so that removing one restores the text.

    Source
    ------
    OWASP, "CSV Injection".

    >>> print(csv_cell("=cmd()"), csv_cell("two\nlines"))
    '=cmd() two\nlines
    """
    risky = text.startswith((*_FORMULA_STARTS, "\t", "\r"))
    return f"'{visible(text)}" if risky else visible(text)
