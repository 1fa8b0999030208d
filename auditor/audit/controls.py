"""Controls: text that the model was not trained on, scored like samples.

A control has the length of a sample and the same context: BOS, or as many tokens of its own text
as a prefix has. It begins at the start of a text or line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from auditor.audit.context import TARGET, Context
from auditor.audit.scoring import score_batch
from auditor.config.audit import VERIFIED, AuditConfig, Strategy
from auditor.config.served import is_url
from auditor.corpus.reading import Corpus, Document, read_corpus
from auditor.errors import ConfigError, CorpusError
from auditor.scoring.text_scorer import Texts

# Enough to resolve a p-value of 0.001; each further control costs a forward pass per model.
_MOST = 1000


def controls_file(strategy: str) -> str:
    """The file of a strategy's controls and their scores."""
    return f"controls/{strategy}.parquet"


def needs_controls(context: Context) -> bool:
    """Whether held-out text is configured and not all of it is scored yet."""
    return _is_text(context.config) and not all(
        context.run.has(controls_file(s.name)) for s in _with_controls(context.config)
    )


def check_controls(config: AuditConfig) -> None:
    """Refuse held-out text that is missing or empty; only its beginning is read."""
    if not _is_text(config):
        return
    corpus = _corpus(config)
    corpus.check()
    if next(iter(corpus), None) is None:
        raise CorpusError(
            f"--controls {config.controls[0]} contains no text. Give text that the model was not "
            "trained on."
        )


def check_scorable(context: Context) -> None:
    """Raise ConfigError if text is to be scored that a served model cannot score."""
    config = context.config
    if not is_url(config.model) or not (_is_text(config) or config.canaries is not None):
        return
    if config.canaries is not None:
        raise ConfigError(
            f"--canaries needs a model on this machine; got {config.model}. Remove --canaries."
        )
    if why := context.model(TARGET).without.get("loss"):
        raise ConfigError(
            f"--controls with text of your own needs its log-probabilities, and {why} Use "
            "--controls verified."
        )


def score_controls(context: Context) -> None:
    """Write controls/STRATEGY.parquet for every strategy that allows controls."""
    if not needs_controls(context):
        return
    made: dict[tuple, pa.Table] = {}
    with context.timed("controls"):
        for strategy in _with_controls(context.config):
            shape = (_prefix(strategy), strategy.decoding.max_new_tokens)
            if shape not in made:
                made[shape] = _scored(context, *shape)
            context.run.write(controls_file(strategy.name), made[shape])


def no_controls(strategy: Strategy) -> str:
    """Why a strategy cannot have controls; empty if it can."""
    if strategy.prompts.kind in ("bos", "corpus"):
        return ""
    return f"held-out text cannot follow prompts of kind {strategy.prompts.kind!r}"


def _with_controls(config: AuditConfig) -> list[Strategy]:
    return [s for s in config.strategies if not no_controls(s)]


def _is_text(config: AuditConfig) -> bool:
    return bool(config.controls) and config.controls != VERIFIED


def _corpus(config: AuditConfig) -> Corpus:
    return read_corpus(config.controls, text_field=config.text_field, strict=config.strict)


def _prefix(strategy: Strategy) -> int:
    """Number of tokens of a control that serve as its prompt."""
    prompts = strategy.prompts
    return 0 if prompts.kind == "bos" else (prompts.min_tokens + prompts.max_tokens) // 2


def _scored(context: Context, n_prefix: int, n_new: int) -> pa.Table:
    """Controls of one prefix and suffix length, with their scores."""
    model = context.model(TARGET)
    corpus, n_tokens = _corpus(context.config), n_prefix + n_new
    pieces = list(control_pieces(corpus, model.vocabulary, n_tokens=n_tokens, most=_MOST))
    for problem in corpus.problems:  # only of files read completely
        context.note(problem.message)
    if not pieces:
        raise CorpusError(
            f"--controls must contain at least {n_tokens:,} tokens (a sample and its prefix); got "
            "fewer. Give more text, or lower --max-new-tokens."
        )
    bos = [] if model.vocabulary.bos_id is None else [model.vocabulary.bos_id]
    prefixes, ids = [p[:n_prefix] for p in pieces], [p[n_prefix:] for p in pieces]
    decoded = [model.vocabulary.decode(i, p) for i, p in zip(ids, prefixes, strict=True)]
    texts = Texts.drawn(model.vocabulary, ids, [bos + p for p in prefixes], decoded)
    n_models = 2 + len(context.config.references)
    with context.progress.stage("scoring controls", n_models * len(ids), "texts") as bar:
        name = f"controls-{n_prefix}-{n_new}"
        _, columns = score_batch(context, texts, name=name, progress=bar.advance)
    return pa.table({"text": texts.text, "n_tokens": np.array([len(i) for i in ids]), **columns})


def control_pieces(
    documents: Iterable[Document], vocabulary, *, n_tokens: int, most: int
) -> Iterator[list[int]]:
    """Non-overlapping pieces of `n_tokens` tokens, each from the start of a text or line.

    If a text is too short, the piece continues in the next text after EOS, as samples do.
    """
    gap = [vocabulary.eos_id] if vocabulary.eos_id is not None else vocabulary.encode("\n\n")
    piece: list[int] = []
    n = 0
    for document in documents:
        ids, at = vocabulary.encode(document.text), 0
        while at < len(ids) and n < most:
            taken = ids[at : at + n_tokens - len(piece)]
            piece, at = piece + taken, at + len(taken)
            if len(piece) == n_tokens:
                yield piece
                piece, n = [], n + 1
                at = _next_line(ids, at, vocabulary.token_bytes)
        if n >= most:
            return
        if piece:
            piece = (piece + gap)[:n_tokens]


def _next_line(ids: list[int], at: int, token_bytes: list[bytes]) -> int:
    """Start of the next line from `at` on; the end if there is none."""
    while 0 < at < len(ids) and b"\n" not in token_bytes[ids[at - 1]]:
        at += 1
    return at
