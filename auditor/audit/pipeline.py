"""Run an audit from model to report; the stages follow Figure 2 of Carlini et al. 2021."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.config.audit import AuditConfig, changed, make_config
from auditor.config.audit_file import to_toml
from auditor.config.keywords import with_keywords
from auditor.config.sampling import Decoding, Prompts
from auditor.config.served import SERVED, Served
from auditor.errors import AuditError, ConfigError, RunError
from auditor.runs.manifest import AUDIT_FILE
from auditor.runs.result_folder import storable
from auditor.runs.run import Run, load_run
from auditor.runs.writer import RunWriter, open_for_writing
from auditor.system.extras import require_extra
from auditor.system.offline import offline
from auditor.system.progress import NullProgress, progress_display

if TYPE_CHECKING:
    from auditor.audit.context import Context

STAGES = ("sample", "score", "controls", "shortlist", "verify", "canaries", "report")
_REPEAT = """\
# The settings of this run. To repeat it, run this file from the same working directory:
# auditor audit audit.toml --out DIR
"""
SHARED = ("sample", "score")  # stages that run on workers; the others run in this process


# Options of prompts that are keywords; `prompts` itself is a parameter.
_OF_PROMPTS = ("template", "examples", "words", "samples_per_prompt", "fill_gap")


_FLAT = (*Decoding.model_fields, *_OF_PROMPTS, *SERVED)


@with_keywords(AuditConfig, Decoding, Prompts, Served, only=_FLAT)
def run_audit(
    config: AuditConfig | None = None,
    *,
    until: str = "report",
    progress: NullProgress | bool | None = True,
    occasion: str | None = None,
    judge: Callable[[RunWriter], None] | None = None,
    decoding: Mapping[str, Any] | None = None,
    prompts: Mapping[str, Any] | Sequence[str] | str | None = None,
    strategy: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Run:
    """Sample, score, rank, verify and report.

    Called again with the same config and folder, it resumes; the results are byte-identical.

    Parameters
    ----------
    config : AuditConfig, or None to give its fields as keywords; keywords override it
    until : the last stage to run: sample, score, controls, shortlist, verify, canaries or report
    progress : a progress bar in a notebook and at a terminal; False or None = none
    occasion : the scheduled time, in ISO 8601; stored in the manifest
    judge : called once the tables are written; the pages show what it puts into manifest.judged
    decoding : settings of `Decoding` for all strategies; each is also a keyword of its own
    prompts : settings of `Prompts` for all strategies, or the texts to take prefixes from
    strategy : settings by strategy: {"internet": {"top_k": 10}}
    **settings : the fields of AuditConfig (`model="gpt2"`, `samples=1000`, ...) and of Decoding
        (`max_new_tokens=64`, `top_k=40`, ...)

    Returns
    -------
    Run, complete if `until` was "report".

    Raises
    ------
    AuditError
        One sentence with the cause and the remedy; finished work is kept.

    Example::

        run = run_audit(model="gpt2", samples=200, max_new_tokens=64, corpus=["texts/"])
        run.summary()
    """
    if until not in STAGES:
        raise ConfigError(f"until must be one of {', '.join(STAGES)}; got {until!r}. Choose one.")
    settings |= _tables(settings, decoding, prompts, strategy)
    if config is not None and "served" in settings:
        settings["served"] = {**config.served.model_dump(), **settings["served"]}
    if config is None:
        config = make_config(settings)
    elif settings:
        config = changed(config, settings)
    from auditor.audit.context import Context

    path = config.out or default_folder(config)
    network = offline() if config.offline else nullcontext()
    with network, open_for_writing(path, config) as run:
        if occasion is not None and not run.manifest.occasion:
            run.manifest.occasion = occasion
        _stages(Context(config, run, progress_display(progress), judge=judge), until)
    return load_run(path)


def _tables(settings: dict[str, Any], decoding: Any, prompts: Any, strategy: Any) -> dict[str, Any]:
    """The tables of settings, with the keywords that belong into them, taken from `settings`."""
    if prompts is not None and not isinstance(prompts, Mapping):
        prompts = {"corpus": (prompts,) if isinstance(prompts, str | Path) else tuple(prompts)}
    tables = {"decoding": decoding, "prompts": prompts, "strategy": strategy}
    tables["served"] = settings.pop("served", None)
    of = {"decoding": Decoding.model_fields, "prompts": _OF_PROMPTS, "served": SERVED}
    for table, names in of.items():
        if own := {name: settings.pop(name) for name in names if name in settings}:
            tables[table] = {**(tables[table] or {}), **own}
    return {name: table for name, table in tables.items() if table is not None}


def verify_again(
    path: str | Path, changes: dict[str, Any], *, progress: NullProgress | None = None
) -> Run:
    """Verify a run's candidates against other training text, or with other minimum lengths.

    `changes` are new values of corpus, index, text_field, normalize, min_match_tokens or
    min_match_chars.
    """
    from auditor.audit.verification import check_corpus

    config = load_run(path).config
    old = config.model_dump()
    # A new corpus or index replaces both.
    if changes.keys() & {"corpus", "index"}:
        old |= {"corpus": (), "index": None}
    config = make_config({**old, **changes, "out": str(path)})
    if not config.has_training_text:
        raise ConfigError(
            f"{path} has no training text to search. Give it with --corpus PATH or --index DIR."
        )
    check_corpus(config)  # before the old matches are dropped
    _change(path, config, "verify", "matches/")
    return run_audit(config, progress=progress)


def _change(path: str | Path, config: AuditConfig, stage: str, *files: str) -> None:
    """Change a run's config and drop the results that depended on the old one."""
    from auditor.audit.estimates import TABLES

    with open_for_writing(path, load_run(path).config) as run:
        manifest = run.manifest
        manifest.config, manifest.digest, manifest.complete = config, config.digest, False
        run.forget(*files, "candidates", "summary", "known_truth", "report", "figures/", *TABLES)
        # Drop the notes of the stage too.
        manifest.notes = [note for note in manifest.notes if note.stage != stage]
        manifest.clear("judged", *(["corpus"] if stage == "verify" else []))
        run.save()


