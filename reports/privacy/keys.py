"""API keys: found by the prefix of their issuer, or by their name and entropy."""

import math
import re
from collections import Counter
from collections.abc import Iterator

from reports.privacy.items import Item

_LEAST_BITS = 3.0  # a character: a placeholder such as AKIAXXXXXXXXXXXXXXXX is below it
_LEAST_BITS_UNNAMED = 3.5

_PREFIXED = tuple(
    (issuer, re.compile(rf"(?<![A-Za-z0-9_-]){prefix}({body})(?![A-Za-z0-9_-])"))
    for issuer, prefix, body in (
        ("AWS", r"(?:AKIA|ASIA|AROA|AIDA)", r"[A-Z0-9]{16}"),
        ("Google", r"AIza", r"[A-Za-z0-9_-]{35}"),
        ("GitHub", r"(?:gh[pousr]_|github_pat_)", r"[A-Za-z0-9_]{36,82}"),
        ("GitLab", r"glpat-", r"[A-Za-z0-9_-]{20,40}"),
        ("Slack", r"xox[abprs]-", r"[A-Za-z0-9-]{20,90}"),
        ("Stripe", r"(?:sk|rk|pk)_(?:live|test)_", r"[A-Za-z0-9]{16,99}"),
        ("OpenAI or Anthropic", r"sk-(?:ant-|proj-)?", r"[A-Za-z0-9_-]{32,160}"),
        ("Hugging Face", r"hf_", r"[A-Za-z0-9]{30,40}"),
        ("SendGrid", r"SG\.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
        ("Twilio", r"(?:SK|AC)", r"[0-9a-f]{32}"),
        ("npm", r"npm_", r"[A-Za-z0-9]{36}"),
        ("PyPI", r"pypi-", r"[A-Za-z0-9_-]{50,220}"),
        (
            "JSON web token",
            r"eyJ",
            r"[A-Za-z0-9_-]{10,400}\.eyJ[A-Za-z0-9_-]{10,900}\.[\w-]{10,400}",
        ),
    )
)
_NAMED = re.compile(
    r"(?:api[_ -]?key|access[_ -]?key|secret|token|passw(?:or)?d|private[_ -]?key|auth)[\w-]{0,20}"
    r"[\"']?\s*(?:[:=]|=>|:=|is)\s*[\"']?(?P<key>[A-Za-z0-9_+/=.-]{16,200})(?![A-Za-z0-9_+/=-])",
    re.I,
)
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----[A-Za-z0-9+/=\s]{0,8000}"
    r"(?:-----END [A-Z ]{0,30}-----)?"
)


def bits_per_character(text: str) -> float:
    """Shannon entropy of the characters of a text, in bits per character.

    >>> bits_per_character("abcd"), bits_per_character("aaaa")
    (2.0, 0.0)
    """
    counts = Counter(text).values()
    return abs(sum(n / len(text) * math.log2(len(text) / n) for n in counts)) if text else 0.0


def find_keys(text: str) -> Iterator[Item]:
    """API keys with a known prefix, private keys, and random values named key, token or the like.

    >>> [i.detail for i in find_keys("AKIAIOSFODNN7EXAMPLE and AKIAXXXXXXXXXXXXXXXX")]
    ['AWS']
    """
    for match in _PEM.finditer(text):
        yield Item(*match.span(), "API key", "private key")
    for issuer, pattern in _PREFIXED:
        for match in pattern.finditer(text):
            if bits_per_character(match.group(1)) >= _LEAST_BITS:
                yield Item(*match.span(), "API key", issuer)
    for match in _NAMED.finditer(text):
        key = match.group("key")
        is_mixed = any(c.isdigit() for c in key) and any(c.isalpha() for c in key)
        if is_mixed and bits_per_character(key) >= _LEAST_BITS_UNNAMED:
            yield Item(*match.span("key"), "API key", "by its name and entropy")
