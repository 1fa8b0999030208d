"""What a run will cost, in samples, tokens, time and disk: stated before it starts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.audit.context import Context
from auditor.config.audit import Decoding
from auditor.errors import ConfigError, ModelError
from auditor.runs.remote import is_url

if TYPE_CHECKING:
    from auditor.models.language_model import LanguageModel

# A run beyond one of these needs confirmation.
MOST_HOURS = 24
_MOST_FILES = 1_000_000
# Upper bounds of what was measured (docs/scale.md): 9 bytes a token, 160 bytes a sample.
_BYTES_PER_TOKEN, _BYTES_PER_SAMPLE = 12, 600
_PROBE_SECONDS = 10.0
_PROBE_SHARE = 0.02  # of the run's tokens, so that a small run is not delayed
_PROBED_TEXTS, _PROBED_TOKENS = 8, 64


@dataclass(frozen=True)
class Speed:
    """Seconds per token of sampling and of scoring; measured on one worker."""

    sampling: float
    scoring: float

    def as_counts(self) -> dict[str, int]:
        """The speed in whole picoseconds, as the outcome of a worker's task."""
        return {name: round(1e12 * value) for name, value in vars(self).items()}

    @classmethod
    def from_counts(cls, counts: dict[str, int]) -> Speed | None:
        """The speed of a worker's outcome; None if it was not measured."""
        return cls(**{name: n / 1e12 for name, n in counts.items()}) if counts else None


@dataclass(frozen=True)
class Cost:
    """Cost of what is missing of a run.

    n_samples, n_tokens : samples to draw, and their tokens at most
    n_bytes, free_bytes : disk that they take at most, and free disk
    seconds : time of sampling and scoring; None if it was not measured
    """

    n_samples: int
    n_tokens: int
    n_bytes: int
    free_bytes: int
    seconds: float | None = None

    @property
    def excess(self) -> str:
        """Why the run needs confirmation; empty if it does not."""
        if self.n_bytes > self.free_bytes:
            return f"more disk than the {_size(self.free_bytes)} that is free"
        if self.seconds is not None and self.seconds > 3600 * MOST_HOURS:
            return f"more than {MOST_HOURS} hours"
        return ""

    def __str__(self) -> str:
        """The cost in words.

        >>> print(Cost(2000, 512000, 9 * 10**6, 10**11, 5400))
        2,000 samples of up to 512,000 tokens in all; about 1 h 30 min and 9 MB of disk
        """
        took = "" if self.seconds is None else f"about {_duration(self.seconds)} and "
        return (
            f"{self.n_samples:,} samples of up to {self.n_tokens:,} tokens in all; {took}"
            f"{_size(self.n_bytes)} of disk"
        )


