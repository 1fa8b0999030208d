"""A run's folder, opened for reading: tables, manifest, and the display in Jupyter."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditor.config.audit import AuditConfig
from auditor.errors import AuditError, RunError, in_short
from auditor.runs.manifest import MANIFEST, Manifest, altered, read_manifest
from auditor.runs.old_tables import as_current, current_columns, current_name, stored_columns
from auditor.runs.remote import Remote, is_url, open_remote
from reports.analysis import schema
from reports.analysis.dtypes import typed
from reports.analysis.found_verbatim import headline_counts
from reports.listed import listed
from reports.pages.card import Card, render_card
from reports.pages.sentences import headline

# Table -> the stage that writes it.
_MADE_BY = {"samples": "sample", "scores": "score", "matches": "verify"}
_FOLDERS = {"matches": "matches/"}
_FILES = (
    ("report", "report.html"),
    ("candidates.csv", "candidates.csv"),
    ("summary.csv", "summary.csv"),
)


class Run:
    """A run's folder, open for reading; `auditor.load_run(path)` makes one.

    `samples()`, `scores()`, `candidates()`, `summary()`, `matches()` and so on return DataFrames;
    docs/columns.md explains their columns. They raise a RunError if the stage has not run yet.
    Given `columns` (names, or patterns such as `rank:*`), they read only those from disk. A file
    read whole is checked against its sha256 in the manifest, single columns by their page
    checksums. `manifest` records the options and what ran.
    """

    def __init__(self, path: Path, manifest: Manifest, remote: Remote | None = None):
        self.path, self.manifest, self.remote = path, manifest, remote

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        return f"Run({str(self.path)!r}, {self.config.model}, {state})"

    @property
    def complete(self) -> bool:
        """Whether every stage has finished."""
        return self.manifest.complete

    @property
    def config(self) -> AuditConfig:
        """The settings that decide the run's content."""
        return self.manifest.config

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.path / "report.html"

    def samples(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every sample: text, prompt, tokens and their log-probabilities."""
        return _read_frame(self, schema.SAMPLES, columns)

    def scores(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every sample's scores, higher = more likely memorized."""
        return _read_frame(self, schema.SCORES, columns)

    def candidates(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The shortlisted samples, one row each, with scores, ranks and verdict.

        Rows with `is_control` are only in the random control; no count of candidates has them.
        """
        return _read_frame(self, schema.CANDIDATES, columns)

    def headline(self) -> dict[str, Any]:
        """The numbers of the headline; see `reports.analysis.found_verbatim.headline_counts`."""
        return headline_counts(self.candidates())

    def summary(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Precision of each strategy and score (the paper's Table 2), one row each."""
        return _read_frame(self, schema.SUMMARY, columns)

    def matches(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every maximal verbatim overlap of a candidate with the training text."""
        return _read_frame(self, schema.MATCHES, columns)

    def strategies(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Estimates per strategy: precision, distinct passages, passages not found, tokens."""
        return _read_frame(self, schema.STRATEGIES, columns)

    def discovery(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Distinct passages against tokens sampled, for each strategy."""
        return _read_frame(self, schema.DISCOVERY, columns)

    def comparisons(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Pairs of lists of a strategy: which is more precise, on the same samples."""
        return _read_frame(self, schema.COMPARISONS, columns)

    def calibration(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Per score, samples listed against held-out controls; empty without controls."""
        return _read_frame(self, schema.CALIBRATION, columns)

    def known_truth(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """How many documents were extracted, by repeats; only for runs with a truth."""
        return _read_frame(self, schema.KNOWN_TRUTH, columns)

    def _repr_html_(self) -> str:
        """What Jupyter shows of a run."""
        return run_card(self)

    def exposure(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Exposure of the audit's canaries: one row per canary and control, no secrets."""
        if self.config.canaries is None:
            raise RunError(
                f"{self.path} has no exposure: the audit has no canaries. Start a new run with "
                "--canaries FILE."
            )
        if "exposure.parquet" not in self.manifest.shards:
            raise RunError(
                f"{self.path} has no exposure yet. Finish the run with: auditor audit --resume "
                f"{self.path}."
            )
        name = "exposure.parquet"
        selected = None if columns is None else _selected_columns(self, name, "exposure", columns)
        return self.read(name, selected).to_pandas()

    def notes(self) -> list[str]:
        """Notes on the run: memory that ran out, lines that were skipped."""
        sentences = [note.sentence for note in self.manifest.notes]
        for score, reasons in self.undefined().items():
            why = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.items())
            sentences.append(f"{score} is undefined for {sum(reasons.values()):,} samples ({why}).")
        return sentences

    def undefined(self) -> dict[str, dict[str, int]]:
        """Number of samples without a value, by score and reason: {score: {reason: count}}."""
        total: dict[str, dict[str, int]] = {}
        for file in self.manifest.shards.values():
            for score, reasons in file.undefined.items():
                known = total.setdefault(current_name(score), {})
                for reason, n in reasons.items():
                    known[reason] = known.get(reason, 0) + n
        return total

    def has(self, name: str) -> bool:
        """Whether a file of the run exists with the size in the manifest."""
        known = self.manifest.shards.get(name)
        if known is None:
            return False
        with suppress(OSError):
            if (self.path / name).stat().st_size == known.bytes:
                return True
        if self.remote is None or not self.remote.pull(name):
            return False
        return (self.path / name).stat().st_size == known.bytes

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file of the run, or some of its columns; checked as `Run` describes.

        Files of earlier versions get today's columns (see `old_tables`).
        """
        if columns is not None and self.has(name):
            place = self.place(name)
            # If a page checksum fails, fall through to the full read, which reports the error.
            with (
                suppress(OSError, ValueError, pa.ArrowException),
                pq.ParquetFile(place, page_checksum_verification=True) as file,
            ):
                stored = stored_columns(columns, file.schema_arrow.names)
                return as_current(file.read(columns=stored)).select(columns)
        self.has(name)  # downloads the file of a remote run
        known = self.manifest.shards.get(name)
        try:
            raw = self.place(name).read_bytes()
        except OSError as error:
            raise RunError(
                f"{self.path / name} cannot be read ({error.strerror}). To rebuild a missing "
                f"file, run: auditor audit --resume {self.path}"
            ) from None
        if known is None or hashlib.sha256(raw).hexdigest() != known.sha256:
            raise RunError(altered(self.path / name, raw, known))
        try:
            table = as_current(pq.read_table(io.BytesIO(raw)))
            return table if columns is None else table.select(columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.unreadable(name, error) from None

    def fetch(self) -> None:
        """Download all files of a remote run."""
        if self.remote is not None:
            for name in self.manifest.shards:
                self.has(name)

    def place(self, name: str) -> Path:
        """The path of a file; symbolic links must not lead out of the run's folder."""
        path = self.path / name
        try:
            real = path.resolve()
            is_inside = real.is_relative_to(self.path.resolve())
        except (OSError, RuntimeError):  # circular links
            real, is_inside = path, False
        if not is_inside:
            raise RunError(
                f"{path} links out of the run's folder, to {real}. Replace the link by the file, "
                "or use another --out."
            )
        return path

    def unreadable(self, name: str, error: Exception) -> RunError:
        """The error about a file that is intact but not a valid table."""
        return RunError(
            f"{self.path / name} is not valid Parquet ({in_short(error)}). Delete that file and "
            "resume the run to rebuild it."
        )


def load_run(path: str | Path) -> Run:
    """Open a run's folder for reading.

    Parameters
    ----------
    path : the folder that holds manifest.json, or a URL of one (s3://bucket/run)

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If there is none, it is damaged, or it was written by another version.
    """
    there = open_remote(str(path)) if is_url(path) else None
    folder = Path(path) if there is None else there.here
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunError(f"{path} is not a run folder: it has no {MANIFEST}. Give a run's folder.")
    return Run(folder, manifest, there)


def _read_frame(
    run: Run, table: schema.Table, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """One of a run's tables, all shards stacked, with the types of the schema."""
    names = _files(run, table.name)
    if not names:
        raise RunError(_not_yet(run, table.name))
    selected = None if columns is None else _selected_columns(run, names[0], table.name, columns)
    parts = [run.read(name, selected) for name in names]
    strategies = [s.name for s in run.config.strategies]
    try:
        frame = pa.concat_tables(parts, promote_options="default").to_pandas()
        frame = typed(frame, table, values={"strategy": strategies})
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise run.unreadable(names[0], error) from None
    return frame if selected is None else frame[selected]


def _files(run: Run, table: str) -> list[str]:
    shards = run.manifest.shards
    if table in ("samples", "scores"):
        names = [name for name in shards if name.startswith(table + "/")]
        return sorted(names, key=run.manifest.shard_order)
    name = f"{_FOLDERS.get(table, '')}{table}.parquet"
    return [name] if name in shards else []


def _selected_columns(run: Run, file: str, table: str, columns: Sequence[str]) -> list[str]:
    """The columns that match the names and patterns, without repeats."""
    if isinstance(columns, str):
        columns = [columns]
    try:
        there = current_columns(pq.read_schema(run.place(file)).names)
    except (OSError, ValueError, pa.ArrowException):
        there = run.read(file).column_names  # raises the proper error
    found: dict[str, None] = {}
    for name in map(str, columns):
        fitting = [name] if name in there else [n for n in there if fnmatchcase(n, name)]
        if not fitting:
            raise RunError(
                f"{table} of {run.path} has no column {name!r}.{_hint(name, there)} Columns: "
                f"{', '.join(there)}."
            )
        found |= dict.fromkeys(fitting)
    return list(found)


def _hint(name: str, there: list[str]) -> str:
    if (new := current_name(name)) != name:
        return f" It is now named {new!r}."
    near = get_close_matches(name, there, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _not_yet(run: Run, table: str) -> str:
    if table == "matches" and not run.config.has_training_text:
        return (
            f"{run.path} has no matches: no training text was given. "
            f"Give it with: auditor verify {run.path} --corpus PATH."
        )
    return (
        f"{run.path} has no {table} yet: stage {_MADE_BY.get(table, 'report')!r} has not run. "
        f"Finish the run with: auditor audit --resume {run.path}."
    )


def run_card(run: Run) -> str:
    """A run as HTML. Errors are shown in the card, not raised."""
    try:
        verdict = _verdict(run)
    except AuditError as error:
        verdict = [str(error)]
    # Relative to the working directory, which Jupyter serves.
    links = [(t, quote(os.path.relpath(run.path / n))) for t, n in _FILES if run.has(n)]
    state = "complete" if run.complete else "incomplete"
    title = f"Memorization audit of {run.config.model}"
    return render_card(Card(title, state, _facts(run), verdict, links))


def _verdict(run: Run) -> list[str]:
    if not run.has("candidates.parquet"):
        return [f"No verdict yet. Finish the run with: auditor audit --resume {run.path}."]
    corpus = run.manifest.corpus
    return headline(
        run.candidates(),
        run.summary(),
        corpus_bytes=corpus.bytes if corpus else None,
        n_documents=corpus.documents if corpus else None,
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    config = run.config
    names = [s.name for s in config.strategies]
    n_requested = config.samples * len(names)
    n_drawn = run.manifest.n_rows("samples/")
    rows = [("Samples", f"{n_drawn:,} of {n_requested:,} ({', '.join(names)})")]
    if config.references:
        rows.append(("References", ", ".join(config.references)))
    with suppress(AuditError):  # if there are none yet
        rows.append(("Candidates", f"{len(listed(run.candidates())):,}"))
    if config.has_training_text:
        rows.append(("Training text", ", ".join(config.corpus) or str(config.index)))
    rows.append(("Begun", run.manifest.begun or "unknown"))
    rows.append(("Folder", str(run.path)))
    return rows
