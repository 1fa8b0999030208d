"""Stage 5: candidates, summary and the page."""

from __future__ import annotations

import io
import json
import platform
import shlex
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from auditor.config import AuditConfig
from auditor.errors import ConfigError
from auditor.stages.context import TARGET, Context
from auditor.stages.shortlisting import COUNTS, LISTS, SAMPLES
from auditor.stages.verification import FUZZY, MATCHES
from auditor.store import Run
from reports import schema
from reports.dedup import Trigrams, mark_duplicates
from reports.html import ReportPage, render_report
from reports.tables import by_repeats, headline, not_claimed, summarize, write_csv

_PAGE_ONLY = {"token_ids": "token_ids", "logprob": "token_logprob", "rank": "token_rank"}


def report(context: Context) -> None:
    """Write candidates (Parquet and CSV), summary (Parquet and CSV) and report.html."""
    run = context.run
    with context.timed("report"), context.progress.stage("reporting", 1, "pages") as bar:
        candidates = assemble(context)
        summary = summarize(candidates, run.read(COUNTS).to_pandas())
        run.write("candidates.parquet", candidates)
        run.write("summary.parquet", summary)
        run.write_bytes("candidates.csv", _csv(candidates))
        run.write_bytes("summary.csv", _csv(summary))
        page = render_report(make_page(run, candidates, summary))
        run.write_bytes("report.html", page.encode("utf-8", "backslashreplace"))
        bar.advance(1)


def assemble(context: Context) -> pd.DataFrame:
    """The frame `candidates`: a row a sample of the short lists."""
    run = context.run
    frame = run.read(SAMPLES).to_pandas()
    lists = run.read(LISTS).to_pandas()
    vocabulary = context.vocabulary(TARGET)
    frame["token_end"] = [vocabulary.token_ends(ids) for ids in frame["token_ids"]]
    frame = frame.rename(columns=_PAGE_ONLY)
    ranks = lists.pivot_table(index="sample_id", columns="score", values="rank", aggfunc="first")
    names = [s for s in lists["score"].unique() if s != schema.CONTROL]
    for name in [*names, schema.CONTROL]:
        frame[f"rank:{name}"] = frame["sample_id"].map(ranks[name]).astype("Int64")
    frame["best_rank"] = frame[[f"rank:{n}" for n in names]].min(axis=1).astype("Int64")
    order = np.argsort(frame["best_rank"].fillna(2**31).to_numpy(np.int64), kind="stable")
    frame = frame.iloc[order].reset_index(drop=True)
    repeats = mark_duplicates(Trigrams.from_texts(frame["text"]), np.arange(len(frame)))
    frame["duplicate_of"] = [None if i < 0 else frame["sample_id"].iat[i] for i in repeats]
    frame = _with_matches(frame, run)
    known = [c for c in frame.columns if any(k.matches(c) for k in schema.CANDIDATES.columns)]
    frame = schema.conform(frame[known], schema.CANDIDATES)
    schema.check(frame, schema.CANDIDATES)
    return frame


def _with_matches(frame: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Verdict, longest overlap and nearest passage of each candidate."""
    whole = ("match_start", "match_end", "match_n_tokens", "match_n_chars", "n_documents")
    whole += ("n_occurrences", "doc_offset", "fuzzy_n_words")
    if not run.has(MATCHES):
        frame["verdict"] = "not checked"
        for name in whole:
            frame[name] = pd.array([pd.NA] * len(frame), dtype="Int64")
        for name in ("doc_id", "fuzzy_doc_id"):
            frame[name] = pd.Series([None] * len(frame), dtype="str")
        return frame
    matches = run.read(MATCHES).to_pandas()
    # The longest in tokens, then in characters, then the first in the text.
    matches = matches.sort_values(
        ["n_tokens", "n_chars", "start"], ascending=[False, False, True], kind="stable"
    ).drop_duplicates("sample_id")
    named = {k: f"match_{k}" for k in ("start", "end", "n_tokens", "n_chars")}
    frame = frame.merge(matches.rename(columns=named), on="sample_id", how="left")
    fuzzy = run.read(FUZZY).to_pandas()[["sample_id", "n_words", "doc_id"]]
    fuzzy = fuzzy.rename(columns={"n_words": "fuzzy_n_words", "doc_id": "fuzzy_doc_id"})
    frame = frame.merge(fuzzy, on="sample_id", how="left")
    for name in whole:
        frame[name] = frame[name].astype("Int64")
    near = frame["fuzzy_n_words"].notna()
    frame["verdict"] = np.where(
        frame["doc_id"].notna(), "verbatim", np.where(near, "fuzzy", "not found")
    )
    return frame


def make_page(run: Run, candidates: pd.DataFrame, summary: pd.DataFrame) -> ReportPage:
    """All that the page shows, from the run's folder alone."""
    config, corpus = run.config, run.manifest.get("corpus", {})
    truth = truth_table(config, candidates)
    return ReportPage(
        title=f"Memorization audit of {config.model}",
        headline=headline(
            candidates,
            summary,
            corpus_bytes=corpus.get("bytes"),
            n_documents=corpus.get("documents"),
        ),
        not_claimed=not_claimed(candidates),
        notices=list(run.manifest.get("notes", [])),
        about=_about(run),
        command=command_of(config),
        config_toml=to_toml(config),
        summary=summary,
        scores=run.scores(),
        candidates=candidates,
        truth_table=truth,
    )


def truth_table(config: AuditConfig, candidates: pd.DataFrame) -> pd.DataFrame | None:
    """Where the truth is known: how many documents of each number of repeats came out."""
    if config.truth is None or not config.corpus:
        return None
    try:
        truth = pd.read_parquet(config.truth)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--truth {config.truth} cannot be read as Parquet ({error}). Give the truth.parquet "
            "of a testbed."
        ) from None
    wanted = ["doc_id", "member", "repeats", "kind", "secret"]
    missing = [c for c in wanted if c not in truth.columns]
    if missing:
        raise ConfigError(
            f"--truth {config.truth} has no column {missing[0]!r}; it needs {', '.join(wanted)}."
        )
    return by_repeats(candidates, truth[wanted])


