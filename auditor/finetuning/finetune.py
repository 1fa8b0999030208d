"""Fine-tuning of language models, on text or on labelled tasks, through transformers' `Trainer`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from auditor.canaries.canaries import Canary, read_canaries
from auditor.config.finetuning import FinetuneConfig, as_specs
from auditor.config.keywords import with_keywords
from auditor.errors import ConfigError, ModelError
from auditor.finetuning.callback import MemorizationCallback, ProbeLog
from auditor.finetuning.checkpoints import (
    CHECKPOINTS,
    FORMAT,
    MANIFEST,
    MERGED,
    PROBES,
    last_checkpoint,
    refuse_other,
    save_network,
)
from auditor.finetuning.probes import MemorizationProbe
from auditor.finetuning.rows import Text, read_text
from auditor.finetuning.task_output import report_files
from auditor.finetuning.task_training import TaskProbe, TaskSet, prepare_tasks
from auditor.finetuning.training import Diverged, Recipe, make_trainer, run
from auditor.models.adapters import adapter_fingerprint, is_adapter, merged, with_lora
from auditor.models.library_calls import quiet
from auditor.models.limits import limits_of
from auditor.models.loading import (
    describe_model,
    fingerprint,
    read_network,
    resolve,
    usable_device,
)
from auditor.models.preserve_state import isolated_rng
from auditor.runs.result_folder import save, write_json
from auditor.system.atomic_files import owned
from auditor.system.progress import NullProgress, progress_display

_MOST_ROW_TOKENS = 1_024
_SAVES, _MOST_STEPS_APART = 10, 500


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model's folder and its manifest; `auditor.load_model(folder)` loads it."""

    folder: Path
    manifest: dict[str, Any]


@dataclass(frozen=True)
class _Work:
    """Inputs of training, loaded and checked."""

    config: FinetuneConfig
    out: Path
    network: Any
    tokenizer: Any
    text: Text
    hook: MemorizationCallback
    progress: NullProgress
    tasks: TaskSet | None = None


