"""Texts under models: what the membership scores need of them, and the scores made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from attacks.membership_scores import membership_scores, membership_undefined
from attacks.scores import zlib_bits
from attacks.token_stats import TokenStats
from auditor.corpora.reading import Document, n_utf8_bytes
from auditor.perturbing import Perturbation


@dataclass
class TextScorer:
    """The models and what else the scores need, and what is counted while they work."""

    target: Any
    references: dict[str, Any]
    prefix: list[int] | None = None
    counts: np.ndarray | None = None
    perturbation: Perturbation | None = None
    n_cut: int = 0
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
        texts = [d.text for d in documents]
        judge = _Judge(advance, note)
        ids = self.target.vocabulary.encode_all(texts)
        target = judge(self.target, ids, moments=True)
        n_bytes = np.array([n_utf8_bytes(text) for text in texts], np.int64)
        shared = {
            "references": self._references(texts, ids, judge),
            "lowercased": judge.texts(self.target, [text.lower() for text in texts]),
            "n_bytes": n_bytes,
            "conditioned": self._after_prefix(ids, judge),
            **self._neighbours(texts, judge),
        }
        bits = zlib_bits(texts)
        scores = membership_scores(
            target,
            zlib_bits=bits,
            other_tokenizer=self.other_tokenizer,
            token_counts=self.counts,
            **shared,
        )
        self._count(membership_undefined(scores, target, **shared))
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
        told = []
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
        for score, reasons in self.undefined.items():
            why = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.items())
            told.append(f"{score} is undefined for {sum(reasons.values()):,} texts ({why}).")
        return told

    def _references(self, texts, ids, judge) -> dict[str, TokenStats]:
        others = self.other_tokenizer
        return {
            name: judge.texts(model, texts) if name in others else judge(model, ids)
            for name, model in self.references.items()
        }

    def _after_prefix(self, ids, judge) -> TokenStats | None:
        """The texts, or as many of their tokens as fit, after the prefix of non-members."""
        if self.prefix is None:
            return None
        room = None if self.target.context is None else self.target.context - len(self.prefix)
        self.n_cut += sum(room is not None and len(text) > room for text in ids)
        return judge(self.target, [text[:room] for text in ids], [self.prefix] * len(ids))

    def _neighbours(self, texts, judge) -> dict[str, Any]:
        if self.perturbation is None:
            return {}
        found = [self.perturbation.neighbours(text) for text in texts]
        stats = judge.texts(self.target, [near for around in found for near in around])
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


@dataclass(frozen=True)
class _Judge:
    """`token_stats` with the progress and the notes of one call."""

    advance: Callable[[int], None] | None
    note: Callable[[str], None] | None

    def __call__(self, model, ids, prefixes=None, *, moments=False) -> TokenStats:
        return model.token_stats(
            ids, prefixes, moments=moments, progress=self.advance, note=self.note
        )

    def texts(self, model, texts: list[str]) -> TokenStats:
        return self(model, model.vocabulary.encode_all(texts))
