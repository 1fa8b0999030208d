"""Finders of the secrets that canary manifests name, to mask them in pages and CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from auditor.canaries.canaries import Canary, canaries_in, read_canaries
from auditor.config.audit import AuditConfig
from auditor.errors import AuditError
from reports.privacy.finding import Finder
from reports.privacy.secrets import secret_finder

_RECORD = ".insertions.json"  # what `insert_canaries` writes beside a corpus
_MOST_BYTES = 64 << 20  # of a manifest that is looked for by its digest


@dataclass(frozen=True)
class KnownSecrets:
    """Finders of the secrets, none or one; and sentences about secrets that are not masked."""

    finders: tuple[Finder, ...] = ()
    notes: tuple[str, ...] = ()


def known_secrets(
    manifests: Iterable[str | Path] = (),
    *,
    recorded: Iterable[str | Path] = (),
    corpora: Iterable[str | Path] = (),
) -> KnownSecrets:
    """The secrets of canary manifests.

    Parameters
    ----------
    manifests : paths of manifests, or of a testbed's truth.parquet
    recorded : the same, from the settings of earlier runs: one that is gone makes a note
    corpora : corpus specs. A corpus that `auditor canaries insert` wrote has a record beside it;
        the manifest with the recorded digest is looked for beside the corpus and in the current
        folder, and one that is not found makes a note.

    Raises
    ------
    ConfigError, RunError
        If one of `manifests` is missing or invalid.
    """
    canaries: list[Canary] = [one for path in manifests for one in read_canaries(path)]
    notes = []
    for path in recorded:
        try:
            canaries += canaries_in(path)
        except AuditError:
            notes.append(
                f"{path}, which names canaries, cannot be read, so their secrets are not masked. "
                "Restore the file."
            )
    for corpus in corpora:
        digest = _digest_of(Path(f"{corpus}{_RECORD}"))
        if digest is None or any(_digest_of(Path(p), "sha256") == digest for p in manifests):
            continue
        found = _with_digest(digest, (Path(corpus).parent, Path()))
        if found is not None:
            canaries += read_canaries(found)
        else:
            notes.append(
                f"{corpus} contains canaries whose manifest was not found, so their secrets are "
                "not masked. Name it with --canaries."
            )
    secrets = list(dict.fromkeys((canary.prefix, canary.secret) for canary in canaries))
    return KnownSecrets((secret_finder(secrets),) if secrets else (), tuple(dict.fromkeys(notes)))


def secrets_of_audits(*configs: AuditConfig, manifests: Iterable[str | Path] = ()) -> KnownSecrets:
    """The secrets of `manifests`, and of the canaries that audits measured or were trained on."""
    return known_secrets(
        manifests,
        recorded=[p for c in configs for p in (c.canaries, c.truth) if p is not None],
        corpora=[spec for c in configs for spec in c.corpus],
    )


def _digest_of(path: Path, name: str = "manifest_sha256") -> str | None:
    """The digest that a JSON file records under `name`; None without one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return str(found[name]) if isinstance(found, dict) and name in found else None


def _with_digest(digest: str, folders: Iterable[Path]) -> Path | None:
    """The manifest of this digest in one of the folders."""
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            if not path.name.endswith(_RECORD) and _digest_of(path, "sha256") == digest:
                return path
    return None
