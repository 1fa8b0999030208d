"""Many runs at once: their stacked tables, and an overview."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path

import pandas as pd

from auditor.errors import AuditError, RunError
from auditor.runs.manifest import MANIFEST
from auditor.runs.run import Run, load_run


def _stacked(read: Callable[[Run, Sequence[str] | None], pd.DataFrame]):
    """A method of `Runs` that stacks the same table of each run."""

    @wraps(read)
    def table(self: Runs, columns: Sequence[str] | None = None) -> pd.DataFrame:
        return self._stack(lambda run: read(run, columns))

    return table


class Runs(Sequence[Run]):
    """Several runs, the earliest first; `auditor.load_runs(folder)` makes one.

    It has the table methods of `Run` (`samples()`, `candidates()`, `exposure()` etc., with the same
    `columns`). Each stacks the tables of all runs, with a first column `run` (category) that has
    `names`. A run without the table is left out, with a warning.
    """

    def __init__(self, folder: Path, runs: Sequence[Run]):
        self.folder, self._runs = folder, list(runs)

    @property
    def names(self) -> list[str]:
        """The runs' folders, relative to `folder`."""
        return [run.path.relative_to(self.folder).as_posix() for run in self._runs]

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"{self.folder} has no run {key!r}; it has {', '.join(self.names)}.")
            return self._runs[self.names.index(key)]
        if isinstance(key, slice):
            return Runs(self.folder, self._runs[key])
        return self._runs[key]

    def __repr__(self) -> str:
        return f"Runs({str(self.folder)!r}, {len(self)} runs)"

    def _repr_html_(self) -> str:
        return self.overview()._repr_html_()  # pandas escapes the cells

    samples = _stacked(Run.samples)
    scores = _stacked(Run.scores)
    candidates = _stacked(Run.candidates)
    summary = _stacked(Run.summary)
    matches = _stacked(Run.matches)
    strategies = _stacked(Run.strategies)
    discovery = _stacked(Run.discovery)
    comparisons = _stacked(Run.comparisons)
    calibration = _stacked(Run.calibration)
    known_truth = _stacked(Run.known_truth)
    exposure = _stacked(Run.exposure)

    def overview(self) -> pd.DataFrame:
        """One row per run: the model, the time, and the share of candidates found verbatim.

        Returns
        -------
        DataFrame
            run, model, begun (datetime, UTC; NaT = unknown), seed, complete, n_samples,
            n_candidates (verified, on a score's list), n_verbatim, their share and its 95 %
            confidence interval (low, high; Korn and Graubard's, candidates of one passage as one
            cluster), n_passages (distinct, of the verbatim candidates) and n_documents (in which
            these first occur). Counts are <NA> and shares NaN where nothing was verified.
        """
        rows = [
            {"run": name, **_line(run)} for name, run in zip(self.names, self._runs, strict=True)
        ]
        frame = pd.DataFrame(rows, columns=["run", *_LINE])
        frame["begun"] = pd.to_datetime(frame["begun"], utc=True, errors="coerce")
        counts = ("n_samples", "n_candidates", "n_verbatim", "n_passages", "n_documents")
        return frame.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(_SHARE, "float64"))

    def _stack(self, read: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
        parts: dict[str, pd.DataFrame] = {}
        without: dict[str, AuditError] = {}
        for name, run in zip(self.names, self._runs, strict=True):
            try:
                parts[name] = read(run)
            except RunError as error:
                without[name] = error
        if not parts:
            raise next(iter(without.values()), RunError(f"{self.folder} contains no run."))
        for why in without.values():
            warnings.warn(f"A run was skipped. {why}", stacklevel=3)
        for name, frame in parts.items():
            frame.insert(0, "run", name)
        shared = _one_category(parts.values(), "run", list(parts))
        return pd.concat(shared, ignore_index=True)


def load_runs(folder: str | Path = "runs") -> Runs:
    """All runs in a folder, at any depth.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Runs, the earliest first, as `auditor runs` lists them. Runs that cannot be opened (damaged, or
    of another version) are left out, with a warning that gives the reason.

    Raises
    ------
    RunError
        If there is no such folder, or no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder. Give the folder that contains your runs.")
    runs = []
    for _, run in find_runs(folder):
        if isinstance(run, AuditError):
            warnings.warn(f"A run was skipped. {run}", stacklevel=2)
        else:
            runs.append(run)
    if not runs:
        raise RunError(f"{folder} contains no run. Give the folder that contains your runs.")
    return Runs(folder, runs)


def find_runs(folder: Path, *, nested: bool = True) -> list[tuple[Path, Run | AuditError]]:
    """Every run in a folder, the earliest first; runs without a time come before all others.

    If `nested`, at any depth except in hidden folders and inside runs. Yields (folder, run), with
    the error in place of a run that cannot be opened.
    """
    paths = _run_folders(folder) if nested else (f.parent for f in folder.glob(f"*/{MANIFEST}"))
    found = [(path, _opened(path)) for path in sorted(paths)]
    return sorted(found, key=lambda one: timestamp(run_time(one[1])))


def _opened(path: Path) -> Run | AuditError:
    try:
        return load_run(path)
    except AuditError as error:
        return error


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders that contain a manifest.json, and links to such; does not descend into runs."""
    for here, inside, files in os.walk(folder):
        if MANIFEST in files:
            inside.clear()
            yield Path(here)
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        linked = (Path(here, name) for name in inside)
        yield from (path for path in linked if path.is_symlink() and (path / MANIFEST).is_file())


def run_time(run: Run | AuditError) -> str:
    """The scheduled time of a run, else when it was begun; "" = unknown."""
    if isinstance(run, AuditError):
        return ""
    return run.manifest.occasion or run.manifest.begun


def timestamp(when: str) -> float:
    """Seconds since 1970 of an ISO 8601 time with a UTC offset; -inf if invalid.

    >>> timestamp("1970-01-01T01:00:05+01:00"), timestamp("1970-01-01"), timestamp("")
    (5.0, -inf, -inf)
    """
    moment = moment_of(when)
    return float("-inf") if moment is None else moment.timestamp()


def moment_of(when: str) -> datetime | None:
    """Parse an ISO 8601 time with a UTC offset; None if invalid.

    >>> moment_of("2026-11-24T03:00+00:00").isoformat()
    '2026-11-24T03:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


_SHARE = ("share", "low", "high")
_LINE = (
    *("model", "begun", "seed", "complete", "n_samples", "n_candidates", "n_verbatim", *_SHARE),
    *("n_passages", "n_documents"),
)


def _line(run: Run) -> dict:
    line = {
        "model": run.config.model,
        "begun": run.manifest.begun or None,
        "seed": run.config.seed,
        "complete": run.complete,
        "n_samples": run.manifest.n_rows("samples/"),
    }
    if "candidates.parquet" not in run.manifest.shards:
        return line
    return line | run.headline()


def _one_category(frames, first: str, names: list[str]) -> list[pd.DataFrame]:
    """Give each column the same categories in all frames, so that stacking keeps them."""
    frames = [f.assign(**{first: pd.Categorical(f[first], categories=names)}) for f in frames]
    known: dict[str, dict] = {}
    for frame in frames:
        for name in frame.columns:
            if isinstance(frame[name].dtype, pd.CategoricalDtype):
                known.setdefault(name, {}).update(dict.fromkeys(frame[name].cat.categories))
    types = {name: pd.CategoricalDtype(list(values)) for name, values in known.items()}
    return [f.astype({k: v for k, v in types.items() if k in f.columns}) for f in frames]
