"""Stage 1: draw samples, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from auditor.audit.context import Context
from auditor.audit.cost import Speed, announce, measured_speed
from auditor.audit.partial import forget, keep, kept, partial_file
from auditor.audit.shard_writer import BackgroundWriter, Shard
from auditor.audit.workers.tasks import Task
from auditor.config.audit import Strategy
from auditor.errors import ConfigError, RunError
from auditor.runs.manifest import ChainEntry, SamplingCost, StageEntry
from auditor.system.interrupts import deferred

if TYPE_CHECKING:
    from auditor.audit.workers.tasks import SharesTasks
    from auditor.models.language_model import LanguageModel
    from auditor.sampling.prompts import PromptSource

# Maximum batch size. Throughput does not grow beyond it.
_MOST_SLOTS = {"cpu": 256, "cuda": 2048}
# Share of the free memory for the KV caches of a batch.
_SHARE = 0.5


def sample(context: Context) -> None:
    """Write samples/STRATEGY-NNNNN.parquet for every missing shard."""
    missing = [
        (strategy, stem, ids)
        for strategy in context.config.strategies
        for stem, ids in context.shards(strategy)
        if not context.run.has(f"samples/{stem}.parquet")
    ]
    if not missing:
        return
    strategies = {s.name: s for s in context.config.strategies}
    tokens = sum(len(ids) * s.decoding.max_new_tokens for s, _, ids in missing)
    strategy, stem, ids = missing[0]
    if context.workers is None:
        sampler = Sampler(context)
        with context.progress.stage("loading", None, "models"):
            for s, _, _ in missing:  # report invalid prompts before sampling
                sampler.source(s)
        announce(context, lambda n: sampler.probe(strategy, ids, n))
    else:
        probe = Task("probe", strategy.name, stem, ids.start, ids.stop)
        announce(context, partial(_probed, context, context.workers, probe))
    with (
        context.timed("sample") as entry,
        context.progress.stage("sampling", tokens, "tokens") as bar,
    ):

        def count(strategy: str, n_tokens: int, seconds: float, steps: tuple[int, int]) -> None:
            entry.tokens += n_tokens
            spent = entry.strategies.setdefault(strategy, SamplingCost(seconds=0.0, tokens=0))
            spent.seconds = round(spent.seconds + seconds, 3)
            spent.tokens += n_tokens
            if steps[0]:
                _add_steps(entry, strategies[strategy], *steps)

        if context.workers is not None:
            _share(context, context.workers, missing, bar, count)
        else:
            _alone(sampler, missing, bar, count)


def _probed(context: Context, workers: SharesTasks, task: Task, n_tokens: int) -> Speed | None:
    """The speed of one worker."""
    with context.progress.stage("loading", None, "models"):
        (outcome,) = workers.share([replace(task, n_tokens=n_tokens)])
    return Speed.from_counts(outcome.counts)


# Strategy, tokens of a shard, seconds, steps of Markov chains (proposed, accepted).
Count = Callable[[str, int, float, tuple[int, int]], None]


def _add_steps(entry: StageEntry, strategy: Strategy, proposed: int, accepted: int) -> None:
    """Add the steps of a shard's Markov chains to the stage's entry."""
    decoding = strategy.decoding
    burn_in = decoding.sweeps * decoding.max_new_tokens
    empty = ChainEntry(method=decoding.chain, burn_in=burn_in, thinning=0)
    chains = entry.chains.setdefault(strategy.name, empty)
    chains.proposed += proposed
    chains.accepted += accepted
    chains.acceptance = round(chains.accepted / chains.proposed, 4)


def _alone(sampler: Sampler, missing: list, bar, count: Count) -> None:
    def counted(shard: Shard) -> None:
        steps = shard.drawn.proposed, shard.drawn.accepted
        count(shard.strategy, shard.n_tokens, shard.seconds, steps)

    run = sampler.context.run
    try:
        with BackgroundWriter(run, counted) as writer:
            for strategy, stem, ids in missing:
                shard = sampler.draw(strategy, stem, ids, bar.advance)
                writer.write(f"samples/{stem}.parquet", shard)
    finally:
        written = (stem for _, stem, _ in missing if run.has(f"samples/{stem}.parquet"))
        forget(run, *(f"sample-{stem}" for stem in written))


def _share(context: Context, workers: SharesTasks, missing: list, bar, count: Count) -> None:
    """Sample on workers; their seconds are summed."""
    sizes = context.run.manifest.batch_size
    first = {s.name: Task("plan", s.name, stem, ids.start, ids.stop) for s, stem, ids in missing}
    # All shards of a strategy use one batch size: bfloat16 results depend on it in the last bits,
    # and must not depend on which worker drew a shard.
    plans = [task for name, task in first.items() if name not in sizes]
    if context.config.batch_size is None:
        for _ in workers.share(plans):
            pass
    width = {s.name: s.decoding.max_new_tokens for s, _, _ in missing}
    tasks = []
    for s, stem, ids in missing:
        size = sizes.get(s.name) or context.config.batch_size
        tasks.append(Task("sample", s.name, stem, ids.start, ids.stop, batch_size=size))
    for outcome in workers.share(tasks):
        for sentence in outcome.notes:
            context.note(sentence)
        bar.advance((outcome.task.last - outcome.task.first) * width[outcome.task.strategy])
        made = outcome.counts
        steps = made.get("proposed", 0), made.get("accepted", 0)
        count(outcome.task.strategy, made["tokens"], made["milliseconds"] / 1000, steps)


class Sampler:
    """Draws shards of samples; loads the model and each strategy's prompts once.

    `sources` carries the prompts from one sampler to the next; `sharing` is the number of workers
    that share this machine's memory.
    """

    def __init__(self, context: Context, sources: dict | None = None, *, sharing: int = 1):
        self.context = context
        self.sources: dict[str, PromptSource] = {} if sources is None else sources
        self.sharing = sharing

    def source(self, strategy: Strategy) -> PromptSource:
        """A strategy's prompt source; checked on first use."""
        from auditor.models.tokenizer import check_rows
        from auditor.sampling.prompts import PromptSource

        config = self.context.config
        if strategy.name not in self.sources:
            model = self.context.model()
            self.sources[strategy.name] = PromptSource(
                strategy,
                model.vocabulary,
                seed=config.seed,
                context=model.context,
                text_field=config.text_field,
                strict=config.strict,
                model_name=model.name,
                gap=_gap(model, strategy),
            )
            for prompt in self.sources[strategy.name].pool:
                rows = model.name, model.vocabulary, model.n_vocab
                check_rows(*rows, prompt.tolist(), f"a text for prompts of {strategy.name!r}")
            for sentence in self.sources[strategy.name].problems:
                self.context.note(sentence)
            if strategy.prompts.chat_template:
                self.context.note(
                    f"The prompts of {strategy.name!r} are in the chat template of {model.name}."
                )
        source = self.sources[strategy.name]
        _register(self.context, strategy.name, source.fingerprint)
        return source

    def plan(self, strategy: Strategy, ids: range) -> None:
        """Record the batch size of a strategy that fits into memory, by its first shard."""
        prompts = self.source(strategy).prompts(ids)
        if self.context.model().kind != "causal":
            return
        sizes = self.context.run.manifest.batch_size
        sizes[strategy.name] = _slots(self.context.model(), prompts, strategy, self.sharing)

    def probe(self, strategy: Strategy, ids: range, n_tokens: int) -> Speed | None:
        """Measure the speed with the prompts of a shard; see `measured_speed`."""
        prompts = self.source(strategy).prompts(ids)
        if self.context.model().kind != "causal":
            return None
        slots = _slots_of(self.context, prompts, strategy, self.sharing)
        return measured_speed(self.context, prompts, strategy.decoding, slots, n_tokens)

    def draw(
        self,
        strategy: Strategy,
        stem: str,
        ids: range,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Shard:
        """Draw one shard; if it is interrupted, its state is kept for the next time."""
        begun, before = time.monotonic(), 0.0
        source, model = self.source(strategy), self.context.model()
        prompts = source.prompts(ids)
        if model.kind != "causal":
            drawn = _draw_by_itself(self.context, model, prompts, strategy, ids, progress)
        elif strategy.decoding.beams > 1:
            from auditor.sampling.beam_search import beam_search

            own = cast("LanguageModel", model)
            drawn = beam_search(own, prompts, strategy.decoding, progress, self.context.note)
        else:
            drawn, before = _draw(self.context, model, prompts, strategy, stem, ids, progress)
        if why := model.slow_because.get("steps"):
            self.context.note(
                f"{model.name} was sampled without a key-value cache, which is slower: {why}."
            )
        seconds = before + time.monotonic() - begun
        return Shard(strategy.name, ids, prompts, len(source.bos), drawn, model.vocabulary, seconds)


def _register(context: Context, strategy: str, sha256: str) -> None:
    """Record the source of the prompts; a resumed run must use the same."""
    known = context.run.manifest.prompts
    if known.setdefault(strategy, sha256) != sha256:
        raise RunError(
            f"The texts for the prompts of strategy {strategy!r} have changed since "
            f"{context.run.path} was started. Choose another --out, or restore the original texts."
        )
    context.run.save()


def _gap(model, strategy: Strategy) -> list[int]:
    """The tokens that end a strategy's prompts: the gap that an encoder-decoder fills."""
    is_asked = model.kind == "encoder-decoder" and strategy.prompts.fill_gap
    return model.gap_after([]) if is_asked else []


def _draw_by_itself(context: Context, model, prompts, strategy: Strategy, ids: range, progress):
    """The samples of a shard by a model with its own sampler."""
    from auditor.sampling.generate import generate

    if strategy.decoding.beams > 1:
        raise ConfigError(
            f"--beams must be 1 for {model.name}, which is not a causal model in this process; got "
            f"{strategy.decoding.beams}. Leave out --beams."
        )
    drawn, _ = generate(
        model,
        prompts,
        list(ids),
        seed=context.config.seed,
        stream=strategy.name,
        decoding=strategy.decoding,
        n_slots=1,
        progress=progress,
    )
    return drawn


def _draw(context: Context, model, prompts, strategy: Strategy, stem: str, ids: range, progress):
    """The samples of a shard, and the seconds of interrupted attempts."""
    from auditor.sampling.engine import PausedError
    from auditor.sampling.generate import generate

    slots = _slots_of(context, prompts, strategy)
    place = partial_file(context.run, f"sample-{stem}")
    identity = {"model": model.identity(), "slots": slots}
    state = kept(place, identity)
    before, begun = 0.0 if state is None else float(state["seconds"]), time.monotonic()
    with deferred() as stop:
        try:
            drawn, fitted = generate(
                model,
                prompts,
                list(ids),
                seed=context.config.seed,
                stream=strategy.name,
                decoding=strategy.decoding,
                n_slots=slots,
                progress=progress,
                note=context.note,
                stop=stop,
                state=state,
            )
        except PausedError as paused:
            context.progress.note("Interrupted: the unfinished samples are being kept.")
            seconds = np.array(before + time.monotonic() - begun)
            if paused.state and keep(place, identity, {**paused.state, "seconds": seconds}):
                # The resumed run must use the same batch size.
                context.run.manifest.batch_size[strategy.name] = slots
                context.run.save()
            raise
    context.run.manifest.batch_size[strategy.name] = min(slots, fitted)
    return drawn, before


def _slots_of(context: Context, prompts, strategy: Strategy, sharing: int = 1) -> int:
    """The batch size of a strategy: the run's, or what fits into memory."""
    # A resumed run keeps its batch size, as bfloat16 results depend on it in the last bits; but a
    # smaller --batch-size wins, as it is the remedy when memory runs out.
    sizes = context.run.manifest.batch_size
    known = [n for n in (sizes.get(strategy.name), context.config.batch_size) if n]
    return min(known, default=0) or _slots(context.model(), prompts, strategy, sharing)


def _slots(model, prompts, strategy: Strategy, sharing: int = 1) -> int:
    """The batch size that fits into this worker's share of the free memory, within the maximum."""
    from auditor.models.device import free_memory

    length = max(map(len, prompts)) + strategy.decoding.max_new_tokens
    free = free_memory(model.device) / (sharing if model.device.type == "cpu" else 1)
    room = int(_SHARE * free // model.bytes_per_slot(length))
    return max(1, min(room, _MOST_SLOTS.get(model.device.type, 256)))
