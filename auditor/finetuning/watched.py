"""Canaries to watch while a model trains: from their manifest, or a testbed's truth."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import ConfigError, in_short
from auditor.finetuning.canaries import Canary, load_canaries


def read_watched(path: str | Path) -> list[Canary]:
    """Canaries, and controls with 0 repeats, of a manifest or of a testbed's truth.parquet.

    Raises
    ------
    ConfigError, RunError
        If there is no such file, it has no canaries, or it is not what was written.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        found = _of_testbed(path)
    else:
        manifest = load_canaries(path)
        found = [*manifest.canaries, *manifest.controls]
    if not found:
        raise ConfigError(f"--canaries {path} has no canaries. Give a manifest that names some.")
    return found


def _of_testbed(path: Path) -> list[Canary]:
    import pandas as pd

    try:
        truth = pd.read_parquet(path)
        rows = truth[truth["kind"] == "canary"]
        return [
            Canary(r.doc_id, r.text[: r.text.index(r.secret)], r.secret, "", r.repeats)
            for r in rows.itertuples()
        ]
    except FileNotFoundError:
        raise ConfigError(
            f"--canaries {path} is not there. Give a testbed's truth.parquet, or a canary manifest."
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        lacks = f"no column {error}" if isinstance(error, KeyError) else in_short(error)
        raise ConfigError(
            f"--canaries {path} is not a testbed's truth ({lacks}). Give its truth.parquet, or a "
            "canary manifest."
        ) from None
