"""Files of a run that are not what the run wrote: cut off, or changed; named by their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from auditor.errors import RunError


def check_sizes(path: Path, shards: dict[str, dict[str, Any]]) -> None:
    """Refuse the first file of a run that has another length than when it was written.

    Raises
    ------
    RunError
    """
    for name, known in shards.items():
        file = path / name
        if file.exists() and file.stat().st_size != known["bytes"]:
            raise RunError(altered(file, file.read_bytes(), known))


def altered(file: Path, raw: bytes, known: dict[str, Any] | None) -> str:
    """What is wrong with a file, by its hash, and what to do; `known` is the manifest's entry.

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
