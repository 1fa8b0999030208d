"""Contact data: e-mail, telephone, IP address, postal address."""

import ipaddress
import re
from collections.abc import Iterator

from reports.privacy.items import Item

_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9_%+-][\w.%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)"
    r"+[A-Za-z]{2,24}(?![\w-])"
)


def find_emails(text: str) -> Iterator[Item]:
    """E-mail addresses.

    >>> [text[i.start : i.end] for text in ["to joe@example.org."] for i in find_emails(text)]
    ['joe@example.org']
    """
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Item(*match.span(), "e-mail")


# What could be a number at all: the library's own search is slow, and most texts hold none.
_DIGITS = re.compile(r"[+(]?\d(?:[\s().\-/]{0,3}\d){6,}")
_SAID = re.compile(
    r"(?:tel|phone|fax|mobile|cell|call|whatsapp)\w*\W{0,3}(?:\w{1,8}\W{1,3})?$", re.I
)


def find_telephones(text: str, region: str = "US") -> Iterator[Item]:
    """Telephone numbers that exist in their numbering plan.

    region : two letters, the country of numbers without a country code. Such a number counts only
        if it has a separator or follows a word such as "call", because many bare ten-digit numbers
        are valid.

    >>> text = "ring +44 20 7946 0958 or (212) 736-5000, not 2127365000"
    >>> [text[i.start : i.end] for i in find_telephones(text)]
    ['+44 20 7946 0958', '(212) 736-5000']
    """
    if not _DIGITS.search(text):
        return
    from phonenumbers import PhoneNumberMatcher

    for match in PhoneNumberMatcher(text, region):
        raw = match.raw_string
        is_written = raw.startswith("+") or bool(re.search(r"\d[\s().\-/]+\d", raw))
        if is_written or _SAID.search(text[max(0, match.start - 24) : match.start]):
            yield Item(match.start, match.end, "telephone", f"+{match.number.country_code}")


_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*\d)[0-9A-Fa-f]{3,4}:[0-9A-Fa-f:]{2,34}(?![\w:])")
_VERSION = re.compile(r"(?:version|release|ver|v|section|§)\W{0,2}$", re.I)


def find_ip_addresses(text: str) -> Iterator[Item]:
    """IP addresses (4 and 6), except loopback, multicast, net masks and version numbers.

    >>> [i.detail for i in find_ip_addresses("198.51.100.7, 127.0.0.1, 2001:db8::17, v1.2.3.4")]
    ['IPv4', 'IPv6']
    """
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            nowhere = (address.is_loopback, address.is_multicast, address.is_unspecified)
            if any(nowhere) or (address.version == 4 and int(address) >= 240 << 24):
                continue
            if not _VERSION.search(text[max(0, match.start() - 10) : match.start()]):
                yield Item(*match.span(), "IP address", f"IPv{address.version}")


# A street and, a line or two on, a postal code: each alone is too common to mean an address.
_GAP = r"(?:[^\d\n]|\d{1,4}(?!\d)|\n(?!\n)){0,70}?"
_WORD = r"[A-Z][\w.'’-]*"
_ENGLISH = (
    rf"\b\d{{1,5}}[A-Z]?(?:-\d+)?,?\s(?:[NSEW]\.?\s)?(?:{_WORD}\s){{1,4}}?(?:Street|St|Avenue"
    r"|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Way|Court|Ct|Place|Pl|Square|Sq|Terrace"
    rf"|Crescent|Highway|Hwy|Parkway|Pkwy|Close|Gardens)\b\.?{_GAP}\b(?:[A-Z]{{2}}\.?,?\s"
    r"{1,2}\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d)\b"
)
_GERMAN = (
    r"\b[A-ZÄÖÜ][\w.-]*(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer|straat"
    r"|laan|gracht|plein)\s\d{1,4}\s?[a-z]?\b,?\s{1,3}(?:[A-Z]{1,2}-)?"
    r"(?:\d{5}|\d{4}\s?[A-Z]{2}|\d{4})\s[A-ZÄÖÜ]\w+"
)
_FRENCH = (
    r"\b(?:\d{1,4},?\s(?:bis\s|ter\s)?(?:rue|avenue|boulevard|place|chemin|allée|impasse"
    r"|quai)\s[^\d\n,]{2,40}|(?:[Cc]alle|[Vv]ia|[Pp]iazza|[Aa]venida)\s[^\d\n,]{2,40},?\s"
    r"\d{1,4}),?\s{1,3}(?:F-|I-|E-)?\d{5}\s[A-ZÀ-Ý]\w+"
)
_ADDRESSES = {
    "English": re.compile(_ENGLISH),
    "German or Dutch": re.compile(_GERMAN),
    "French, Spanish or Italian": re.compile(_FRENCH),
}


def find_addresses(text: str) -> Iterator[Item]:
    """Postal addresses: a postal code after a street.

    >>> [i.kind for i in find_addresses("1600 Pennsylvania Avenue NW, Washington, DC 20500")]
    ['address']
    """
    for country, pattern in _ADDRESSES.items():
        for match in pattern.finditer(text):
            yield Item(*match.span(), "address", country)
