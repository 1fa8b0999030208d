"""Stage 1: sample large volumes of text, a shard at a time."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from attacks.token_stats import TokenStats
from auditor.config import Strategy
from auditor.errors import RunError
from auditor.stages.columns import stats_columns
from auditor.stages.context import Context

# Sequences in flight at the most. More gives no more speed: the products are large enough by then.
_MOST_SLOTS = {"cpu": 256, "cuda": 2048}
# Of the free memory, what the caches of the sequences in flight may take.
_SHARE = 0.5


def sample(context: Context) -> None:
    """Write samples/STRATEGY-NNNNN.parquet for every shard that is not there yet."""
    missing = [
        (strategy, stem, ids)
        for strategy in context.config.strategies
        for stem, ids in context.shards(strategy)
        if not context.run.has(f"samples/{stem}.parquet")
    ]
    if not missing:
        return
    from auditor.generation.prompts import PromptSource

    model = context.model()
    sources = {}
    for strategy, _, _ in missing:  # what cannot work is said before anything is sampled
        if strategy.name not in sources:
            sources[strategy.name] = PromptSource(
                strategy,
                model.vocabulary,
                seed=context.config.seed,
                context=model.context,
                text_field=context.config.text_field,
                strict=context.config.strict,
                model_name=model.name,
            )
            _register(context, strategy.name, sources[strategy.name].fingerprint)
    tokens = sum(len(ids) * s.decoding.max_new_tokens for s, _, ids in missing)
    with (
        context.timed("sample") as entry,
        context.progress.stage("sampling", tokens, "tokens") as bar,
    ):
        each = entry.setdefault("strategies", {})
        for strategy, stem, ids in missing:
            begun = time.monotonic()
            table = _shard(context, model, sources[strategy.name], strategy, ids, bar)
            n = int(pa.compute.sum(table["n_tokens"]).as_py())
            entry["tokens"] = entry.get("tokens", 0) + n
            spent = each.setdefault(strategy.name, {"seconds": 0.0, "tokens": 0})
            spent["seconds"] = round(spent["seconds"] + time.monotonic() - begun, 3)
            spent["tokens"] += n
            context.run.write(f"samples/{stem}.parquet", table)


def _register(context: Context, strategy: str, sha256: str) -> None:
    """Note what prompts are taken from; a run that goes on must take them from the same."""
    known = context.run.manifest.setdefault("prompts", {})
    if known.setdefault(strategy, sha256) != sha256:
        raise RunError(
            f"The texts that strategy {strategy!r} takes its prompts from are others than when "
            f"{context.run.path} was begun. Choose another --out, or bring the first texts back."
        )
    context.run.save()


def _shard(context: Context, model, source, strategy: Strategy, ids: range, bar) -> pa.Table:
    prompts = source.prompts(ids)
    if strategy.decoding.beams > 1:
        from auditor.generation.beams import beam_search

        drawn = beam_search(model, prompts, strategy.decoding, bar.advance, context.note)
    else:
        drawn = _draw(context, model, prompts, strategy, ids, bar)
    stats = TokenStats.from_lists(
        [row[:n] for row, n in zip(drawn.token_ids, drawn.length, strict=True)],
        [row[:n] for row, n in zip(drawn.logprob, drawn.length, strict=True)],
        [row[:n] for row, n in zip(drawn.rank, drawn.length, strict=True)],
    )
    vocabulary = model.vocabulary
    texts = [
        vocabulary.decode(row[:n]) for row, n in zip(drawn.token_ids, drawn.length, strict=True)
    ]
    return pa.table(
        {
            "sample_id": [f"{strategy.name}-{i:06}" for i in ids],
            "strategy": [strategy.name] * len(ids),
            "prompt": [vocabulary.decode(p) for p in prompts],
            "text": texts,
            "n_tokens": stats.n_tokens(),
            "n_chars": np.array([len(t) for t in texts], np.int64),
            "n_bytes": np.array([len(t.encode()) for t in texts], np.int64),
            "finish": ["eos" if e else "length" for e in drawn.ended],
            "prompt_token_ids": pa.array(prompts, pa.list_(pa.int32())),
            **stats_columns(stats),
        }
    )


def _draw(context: Context, model, prompts, strategy: Strategy, ids: range, bar):
    from auditor.generation.engine import generate

    sizes = context.run.manifest.setdefault("batch_size", {})
    # A resumed run keeps the batch it began with: in bfloat16 the last bits depend on it.
    slots = (
        sizes.get(strategy.name) or context.config.batch_size or _slots(model, prompts, strategy)
    )
    drawn, fitted = generate(
        model,
        prompts,
        list(ids),
        seed=context.config.seed,
        stream=strategy.name,
        decoding=strategy.decoding,
        n_slots=slots,
        progress=bar.advance,
        note=context.note,
    )
    sizes[strategy.name] = min(slots, fitted)
    return drawn


def _slots(model, prompts, strategy: Strategy) -> int:
    """As many sequences as the free memory holds, within what is useful."""
    from auditor.language_models.machine import free_memory

    length = max(map(len, prompts)) + strategy.decoding.max_new_tokens
    room = int(_SHARE * free_memory(model.device) // model.bytes_per_slot(length))
    return max(1, min(room, _MOST_SLOTS.get(model.device.type, 256)))
