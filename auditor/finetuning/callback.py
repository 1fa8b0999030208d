"""Memorization during training: a callback for `Trainer`, and the log of its measurements."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
from transformers import TrainerCallback

from auditor.errors import ConfigError, RunError, in_short
from auditor.finetuning.probes import Probe, ProbeRow
from auditor.system.atomic_files import write_atomically


class ProbeLog:
    """Log of a probe in a folder: one Parquet file per step, each written atomically.

    Files persist if the process dies; a step measured again replaces its file.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def write(self, row: ProbeRow) -> None:
        """Write the row of one step. Raises RunError if the disk is full."""
        values = asdict(row)
        values |= {name: list(values[name]) for name in ("exposure", "repeats")}
        raw = pd.DataFrame([values]).to_parquet(index=False)
        write_atomically(self.folder / f"step-{row.step:09}.parquet", raw)


def read_probes(folder: str | Path) -> pd.DataFrame:
    """Read all rows of a probe's folder, in order of steps; see `ProbeRow` for the columns.

    Raises
    ------
    RunError
        If there are none, or one cannot be read.
    """
    files = sorted(Path(folder).glob("step-*.parquet"))
    if not files:
        raise RunError(f"{folder} has no measurements. Give the folder that a probe wrote to.")
    rows = []
    for file in files:
        try:
            rows.append(pd.read_parquet(file))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{file} cannot be read ({in_short(error)}). Delete the file to skip its step."
            ) from None
    return pd.concat(rows, ignore_index=True)


class MemorizationCallback(TrainerCallback):
    """Measure a probe every n steps and at the end of each epoch of a `Trainer` (or TRL trainer).

    The callback does not change the trained weights. Rows go to `folder` as Parquet, to `rows`,
    and to the trainer's log. Use `callback.attach(trainer)` to log to trackers (TensorBoard,
    trackio, W&B). If the callback is passed in `callbacks=` instead, its metrics are added to the
    trainer's next log line, where only `log_history` and later callbacks see them.

    Parameters
    ----------
    probe : MemorizationProbe, or another `Probe`
    every : int, steps
    folder : path, optional
    stop_at_exposure : float, bits, optional
        Stop training once the mean exposure of the inserted canaries exceeds this.

    Raises
    ------
    ConfigError
        If `every` is below 1, or `stop_at_exposure` is outside what the probe can measure.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        every: int = 200,
        folder: str | Path | None = None,
        stop_at_exposure: float | None = None,
    ):
        if every < 1:
            raise ConfigError(f"every must be 1 step or more; got {every}. Usual is 200.")
        if stop_at_exposure is not None and not 0 < stop_at_exposure < probe.max_exposure:
            raise ConfigError(
                f"The exposure to stop at must be above 0 and below {probe.max_exposure:.2f} bits, "
                f"the maximum with {probe.n_controls} controls; got {stop_at_exposure:g}. A "
                "secret that was never trained on has 1.44 on average."
            )
        self.probe, self.every, self.stop_at_exposure = probe, every, stop_at_exposure
        self.log = None if folder is None else ProbeLog(folder)
        self.rows: list[ProbeRow] = []
        self.stopped_at: int | None = None
        self._trainer = None
        self._pending: dict[str, float] = {}

    def attach(self, trainer):
        """Add the callback to a trainer, log every row to it, and return it."""
        trainer.add_callback(self)
        self._trainer = trainer
        return trainer

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Measure every n steps."""
        if state.global_step % self.every == 0:
            self._measure(state, control, model)
        return control

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        """Measure at the end of each epoch, unless that step was measured already."""
        if not self.rows or self.rows[-1].step != state.global_step:
            self._measure(state, control, model)
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Add pending metrics to this log line, if no trainer is attached."""
        if self._pending and logs is not None:
            logs.update(self._pending)
            if state.log_history:
                state.log_history[-1].update(self._pending)
            self._pending = {}
        return control

    def _measure(self, state, control, model) -> None:
        row = self.probe.measure(model, state.global_step, epoch=float(state.epoch or 0.0))
        self.rows.append(row)
        if state.is_world_process_zero and self.log is not None:
            self.log.write(row)
        if self._trainer is not None:
            # Logging resets should_log, which would drop the line due at this step.
            is_due = control.should_log
            self._trainer.log(row.logged())
            control.should_log = is_due
        else:
            self._pending = row.logged()
        limit = self.stop_at_exposure
        if limit is not None and row.exposure_mean > limit:
            self.stopped_at = state.global_step
            control.should_training_stop = True
