"""Canaries: random secrets to insert into training text, and controls that are never inserted.

A manifest lists them. Only its owner can read it: anyone who knows the secrets before training
could make a model appear to have memorized them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from auditor.canaries.templates import parse_template
from auditor.config.canaries import CreateOptions
from auditor.errors import ConfigError, RunError, in_short
from auditor.system.atomic_files import write_atomically
from auditor.system.validation import Text, fault

VERSION = 1
CONTROLS = 512
_CLOSED = ConfigDict(strict=True, extra="forbid")


class _Row(BaseModel):
    model_config = _CLOSED

    canary_id: Text
    prefix: Text
    secret: Text
    suffix: Text
    repeats: int


class _Manifest(BaseModel):
    model_config = _CLOSED

    template: Text
    fields: Text
    space_size: Annotated[str, Field(pattern="^[1-9][0-9]{0,999}$")]
    seed: int
    model: Text | None
    canaries: list[_Row]
    controls: list[_Row]


# Spaces up to this size are shuffled; larger ones are sampled until all secrets differ.
_SHUFFLED = 1 << 20


@dataclass(frozen=True)
class Canary:
    """A secret in its sentence, and how often to insert it (control: 0)."""

    canary_id: str
    prefix: str
    secret: str
    suffix: str
    repeats: int

    @property
    def text(self) -> str:
        """The text to insert."""
        return self.prefix + self.secret + self.suffix


@dataclass(frozen=True)
class Canaries:
    """Canaries of one template, with controls from the same space; see `make_canaries`.

    Parameters
    ----------
    fields : str
        The template's random fields, "word digits:6".
    space_size : int
        Exact number of possible secrets.
    model : str or None
        Spec of the model whose vocabulary `{tokens}` samples.
    canaries, controls : tuple of Canary
        All secrets differ; controls are never inserted.
    """

    template: str
    fields: str
    space_size: int
    seed: int
    model: str | None
    canaries: tuple[Canary, ...]
    controls: tuple[Canary, ...]

    @property
    def space_bits(self) -> float:
        """log2 of the space size: the maximum exposure, in bits."""
        return math.log2(self.space_size)

    @property
    def digest(self) -> str:
        """sha256 of the manifest's content."""
        return hashlib.sha256(_canonical(self._content())).hexdigest()

    def frame(self) -> pd.DataFrame:
        """One row per canary and control: canary_id, role, repeats, prefix, secret, suffix."""
        rows = [
            {**asdict(canary), "role": role}
            for role, some in (("canary", self.canaries), ("control", self.controls))
            for canary in some
        ]
        return pd.DataFrame(rows)[["canary_id", "role", "repeats", "prefix", "secret", "suffix"]]

    def save(self, path: str | Path) -> Path:
        """Write the manifest as JSON, readable only by its owner.

        Raises RunError if the path exists or cannot be written.
        """
        path = Path(path)
        refuse_existing(path)
        whole = {**self._content(), "space_bits": self.space_bits, "sha256": self.digest}
        write_atomically(path, (json.dumps(whole, indent=1, ensure_ascii=True) + "\n").encode())
        return path

    def _content(self) -> dict[str, Any]:
        content = {**asdict(self), "version": VERSION}
        # As text, since many JSON readers round integers above 53 bits.
        return {**content, "space_size": str(self.space_size)}


def make_canaries(
    template: str,
    *,
    count: int = 10,
    repeats: Sequence[int] = (1,),
    controls: int | None = None,
    seed: int = 0,
    model: str | None = None,
) -> Canaries:
    """Draw canaries and controls from a template's space, reproducibly by seed.

    Parameters
    ----------
    template : str
        See `parse_template`.
    count : int
        Number of canaries.
    repeats : sequence of int
        How often to insert each canary; assigned in rotation.
    controls : int, optional
        Number of secrets that are never inserted, at least `count`. By default 512, or the rest
        of a smaller space, or `count` if that is more. With n controls, an exposure of up to
        log2(n + 1) bits can be measured.
    seed : int
    model : str, optional
        Spec of the model whose vocabulary `{tokens}` samples.

    Returns
    -------
    Canaries

    Raises
    ------
    ConfigError
        If the template is invalid, a number is out of range, or the space is too small.
    ModelError
        If the model cannot be found.

    >>> some = make_canaries("The PIN of {n} is {pin}.", count=2, repeats=[1, 8], controls=3)
    >>> [c.repeats for c in some.canaries], some.space_size, some.controls[0].prefix
    ([1, 8], 10000, 'The PIN of 3 is ')
    """
    # `out` is an option of the command alone.
    CreateOptions(count=count, repeats=tuple(repeats), controls=controls, seed=seed, out="-")
    if controls is not None and controls < count:
        raise ConfigError(
            f"--controls must be at least --count ({count:,}); got {controls:,}. Raise --controls."
        )
    drawn = parse_template(template, vocabulary_of(model))
    size = drawn.space_size
    n_controls = max(min(CONTROLS, size - count), count) if controls is None else controls
    if count + n_controls > size:
        raise ConfigError(
            f"The space of {template!r} has {size:,} secrets; {count:,} canaries and "
            f"{n_controls:,} controls need {count + n_controls:,} that differ. Add a field, or "
            "lower --count or --controls."
        )
    indices = _distinct(size, count + n_controls, np.random.default_rng([seed, 7]))
    made = tuple(
        Canary(
            f"{'canary' if i < count else 'control'}-{i + 1:04}",
            drawn.prefix(i + 1),
            drawn.secret(index),
            drawn.suffix(i + 1),
            repeats[i % len(repeats)] if i < count else 0,
        )
        for i, index in enumerate(indices)
    )
    return Canaries(template, drawn.fields, size, seed, model, made[:count], made[count:])


