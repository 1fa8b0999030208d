"""Rows of tokens for training: tokenize, split off held-out documents, and mix corpora."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.config.finetuning import FinetuneConfig
from auditor.corpus.reading import Corpus, read_corpus
from auditor.errors import ConfigError

# Texts per probe: enough for a mean, few enough to be cheap.
N_PROBED = 64
_MOST_HELD_OUT = 1_000
IGNORED = -100  # cross entropy's mark for "no target here"
_AT_ONCE = 256  # documents tokenized together


class Rows(torch.utils.data.Dataset):
    """The rows of one epoch, which may repeat rows.

    tokens : int32 array, the concatenated rows
    offsets : int64 array (n + 1,)
    order : int64 array, indices of an epoch's rows before shuffling
    """

    def __init__(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64], order: NDArray):
        self.tokens, self.offsets, self.order = tokens, offsets, order

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.int32]], order: NDArray | None = None) -> Rows:
        """Build from one array per row; each row occurs once per epoch unless `order` is given.

        >>> rows = Rows.of([np.array([5, 6]), np.array([7])])
        >>> len(rows), rows[1].tolist()
        (2, [7])
        """
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        every = np.arange(len(rows)) if order is None else order
        return cls(np.concatenate(rows).astype(np.int32), offsets, every.astype(np.int64))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        row = self.order[i]
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]


@dataclass
class Text:
    """Rows to train on, and texts to measure.

    members, heldout : texts for the probe, a sample of each
    n_documents, n_heldout : int, distinct documents
    """

    rows: Rows
    members: list[str]
    heldout: list[str]
    n_documents: int
    n_heldout: int
    fingerprint: str
    notes: list[str] = field(default_factory=list)


def read_text(config: FinetuneConfig, tokenizer, width: int) -> Text:
    """Read the config's corpora into rows of at most `width` tokens; split off held-out text.

    Each document starts a new row (see `encode_rows`). Copies of a document are on the same side
    of the split.

    Raises
    ------
    CorpusError
        As `read_corpus`.
    ConfigError
        If there is no text left to train on.
    """
    corpora = [_open([spec], config) for spec in config.corpora]
    digests = np.unique([d for corpus in corpora for d in _digests(corpus, config.seed)])
    if config.heldout:
        apart = _open(config.heldout, config)
        held = np.unique(_digests(apart, config.seed))
        sources: Sequence[Corpus] = [apart]
    else:
        held = digests[: n_held_out(config, len(digests))]
        sources = corpora
    chosen = set(held[np.isin(held, digests)].tolist())
    if len(chosen) >= len(digests):
        raise ConfigError(
            f"All {len(digests):,} distinct documents of the corpus are held out; none are left to "
            "train on. Hold out other text."
        )
    members = digests[~np.isin(digests, list(chosen))]
    return Text(
        rows=_rows(corpora, chosen, tokenizer, width, config),
        members=_probed_texts(corpora, members, config.seed),
        heldout=_probed_texts(sources, held, config.seed),
        n_documents=len(members),
        n_heldout=len(held),
        fingerprint=_fingerprint([*corpora, *sources]),
        notes=_notes(config, corpora, len(chosen)),
    )


def pad(rows: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
    """Pad rows to a batch: input_ids and labels, int64 (rows, longest); padding is ignored.

    >>> pad([np.array([5, 6]), np.array([7])])["labels"].tolist()
    [[5, 6], [7, -100]]
    """
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = labels[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
    return {"input_ids": ids, "labels": labels}


def _open(specs: Sequence[str], config: FinetuneConfig) -> Corpus:
    return read_corpus(list(specs), text_field=config.text_field)


def text_digest(text: str, seed: int) -> int:
    """A number of 64 bits that decides, by its order, which texts are held out and measured."""
    key = seed.to_bytes(8, "little")
    raw = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, key=key, digest_size=8).digest(), "little")


def _digests(corpus: Iterable, seed: int) -> NDArray[np.uint64]:
    found = (text_digest(document.text, seed) for document in corpus)
    return np.fromiter(found, dtype=np.uint64)


def n_held_out(config: FinetuneConfig, n_documents: int) -> int:
    """Number of distinct documents, or examples of a task, to hold out."""
    given = config.heldout_documents
    n = min(_MOST_HELD_OUT, max(1, n_documents // 10)) if given is None else given
    if n >= n_documents:
        raise ConfigError(
            f"--heldout-documents must be below {n_documents:,}, the number of distinct documents; "
            f"got {n:,}. Lower it, or give other text with --heldout."
        )
    return n


def _probed_texts(corpora: Sequence[Corpus], digests: NDArray[np.uint64], seed: int) -> list[str]:
    """The texts with the lowest digests, without copies, in corpus order."""
    wanted = set(np.sort(digests)[:N_PROBED].tolist())
    texts = (d.text for corpus in corpora for d in corpus) if wanted else ()
    return list(dict.fromkeys(text for text in texts if text_digest(text, seed) in wanted))


def _rows(corpora, held: set[int], tokenizer, width: int, config: FinetuneConfig) -> Rows:
    """Rows of all training documents, repeated in an epoch by their corpus's weight."""
    tokens: list[NDArray[np.int32]] = []
    order: list[NDArray[np.int64]] = []
    rng, n = np.random.default_rng([config.seed, 2]), 0
    for corpus, share in zip(corpora, config.shares, strict=True):
        texts = [d.text for d in corpus if text_digest(d.text, config.seed) not in held]
        times = copies(len(texts), share, rng, "--weight", "a corpus's training documents")
        for at in range(0, len(texts), _AT_ONCE):
            batch = encode_rows(tokenizer, texts[at : at + _AT_ONCE], width)
            for rows, often in zip(batch, times[at : at + _AT_ONCE], strict=True):
                tokens += rows
                order.append(np.tile(np.arange(n, n + len(rows)), often))
                n += len(rows)
    if not n:
        raise ConfigError("The corpus has no text to train on. Name files that hold text.")
    return Rows.of(tokens, np.concatenate(order))