def report_again(
    path: str | Path,
    changes: dict[str, Any] | None = None,
    *,
    reveal: bool = False,
    progress: NullProgress | None = None,
) -> Run:
    """Rewrite a run's tables and page; of an unfinished audit, report the results so far.

    No samples are drawn. If all samples are scored, missing later stages (controls, shortlist,
    verification) run first. `changes` are new values of controls, fdr, names or price_per_hour;
    `reveal` shows personal data in the page and the CSV, and marks them as sensitive.
    """
    from auditor.audit.context import Context, name_finders
    from auditor.audit.controls import check_controls
    from auditor.audit.reporting import report
    from auditor.audit.status import status_of
    from auditor.runs.manifest import check_sizes

    run, changes = load_run(path), changes or {}
    run.fetch()
    check_sizes(run.path, run.manifest.shards)
    config = make_config({**run.config.model_dump(), **changes})
    if config.identity() != run.config.identity():
        if config.controls:
            check_controls(config)  # before the old lists are dropped
        name_finders(config)
        _change(path, config, "controls", *(["controls/"] if "controls" in changes else []))
        run = load_run(path)
    config = config.model_copy(update={"out": str(path), "reveal": reveal})
    if status_of(run).is_scored:
        return run_audit(config, progress=progress)
    with open_for_writing(path, run.config) as writer:
        report(Context(config, writer, progress or NullProgress()))
    return load_run(path)


def attention_again(
    path: str | Path, sample_id: str, *, n_tokens: int = 64, reveal: bool = False
) -> Path:
    """Write a candidate's attention as a page, and update the report with a link to it.

    The page grows with the square of `n_tokens`.
    """
    from auditor.audit.attention import attention_of, attention_page

    # Before a model is loaded.
    require_extra("auditor attention", "attention", "bertviz", "mpld3", "xstatic.pkg.jquery")
    run = load_run(path)
    weights = attention_of(run, sample_id, n_tokens=n_tokens, reveal=reveal)
    title = f"Attention over {sample_id}"
    page = attention_page(weights, title=title, is_sensitive=reveal)
    name = f"attention/{sample_id}.html"
    with open_for_writing(path, run.config) as writer:
        writer.write_bytes(name, storable(page).encode())
    report_again(path, reveal=run.manifest.revealed)
    return run.path / name


def default_folder(config: AuditConfig) -> Path:
    """runs/MODEL-DIGEST, so that the same audit resumes in the same folder."""
    name = "".join(c if c.isalnum() or c in "-." else "-" for c in Path(config.model).name)
    return Path("runs") / f"{name.strip('-.') or 'model'}-{config.digest}"


def _check(context: Context) -> None:
    """Report invalid inputs before hours of sampling."""
    from auditor.audit.canaries import check_canaries
    from auditor.audit.context import name_finders
    from auditor.audit.controls import check_controls, check_scorable, needs_controls
    from auditor.audit.cost import check_size
    from auditor.audit.ground_truth import read_truth
    from auditor.audit.shortlist import note_precision
    from auditor.audit.verification import check_corpus, is_due

    config = context.config
    check_size(context)
    if is_due(context):
        check_corpus(config)
    if needs_controls(context):
        check_controls(config)
    if config.truth is not None:
        read_truth(config)
    name_finders(config)
    check_canaries(config)
    check_scorable(context)
    note_precision(context)


def _stages(context: Context, until: str) -> None:
    from auditor.audit.canaries import expose
    from auditor.audit.controls import score_controls
    from auditor.audit.provenance import command_line, now, software
    from auditor.audit.reporting import report
    from auditor.audit.sampling import sample
    from auditor.audit.scoring import score
    from auditor.audit.shortlist import shortlist
    from auditor.audit.status import kept_sentence
    from auditor.audit.verification import verify

    config, run = context.config, context.run
    if not run.manifest.begun:
        run.manifest.begun, run.manifest.command = now(), command_line()
    run.manifest.versions = software()
    if config.gates.limits():  # gates also apply when a run is resumed without its audit file
        run.manifest.gates = config.gates.model_dump(exclude_none=True)
    steps = {
        "sample": sample,
        "score": score,
        "controls": score_controls,
        "shortlist": shortlist,
        "verify": verify,
        "canaries": expose,
        "report": report,
    }
    _check(context)
    kept = make_config({**config.identity(), "gates": run.manifest.gates})
    run.put(run.path / AUDIT_FILE, storable(_REPEAT + to_toml(kept)).encode())
    if config.ray is not None or (config.workers or 1) > 1:
        from auditor.audit.workers.pool import Workers

        context.workers = Workers(config, run)
    try:
        for name, step in steps.items():
            if name not in SHARED:
                context.stop_workers()
            step(context)
            if name == until:
                break
    except OSError as error:
        raise _disk(error, run.path) from None
    except KeyboardInterrupt as interrupt:
        context.stop_workers()
        interrupt.add_note(kept_sentence(run))
        raise
    finally:
        context.stop_workers()
    if until == "report":
        run.manifest.complete = True
        run.save()


def _disk(error: OSError, path: Path) -> AuditError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"The disk is full. The files in {path} are complete. Free some space and repeat the "
            "command to resume."
        )
    name = os.fspath(error.filename) if error.filename else "a file"
    return RunError(
        f"{name} cannot be read or written ({error.strerror or error}). Check it, and repeat "
        "the command to resume."
    )
