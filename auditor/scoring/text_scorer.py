"""Texts under models: what scores need of them, and the membership scores made of it.

A text may hold tokens that write nothing: the end of one document and the beginning of the next,
where sampling went on. They stay in its place whatever it is compared with: the lower-cased text
has them between its lower-cased parts, and a reference with another tokenizer has its own in their
stead (`Vocabulary.counterpart`), so that all are of one sequence of documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from attacks.scores.all_scores import TEXTS, all_scores, undefined_reasons, zlib_bits
from attacks.scores.token_stats import TokenStats
from auditor.corpus.reading import Document, n_utf8_bytes
from auditor.models.tokenizer import Parts, Vocabulary, check_rows
from auditor.scoring.perturbation import Perturbation


@dataclass(frozen=True)
class Texts:
    """n texts to be judged.

    token_ids, prompt_ids : list of list of int (n)
        The target's tokens, and those before them, BOS first where it has one.
    text : list of str (n)
        What the tokens spell.
    parts, prompt : list of Parts (n)
        Text and prompt, without BOS, cut at the tokens that write nothing.
    """

    token_ids: list[list[int]]
    prompt_ids: list[list[int]]
    text: list[str]
    parts: list[Parts]
    prompt: list[Parts]

    @classmethod
    def drawn(
        cls,
        vocabulary: Vocabulary,
        token_ids: list[list[int]],
        prompt_ids: list[list[int]],
        text: list[str],
    ) -> Texts:
        """Samples, known by their tokens."""
        before = [vocabulary.without_bos(p) for p in prompt_ids]
        parts = [vocabulary.parts(*row) for row in zip(token_ids, before, strict=True)]
        return cls(token_ids, prompt_ids, text, parts, [vocabulary.parts(p) for p in before])

    @classmethod
    def given(cls, vocabulary: Vocabulary, text: list[str]) -> Texts:
        """Texts as they are."""
        bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
        parts = [vocabulary.text_parts(t) for t in text]
        nothing: list[Parts] = [[] for _ in text]
        return cls(vocabulary.encode_all(text), [bos] * len(text), text, parts, nothing)

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True)
class Judge:
    """`token_stats` with the progress and the notes of one call."""

    advance: Callable[[int], None] | None = None
    note: Callable[[str], None] | None = None

    def __call__(self, model, ids, prefixes=None, *, moments=False) -> TokenStats:
        return model.token_stats(
            ids, prefixes, moments=moments, progress=self.advance, note=self.note
        )

    def skip(self, n: int) -> None:
        """Tell progress of texts that no model has to look at."""
        if n and self.advance is not None:
            self.advance(n)


def lowercased_stats(model, texts: Texts, target: TokenStats, judge: Judge) -> TokenStats:
    """The target on the lower-cased texts, each after its lower-cased prompt.

    Where lower-casing changes neither, these are the target's own figures, and nothing is judged
    again. Prompt and text are encoded as one string; see `Vocabulary.encode_after`.
    """
    own = list(zip(texts.prompt, texts.parts, strict=True))
    lower = [(_lower(prompt), _lower(parts)) for prompt, parts in own]
    changed = [i for i, pair in enumerate(lower) if pair != own[i]]
    same = [i for i, pair in enumerate(lower) if pair == own[i]]
    judge.skip(len(same))
    kept = target.take(same)
    kept = TokenStats(kept.offsets, kept.token_ids, kept.logprob, kept.rank)
    if not changed:
        return kept
    found = _judged(model, [lower[i] for i in changed], judge)
    return _in_order(changed, found, same, kept)


def reference_stats(model, texts: Texts, mine: Vocabulary, judge: Judge) -> TokenStats:
    """A reference on the texts: their tokens if it has the target's vocabulary, else their text.

    A token that has no row in the reference's weights leaves its text without any probability
    under it (rank -1 throughout).
    """
    theirs = model.vocabulary
    if theirs.fingerprint == mine.fingerprint:
        return _where_known(model, texts.token_ids, texts.prompt_ids, judge)

    def said(parts: Parts) -> Parts:
        out: Parts = []
        for part in parts:
            if not isinstance(part, str):
                out += mine.counterpart(part, theirs)
            elif out and isinstance(out[-1], str):  # what stood between has no counterpart
                out[-1] += part
            else:
                out.append(part)
        return out

    pairs = [(said(p), said(t)) for p, t in zip(texts.prompt, texts.parts, strict=True)]
    return _judged(model, pairs, judge)


def _lower(parts: Parts) -> Parts:
    return [part.lower() if isinstance(part, str) else part for part in parts]


def _judged(model, pairs: Sequence[tuple[Parts, Parts]], judge: Judge) -> TokenStats:
    """A model on texts after prompts, in tokens of its own."""
    bos = [] if model.vocabulary.bos_id is None else [model.vocabulary.bos_id]
    before, ids = model.vocabulary.encode_parts([p for p, _ in pairs], [t for _, t in pairs])
    return _where_known(model, ids, [bos + p for p in before], judge)


def _where_known(model, ids, prefixes, judge: Judge) -> TokenStats:
    """`token_stats`, without probabilities where a text or its prefix has a token beyond the rows.

    The target's own tokens are refused before (`check_rows`): these are of what it is compared to.
    """
    n = model.head.n_vocab
    whole = zip(ids, prefixes, strict=True)
    is_known = [max(max(own, default=0), max(p, default=0)) < n for own, p in whole]
    known = [i for i, fits in enumerate(is_known) if fits]
    lost = [i for i, fits in enumerate(is_known) if not fits]
    found = judge(model, [ids[i] for i in known], [prefixes[i] for i in known])
    if not lost:
        return found
    judge.skip(len(lost))
    own = [ids[i] for i in lost]
    blank = TokenStats.from_lists(
        own, [[np.nan] * len(t) for t in own], [[-1] * len(t) for t in own]
    )
    return _in_order(known, found, lost, blank)


def _in_order(
    places: list[int], found: TokenStats, others: list[int], rest: TokenStats
) -> TokenStats:
    """Figures of texts at these places and at the others, in the order of all places."""
    order = np.argsort(places + others, kind="stable")
    return TokenStats.concatenate([found, rest]).take(order)


@dataclass
class TextScorer:
    """The models and what else the scores need, and what is counted while they work."""

    target: Any
    references: dict[str, Any]
    prefix: list[int] | None = None
    counts: np.ndarray | None = None
    perturbation: Perturbation | None = None
    n_cut: int = 0
    n_drawn: int = 0
    undefined: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """How often a model judges a text, its neighbours included."""
        around = self.perturbation.n if self.perturbation else 0
        return 2 + len(self.references) + (self.prefix is not None) + around

    @property
    def other_tokenizer(self) -> set[str]:
        """References whose tokens are not the target's."""
        mine = self.target.vocabulary.fingerprint
        return {n for n, m in self.references.items() if m.vocabulary.fingerprint != mine}

    def score(
        self,
        documents: Sequence[Document],
        *,
        advance: Callable[[int], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> pd.DataFrame:
        """A row for each document: raw figures, then the scores; `undefined` grows by the NaNs."""
        judge = Judge(advance, note)
        texts = self._texts(documents)
        target = judge(self.target, texts.token_ids, texts.prompt_ids, moments=True)
        n_bytes = np.array([n_utf8_bytes(text) for text in texts.text], np.int64)
        mine = self.target.vocabulary
        shared = {
            "references": {
                name: reference_stats(model, texts, mine, judge)
                for name, model in self.references.items()
            },
            "lowercased": lowercased_stats(self.target, texts, target, judge),
            "n_bytes": n_bytes,
            "conditioned": self._after_prefix(texts, judge),
            **self._neighbours(texts, judge),
        }
        bits = zlib_bits(texts.text)
        scores = all_scores(
            target,
            made_for=TEXTS,
            zlib_bits=bits,
            other_tokenizer=self.other_tokenizer,
            token_counts=self.counts,
            **shared,
        )
        self._count(undefined_reasons(scores, target, **shared))
        columns = {"doc_id": [d.doc_id for d in documents], "n_tokens": target.n_tokens()}
        columns |= {"n_bytes": n_bytes, "nll": target.nll()}
        columns |= {f"nll_reference:{n}": s.nll() for n, s in shared["references"].items()}
        columns |= {"nll_lowercase": shared["lowercased"].nll(), "zlib_bits": bits}
        if self.perturbation is not None:
            columns["n_neighbours"] = shared["n_neighbours"]
        return pd.DataFrame({**columns, **scores})

    def about(self) -> dict[str, Any]:
        """What made the scores, as plain data."""

        def model(loaded) -> dict[str, Any]:
            dtype, start = str(loaded.dtype).removeprefix("torch."), loaded.vocabulary.bos_id
            return {
                "spec": loaded.name,
                "sha256": loaded.fingerprint,
                "dtype": dtype,
                "bos_id": start,
            }

        about: dict[str, Any] = {
            "model": model(self.target),
            "references": {name: model(loaded) for name, loaded in self.references.items()},
            "by_bytes": sorted(self.other_tokenizer),
            "undefined": self.undefined,
        }
        if self.n_drawn:
            about["texts_by_tokens"] = self.n_drawn
        if self.prefix is not None:
            about["nonmember_prefix"] = {"tokens": len(self.prefix), "texts_cut": self.n_cut}
        if self.counts is not None:
            about["frequencies"] = {"tokens": int(self.counts.sum())}
        if self.perturbation is not None:
            way = self.perturbation
            about["neighbours"] = {"how": way.how, "at_most": way.n, "seed": way.seed}
        return about

    def notes(self) -> list[str]:
        """What a user should know of how it went."""
        told = [s for m in (self.target, *self.references.values()) for s in m.notes]
        has = {n: m.vocabulary.bos_id is not None for n, m in self.references.items()}
        if self.target.vocabulary.bos_id is not None:
            told += [no_start(name, "the target") for name in has if not has[name]]
        elif starting := [name for name in has if has[name]]:
            told.append(no_start("The target", ", ".join(starting)))
        if self.n_cut:
            told.append(
                f"{self.n_cut:,} texts do not fit into the context after --nonmember-prefix: their "
                "recall is that of their first tokens."
            )
        if self.n_drawn:
            told.append(
                f"{self.n_drawn:,} texts come with their tokens, as a run's samples do: they are "
                "judged by these, after their prompts."
            )
        for score, reasons in self.undefined.items():
            why = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.items())
            told.append(f"{score} is undefined for {sum(reasons.values()):,} texts ({why}).")
        return told

    def _texts(self, documents: Sequence[Document]) -> Texts:
        """The documents; samples that come with their tokens by these, where they spell the text.

        Raises
        ------
        ModelError
            If a token has no row in the target's weights.
        """
        vocabulary, n = self.target.vocabulary, self.target.head.n_vocab
        given = Texts.given(vocabulary, [d.text for d in documents])
        own = {i: d.tokens for i, d in enumerate(documents) if d.tokens and self._is_drawn(d)}
        tokens = [(list(prompt), list(ids)) for prompt, ids in own.values()]
        drawn = Texts.drawn(
            vocabulary,
            [ids for _, ids in tokens],
            [prompt for prompt, _ in tokens],
            [given.text[i] for i in own],
        )
        for k, i in enumerate(own):
            for field_name in ("token_ids", "prompt_ids", "parts", "prompt"):
                getattr(given, field_name)[i] = getattr(drawn, field_name)[k]
        self.n_drawn += len(own)
        for document, prompt, ids in zip(documents, given.prompt_ids, given.token_ids, strict=True):
            check_rows(self.target.name, vocabulary, n, [*prompt, *ids], document.doc_id)
        return given

    def _is_drawn(self, document: Document) -> bool:
        """Whether a document comes with tokens that are the target's: from BOS, and its text's."""
        if document.tokens is None:
            return False
        vocabulary = self.target.vocabulary
        bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
        prompt, ids = (list(some) for some in document.tokens)
        after = prompt[len(bos) :]
        if prompt[: len(bos)] != bos or max([*prompt, *ids], default=0) >= self.target.head.n_vocab:
            return False
        return vocabulary.decode(ids, after) == document.text

    def _after_prefix(self, texts: Texts, judge: Judge) -> TokenStats | None:
        """The texts, or as many of their tokens as fit, after the prefix of non-members."""
        if self.prefix is None:
            return None
        prompts = [self.target.vocabulary.without_bos(p) for p in texts.prompt_ids]
        prefixes = [[*self.prefix, *prompt] for prompt in prompts]
        context = self.target.context
        rooms = [None if context is None else max(context - len(p), 0) for p in prefixes]
        rows = list(zip(texts.token_ids, rooms, strict=True))
        self.n_cut += sum(room is not None and len(text) > room for text, room in rows)
        return judge(self.target, [text[:room] for text, room in rows], prefixes)

    def _neighbours(self, texts: Texts, judge: Judge) -> dict[str, Any]:
        if self.perturbation is None:
            return {}
        vocabulary = self.target.vocabulary
        # The names of the tokens that write nothing stand for them, and are read as them again.
        named = [
            "".join(p if isinstance(p, str) else vocabulary.name_of(p) for p in parts)
            for parts in texts.parts
        ]
        found = [self.perturbation.neighbours(text) for text in named]
        pairs = [
            (prompt, vocabulary.text_parts(near))
            for prompt, around in zip(texts.prompt, found, strict=True)
            for near in around
        ]
        stats = _judged(self.target, pairs, judge)
        return {"neighbours": stats, "n_neighbours": np.array([len(f) for f in found], np.int64)}

    def _count(self, undefined: Mapping[str, Mapping[str, int]]) -> None:
        for score, reasons in undefined.items():
            known = self.undefined.setdefault(score, {})
            for reason, n in reasons.items():
                known[reason] = known.get(reason, 0) + n


def no_start(lacks: str, others: str) -> str:
    """What to know where some models judge a text's first token, and some have no BOS for it."""
    return (
        f"{lacks} has no BOS token, so the first token of a text counts for {others} alone. Name "
        "one with --bos."
    )