def copies(
    n: int, share: float, rng: np.random.Generator, flag: str, noun: str
) -> NDArray[np.int64]:
    """How often each of n texts occurs in an epoch, `share` on average.

    Raises ConfigError, naming the flag and what the texts are, if that selects none of them.

    >>> copies(4, 1.5, np.random.default_rng(0), "--weight", "documents").sum()
    np.int64(6)
    """
    whole, part = int(share), share - int(share)
    n_part = round(part * n)
    if not whole and not n_part:
        raise ConfigError(
            f"{flag} {share:g} selects none of {n:,} {noun}. Raise it, or leave them out."
        )
    times = np.full(n, whole)
    times[rng.permutation(n)[:n_part]] += 1
    return times


def token_ids(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize texts without special tokens; a lone surrogate becomes a question mark."""
    clean = [t.encode("utf-8", "replace").decode("utf-8") for t in texts]
    return tokenizer(clean, add_special_tokens=False)["input_ids"] if clean else []


def encode_rows(tokenizer, texts: Sequence[str], width: int) -> list[list[NDArray[np.int32]]]:
    """Rows of each text: BOS, tokens, EOS (if the tokenizer has them), cut every `width` tokens.

    Documents start at position 0, as samples do, so that a model with learned positions can
    reproduce them.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    out = []
    for ids in token_ids(tokenizer, texts):
        row = np.array([*bos, *ids, *eos], dtype=np.int32)
        pieces = [row[at : at + width] for at in range(0, len(row), width)]
        # A single token has no context to be predicted from.
        out.append([piece for piece in pieces if len(piece) > 1])
    return out


def _fingerprint(corpora: Sequence[Corpus]) -> str:
    rows = [(size, digest) for corpus in corpora for _, size, digest in corpus.fingerprint()]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _notes(config: FinetuneConfig, corpora: Sequence[Corpus], n_shared: int) -> list[str]:
    notes = [
        f"{kind}: {n:,} in the training text; first: {corpus.problems[0].message}"
        for corpus in corpora
        for kind, n in corpus.problem_counts.items()
        if corpus.problems
    ]
    if config.heldout and n_shared:
        notes.append(
            f"{n_shared:,} held-out documents are also in the corpus; they are not trained on."
        )
    return notes
