"""A run's manifest: its typed content, and how it is read, checked and compared.

A manifest is untrusted: every part is validated when it is read, and names cannot point outside the
run's folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WrapValidator,
    model_serializer,
)

from auditor.config.audit import AuditConfig, make_config
from auditor.errors import ConfigError, RunError
from auditor.runs.gate_results import Decision, RunDiff
from auditor.system.atomic_files import is_inside
from auditor.system.validation import STRICT, Text, fault

FORMAT = 1
MANIFEST = "manifest.json"
AUDIT_FILE = "audit.toml"  # the settings again, ready to run
# A stage's shards: STAGE/STRATEGY-NUMBER.parquet.
_SHARD = re.compile(r"(?:samples|scores)/(?P<strategy>[a-z0-9-]+)-(?P<number>\d{5,9})\.parquet")


class _Record(BaseModel):
    """A JSON object of the manifest. Keys of other versions are kept."""

    model_config = {**STRICT, "extra": "allow"}

    @model_serializer(mode="wrap")
    def _written(self, handler) -> dict[str, Any]:
        """Omit fields that were never set and are empty."""
        return {k: v for k, v in handler(self).items() if v or k in self.model_fields_set}

    def clear(self, *names: str) -> None:
        """Reset optional fields, so that they are not written."""
        for name in names:
            setattr(self, name, None)
            self.model_fields_set.discard(name)


class FileEntry(_Record):
    """A file of the run.

    undefined : number of samples without a value, by score and reason
    looked_up : number of samples of each strategy that were searched for
    origin : digest of the inputs
    """

    sha256: Text
    bytes: int
    rows: int = 0
    undefined: dict[Text, dict[Text, int]] = {}
    looked_up: dict[Text, int] = {}
    origin: Text = ""


class ModelEntry(_Record):
    """A model as it was loaded; `dtype` is the lowest precision used for samples and scores.

    capabilities : what the server of a served model can do, by subject
    """

    sha256: Text
    spec: Text = ""
    parameters: int = 0
    dtype: Text = ""
    vocabulary_sha256: Text = ""
    bos_id: int | None = None
    capabilities: dict[Text, Text] = {}


class CorpusFile(_Record):
    """A file of the training text."""

    path: Text
    bytes: int
    sha256: Text


class CorpusEntry(_Record):
    """The training text that was searched; `index` is the folder of its index, if any."""

    documents: int
    bytes: int
    files: list[CorpusFile]
    problems: dict[Text, int] = {}
    index: Text = ""


class SamplingCost(_Record):
    """Seconds and tokens that a strategy's samples took."""

    seconds: float
    tokens: int = 0


class ChainEntry(_Record):
    """The Markov chains of a strategy's samples from a masked model.

    method : gibbs or metropolis-hastings
    burn_in : steps of each chain, after which its state is the sample
    thinning : steps between two samples of a chain; 0 = each sample has a chain of its own
    proposed, accepted : steps of all chains, and those that were accepted
    acceptance : accepted / proposed
    """

    method: Text
    burn_in: int
    thinning: int = 0
    proposed: int = 0
    accepted: int = 0
    acceptance: float = 0.0


class StageEntry(SamplingCost):
    """Seconds that a stage took, and what it processed."""

    texts: int = 0
    strategies: dict[Text, SamplingCost] = {}
    chains: dict[Text, ChainEntry] = {}


class Note(_Record):
    """A note to the user, and the stage that made it."""

    stage: Text
    sentence: Text


class GateResults(_Record):
    """Results of the run's gates, and the comparison with the last run.

    told : digest of the results that the hooks have received
    hooks : sentences on hooks that failed
    why : why the gates could not be decided
    """

    gates: list[Decision] = []
    since: RunDiff | None = None
    told: Text | None = None
    hooks: list[Text] = []
    why: Text = ""


def _valid_or_none(value: Any, handler) -> GateResults | None:
    try:
        return handler(value)
    except ValidationError:
        return None


def _identity(config: Any) -> AuditConfig:
    """The config without the options that do not affect results; missing options get defaults."""
    return make_config(config.identity() if isinstance(config, AuditConfig) else config)


