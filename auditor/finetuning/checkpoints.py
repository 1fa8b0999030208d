"""Files of a fine-tuning run: manifest, checkpoints and the saved model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import RunError
from auditor.runs import result_folder

MANIFEST, CHECKPOINTS, PROBES, MERGED = "finetune.json", "checkpoints", "probes", "merged"
FORMAT = 1
_PART = ".model.part"


def read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest, or None if missing. Raises RunError if damaged or of another version."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{out / MANIFEST} cannot be read ({error}). The folder is damaged: use another --out."
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(f"{out} was written by another version. Choose another --out.")
    if not isinstance(manifest.get("asked"), dict):
        raise RunError(
            f"{out / MANIFEST} is not a fine-tuning manifest: it has no settings. Use another "
            "--out."
        )
    return manifest


def refuse_other(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of this fine-tuning, or None if the folder is free.

    Raises RunError, naming the differences, if the folder has anything else.
    """
    manifest = read_manifest(out)
    found = None if manifest is None else manifest["asked"]
    result_folder.refuse_other(out, MANIFEST, "a fine-tuning", found, settings)
    return manifest


def last_checkpoint(out: Path) -> Path | None:
    """The latest complete checkpoint; incomplete ones are deleted.

    `Trainer` writes trainer_state.json last, so a checkpoint that has it is complete.
    """
    found = {}
    for folder in (out / CHECKPOINTS).glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            found[int(folder.name.rpartition("-")[2])] = folder
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return found[max(found)] if found else None


def save_network(network, tokenizer, out: Path) -> None:
    """Save a model or adapter and its tokenizer to a folder, each file atomically."""
    part = out / _PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        network.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "README.md").unlink(missing_ok=True)  # peft's model card is an empty template
        out.mkdir(exist_ok=True, mode=0o700)
        for file in sorted(part.iterdir()):
            os.replace(file, out / file.name)
    except OSError as error:
        raise RunError(
            f"The model could not be saved in {out} ({error.strerror or error}). Free some space "
            "and run the same command again to resume from the last checkpoint."
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