def check_size(context: Context) -> None:
    """Refuse a run that is too large, before any model is loaded or shard is listed.

    Raises
    ------
    ConfigError
        If the run would have more than a million files, or needs more disk than is free and was
        not confirmed.
    """
    config = context.config
    n_files = 2 * len(config.strategies) * -(-config.samples // config.shard_size)
    if n_files > _MOST_FILES:
        raise ConfigError(
            f"A run may have at most {_MOST_FILES:,} files; {config.samples:,} samples per "
            f"strategy in shards of {config.shard_size:,} are {n_files:,}. Raise --shard-size or "
            "lower --samples."
        )
    _confirm(context, _cost(context))


def announce(context: Context, measure: Callable[[int], Speed | None]) -> None:
    """State the cost of the samples that are missing; ask if it is high.

    `measure(n_tokens)` is the speed of this machine; `n_tokens` is what the run samples.

    Raises
    ------
    ConfigError
        If the cost is high and was not confirmed.
    """
    cost = _cost(context)
    speed = measure(cost.n_tokens)
    if speed is not None:
        n_workers = 1 if context.workers is None else context.workers.size
        seconds = cost.n_tokens * (speed.sampling + speed.scoring) / n_workers
        cost = Cost(cost.n_samples, cost.n_tokens, cost.n_bytes, cost.free_bytes, seconds)
    context.progress.note(f"To do: {cost}.")
    _confirm(context, cost)


def _cost(context: Context) -> Cost:
    """Tokens and disk of the samples that are not drawn yet."""
    config, drawn = context.config, context.run.manifest.n_rows
    left = {s.name: max(0, config.samples - drawn(f"samples/{s.name}-")) for s in config.strategies}
    n_tokens = sum(left[s.name] * s.decoding.max_new_tokens for s in config.strategies)
    n_samples = sum(left.values())
    n_bytes = n_samples * _BYTES_PER_SAMPLE + n_tokens * _BYTES_PER_TOKEN
    return Cost(n_samples, n_tokens, n_bytes, shutil.disk_usage(context.run.path).free)


def _confirm(context: Context, cost: Cost) -> None:
    excess = cost.excess
    if not excess or context.config.yes:
        return
    if context.progress.confirm(f"This run takes {excess}: {cost}. Start it?"):
        return
    where = "" if is_url(str(context.config.out or "")) else f" in {context.run.path}"
    raise ConfigError(
        f"This run{where} takes {excess} ({cost}), which must be confirmed. Lower --samples or "
        "--max-new-tokens, or add --yes (yes = true in an audit file)."
    )


def measured_speed(
    context: Context,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    n_slots: int,
    n_tokens: int,
) -> Speed | None:
    """Measure the speed of sampling and scoring in at most ten seconds; draws none of the samples.

    Parameters
    ----------
    prompts : token ids of the first prompts of the run
    n_slots : number of sequences that the run samples at once
    n_tokens : tokens that the run samples; the probe takes a small share of them

    Returns
    -------
    Speed, or None if it cannot be measured: a model with its own sampler, or out of memory.
    """
    from auditor.models.device import out_of_memory
    from auditor.models.language_model import LanguageModel

    model = context.model()
    if not isinstance(model, LanguageModel):
        return None
    try:
        sampling = _sampling_speed(model, prompts, decoding, n_slots, _PROBE_SHARE * n_tokens)
        scoring = _scoring_speed(model, prompts[0], decoding) * _passes(context, model)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None
    return Speed(sampling, scoring)


def _sampling_speed(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    n_slots: int,
    most_tokens: float,
) -> float:
    """Seconds per token, by batches that grow until they take long enough to be measured."""
    from auditor.sampling.generate import engine_for

    if decoding.beams > 1:  # a prompt's beams are computed together
        n_slots = decoding.beams
    rows = [prompts[i % len(prompts)] for i in range(n_slots)]

    def seconds(n: int, steps: int) -> float:
        short = decoding.model_copy(
            update={"max_new_tokens": steps, "beams": 1, "stop_at_eos": False}
        )
        begun = time.monotonic()
        engine_for(model)(model, rows[:n], range(n), seed=0, stream="probe", decoding=short).run(n)
        return time.monotonic() - begun

    begun, n, steps = time.monotonic(), min(n_slots, _PROBED_TEXTS), 1
    first = seconds(n, steps)  # includes compilation, so it counts only if there is no time left
    if first > 0.5 * _PROBE_SECONDS and seconds(1, 1) > 0.1 * _PROBE_SECONDS:
        return decoding.beams * first / (n * steps)
    while True:
        spent = seconds(n, steps)
        n_next, steps_next = (n_slots, steps) if n < n_slots else (n, 2 * steps)
        used, size = time.monotonic() - begun, n_next * steps_next
        expected = spent * size / (n * steps)
        if (
            size > most_tokens
            or steps_next > decoding.max_new_tokens
            or spent > 0.1 * _PROBE_SECONDS
            or used + expected > 0.7 * _PROBE_SECONDS
        ):
            return decoding.beams * spent / (n * steps)
        n, steps = n_next, steps_next


def _scoring_speed(model: LanguageModel, prompt: Sequence[int], decoding: Decoding) -> float:
    """Seconds per token of one pass over known text."""
    length = min(_PROBED_TOKENS, decoding.max_new_tokens)
    texts = [[prompt[-1]] * length] * _PROBED_TEXTS
    model.token_stats(texts[:1], [prompt])
    begun = time.monotonic()
    model.token_stats(texts, [prompt] * _PROBED_TEXTS)
    return (time.monotonic() - begun) / (_PROBED_TEXTS * length)


def _passes(context: Context, model: LanguageModel) -> float:
    """Passes of the target that score a sample: lower-cased, and references by their size."""
    from auditor.models.loading import resolve
    from auditor.models.safety import stored_weights

    total = 1.0
    for spec in context.config.references.values():
        try:
            weights = stored_weights(resolve(spec))
        except ModelError:  # reported when the reference is loaded
            weights = None
        total += 1.0 if weights is None else weights.n_numbers / max(1, model.n_parameters)
    return total


def _duration(seconds: float) -> str:
    """A rough duration.

    >>> _duration(20), _duration(150), _duration(5400), _duration(10**6)
    ('20 s', '3 min', '1 h 30 min', '11.6 days')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{-(-seconds // 60):.0f} min"
    if seconds < 172_800:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02} min"
    return f"{seconds / 86_400:,.1f} days"


def _size(n_bytes: float) -> str:
    """A rough number of bytes.

    >>> _size(2500), _size(3_210_000_000), _size(3_072 * 10**9)
    ('3 kB', '3.2 GB', '3.1 TB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{-(-n_bytes // 1e6):.0f} MB" if n_bytes >= 1e6 else f"{-(-n_bytes // 1e3):.0f} kB"