def load_canaries(path: str | Path) -> Canaries:
    """Read a manifest that `Canaries.save` wrote.

    Raises
    ------
    RunError
        If the manifest is missing, damaged, or of another version.
    """
    path = Path(path)
    try:
        whole = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}); a canary manifest is required. Create one "
            "with: auditor canaries create."
        ) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    version = whole.get("version") if isinstance(whole, dict) else None
    if version != VERSION:
        raise RunError(
            f"{path} must be a canary manifest of version {VERSION}; got "
            f"{'none' if version is None else repr(version)[:40]}. Use the auditor that wrote it, "
            "or create new canaries."
        )
    recorded = whole.pop("sha256", None)
    whole.pop("space_bits", None)
    if hashlib.sha256(_canonical(whole)).hexdigest() != recorded:
        raise _damaged(path, "its sha256 differs")
    del whole["version"]
    if wrong := fault(_Manifest, whole):
        raise _damaged(path, wrong)
    for role in ("canaries", "controls"):
        whole[role] = tuple(Canary(**row) for row in whole[role])
    return Canaries(**{**whole, "space_size": int(whole["space_size"])})


def refuse_existing(path: Path) -> None:
    """Raise RunError if an output path exists."""
    if path.exists() or path.is_symlink():
        raise RunError(f"--out {path} exists already. Choose another --out, or delete it.")


def by_prefix(canaries: Sequence[Canary]) -> dict[str, list[int]]:
    """Indices of the canaries of each prefix."""
    groups: dict[str, list[int]] = {}
    for i, canary in enumerate(canaries):
        groups.setdefault(canary.prefix, []).append(i)
    return groups


def vocabulary_of(model: str | None):
    """The vocabulary of a model spec, or None without one."""
    if model is None:
        return None
    from auditor.models.loading import load_vocabulary

    return load_vocabulary(model)


def _distinct(size: int, n: int, rng: np.random.Generator) -> list[int]:
    """n distinct integers below `size`, uniform, in random order."""
    if size <= _SHUFFLED:
        return rng.permutation(size)[:n].tolist()
    found: dict[int, None] = {}
    # Rejection sampling with as many bits as the size has.
    bits = (size - 1).bit_length()
    n_bytes = (bits + 7) // 8
    while len(found) < n:
        index = int.from_bytes(rng.bytes(n_bytes), "big") >> (8 * n_bytes - bits)
        if index < size:
            found[index] = None
    return list(found)


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=True).encode()


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"{path} is not a canary manifest, or is damaged ({why}). Give the file that `auditor "
        "canaries create` wrote; if it is that file, restore it from a copy."
    )


def read_canaries(path: str | Path) -> list[Canary]:
    """Canaries, and controls (0 repeats), of a manifest or a testbed's truth.parquet.

    Raises
    ------
    ConfigError, RunError
        If the file is missing, has no canaries, or is invalid.
    """
    found = canaries_in(path)
    if not found:
        raise ConfigError(f"--canaries {path} has no canaries. Give a manifest with some.")
    return found


def canaries_in(path: str | Path) -> list[Canary]:
    """As `read_canaries`; empty if a truth.parquet has no canaries."""
    path = Path(path)
    if path.suffix == ".parquet":
        return _of_testbed(path)
    manifest = load_canaries(path)
    return [*manifest.canaries, *manifest.controls]


def _of_testbed(path: Path) -> list[Canary]:
    try:
        truth = pd.read_parquet(path)
        rows = truth[truth["kind"] == "canary"]
        return [
            Canary(r.doc_id, r.text[: r.text.index(r.secret)], r.secret, "", r.repeats)
            for r in rows.itertuples()
        ]
    except FileNotFoundError:
        raise ConfigError(
            f"--canaries {path} does not exist. Give a testbed's truth.parquet, or a "
            "canary manifest."
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        lacks = f"no column {error}" if isinstance(error, KeyError) else in_short(error)
        raise ConfigError(
            f"--canaries {path} is not a testbed's truth.parquet ({lacks}). Give that file, or a "
            "canary manifest."
        ) from None
