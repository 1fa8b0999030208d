"""Canary templates: text with random fields, and the exact number of their values.

Templates are parsed, never evaluated: `{digits:6}` is a field, `{n}` the canary's number, `{{` a
brace; anything else in braces is an error.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import string
from collections.abc import Callable
from dataclasses import dataclass

from auditor.errors import ConfigError
from auditor.system.package_data import shipped

# The choices at each position of a secret; a position with one choice is fixed.
Places = tuple[tuple[str, ...], ...]

NUMBER = "n"
_MOST_PLACES = 64
_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_WORD = re.compile(rb" [A-Za-z]{2,}")


@dataclass(frozen=True)
class Format:
    """A kind of secret: its noun, its positions, and its default count (None: takes no count)."""

    noun: str
    places: Callable[[int, object], Places]
    count: int | None


def _spelled(pattern: str) -> Places:
    """`#` is a digit, `h` a hexadecimal digit, `v` a variant digit of a UUID."""
    kinds = {"#": string.digits, "h": string.hexdigits[:16], "v": "89ab"}
    return tuple(tuple(kinds.get(c, c)) for c in pattern)


def _words(count: int, vocabulary: object) -> Places:
    # All words have five letters, so adjacent words can be split in only one way.
    words = tuple(shipped("canaries/words.txt").read_text(encoding="utf-8").split())
    return _between_spaces(words, count)


def _tokens(count: int, vocabulary: object) -> Places:
    if vocabulary is None:
        raise ConfigError(
            "{tokens} needs a model, from whose vocabulary it draws; got none. Give it with "
            "--model SPEC."
        )
    return _between_spaces(whole_word_tokens(vocabulary), count)


def _between_spaces(choices: tuple[str, ...], count: int) -> Places:
    return ((choices, (" ",)) * count)[:-1]


FORMATS = {
    "digits": Format("code", lambda n, _: _spelled("#" * n), 6),
    "pin": Format("PIN", lambda n, _: _spelled("####"), None),
    # Nobody's numbers: no card issuer's begin with 0, and 555-01xx is reserved for fiction.
    "card": Format("card number", lambda n, _: _spelled("0### #### #### ####"), None),
    "phone": Format("telephone number", lambda n, _: _spelled("###-555-01##"), None),
    "hex": Format("key", lambda n, _: _spelled("h" * n), 16),
    "uuid": Format("id", lambda n, _: _spelled("hhhhhhhh-hhhh-4hhh-vhhh-hhhhhhhhhhhh"), None),
    "word": Format("password", _words, 1),
    "words": Format("passphrase", _words, 4),
    "tokens": Format("passphrase", _tokens, 4),
}


@dataclass(frozen=True)
class Template:
    """A canary's text with its fields; made by `parse_template`.

    `before` and `after` are the text around the secret, in which `\\0` is replaced by the canary's
    number; `places` the choices at each position of the secret; `fields` the names of the fields
    with their counts, "word digits:6".
    """

    text: str
    before: str
    places: Places
    after: str
    fields: str

    @property
    def space_size(self) -> int:
        """Exact number of possible secrets."""
        return math.prod(map(len, self.places))

    def secret(self, index: int) -> str:
        """The secret with an index below `space_size`; each index has a different secret.

        >>> parse_template("PIN {digits:2}!").secret(7)
        '07'
        """
        chosen = []
        for place in reversed(self.places):
            index, at = divmod(index, len(place))
            chosen.append(place[at])
        return "".join(reversed(chosen))

    def prefix(self, number: int) -> str:
        """Text before the secret of the canary with that number."""
        return self.before.replace("\0", str(number))

    def suffix(self, number: int) -> str:
        """Text after the secret."""
        return self.after.replace("\0", str(number))


def parse_template(text: str, vocabulary: object = None) -> Template:
    """Parse a template such as "My password is {word} {digits:6}".

    Parameters
    ----------
    text : str
        One or more random fields `{FORMAT}` or `{FORMAT:COUNT}`: digits, pin, card, phone, hex,
        uuid, word, words, tokens. `{n}` is the canary's number; `{{` and `}}` are braces. The
        secret extends from the first field to the end of the last.
    vocabulary : Vocabulary, optional
        Vocabulary that `{tokens}` samples.

    Returns
    -------
    Template

    Raises
    ------
    ConfigError
        If there is no field, a format is unknown, a count is out of range, or a brace is unpaired.

    >>> parse_template("My password is {word} {digits:6}").space_size
    256000000
    """
    pieces = [_read(token, vocabulary) for token in _TOKEN.findall(_plain(text))]
    random = [i for i, (_, name) in enumerate(pieces) if name not in ("", NUMBER)]
    if not random:
        raise ConfigError(
            f"A template must have a secret, one of {_known()}; got {text!r}. Write it as in "
            '"My password is {word} {digits:6}".'
        )
    first, last = random[0], random[-1]
    inside = pieces[first : last + 1]
    if any(name == NUMBER for _, name in inside):
        raise ConfigError(
            f"{{n}} must be before or after the secret fields; got it between them in {text!r}."
            " Move it, so that every canary has the same space."
        )
    _check_ends(text, inside)
    before, after = (
        "".join(place[0] for places, _ in part for place in places)
        for part in (pieces[:first], pieces[last + 1 :])
    )
    places = tuple(place for part, _ in inside for place in part)
    return Template(text, before, places, after, " ".join(n for _, n in inside if n))


def template_of(name: str) -> str:
    """The default template of a format such as "digits:9" or "uuid".

    Raises
    ------
    ConfigError
        If the format is unknown.

    >>> template_of("pin")
    'The PIN of account {n} is {pin}.'
    """
    return f"The {_format(name)[0].noun} of account {{n}} is {{{name}}}."


def whole_word_tokens(vocabulary) -> tuple[str, ...]:
    """Tokens of a space and at least two letters that the tokenizer yields for their own text."""
    pieces = vocabulary.token_bytes
    words = [(i, raw.decode()) for i, raw in enumerate(pieces) if _WORD.fullmatch(raw)]
    _, read = vocabulary.encode_after(["a"] * len(words), [word for _, word in words])
    return tuple(word[1:] for (i, word), ids in zip(words, read, strict=True) if ids == [i])


def _read(token: str, vocabulary: object) -> tuple[Places, str]:
    """Positions of a piece of a template, and its name if it is a field."""
    if token in ("{{", "}}"):
        return ((token[0],),), ""
    if token in ("{", "}"):
        raise ConfigError(
            f"A template's braces must come in pairs; got a lone {token!r}. Write a literal brace "
            "twice."
        )
    if not token.startswith("{"):
        return ((token,),), ""
    if token == f"{{{NUMBER}}}":
        return (("\0",),), NUMBER
    form, count = _format(token[1:-1])
    places = form.places(count, vocabulary)
    if math.prod(map(len, places)) < 2:
        raise ConfigError(
            f"{token} must leave 2 or more secrets to choose from; this vocabulary has "
            f"{len(places[0]):,}. Use another format or model."
        )
    return places, token[1:-1]


def _format(name: str) -> tuple[Format, int]:
    """The format of "digits:6", and its count."""
    kind, colon, given = name.partition(":")
    form = FORMATS.get(kind)
    if form is None:
        near = difflib.get_close_matches(kind, FORMATS, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"A canary's format must be one of {_known()}; got {name[:60]!r}.{meant} Write a "
            "literal brace twice."
        )
    if not colon:
        return form, form.count or 1
    takes = form.count is not None and kind != "word"
    is_number = given.isascii() and given.isdigit() and len(given) < 4
    if not takes or not is_number or not 1 <= int(given) <= _MOST_PLACES:
        allowed = f"a count from 1 to {_MOST_PLACES}" if takes else "no count"
        raise ConfigError(
            f"{{{kind}}} takes {allowed}; got {given[:20]!r}. Write {{{kind}}}"
            + (f" or {{{kind}:{form.count}}}." if takes else ".")
        )
    return form, int(given)


def _check_ends(text: str, inside: list[tuple[Places, str]]) -> None:
    """Refuse letters after {tokens}: two choices of tokens might give the same secret."""
    for (_, name), (following, _) in itertools.pairwise(inside):
        if name.startswith("tokens") and any(choice[0].isalpha() for choice in following[0]):
            raise ConfigError(
                f"{{{name}}} must not be followed by a letter; got one in {text!r}. Put a "
                "space between."
            )


def _plain(text: str) -> str:
    """Refuse NUL, which marks the canary's number, and text that UTF-8 cannot encode."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ConfigError(
            f"A template must not have NUL or lone surrogates; got {text!r}. Remove them."
        )
    return text


def _known() -> str:
    return ", ".join(f"{{{name}}}" for name in FORMATS)
