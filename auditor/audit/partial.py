"""Work on a shard that was interrupted: kept in partial/, and taken up when the run is resumed.

The files are not in the manifest. A file that does not fit, for example because it is damaged or
another model was loaded, is ignored: the shard is then started again, with the same results.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from auditor.models.teacher_forcing import Memo
from auditor.runs.run import Run
from auditor.system.atomic_files import publish, written_part

PARTIAL = "partial"
# Keys and values of unfinished sequences can be large; beyond this, the shard is started again.
_MOST_BYTES = 16 * 2**30
_DAMAGE = (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError)


def partial_file(run: Run, name: str) -> Path:
    """The place of a shard's unfinished work."""
    return run.path / PARTIAL / f"{name}.npz"


def keep(path: Path, identity: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Write arrays atomically; False if they are too large for the disk or the limit."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    n_bytes = sum(array.nbytes for array in arrays.values())
    if n_bytes > min(_MOST_BYTES, shutil.disk_usage(path.parent).free // 2):
        return False
    with written_part(path) as sink:
        np.savez(sink, allow_pickle=False, identity=np.array(_text(identity)), **arrays)
    publish(path)
    return True


def kept(path: Path, identity: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays that `keep` wrote with this identity; None if there are none."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["identity"]) != _text(identity):
                return None
            return {name: file[name] for name in file.files if name != "identity"}
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error):
        return None


def forget(run: Run, *names: str) -> None:
    """Delete the unfinished work of shards that are complete."""
    for name in names:
        partial_file(run, name).unlink(missing_ok=True)


def digest(*values: Any) -> str:
    """sha256 of plain data, for an identity."""
    return hashlib.sha256(_text(values).encode()).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


class Passes:
    """The finished batches of the passes over one set of texts, in the order of the passes."""

    def __init__(self, arrays: Mapping[str, np.ndarray] | None = None):
        self.memos: list[Memo] = []
        self._arrays = dict(arrays or {})

    def next(self) -> Memo:
        """The memo of the next pass, with the batches that were kept."""
        n, memo = len(self.memos), Memo()
        for key in [k for k in self._arrays if k.startswith(f"{n}/") and k.endswith("/rows")]:
            stem = key.removesuffix("/rows")
            rows, sizes = self._arrays[key], self._arrays[f"{stem}/sizes"]
            n_columns = sum(k.startswith(f"{stem}/column") for k in self._arrays)
            ends = np.cumsum(np.maximum(sizes, 0))[:-1]
            columns = [np.split(self._arrays[f"{stem}/column{i}"], ends) for i in range(n_columns)]
            memo[tuple(rows.tolist())] = [
                tuple(column[i] for column in columns) if size >= 0 else ()
                for i, size in enumerate(sizes.tolist())
            ]
        self.memos.append(memo)
        return memo

    def arrays(self) -> dict[str, np.ndarray]:
        """All batches as named arrays; a row without values has the size -1."""
        out = {}
        for n, memo in enumerate(self.memos):
            for i, (batch, found) in enumerate(memo.items()):
                stem = f"{n}/{i}"
                out[f"{stem}/rows"] = np.array(batch, np.int64)
                sizes = [len(own[0]) if own else -1 for own in found]
                out[f"{stem}/sizes"] = np.array(sizes, np.int64)
                filled = [own for own in found if own]
                for k in range(len(filled[0]) if filled else 0):
                    out[f"{stem}/column{k}"] = np.concatenate([own[k] for own in filled])
        return out


@contextmanager
def kept_passes(run: Run, name: str, identity: Mapping[str, Any]) -> Iterator[Passes]:
    """The passes of a shard; their finished batches are kept if the work is interrupted."""
    path = partial_file(run, name)
    passes = Passes(kept(path, identity))
    try:
        yield passes
    except KeyboardInterrupt:
        keep(path, identity, passes.arrays())
        raise
    path.unlink(missing_ok=True)
