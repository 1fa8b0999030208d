"""A drawn shard, and a writer that stores it while the next one is drawn."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from attacks.scores.token_stats import TokenStats
from auditor.audit.shard_table import stats_columns
from auditor.runs.manifest import FileEntry
from auditor.runs.writer import RunWriter
from auditor.system.interrupts import deferred

if TYPE_CHECKING:
    from auditor.models.interfaces import Samples
    from auditor.models.tokenizer import Vocabulary


@dataclass(frozen=True)
class Shard:
    """Samples `ids` of a strategy: their prompts and the generated tokens.

    `n_bos` is the number of BOS tokens at the start of each prompt, `seconds` the time that the
    shard took, interrupted attempts included.
    """

    strategy: str
    ids: range
    prompts: list[list[int]]
    n_bos: int
    drawn: Samples
    vocabulary: Vocabulary
    seconds: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Generated tokens."""
        return int(self.drawn.length.sum())

    def table(self) -> pa.Table:
        """The rows of samples/STRATEGY-NNNNN.parquet; thread-safe."""
        drawn, decode = self.drawn, self.vocabulary.decode
        ids, logprob, rank = (
            [row[:n] for row, n in zip(rows, drawn.length, strict=True)]
            for rows in (drawn.token_ids, drawn.logprob, drawn.rank)
        )
        stats = TokenStats.from_lists(ids, logprob, rank)
        # Leave BOS out, even if --bos names a token with text: readers of the prompt add their own.
        prompts = [prompt[self.n_bos :] for prompt in self.prompts]
        texts = [decode(row, before) for row, before in zip(ids, prompts, strict=True)]
        return pa.table(
            {
                "sample_id": [f"{self.strategy}-{i:06}" for i in self.ids],
                "strategy": [self.strategy] * len(self.ids),
                "prompt": [decode(prompt) for prompt in prompts],
                "text": texts,
                "n_tokens": stats.n_tokens(),
                "n_chars": np.array([len(t) for t in texts], np.int64),
                "n_bytes": np.array([len(t.encode()) for t in texts], np.int64),
                "finish": ["eos" if e else "length" for e in drawn.ended],
                "prompt_token_ids": pa.array(self.prompts, pa.list_(pa.int32())),
                **stats_columns(stats),
            }
        )


class BackgroundWriter:
    """Writes one shard while the next is drawn; on exit all drawn shards are written.

    `count(shard)` is called when the file is complete, just before it is added to the
    manifest, so that file and count are added together.
    """

    def __init__(self, run: RunWriter, count: Callable[[Shard], None]):
        self.run, self.count = run, count
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self.open: tuple[str, Shard, Future[FileEntry]] | None = None

    def __enter__(self) -> BackgroundWriter:
        return self

    def write(self, name: str, shard: Shard) -> None:
        """Start to write a shard after the previous one is finished."""
        with deferred():  # the shard must not be lost to an interrupt here
            self.finish()
            laid = self.thread.submit(lambda: self.run.write_table(name, shard.table()))
            self.open = name, shard, laid

    def finish(self) -> None:
        """Wait for the current write and add the file to the manifest."""
        if self.open is not None:
            (name, shard, laid), self.open = self.open, None
            facts = laid.result()
            self.count(shard)
            self.run.register({name: facts})

    def __exit__(self, *_: object) -> None:
        try:
            self.finish()
        finally:
            self.thread.shutdown()
