"""Stage 2: score each sample under each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from attacks.scores.token_stats import TokenStats
from auditor.audit.context import TARGET, Context
from auditor.audit.partial import digest, kept_passes
from auditor.audit.shard_table import stats_of
from auditor.audit.workers.tasks import Task
from auditor.scoring.text_scorer import Scored, Texts, TextScorer, no_bos_note

if TYPE_CHECKING:
    from auditor.audit.workers.tasks import SharesTasks


def score(context: Context) -> None:
    """Write scores/STRATEGY-NNNNN.parquet for every missing shard."""
    missing = [
        stem
        for strategy in context.config.strategies
        for stem, _ in context.shards(strategy)
        if not context.run.has(f"scores/{stem}.parquet")
    ]
    if not missing:
        return
    files = {stem: f"samples/{stem}.parquet" for stem in missing}
    n_models = 1 + len(context.config.references)
    rows = sum(context.run.manifest.shards[name].rows for name in files.values())
    with (
        context.timed("score") as entry,
        context.progress.stage("scoring", n_models * rows, "texts") as bar,
    ):
        if context.workers is not None:
            made = _share(context, context.workers, files, bar)
        else:
            made = (score_shard(context, stem, bar.advance) for stem in missing)
        for n in made:
            entry.texts += n


def _share(context: Context, workers: SharesTasks, files: dict[str, str], bar) -> Iterator[int]:
    """Score the shards on workers; yields the number of texts in each."""
    known = context.run.manifest.shards
    tasks = [
        Task("score", stem.rpartition("-")[0], stem, 0, 0, needs={name: known[name]})
        for stem, name in files.items()
    ]
    for outcome in workers.share(tasks):
        for sentence in outcome.notes:
            context.note(sentence)
        bar.advance(outcome.counts["texts"] * (1 + len(context.config.references)))
        yield outcome.counts["texts"]


def score_shard(context: Context, stem: str, progress: Callable[[int], None] | None = None) -> int:
    """Score a shard of samples and write scores/STEM.parquet; returns the number of texts."""
    table = context.run.read(f"samples/{stem}.parquet")
    texts, known = texts_of(context, table), stats_of(table)
    scored, columns = score_batch(context, texts, known, name=f"score-{stem}", progress=progress)
    keep = {name: table[name] for name in ("sample_id", "strategy", "n_tokens")}
    counts = {name: {why: int(n) for why, n in r.items()} for name, r in scored.undefined.items()}
    context.run.write(f"scores/{stem}.parquet", pa.table({**keep, **columns}), undefined=counts)
    return len(table)


def texts_of(context: Context, table: pa.Table) -> Texts:
    """The samples of a table as `Texts`."""
    return Texts.drawn(
        context.vocabulary(TARGET),
        table["token_ids"].to_pylist(),
        table["prompt_token_ids"].to_pylist(),
        table["text"].to_pylist(),
    )


def score_batch(
    context: Context,
    texts: Texts,
    target: TokenStats | None = None,
    *,
    name: str,
    progress: Callable[[int], None] | None = None,
    dtype: str | None = None,
) -> tuple[Scored, dict[str, np.ndarray]]:
    """Score samples under the audit's models; also returns the columns of the frame `scores`.

    `target` is their TokenStats under the target, where known. `name` is the name of the file that
    keeps finished batches if the work is interrupted.
    """
    scorer = TextScorer(
        context.model(TARGET, dtype=dtype),
        {key: context.model(key, dtype=dtype) for key in context.config.references},
        for_samples=True,
        advance=progress,
        note=context.note,
    )
    for sentence in scorer.left_out():
        context.note(sentence)
    for reference in context.config.references:
        lacks = scorer.references[reference].vocabulary.bos_id is None
        if reference in scorer.other_tokenizer and lacks and not all(texts.prompt):
            context.note(no_bos_note(reference, "the target"))
    models = {TARGET: scorer.target, **scorer.references}
    identity = {
        "texts": digest(texts.token_ids, texts.prompt_ids, texts.text),
        "models": {key: model.identity() for key, model in models.items()},
    }
    with kept_passes(context.run, name, identity) as passes:
        scorer.next_memo = passes.next
        scored = scorer.score(texts, target)
    columns = {**scored.figures, **scored.scores}
    columns["zlib_bits"] = columns["zlib_bits"].astype(np.float64)
    return scored, columns