@with_keywords(FinetuneConfig)
def finetune(
    model: str,
    corpora: str | Sequence[str] = (),
    *,
    out: str | Path,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> Finetuned:
    """Fine-tune a language model; resume if the same run was interrupted.

    Parameters
    ----------
    model : str, a model spec
        A causal model; with `tasks` also a masked model or an encoder-decoder.
    corpora : corpus spec, or several to mix; empty with `tasks`
    out : path
        Folder for the model (or adapter) in safetensors with its tokenizer, finetune.json,
        checkpoints/ and probes/ (memorization by step). With `tasks` also task_report.csv and
        .parquet (utility and leakage before and after), task_examples.csv and .parquet (scores of
        each example) and task_report.html.
    progress : a progress bar in a notebook and at a terminal; False or None = none
    options : the fields of FinetuneConfig

    Returns
    -------
    Finetuned

    Raises
    ------
    ConfigError, CorpusError, ModelError
        If the options, the corpus or the model are invalid; ModelError also if the loss or a
        gradient is not finite, naming the step and the last checkpoint.
    RunError
        If `out` has anything but this fine-tuning; the message names the differences.
    """
    given: dict[str, Any] = dict(options)
    for name in ("heldout", "report_to", "tasks", "pretrain_on"):
        given[name] = as_specs(given.get(name, ()))
    for name in ("weights", "task_weights"):
        given[name] = tuple(float(w) for w in given.get(name, ()))
    config = FinetuneConfig(model=model, corpora=as_specs(corpora), **given)
    return run_finetune(config, out=out, progress=progress)


def run_finetune(
    config: FinetuneConfig, *, out: str | Path, progress: NullProgress | bool | None = True
) -> Finetuned:
    """`finetune` with a config; same return value and errors."""
    out, progress = Path(out), progress_display(progress)
    path = resolve(config.model)
    if path.is_dir() and is_adapter(path):
        raise ModelError(
            f"--model must be a full model; {config.model} is an adapter. Train it with --merge "
            "and give the merged model."
        )
    # Fail before hours of reading and training.
    refuse_other(out, settings := {**config.identity(), "base_fingerprint": fingerprint(path)})
    with owned(out):
        previous = refuse_other(out, settings)
        if previous and previous.get("complete"):
            return Finetuned(out, previous)
        if config.tasks:
            work = _prepared_for_tasks(config, path, out, progress)
        else:
            work = _prepared(config, path, out, progress)
        manifest = _begun(work, settings, previous)
        write_json(out / MANIFEST, manifest)
        # A resumed training starts from the same untrained network.
        before = None if work.tasks is None else work.tasks.measure(work.network)
        manifest |= {"complete": True, **_train(work)}
        _save(work)
        manifest["fingerprint"] = adapter_fingerprint(out) if config.lora else fingerprint(out)
        report: dict[str, Any] = {"tables": {}}
        if work.tasks is not None and before is not None:
            report = report_files(config, work.tasks, before, work.tasks.measure(work.network))
        save(out, MANIFEST, manifest, **report)
    return Finetuned(out, manifest)


def _prepared_for_tasks(
    config: FinetuneConfig, path: Path, out: Path, progress: NullProgress
) -> _Work:
    canaries = read_canaries(config.canaries) if config.canaries else []
    made = prepare_tasks(config, path, canaries, usable_device(config.device))
    for note in made.text.notes:
        progress.note(note)
    hook = MemorizationCallback(
        TaskProbe(made.found),
        every=config.probe_every,
        folder=out / PROBES,
        stop_at_exposure=config.stop_at_exposure,
    )
    return _Work(config, out, made.network, made.tokenizer, made.text, hook, progress, made.found)


def _prepared(config: FinetuneConfig, path: Path, out: Path, progress: NullProgress) -> _Work:
    described, tokenizer = describe_model(config.model, path)
    if config.bos is not None:
        _start_with(tokenizer, config)
    context = limits_of(described.get_text_config()).context
    width = config.row_tokens or min(_MOST_ROW_TOKENS, context or _MOST_ROW_TOKENS)
    if width < 2 or (context is not None and width > context):
        raise ConfigError(
            f"--row-tokens must be between 2 and {context}, the model's context; got {width}."
        )
    text = read_text(config, tokenizer, width)
    for note in text.notes:
        progress.note(note)
    canaries = read_canaries(config.canaries) if config.canaries else []
    probe = _probe(tokenizer, text, canaries, context)
    probe.check_fits(context)
    hook = MemorizationCallback(
        probe,
        every=config.probe_every,
        folder=out / PROBES,
        stop_at_exposure=config.stop_at_exposure,
    )
    network, unused = read_network(config.model, path, torch.float32, described)
    if unused:
        progress.note(unused)
    if config.lora:
        network = with_lora(network, rank=config.lora_rank, seed=config.seed)
        network.peft_config["default"].base_model_name_or_path = config.model
    return _Work(config, out, network, tokenizer, text, hook, progress)


def _start_with(tokenizer, config: FinetuneConfig) -> None:
    """Make a special token the tokenizer's BOS; it is saved with the tokenizer.

    An ordinary token would become special in the saved tokenizer and change how text is tokenized.
    """
    added = tokenizer.added_tokens_decoder.items()
    known = {str(token): i for i, token in added if token.special}
    known |= dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    if config.bos not in known:
        raise ConfigError(
            f"--bos must be a special token of {config.model}'s tokenizer; got {config.bos!r}. "
            f"Its special tokens: {', '.join(known) or 'none'}."
        )
    tokenizer.bos_token = config.bos


def _probe(tokenizer, text: Text, canaries: list[Canary], context: int | None) -> MemorizationProbe:
    """A probe with prefixes and suffixes of 50 tokens, or half the context if it is shorter."""
    half = 50 if context is None else max(1, min(50, (context - 1) // 2))
    return MemorizationProbe(
        tokenizer,
        members=text.members,
        heldout=text.heldout,
        canaries=canaries,
        prefix_tokens=half,
        suffix_tokens=half,
    )


def _begun(
    work: _Work, settings: dict[str, Any], previous: dict[str, Any] | None
) -> dict[str, Any]:
    """The manifest before training. Raises ConfigError if the training text has changed."""
    now = work.text.fingerprint
    if previous and previous["corpus"]["fingerprint"] != now:
        raise ConfigError(
            f"{work.out} cannot be resumed: its training text has changed. Restore the files, or "
            "choose another --out."
        )
    rows = work.text.rows
    lengths = (rows.offsets[1:] - rows.offsets[:-1])[rows.order]
    return {
        "format": FORMAT,
        "asked": settings,
        "base": {"spec": work.config.model, "fingerprint": settings["base_fingerprint"]},
        "corpus": {
            "fingerprint": now,
            "documents": work.text.n_documents,
            "heldout_documents": work.text.n_heldout,
            "rows_an_epoch": len(rows),
            "tokens_an_epoch": int(lengths.sum()),
        },
        "versions": {n: importlib.metadata.version(n) for n in ("torch", "transformers")},
        "complete": False,
    }


def _train(work: _Work) -> dict[str, Any]:
    """Train, from the last checkpoint if there is one; return losses and measurements."""
    config, begin = work.config, last_checkpoint(work.out)
    names = ("rate", "batch", "epochs", "max_steps", "seed", "precision")
    recipe = Recipe(**{name: getattr(config, name) for name in names})
    n_steps = recipe.n_steps(len(work.text.rows))
    hook, probe = work.hook, work.hook.probe
    # Trainer and its data loaders use the global random generators.
    with isolated_rng(config.seed), quiet():
        trainer = make_trainer(
            work.network,
            work.text.rows,
            recipe,
            folder=work.out / CHECKPOINTS,
            device=usable_device(config.device),
            save_every=config.save_every or max(1, min(_MOST_STEPS_APART, n_steps // _SAVES)),
            report_to=config.report_to,
            tokenizer=work.tokenizer,
            **({} if work.tasks is None else work.tasks.training()),
        )
        hook.attach(trainer)
        if begin is None:
            before = probe.measure(trainer.model, 0, epoch=0.0)
            ProbeLog(work.out / PROBES).write(before)
        else:
            work.progress.note(f"Resuming from {begin.name}.")
        with work.progress.stage("fine-tuning", n_steps, "steps") as bar:
            try:
                run(trainer, bar.advance, resume=begin)
            except Diverged as error:
                kept = last_checkpoint(work.out)
                raise ModelError(
                    f"{error}; training has stopped. The last good checkpoint: {kept or 'none'}. "
                    f"Lower --learning-rate (got {config.rate:g}) and choose another --out."
                ) from None
        last = hook.rows[-1] if hook.rows else None
        if last is None or last.step != trainer.state.global_step:
            last = probe.measure(trainer.model, trainer.state.global_step)
    logged = trainer.state.log_history
    return {
        "steps": trainer.state.global_step,
        "losses": [{k: line[k] for k in ("step", "loss")} for line in logged if "loss" in line],
        "stopped_at": hook.stopped_at,
        "final": {
            name: None if value != value else value
            for name, value in dataclasses.asdict(last).items()
            if name not in ("step", "epoch", "exposure", "repeats", "seconds")
        },
    }


def _save(work: _Work) -> None:
    """Save the model or adapter and, if requested, the merged model."""
    network = work.network.eval()
    with quiet():
        save_network(network, work.tokenizer, work.out)
        if work.config.merge:
            save_network(merged(network), work.tokenizer, work.out / MERGED)
