"""Neighbours of a text, for the neighbourhood attack.

A masked language model replaces one word (Mattern et al. 2023). Without one, words are dropped and
swapped: a weaker control, because broken grammar lowers the likelihood of any text, member or not.
Results record the method. Neighbours depend only on the text and the seed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from auditor.models.masked import MaskedModel

_SHARE = 0.1  # fraction of words dropped or swapped, at least one
_TRIES = 20  # draws per requested neighbour: short texts have few


@dataclass(frozen=True)
class Perturbation:
    """Makes n neighbours of a text with a masked model or, without one, by drops and swaps."""

    n: int
    seed: int = 0
    masked: MaskedModel | None = None

    @property
    def how(self) -> str:
        """The method, in words."""
        if self.masked is None:
            return "words dropped and swapped"
        return f"a word replaced by {self.masked.name}"

    def neighbours(self, text: str) -> list[str]:
        """At most n distinct texts other than the text; short texts have fewer."""
        if self.masked is None:
            return drop_and_swap(text, self.n, seed=self.seed)
        found = self.masked.replacements(text, 2 * self.n, rng=_rng(text, self.seed))
        texts = (text[: r.start] + r.text + text[r.end :] for r in found)
        # Two replacements may give the same text.
        return [t for t in dict.fromkeys(texts) if t != text][: self.n]


def drop_and_swap(text: str, n: int, *, seed: int = 0) -> list[str]:
    """Neighbours of a text with a tenth of its words dropped or swapped with the next.

    For a text of one word, characters are used instead.

    Parameters
    ----------
    text : str
    n : int, 0 or more
    seed : int

    Returns
    -------
    list of at most n distinct str other than the text, none of them blank.

    >>> sorted(drop_and_swap("to be", 9))
    ['be', 'be to', 'to ']
    """
    lead = text[: len(text) - len(text.lstrip())]
    units = re.findall(r"(\S+)(\s*)", text)
    if len(units) < 2:
        units = [(character, "") for character in text.strip()]
    rng = _rng(text, seed)
    found: dict[str, None] = {}
    for _ in range(_TRIES * n if len(units) > 1 else 0):
        changed = lead + _changed(units, rng)
        if changed != text and changed.strip():
            found[changed] = None
        if len(found) == n:
            break
    return list(found)


def _changed(units: list[tuple[str, str]], rng: np.random.Generator) -> str:
    words: list[str | None] = [word for word, _ in units]
    places = rng.choice(len(units), size=max(1, round(_SHARE * len(units))), replace=False)
    for i, drops in zip(places.tolist(), (rng.random(len(places)) < 0.5).tolist(), strict=True):
        if drops:
            words[i] = None
        else:
            other = i + 1 if i + 1 < len(units) else i - 1
            words[i], words[other] = words[other], words[i]
    kept = zip(words, (space for _, space in units), strict=True)
    return "".join(word + space for word, space in kept if word is not None)


def _rng(text: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