def _csv(frame: pd.DataFrame) -> bytes:
    sink = io.StringIO()
    write_csv(frame, sink)
    return sink.getvalue().encode("utf-8")


def _about(run: Run) -> list[tuple[str, str]]:
    m, config = run.manifest, run.config
    target = m.get("models", {}).get(TARGET, {})
    rows = [
        ("Model", f"{config.model}, {target.get('parameters', 0):,} parameters"),
        ("Weights", f"sha256 {target.get('sha256', '?')[:16]}…, sampled in {target.get('dtype')}"),
    ]
    for name, spec in config.references.items():
        known = m.get("models", {}).get(name, {})
        rows.append((f"Reference {name}", f"{spec}, {known.get('parameters', 0):,} parameters"))
    for s in config.strategies:
        rows.append((f"Strategy {s.name}", _strategy_words(s, config.samples)))
    if m.get("corpus"):
        files = m["corpus"]["files"]
        named = ", ".join(f["path"] for f in files[:5]) + (" …" if len(files) > 5 else "")
        size = f"{m['corpus']['documents']:,} documents, {m['corpus']['bytes']:,} bytes"
        rows.append(("Training text", f"{size}: {named}"))
        least = f"{config.min_match_tokens} tokens or {config.min_match_chars} characters"
        rows.append(("Counts as verbatim", f"an exact overlap of at least {least}"))
    rows.append(("Seed", str(config.seed)))
    rows.append(("Begun", m.get("begun", "unknown")))
    rows.append(("Software", ", ".join(f"{k} {v}" for k, v in m.get("versions", {}).items())))
    spent = {k: v["seconds"] for k, v in m["stages"].items()}
    rows.append(("Time", ", ".join(f"{k} {v:.1f} s" for k, v in spent.items())))
    if m.get("rescored_in_float32"):
        rows.append(("Precision", "the candidates' figures were computed again in float32"))
    return rows


def _strategy_words(strategy, samples: int) -> str:
    d, p = strategy.decoding, strategy.prompts
    heat = f"temperature {d.temperature:g}"
    if d.temperature_start is not None:
        heat = f"temperature {d.temperature_start:g} → {d.temperature:g} over the first "
        heat += f"{d.temperature_steps} tokens"
    cuts = [f"{k} {getattr(d, k):g}" for k in ("top_k", "top_p", "min_p", "typical_p") if getattr(d, k)]
    if d.repetition_penalty != 1:
        cuts.append(f"repetition penalty {d.repetition_penalty:g}")
    if d.beams > 1:
        cuts.append(f"{d.beams} beams")
    starts = {
        "bos": "from BOS",
        "corpus": f"after {p.min_tokens} to {p.max_tokens} tokens of {', '.join(p.corpus)}",
        "few-shot": f"after {p.shots} examples",
        "repeat": f"after a word said {p.repeats} times",
    }[p.kind]
    length = f"{'at most ' if d.stop_at_eos else ''}{d.max_new_tokens} tokens"
    return f"{samples:,} samples of {length} {starts}, {', '.join([heat, *cuts])}"


def software() -> dict[str, str]:
    """Versions that a result may depend on."""
    import auditor

    names = ("torch", "transformers", "tokenizers", "numpy", "pandas", "pyarrow")
    found = {"auditor": auditor.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in names}


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def command_of(config: AuditConfig) -> str:
    """A command line that repeats the audit from the file that `to_toml` gives."""
    return f"auditor audit {shlex.quote('audit.toml')}"


def to_toml(config: AuditConfig) -> str:
    """The config as an audit file, everything spelt out that differs from the defaults."""
    plain = config.model_dump(mode="json", exclude_defaults=True, exclude={"out", "strategies"})
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    lines.append(f"strategies = {_toml([s.name for s in config.strategies])}")
    for s in config.strategies:
        given = s.model_dump(mode="json", exclude_defaults=True)
        settings = {**given.get("prompts", {}), **given.get("decoding", {})}
        preset = next((k for k in _presets() if k == s.name), None)
        if preset is None:
            settings = {"preset": "top-n", **s.model_dump(mode="json")["prompts"], **s.model_dump(mode="json")["decoding"]}
            settings = {k: v for k, v in settings.items() if v is not None}
        if settings:
            lines += ["", f"[strategy.{s.name}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _presets() -> dict:
    from auditor.config import PRESETS

    return PRESETS


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def save_page(run: Run, path: Path) -> None:
    """The page of a run whose report stage has run, written anew to a path."""
    path.write_text(render_report(make_page(run, run.candidates(), run.summary())), "utf-8")
