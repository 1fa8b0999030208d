"""Provenance of a run (model, options, software, time): the rows at the top of the page."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from auditor.audit.context import TARGET
from auditor.config.audit import Decoding, Strategy
from auditor.runs.manifest import ModelEntry
from auditor.runs.run import Run
from auditor.version import __version__
from reports.privacy.names import describe_names


def about(run: Run) -> list[tuple[str, str]]:
    """Label and value of each fact about a run."""
    m, config = run.manifest, run.config
    target = m.models.get(TARGET) or ModelEntry(sha256="?")
    rows = [
        ("Begun", m.begun or "unknown"),
        ("Model", f"{config.model}, {target.parameters:,} parameters"),
        ("Weights", f"sha256 {target.sha256[:16]}…, sampled in {target.dtype or None}"),
    ]
    for name, spec in config.references.items():
        n = m.models[name].parameters if name in m.models else 0
        rows.append((f"Reference {name}", f"{spec}, {n:,} parameters"))
    for s in config.strategies:
        rows.append((f"Strategy {s.name}", _strategy_words(s, config.samples)))
    if m.corpus is not None:
        files = m.corpus.files
        named = ", ".join(f.path for f in files[:5]) + (" …" if len(files) > 5 else "")
        size = f"{m.corpus.documents:,} documents, {m.corpus.bytes:,} bytes"
        held = f" (index {m.corpus.index})" if m.corpus.index else ""
        rows.append(("Training text", f"{size}: {named}{held}"))
        least = f"{config.min_match_tokens} tokens or {config.min_match_chars} characters"
        ignored = f", ignoring {' and '.join(config.normalize)}" if config.normalize else ""
        rule = f"an exact overlap of at least {least} (repeats of one character count once)"
        rows.append(("Counts as verbatim", rule + ignored))
    if (names := describe_names(config.names)) is not None:
        rows.append(("Names", names))
    rows.append(("Seed", str(config.seed)))
    rows.append(("Software", ", ".join(f"{k} {v}" for k, v in m.versions.items())))
    spent = {k: v.seconds for k, v in m.stages.items() if k != "report"}
    rows.append(("Time", ", ".join(f"{k} {v:.1f} s" for k, v in spent.items())))
    if m.rescored_in_float32:
        rows.append(("Precision", "the candidates' scores were recomputed in float32"))
    elif formats := sorted({x.dtype for x in m.models.values() if x.dtype}):
        rows.append(("Precision", f"the candidates' scores were computed in {', '.join(formats)}"))
    return rows


def _strategy_words(strategy: Strategy, samples: int) -> str:
    d, p = strategy.decoding, strategy.prompts
    how = [f"the best of {d.beams} beams"] if d.beams > 1 else _draw_words(d)
    if d.repetition_penalty != 1:
        how.append(f"repetition penalty {d.repetition_penalty:g}")
    starts = {
        "bos": "from BOS",
        "corpus": f"after {p.min_tokens} to {p.max_tokens} tokens of {', '.join(p.corpus)}",
        "few-shot": f"after {p.shots} examples",
        "repeat": f"after a word repeated {p.repeats} times",
    }[p.kind]
    length = f"{'at most ' if d.stop_at_eos else ''}{d.max_new_tokens} tokens"
    return f"{samples:,} samples of {length} {starts}, {', '.join(how)}"


def _draw_words(d: Decoding) -> list[str]:
    """Temperature and truncation; empty for beam search."""
    temperature = f"temperature {d.temperature:g}"
    if d.temperature_start is not None:
        temperature = f"temperature {d.temperature_start:g} → {d.temperature:g} over the first "
        temperature += f"{d.temperature_steps} tokens"
    cuts = ("top_k", "top_p", "min_p", "typical_p")
    return [temperature, *(f"{name} {getattr(d, name):g}" for name in cuts if getattr(d, name))]


def software() -> dict[str, str]:
    """Versions that a result may depend on."""
    names = ("torch", "transformers", "tokenizers", "numpy", "pandas", "pyarrow")
    found = {"auditor": __version__, "python": platform.python_version()}
    return found | {name: version(name) for name in names}


def command_line() -> str | None:
    """The command line of this process if it is `auditor`'s, for the report."""
    program = Path(sys.argv[0])
    is_ours = program.name == "auditor" or program.parts[-2:] == ("auditor", "__main__.py")
    return shlex.join(["auditor", *sys.argv[1:]]) if is_ours else None


def now() -> str:
    """The local time in ISO 8601, to the second, with its UTC offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
