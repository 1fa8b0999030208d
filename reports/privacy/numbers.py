"""Numbers with a checksum: payment cards, IBANs, national ids."""

import re
from collections.abc import Iterator

from reports.privacy.items import Item

_CARD = re.compile(
    r"(?<![\w.+-])\d{4}([ -]?)(?:\d{4}\1\d{4}\1\d{1,7}|\d{6}\1\d{4,5})(?![\w-]|\.\d)"
)
# First digits of an issuer and the lengths it gives out.
_ISSUERS = (
    ("Visa", re.compile(r"4"), (13, 16, 19)),
    ("Mastercard", re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    ("American Express", re.compile(r"3[47]"), (15,)),
    ("Discover", re.compile(r"6011|64[4-9]|65"), (16, 19)),
    ("JCB", re.compile(r"35(?:2[89]|[3-8])"), (16,)),
    ("Diners Club", re.compile(r"30[0-5]|36|38|39"), (14,)),
    ("UnionPay", re.compile(r"62"), (16, 17, 18, 19)),
)


def find_cards(text: str) -> Iterator[Item]:
    """Payment cards: digits of an issuer, of its length, with a valid Luhn checksum (ISO 7812).

    >>> [i.detail for i in find_cards("4111 1111 1111 1111 but not 4111 1111 1111 1112")]
    ['Visa']
    """
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        for issuer, prefix, lengths in _ISSUERS:
            if prefix.match(digits) and len(digits) in lengths and _is_luhn(digits):
                yield Item(*match.span(), "payment card", issuer)


def _is_luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_SHORTEST_IBAN = 15


def find_ibans(text: str) -> Iterator[Item]:
    """IBANs of a country's length and form, with valid check digits (ISO 13616).

    >>> [i.detail for i in find_ibans("GB29 NWBK 6016 1331 9268 19 AND GB29NWBK60161331926818")]
    ['GB']
    """
    for match in _IBAN.finditer(text):
        from stdnum import iban

        raw = match.group()
        # Capitals that follow may have been taken along: drop words from the end.
        while len(raw.replace(" ", "")) >= _SHORTEST_IBAN:
            if iban.is_valid(raw):
                yield Item(match.start(), match.start() + len(raw), "IBAN", raw[:2])
                break
            raw = raw.rpartition(" ")[0]


# Country and number in python-stdnum, its form, and a word that must stand before it where the form
# alone is too common (a check digit lets one number in ten through).
_NATIONAL = tuple(
    (name, re.compile(rf"(?<![\w.-])(?:{form})(?![\w-]|\.\d)"), said and re.compile(said, re.I))
    for name, form, said in (
        ("us.ssn", r"\d{3}-\d{2}-\d{4}", ""),
        ("ca.sin", r"\d{3}[ -]\d{3}[ -]\d{3}", r"\bSIN\b|social insurance"),
        ("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", r"\bNHS\b"),
        ("es.dni", r"\d{8}-?[A-Z]", ""),
        ("es.nie", r"[XYZ]-?\d{7}-?[A-Z]", ""),
        ("it.codicefiscale", r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]", ""),
        ("fr.nir", r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}", ""),
        ("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", ""),
        ("nl.bsn", r"\d{4}\.?\d{2}\.?\d{3}", r"\bBSN\b|burgerservicenummer|sofinummer"),
        ("de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", r"steuer-?id|\bidnr\b|identifikationsnummer"),
        ("ch.ssn", r"756\.\d{4}\.\d{4}\.\d{2}", ""),
        ("pl.pesel", r"\d{11}", r"\bPESEL\b"),
        ("se.personnummer", r"(?:\d{2})?\d{6}[-+]\d{4}", ""),
        ("fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", ""),
        ("no.fodselsnummer", r"\d{6} ?\d{5}", r"f[øo]dselsnummer|personnummer"),
        ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", ""),
        ("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d", ""),
        ("cn.ric", r"\d{17}[\dX]", ""),
        ("kr.rrn", r"\d{6}-\d{7}", ""),
        ("in_.aadhaar", r"\d{4} \d{4} \d{4}", r"aadhaa?r|\bUID(?:AI)?\b"),
        ("za.idnr", r"\d{13}", r"\bID\b|identity"),
        ("au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", r"\bTFN\b|tax file"),
        ("tr.tckimlik", r"\d{11}", r"\bT\.?C\.?\b|kimlik"),
    )
)
_HAS_NUMBER = re.compile(r"\d{2}[\d. +A-Z-]{3,}\d|\d{2}[A-Z]\d{2}[A-Z]\d{3}")
_LABEL = 40  # characters before a number in which its label is looked for


def find_national_ids(text: str) -> Iterator[Item]:
    """National ids of 20 countries with a valid checksum (the US number has none).

    >>> [i.detail for i in find_national_ids("DNI 54362315K; CPF 390.533.447-05; BSN 123456789")]
    ['ES dni', 'BR cpf']
    """
    if not _HAS_NUMBER.search(text):
        return
    for name, form, said in _NATIONAL:
        for match in form.finditer(text):
            before = text[max(0, match.start() - _LABEL) : match.start()]
            if (not said or said.search(before)) and _is_valid(name, match.group()):
                country, number = name.replace("_", "").split(".")
                yield Item(*match.span(), "national id", f"{country.upper()} {number}")


def _is_valid(name: str, number: str) -> bool:
    from stdnum import get_cc_module

    module = get_cc_module(*name.replace("_", "").split("."))
    return module is not None and bool(module.is_valid(number))