class Manifest(_Record):
    """The content of manifest.json.

    shards : every file of the run
    gates : the gates' settings
    occasion : the scheduled time
    prompts : digest of the prompts of each strategy
    judged : None also if it is not valid, so that such a run can still be listed
    """

    config: Annotated[AuditConfig, PlainValidator(_identity), PlainSerializer(AuditConfig.identity)]
    shards: dict[Text, FileEntry]
    stages: dict[Text, StageEntry]
    format: int = FORMAT
    complete: bool = False
    digest: Text = ""
    gates: dict[Text, Any] = {}
    begun: Text = ""
    occasion: Text = ""
    command: Text | None = None
    price_per_hour: float | None = None
    revealed: bool = False
    versions: dict[Text, Text] = {}
    notes: list[Note] = []
    models: dict[Text, ModelEntry] = {}
    prompts: dict[Text, Text] = {}
    batch_size: dict[Text, int] = {}
    corpus: CorpusEntry | None = None
    rescored_in_float32: bool = False
    judged: Annotated[GateResults | None, WrapValidator(_valid_or_none)] = None

    def n_rows(self, prefix: str) -> int:
        """Number of rows of all files whose name begins with `prefix`."""
        return sum(file.rows for name, file in self.shards.items() if name.startswith(prefix))

    def shard_order(self, name: str) -> tuple[int, int]:
        """Sort key of a stage's shards: position of the strategy in the config, then number."""
        shard = _SHARD.fullmatch(name)
        if shard is None:
            raise ValueError(f"{name} is no shard")
        order = [s.name for s in self.config.strategies]
        return order.index(shard["strategy"]), int(shard["number"])


def read_manifest(folder: Path) -> Manifest | None:
    """A run's manifest; None if there is none. Raises a RunError if it is not valid."""
    file = folder / MANIFEST
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, f"cannot be read ({error})") from None
    version = there.get("format") if isinstance(there, dict) else None
    if version != FORMAT or isinstance(version, bool):
        raise RunError(
            f"{folder} was written by another version of auditor (format {repr(version)[:40]}; "
            f"this version reads {FORMAT}). Open it with that version, or run the audit again."
        )
    try:
        manifest = Manifest.model_validate(there)
    except ValidationError:
        raise _damaged(file, f"is not valid: {fault(Manifest, there)}") from None
    except ConfigError as error:
        raise _damaged(file, f"has an invalid config: {error}") from None
    known = {strategy.name for strategy in manifest.config.strategies}
    for name in manifest.shards:
        if not is_inside(name):
            raise _damaged(file, f"lists a file outside the run's folder: {name[:80]!r}")
        shard = _SHARD.fullmatch(name)
        is_known = shard is not None and shard["strategy"] in known
        if name.startswith(("samples/", "scores/")) and not is_known:
            raise _damaged(file, f"lists a shard that the run cannot have: {name[:80]!r}")
    return manifest


def _damaged(file: Path, what: str) -> RunError:
    return RunError(f"{file} {what}. The run's folder is damaged: use another --out.")


def differences(
    stored: dict[str, Any],
    requested: dict[str, Any],
    prefix: str = "",
    *,
    sides: tuple[str, str] = ("stored", "requested"),
) -> list[str]:
    """The differences between two configs, one phrase each; `sides` names the two.

    >>> differences({"seed": 1, "top": 5}, {"seed": 2, "top": 5})
    ['seed is 1 stored, 2 requested']
    """
    out = []
    for key in sorted({*stored, *requested}, key=str):
        old, new = stored.get(key), requested.get(key)
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


def check_sizes(path: Path, shards: dict[str, FileEntry]) -> None:
    """Raise a RunError if the size of any file differs from the manifest."""
    for name, known in shards.items():
        file = path / name
        if file.exists() and file.stat().st_size != known.bytes:
            raise RunError(altered(file, file.read_bytes(), known))


def altered(file: Path, raw: bytes, known: FileEntry | None) -> str:
    """Explain how a file differs from its manifest entry `known`, and the remedy.

    >>> print(altered(Path("r/x.parquet"), b"ab", FileEntry(sha256="0123456789abcdef", bytes=3)))
    r/x.parquet is not what this run wrote: the manifest has sha256 0123456789ab…, the file has
    sha256 fb8e20fc2e4c…, cut off after 2 of 3 bytes. Delete that file and resume the run to
    rebuild it.
    """
    was = "no such file" if known is None else f"sha256 {known.sha256[:12]}…"
    found = f"sha256 {hashlib.sha256(raw).hexdigest()[:12]}…"
    if known is not None and len(raw) < known.bytes:
        found += f", cut off after {len(raw):,} of {known.bytes:,} bytes"
    return (
        f"{file} is not what this run wrote: the manifest has {was}, the file has {found}. Delete "
        "that file and resume the run to rebuild it."
    )
