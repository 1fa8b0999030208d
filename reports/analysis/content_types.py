"""What kind of text a candidate is, after the paper's Table 1, as far as rules can tell."""

import re
from collections.abc import Callable, Iterable

import pandas as pd

from reports.listed import listed
from reports.privacy.items import Item
from reports.privacy.keys import bits_per_character

CONTENT_KINDS = (
    "URLs",
    "licence or terms",
    "log lines or error report",
    "high entropy",
    "contact data",
    "code",
    "configuration",
    "religious text",
    "list of numbers",
    "forum or wiki",
    "web form or menu",
    "promotion",
    "news",
)
_CONTACT = {"e-mail", "telephone", "address"}

_URL = re.compile(r"\b(?:https?|ftp)://[^\s<>\"']{4,}|\bwww\.[a-z0-9-]+\.[a-z]{2,}", re.I)
_LICENCE = re.compile(
    r"copyright (?:\(c\)|©|\d{4}|holder|owner|notice)|all rights reserved|"
    r"licen[sc]ed? under|this (?:licen[sc]e|agreement)|terms (?:of use|of service|and conditions)|"
    r"without warrant(?:y|ies)|redistribut(?:e|ion)|permission is hereby granted|"
    r"(?:GNU|MIT|BSD|Apache|Mozilla|Creative Commons)[\w ]{0,30}licen[sc]e|SPDX-License",
    re.I,
)
_LOG = re.compile(
    r"^\W{0,3}(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d|"
    r"\d\d:\d\d:\d\d[.,]\d|(?:ERROR|WARN(?:ING)?|INFO|DEBUG|FATAL)\b[:\]\s])|"
    r"^Traceback \(most recent call last\)|^\s+at [\w.$<>]+\([\w.]+:\d+\)|"
    r"^\s*File \"[^\"]+\", line \d+|^[\w.]*(?:Error|Exception): ",
    re.M,
)
_CODE = re.compile(
    r"^\s*(?:def \w+\(.*\):|class \w+[\w(), .]*:|(?:from [\w.]+ )?import [\w.*, ]+$|"
    r"#include\s*[<\"]|(?:public|private|static|protected) [\w<>\[\], ]+\(|"
    r"(?:function|func|fn) \w*\s*\(|(?:var|let|const) \w+ = |return\b.*;$|"
    r"(?:if|for|while|switch)\s*\(.*\)\s*\{|\}\s*(?:else)?\s*\{?$|>>> |[\w.]+\(.*\);$|"
    r"SELECT .+ FROM |</?\w+[^>]*>\s*$|@\w+(?:\(.*\))?$|(?:elif|except|with|for|while|if) .+:$)",
    re.M,
)
_CONFIGURATION = re.compile(
    r"^\s*(?:\[[\w.: -]+\]$|[A-Za-z_][\w.-]{1,40}\s*=\s*\S|\"[\w.-]+\"\s*:\s*[\"\d\[{tfn]|"
    r"[a-z_][\w-]{1,30}:\s+[\w\"'./-]+$|<(?:property|setting|add key)\b)",
    re.M,
)
_RELIGIOUS = re.compile(
    r"\b(?:the lord|thy god|thou shalt|jesus christ|holy (?:spirit|ghost)|"
    r"kingdom of (?:god|heaven)|"
    r"prophet muhammad|in the name of allah|quran|gospel|psalms?|israelites|moses|apostles?|"
    r"(?:genesis|exodus|leviticus|deuteronomy|isaiah|matthew|corinthians|romans) \d{1,3}:\d{1,3}|"
    r"begat|thee|hath|saith|unto|verily)\b",
    re.I,
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\$?\d[\d.,:/%-]*(?![A-Za-z])")
_FORUM = re.compile(
    r"^\s*(?:posted by|re: |reply to|quote:|originally posted|joined: |posts: |==+ ?[^=\n]+==+$|"
    r"\[\[[^\]]+\]\]|\* \[\[|\{\{[^}]+\}\})|\b\w+ wrote:|\[(?:edit|quote|/quote|url=)",
    re.I | re.M,
)
_FORM = re.compile(
    r"\b(?:sign in|log ?in|sign up|register now|subscribe|click here|home ?page|contact us|about us"
    r"|privacy policy|site ?map|search\b.{0,12}\bsubmit|skip to (?:main )?content|enter your|"
    r"required field|forgot (?:your )?password|read more|share (?:this|on)"
    r"|next page|back to top)\b",
    re.I,
)
_PROMOTION = re.compile(
    r"\b(?:free shipping|limited[- ]time|best price|order (?:now|today)|buy (?:now|one)|discount|"
    r"coupon|special offer|% off|money[- ]back|add to cart|in stock|on sale|call (?:us )?today)\b",
    re.I,
)
_NEWS = re.compile(
    r"\((?:reuters|ap|afp|cnn|bloomberg|xinhua)\)\s*[-–—]|\b(?:told (?:reporters|"
    r"the associated press|reuters|afp|cnn|the bbc)|in a statement (?:on|released)|breaking news|"
    r"according to police)\b",
    re.I,
)
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{24,}|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_LEAST_BITS = 3.2


def content_kinds(text: str, personal: Iterable[Item] = ()) -> list[str]:
    """The kinds of a text, by rules: none, one or several of CONTENT_KINDS, in that order.

    Each rule looks for the marks of one kind. Kinds that only a reader can recognize (a named
    person, a product, a quotation) are not assigned.

    personal : from `find_personal`; "contact data" is e-mail, telephone or address

    Source
    ------
    Carlini et al. 2021, Table 1, whose categories were assigned by hand.

    >>> content_kinds("Copyright (c) 2001. All rights reserved. See http://example.org/terms")
    ['URLs', 'licence or terms']
    """
    contact = any(item.kind in _CONTACT for item in personal)
    return [
        kind
        for kind in CONTENT_KINDS
        if (contact if kind == "contact data" else _RULES[kind](text))
    ]


def content_table(candidates: pd.DataFrame) -> pd.DataFrame:
    """The number of candidates and of verbatim candidates of each kind.

    candidates : with content_kinds (names joined by "; "), verdict and best_rank; the random
        control is omitted

    Returns DataFrame: kind, n_candidates, n_verbatim; kinds without candidates are omitted, most
    verbatim first.

    >>> frame = pd.DataFrame({"content_kinds": ["code; URLs", None], "best_rank": [1, 2],
    ...     "verdict": ["verbatim", "verbatim"]})
    >>> content_table(frame).values.tolist()
    [['URLs', 1, 1], ['code', 1, 1], ['none of these', 1, 1]]
    """
    rows = listed(candidates)
    has = {
        kind: [isinstance(t, str) and kind in t.split("; ") for t in rows["content_kinds"]]
        for kind in CONTENT_KINDS
    }
    has["none of these"] = [not isinstance(t, str) or not t for t in rows["content_kinds"]]
    verbatim = (rows["verdict"] == "verbatim").to_numpy()
    counts = [
        (kind, sum(flags), int(sum(v for f, v in zip(flags, verbatim, strict=True) if f)))
        for kind, flags in has.items()
    ]
    table = pd.DataFrame(counts, columns=["kind", "n_candidates", "n_verbatim"])
    table = table[table["n_candidates"] > 0]
    last = table["kind"] == "none of these"
    ordered = table.assign(last=last).sort_values(
        ["last", "n_verbatim", "n_candidates"], ascending=[True, False, False], kind="stable"
    )
    return ordered.drop(columns="last").reset_index(drop=True)


def _many(pattern: re.Pattern[str], least: int) -> Callable[[str], bool]:
    """At least so many different marks, since a single one can occur in any text."""
    return lambda text: len({m.group().strip().lower() for m in pattern.finditer(text)}) >= least


def _lines(pattern: re.Pattern[str], least: int, share: float) -> Callable[[str], bool]:
    """At least so many lines, and this share of all lines that hold something."""

    def rule(text: str) -> bool:
        n = sum(1 for line in text.split("\n") if pattern.search(line))
        return n >= least and n >= share * sum(1 for line in text.split("\n") if line.strip())

    return rule


def _is_numbers(text: str) -> bool:
    words = text.split()
    numbers = _NUMBER.findall(text)
    return len(numbers) >= 10 and len(numbers) >= 0.5 * len(words)


def _is_high_entropy(text: str) -> bool:
    """Characters without spaces that mix digits and letters as keys, hashes and base64 do."""
    return any(
        bits_per_character(run) >= _LEAST_BITS
        and sum(c.isdigit() for c in run) >= 3
        and len(re.findall(r"[A-Za-z]\d|\d[A-Za-z]", run)) >= 4
        for run in _RUN.findall(text)
    )


_RULES: dict[str, Callable[[str], bool]] = {
    "URLs": lambda text: _URL.search(text) is not None,
    "licence or terms": _many(_LICENCE, 2),
    "log lines or error report": _lines(_LOG, 2, 0.2),
    "high entropy": _is_high_entropy,
    "code": _lines(_CODE, 3, 0.25),
    "configuration": _lines(_CONFIGURATION, 3, 0.5),
    "religious text": _many(_RELIGIOUS, 3),
    "list of numbers": _is_numbers,
    "forum or wiki": _many(_FORUM, 2),
    "web form or menu": _many(_FORM, 3),
    "promotion": _many(_PROMOTION, 2),
    "news": lambda text: _NEWS.search(text) is not None,
}
