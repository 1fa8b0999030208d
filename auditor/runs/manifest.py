"""Read, check and compare a run's manifest.

A manifest is untrusted: every part that is read is validated, and names cannot point outside the
run's folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from auditor.config.audit import make_config
from auditor.errors import ConfigError, RunError
from auditor.system.atomic_files import is_inside
from auditor.system.validation import STRICT, Text, fault

FORMAT = 1
MANIFEST = "manifest.json"
# A stage's shards: STAGE/STRATEGY-NUMBER.parquet.
_SHARD = re.compile(r"(?:samples|scores)/(?P<strategy>[a-z0-9-]+)-(?P<number>\d{5,9})\.parquet")


class _Checked(BaseModel):
    model_config = STRICT


class _File(_Checked):
    sha256: Text
    bytes: int
    rows: int = 0
    undefined: dict[Text, dict[Text, int]] = {}
    looked_up: dict[Text, int] = {}
    origin: Text = ""


class _Model(_Checked):
    sha256: Text
    spec: Text = ""
    parameters: int = 0
    dtype: Text = ""
    vocabulary_sha256: Text = ""
    bos_id: int | None = None


class _CorpusFile(_Checked):
    path: Text
    bytes: int
    sha256: Text


class _Corpus(_Checked):
    documents: int
    bytes: int
    files: list[_CorpusFile]
    problems: dict[Text, int] = {}
    index: Text = ""


class _Strategy(_Checked):
    seconds: float


class _Stage(_Checked):
    seconds: float
    strategies: dict[Text, _Strategy] = {}


class _Note(_Checked):
    stage: Text
    sentence: Text


class _Manifest(_Checked):
    """The schema of manifest.json. Unknown keys are kept."""

    config: dict[Text, Any]
    shards: dict[Text, _File]
    stages: dict[Text, _Stage]
    complete: bool = False
    digest: Text = ""
    gates: dict[Text, Any] = {}
    begun: Text = ""
    occasion: Text = ""
    command: Text | None = None
    price_per_hour: float = 0.0
    revealed: bool = False
    versions: dict[Text, Text] = {}
    notes: list[_Note] = []
    models: dict[Text, _Model] = {}
    prompts: dict[Text, Text] = {}
    batch_size: dict[Text, int] = {}
    corpus: _Corpus = _Corpus(documents=0, bytes=0, files=[])
    rescored_in_float32: bool = False


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A run's manifest, its config with all fields; None if there is no manifest.

    Raises
    ------
    RunError
        If it is damaged, or of another version.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, f"cannot be read ({error})") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise RunError(
            f"{folder} was written by another version (format {repr(found)[:40]}; this one reads "
            f"{FORMAT}). Open it with that version, or make the run again."
        )
    if problem := fault(_Manifest, manifest):
        raise _damaged(file, f"is not what a run writes: {problem}")
    try:
        # Options added after the run get their defaults.
        manifest["config"] = make_config(manifest["config"]).identity()
    except ConfigError as error:
        raise _damaged(file, f"has a config that cannot be: {error}") from None
    known = {strategy["name"] for strategy in manifest["config"]["strategies"]}
    for name in manifest["shards"]:
        if not is_inside(name):
            raise _damaged(file, f"names a file outside of the run's folder: {name[:80]!r}")
        shard = _SHARD.fullmatch(name)
        is_known = shard is not None and shard["strategy"] in known
        if name.startswith(("samples/", "scores/")) and not is_known:
            raise _damaged(file, f"names a shard that the run cannot have: {name[:80]!r}")
    return manifest


def _damaged(file: Path, what: str) -> RunError:
    return RunError(f"{file} {what}. The run's folder is damaged: use another --out.")


def shard_order(manifest: dict[str, Any], name: str) -> tuple[int, int]:
    """Sort key of a stage's shards: position of the strategy in the config, then number."""
    shard = _SHARD.fullmatch(name)
    if shard is None:
        raise ValueError(f"{name} is no shard")
    order = [s["name"] for s in manifest["config"]["strategies"]]
    return order.index(shard["strategy"]), int(shard["number"])


def differences(
    there: dict[str, Any],
    asked: dict[str, Any],
    prefix: str = "",
    *,
    sides: tuple[str, str] = ("there", "asked"),
) -> list[str]:
    """The differences between two configs, one phrase each; `sides` names the two.

    >>> differences({"seed": 1, "top": 5}, {"seed": 2, "top": 5})
    ['seed is 1 there, 2 asked']
    """
    out = []
    for key in sorted({*there, *asked}, key=str):
        old, new = there.get(key), asked.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            out += differences(old, new, f"{prefix}{key}.", sides=sides)
        elif key == "strategies" and _are_named(old) and _are_named(new):
            before, after = ({s["name"]: s for s in side or ()} for side in (old, new))
            apart = differences(before, after, "strategy ", sides=sides)
            out += apart or ["the strategies are in another order"]
        else:
            shown = [json.dumps(v, ensure_ascii=False) for v in (old, new)]
            if any(len(s) > 60 for s in shown):
                out.append(f"{prefix}{key} differs")
            else:
                out.append(f"{prefix}{key} is {shown[0]} {sides[0]}, {shown[1]} {sides[1]}")
    return out


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in value
    )


def check_sizes(path: Path, shards: dict[str, dict[str, Any]]) -> None:
    """Refuse a run if the size of any file differs from the manifest.

    Raises
    ------
    RunError
    """
    for name, known in shards.items():
        file = path / name
        if file.exists() and file.stat().st_size != known["bytes"]:
            raise RunError(altered(file, file.read_bytes(), known))


def altered(file: Path, raw: bytes, known: dict[str, Any] | None) -> str:
    """Explain how a file differs from its manifest entry `known`, and the remedy.

    >>> print(altered(Path("r/x.parquet"), b"ab", {"sha256": "0123456789abcdef", "bytes": 3}))
    r/x.parquet is not what this run wrote: the manifest has sha256 0123456789ab…, the file has
    sha256 fb8e20fc2e4c…, cut off after 2 of 3 bytes. Delete that file and start the run again: it
    is made anew.
    """
    was = "no such file" if known is None else f"sha256 {known['sha256'][:12]}…"
    found = f"sha256 {hashlib.sha256(raw).hexdigest()[:12]}…"
    if known is not None and len(raw) < known["bytes"]:
        found += f", cut off after {len(raw):,} of {known['bytes']:,} bytes"
    return (
        f"{file} is not what this run wrote: the manifest has {was}, the file has {found}. Delete "
        "that file and start the run again: it is made anew."
    )
