"""Prefixes: BOS alone, text from a corpus, few-shot, a repeated word.

The prompt of a sample depends on (seed, strategy, sample id) alone, as its tokens do.
"""

from __future__ import annotations

import csv
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from auditor.config import Prompts, Strategy
from auditor.corpora.reading import read_corpus
from auditor.errors import ConfigError, CorpusError, ModelError
from auditor.generation.randomness import uniforms
from auditor.language_models.vocabulary import Vocabulary
from auditor.shipped import shipped

# Texts that a prefix source keeps: enough variety, and memory that does not grow with the corpus.
_KEPT_TEXTS = 20_000
_KEPT_CHARS = 2_000
_DRAWS = 4


class PromptSource:
    """Token ids of the prompt of any sample of one strategy.

    Parameters
    ----------
    strategy : Strategy
    vocabulary : Vocabulary
    seed : int
    context : int or None
        The most tokens the model reads; prompt and new tokens must fit.

    Raises
    ------
    ModelError
        If the strategy starts from BOS and the model has none, or prompt and new tokens are longer
        than the model's context.
    CorpusError, ConfigError
        If prefixes cannot be taken from the given texts, template or table.
    """

    def __init__(
        self,
        strategy: Strategy,
        vocabulary: Vocabulary,
        *,
        seed: int,
        context: int | None,
        model_name: str = "The model",
    ):
        self.strategy, self.vocabulary, self.seed = strategy, vocabulary, seed
        self.name = model_name
        kind = strategy.prompts.kind
        self.bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
        if kind == "bos" and not self.bos:
            raise ModelError(
                f"{model_name}'s tokenizer has no BOS token, which strategy {strategy.name!r} "
                "starts from. Name one with --bos TOKEN, or use --strategy internet with your own "
                "prefixes."
            )
        self.pool: list[list[int]] = []
        if kind == "corpus":
            self.pool = _prefix_pool(strategy.prompts, vocabulary)
        elif kind == "few-shot":
            self.pool = _few_shot_pool(strategy.prompts, vocabulary)
        elif kind == "repeat":
            self.pool = _repeat_pool(strategy.prompts, vocabulary)
        self._check_context(context)

    def _check_context(self, context: int | None) -> None:
        if context is None:
            return
        new = self.strategy.decoding.max_new_tokens
        longest = len(self.bos) + self._longest()
        if longest + new > context:
            raise ModelError(
                f"--max-new-tokens must be between 1 and {max(0, context - longest)} "
                f"({self.name}'s context {context} minus {longest} for the longest prompt of "
                f"{self.strategy.name!r}); got {new}. Lower --max-new-tokens"
                + (" or shorten the prompts." if longest > 1 else ".")
            )

    def _longest(self) -> int:
        if self.strategy.prompts.kind == "corpus":
            return self.strategy.prompts.max_tokens
        return max((len(p) for p in self.pool), default=0)

    def prompts(self, sample_ids: Sequence[int]) -> list[list[int]]:
        """The prompt of each sample, BOS first where the model has one."""
        kind = self.strategy.prompts.kind
        if kind == "bos":
            return [list(self.bos) for _ in sample_ids]
        group = np.asarray(sample_ids, dtype=np.int64) // self.strategy.prompts.samples_per_prompt
        stream = f"prompt:{self.strategy.name}"
        u = uniforms(self.seed, stream, group, np.arange(_DRAWS))
        chosen = (u[:, 0] * len(self.pool)).astype(int)
        if kind != "corpus":
            return [[*self.bos, *self.pool[i]] for i in chosen]
        low, high = self.strategy.prompts.min_tokens, self.strategy.prompts.max_tokens
        out = []
        for i, (_, where, length, _) in zip(chosen, u, strict=True):
            text = self.pool[i]
            n = min(low + int(length * (high - low + 1)), len(text))
            start = int(where * (len(text) - n + 1))
            out.append([*self.bos, *text[start : start + n]])
        return out


def _prefix_pool(prompts: Prompts, vocabulary: Vocabulary) -> list[list[int]]:
    """Texts to take prefixes from: an even spread over the corpus, each cut to what is needed."""
    kept: list[str] = []
    stride, n = 1, 0
    for document in read_corpus(prompts.corpus):
        # A document gives several pieces, so that a long file is not one text.
        for at in range(0, len(document.text), _KEPT_CHARS):
            if n % stride == 0:
                kept.append(document.text[at : at + _KEPT_CHARS])
            n += 1
            if len(kept) >= 2 * _KEPT_TEXTS:
                kept, stride = kept[::2], stride * 2
    pool = [ids for ids in vocabulary.encode_all(kept) if len(ids) >= prompts.min_tokens]
    if not pool:
        raise CorpusError(
            f"--prompts: no text in {', '.join(prompts.corpus)} has {prompts.min_tokens} tokens to "
            "take a prefix from. Give longer texts, or lower min_tokens."
        )
    return pool


def _few_shot_pool(prompts: Prompts, vocabulary: Vocabulary) -> list[list[int]]:
    """Every rotation of the example table, so that samples see different shots."""
    template_path = Path(prompts.template) if prompts.template else shipped("prompts/contacts.txt")
    table_path = Path(prompts.examples) if prompts.examples else shipped("prompts/contacts.csv")
    template, rows = _read(template_path), _table(table_path)
    fields = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    missing = sorted(set(fields) - set(rows[0])) if rows else []
    if not fields or missing:
        told = f"{{{missing[0]}}} is no column" if missing else "it has no {column}"
        raise ConfigError(
            f"The few-shot template {template_path.name} does not fit its table: {told}. "
            f"Columns of {table_path.name}: {', '.join(rows[0])}."
        )
    shots = min(prompts.shots, len(rows))
    # The last entry stops before its first field: that is what the model is to fill in.
    opening = template.split("{", 1)[0]
    out = []
    for first in range(len(rows)):
        chosen = [rows[(first + i) % len(rows)] for i in range(shots)]
        out.append("".join(template.format(**row) for row in chosen) + opening.rstrip(" "))
    return vocabulary.encode_all(out)


def _repeat_pool(prompts: Prompts, vocabulary: Vocabulary) -> list[list[int]]:
    """A word said over and over: the divergence attack (Nasr et al. 2023, section 5)."""
    words = list(prompts.words) or _read(shipped("prompts/words.txt")).split()
    return vocabulary.encode_all([" ".join([word] * prompts.repeats) for word in words])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text ({error}).") from None


def _table(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(_read(path).splitlines()))
    if not rows:
        raise ConfigError(f"{path} has no rows. A table of examples needs a header and a row.")
    return rows
