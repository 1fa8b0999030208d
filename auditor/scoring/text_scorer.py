"""Scores of texts: generated samples, controls, and a user's texts.

A text may contain tokens that decode to nothing, such as EOS between two documents of a sample.
They are kept in every comparison: between the parts of the lower-cased text, and as the
corresponding tokens of a reference with another tokenizer (`Vocabulary.counterpart`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attacks.scores.all_scores import SAMPLES, TEXTS, all_scores, undefined_reasons, zlib_bits
from attacks.scores.score_table import scores_for
from attacks.scores.token_stats import TokenStats
from auditor.corpus.reading import Document, n_utf8_bytes
from auditor.models.interfaces import ScoresTexts
from auditor.models.kinds import check_comparable
from auditor.models.teacher_forcing import Memo
from auditor.models.tokenizer import Parts, Vocabulary, check_rows
from auditor.scoring.perturbation import Perturbation
from reports.number_text import count

if TYPE_CHECKING:
    from auditor.models.masked_language_model import MaskedLanguageModel


@dataclass(frozen=True)
class Texts:
    """n texts to be scored.

    token_ids, prompt_ids : list of list of int (n)
        The target's tokens, and the preceding ones, with BOS first if it has one.
    text : list of str (n)
        The decoded tokens.
    parts, prompt : list of Parts (n)
        Text and prompt, without BOS, split at the tokens that decode to nothing.
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
        """Samples, given by their tokens."""
        before = [vocabulary.without_bos(p) for p in prompt_ids]
        parts = [vocabulary.parts(*row) for row in zip(token_ids, before, strict=True)]
        return cls(token_ids, prompt_ids, text, parts, [vocabulary.parts(p) for p in before])

    @classmethod
    def given(cls, vocabulary: Vocabulary, text: list[str]) -> Texts:
        """Texts without a prompt."""
        parts = [vocabulary.text_parts(t) for t in text]
        prompt: list[Parts] = [[] for _ in text]
        prompt_ids = [vocabulary.start] * len(text)
        return cls(vocabulary.encode_all(text), prompt_ids, text, parts, prompt)

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, eq=False)
class Scored:
    """Statistics and scores of n texts; every array is (n,).

    stats : TokenStats under the target
    n_bytes : int64, UTF-8 bytes
    figures : nll (mean nats per token), nll_reference:NAME, nll_lowercase, zlib_bits, and
        n_neighbours if requested
    scores : higher = more likely memorized
    undefined : {score: {reason: count}} of NaN scores
    """

    stats: TokenStats
    n_bytes: NDArray[np.int64]
    figures: dict[str, NDArray]
    scores: dict[str, NDArray[np.float64]]
    undefined: dict[str, dict[str, int]]


@dataclass
class TextScorer:
    """Scores texts, and counts what `about` and `notes` report.

    target, references : models under which texts are scored
    for_samples : bool
        Compute only the scores of an audit's samples, from target, references and lower-cased
        texts; otherwise every membership score whose inputs are given.
    prefix, member_prefix : token ids before each text, for `recall` and `con_recall`
    counts, perturbation : inputs of `dc_pdd` and `neighbourhood`
    advance : callable(n_texts_done by a model), or None
    note : callable(sentence), or None
    next_memo : callable() -> Memo with the finished batches of the next pass, or None
    """

    target: ScoresTexts
    references: Mapping[str, ScoresTexts] = field(default_factory=dict)
    for_samples: bool = False
    prefix: list[int] | None = None
    member_prefix: list[int] | None = None
    counts: np.ndarray | None = None
    perturbation: Perturbation | None = None
    advance: Callable[[int], None] | None = None
    note: Callable[[str], None] | None = None
    next_memo: Callable[[], Memo] | None = None
    n_cut: int = 0
    n_drawn: int = 0
    undefined: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_comparable(self.target, self.references)

    @property
    def passes(self) -> int:
        """Model passes per text, including its neighbours."""
        around = self.perturbation.n if self.perturbation else 0
        n_prefixes = (self.prefix is not None) + (self.member_prefix is not None)
        return 2 + len(self.references) + n_prefixes + around

    @property
    def other_tokenizer(self) -> set[str]:
        """References with another tokenizer than the target's."""
        mine = self.target.vocabulary.fingerprint
        return {n for n, m in self.references.items() if m.vocabulary.fingerprint != mine}

    def score_documents(self, documents: Sequence[Document]) -> pd.DataFrame:
        """One row per document: statistics, then scores."""
        scored = self.score(self._texts(documents))
        columns = {"doc_id": [d.doc_id for d in documents], "n_tokens": scored.stats.n_tokens()}
        columns |= {"n_bytes": scored.n_bytes}
        return pd.DataFrame({**columns, **scored.figures, **scored.scores})

    def score(self, texts: Texts, target: TokenStats | None = None) -> Scored:
        """Statistics and scores of texts; NaNs are added to `undefined`.

        `target` is the TokenStats of the texts under the target, if already computed.
        """
        if target is None:
            moments = not self.for_samples
            target = self._stats(self.target, texts.token_ids, texts.prompt_ids, moments=moments)
        n_bytes = np.array([n_utf8_bytes(text) for text in texts.text], np.int64)
        bits = zlib_bits(texts.text)
        given: dict[str, Any] = {
            "references": {n: self._under_reference(m, texts) for n, m in self.references.items()},
            "lowercased": self._lowercased(texts, target),
            "n_bytes": n_bytes,
        }
        if not self.for_samples:
            given |= {**self._after_prefixes(texts), **self._neighbours(texts)}
            masked = self._masked_losses(texts)
        figures: dict[str, NDArray] = {"nll": target.nll()}
        figures |= {f"nll_reference:{n}": stats.nll() for n, stats in given["references"].items()}
        figures |= {"nll_lowercase": given["lowercased"].nll(), "zlib_bits": bits}
        if self.perturbation is not None:
            figures["n_neighbours"] = given["n_neighbours"]
        scores = all_scores(
            target,
            made_for=SAMPLES if self.for_samples else TEXTS,
            zlib_bits=bits,
            other_tokenizer=self.other_tokenizer,
            token_counts=self.counts,
            without=self._without,
            **({} if self.for_samples else masked),
            **given,
        )
        undefined = undefined_reasons(scores, target, **given)
        for score, reasons in undefined.items():
            known = self.undefined.setdefault(score, {})
            for reason, n in reasons.items():
                known[reason] = known.get(reason, 0) + n
        return Scored(target, n_bytes, figures, scores, undefined)

    def about(self) -> dict[str, Any]:
        """Models and options behind the scores, as plain data."""
        about: dict[str, Any] = {
            "model": self.target.identity(),
            "references": {name: model.identity() for name, model in self.references.items()},
            "by_bytes": sorted(self.other_tokenizer),
            "undefined": self.undefined,
        }
        if self.n_drawn:
            about["texts_by_tokens"] = self.n_drawn
        if self.prefix is not None:
            about["nonmember_prefix"] = {"tokens": len(self.prefix), "texts_cut": self.n_cut}
        if self.member_prefix is not None:
            about["member_prefix"] = {"tokens": len(self.member_prefix)}
        if self.counts is not None:
            about["frequencies"] = {"tokens": int(self.counts.sum())}
        if self.perturbation is not None:
            made = self.perturbation
            about["neighbours"] = {"how": made.how, "at_most": made.n, "seed": made.seed}
        return about

    def notes(self) -> list[str]:
        """Remarks for the user."""
        notes = [s for m in (self.target, *self.references.values()) for s in m.notes]
        notes += self.left_out()
        has = {n: m.vocabulary.bos_id is not None for n, m in self.references.items()}
        if self.target.vocabulary.bos_id is not None:
            notes += [no_bos_note(name, "the target") for name in has if not has[name]]
        elif starting := [name for name in has if has[name]]:
            notes.append(no_bos_note("The target", ", ".join(starting)))
        if self.n_cut:
            notes.append(
                f"{count(self.n_cut, 'text')} too long for the context after the prefix: recall "
                "and con_recall use only the first tokens."
            )
        if self.n_drawn:
            notes.append(
                f"{count(self.n_drawn, 'text')} with stored tokens, like a run's samples: these "
                "tokens are scored after their prompts."
            )
        for score, reasons in self.undefined.items():
            why = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.items())
            notes.append(
                f"{score} is undefined for {count(sum(reasons.values()), 'text')} ({why})."
            )
        return notes

    def left_out(self) -> list[str]:
        """One sentence per score that the target's kind of model does not have."""
        made_for = SAMPLES if self.for_samples else TEXTS
        names = [score.name for score in scores_for(made_for)]
        without = self._without
        out = [f"{name} is left out: {without[name]}" for name in names if name in without]
        if self.target.kind == "masked" and (others := sorted(self.other_tokenizer)):
            out.append(
                f"masked_reference is left out for {', '.join(others)}: the same tokens can be "
                "masked only under the same tokenizer."
            )
        return out

    @property
    def _without(self) -> Mapping[str, str]:
        """Scores that the target does not have; it may know more of its own samples."""
        without = self.target.without
        return getattr(self.target, "without_drawn", without) if self.for_samples else without

    def _texts(self, documents: Sequence[Document]) -> Texts:
        """The documents as Texts; stored tokens are used if they are the target's."""
        vocabulary, n = self.target.vocabulary, self.target.n_vocab
        given = Texts.given(vocabulary, [d.text for d in documents])
        for i, document in enumerate(documents):
            if document.tokens and self._is_drawn(document):
                prompt, ids = (list(some) for some in document.tokens)
                drawn = Texts.drawn(vocabulary, [ids], [prompt], [document.text])
                given.token_ids[i], given.prompt_ids[i] = ids, prompt
                given.parts[i], given.prompt[i] = drawn.parts[0], drawn.prompt[0]
                self.n_drawn += 1
        for document, prompt, ids in zip(documents, given.prompt_ids, given.token_ids, strict=True):
            check_rows(self.target.name, vocabulary, n, [*prompt, *ids], document.doc_id)
        return given

    def _is_drawn(self, document: Document) -> bool:
        """Whether a document's stored tokens start with the target's BOS and decode to its text."""
        if document.tokens is None:
            return False
        vocabulary = self.target.vocabulary
        start = vocabulary.start
        prompt, ids = (list(some) for some in document.tokens)
        after = prompt[len(start) :]
        if prompt[: len(start)] != start or max([*prompt, *ids], default=0) >= self.target.n_vocab:
            return False
        return vocabulary.decode(ids, after) == document.text

    def _after_prefixes(self, texts: Texts) -> dict[str, TokenStats]:
        """Score the texts after each prefix, cut to the context that the longer one leaves."""
        prefixes = {"conditioned": self.prefix, "conditioned_members": self.member_prefix}
        used = {name: ids for name, ids in prefixes.items() if ids is not None}
        if not used:
            return {}
        prompts = [self.target.vocabulary.without_bos(p) for p in texts.prompt_ids]
        context, longest = self.target.context, max(map(len, used.values()))
        rooms = [None if context is None else max(context - longest - len(p), 0) for p in prompts]
        rows = list(zip(texts.token_ids, rooms, strict=True))
        self.n_cut += sum(room is not None and len(text) > room for text, room in rows)
        cut = [text[:room] for text, room in rows]
        return {
            name: self._stats(self.target, cut, [[*ids, *prompt] for prompt in prompts])
            for name, ids in used.items()
        }

    def _neighbours(self, texts: Texts) -> dict[str, Any]:
        if self.perturbation is None:
            return {}
        vocabulary = self.target.vocabulary
        # Tokens that decode to nothing are written by name and encoded back.
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
        stats = self._encoded(self.target, pairs)
        return {"neighbours": stats, "n_neighbours": np.array([len(f) for f in found], np.int64)}

    def _masked_losses(self, texts: Texts) -> dict[str, Any]:
        """Losses under random masks, of masked models with references of the same tokenizer."""
        alike = {n: m for n, m in self.references.items() if n not in self.other_tokenizer}
        if self.target.kind != "masked" or not alike:
            return {}
        of = [
            cast("MaskedLanguageModel", model).masked_losses(
                texts.token_ids, texts.prompt_ids, note=self.note
            )
            for model in (self.target, *alike.values())
        ]
        return {
            "masked_losses": of[0],
            "reference_masked_losses": dict(zip(alike, of[1:], strict=True)),
        }

    def _lowercased(self, texts: Texts, target: TokenStats) -> TokenStats:
        """Score the lower-cased texts after their lower-cased prompts.

        If lower-casing changes neither, the target's statistics are reused without a pass.
        """
        own = list(zip(texts.prompt, texts.parts, strict=True))
        lower = [(_lower(prompt), _lower(parts)) for prompt, parts in own]
        changed = [i for i, pair in enumerate(lower) if pair != own[i]]
        same = [i for i, pair in enumerate(lower) if pair == own[i]]
        self._skip(len(same))
        kept = target.take(same)
        kept = TokenStats(kept.offsets, kept.token_ids, kept.logprob, kept.rank)
        if not changed:
            return kept
        found = self._encoded(self.target, [lower[i] for i in changed])
        return _in_order(changed, found, same, kept)

    def _under_reference(self, model: ScoresTexts, texts: Texts) -> TokenStats:
        """Score the texts under a reference: by tokens if the vocabularies are equal, else by text.

        A text with a token that has no row in the reference's weights gets NaN and rank -1.
        """
        mine, theirs = self.target.vocabulary, model.vocabulary
        if theirs.fingerprint == mine.fingerprint:
            return self._where_known(model, texts.token_ids, texts.prompt_ids)

        def translated(parts: Parts) -> Parts:
            out: Parts = []
            for part in parts:
                if not isinstance(part, str):
                    out += mine.counterpart(part, theirs)
                elif out and isinstance(out[-1], str):  # the token between has no counterpart
                    out[-1] += part
                else:
                    out.append(part)
            return out

        pairs = zip(texts.prompt, texts.parts, strict=True)
        return self._encoded(model, [(translated(p), translated(t)) for p, t in pairs])

    def _encoded(self, model: ScoresTexts, pairs: Sequence[tuple[Parts, Parts]]) -> TokenStats:
        """Score (prompt, text) pairs under a model, encoded by its tokenizer."""
        before, ids = model.vocabulary.encode_parts([p for p, _ in pairs], [t for _, t in pairs])
        return self._where_known(model, ids, [model.vocabulary.start + p for p in before])

    def _where_known(self, model: ScoresTexts, ids, prefixes) -> TokenStats:
        """`token_stats`, with NaN for texts with unknown tokens in the text or its prefix.

        Only references get here: unknown tokens of the target are refused (`check_rows`).
        """
        rows = zip(ids, prefixes, strict=True)
        is_known = [max([*own, *p], default=0) < model.n_vocab for own, p in rows]
        known = [i for i, fits in enumerate(is_known) if fits]
        lost = [i for i, fits in enumerate(is_known) if not fits]
        found = self._stats(model, [ids[i] for i in known], [prefixes[i] for i in known])
        if not lost:
            return found
        self._skip(len(lost))
        own = [ids[i] for i in lost]
        blank = TokenStats.from_lists(
            own, [[np.nan] * len(t) for t in own], [[-1] * len(t) for t in own]
        )
        return _in_order(known, found, lost, blank)

    def _stats(self, model: ScoresTexts, ids, prefixes, *, moments: bool = False) -> TokenStats:
        memo = {} if self.next_memo is None else {"memo": self.next_memo()}
        return model.token_stats(
            ids, prefixes, moments=moments, progress=self.advance, note=self.note, **memo
        )

    def _skip(self, n: int) -> None:
        """Count texts that need no pass as done."""
        if n and self.advance is not None:
            self.advance(n)


def _lower(parts: Parts) -> Parts:
    return [part.lower() if isinstance(part, str) else part for part in parts]


def _in_order(
    places: list[int], found: TokenStats, others: list[int], rest: TokenStats
) -> TokenStats:
    """Merge the statistics of texts at `places` and at `others`, in order."""
    order = np.argsort(places + others, kind="stable")
    return TokenStats.concatenate([found, rest]).take(order)


def no_bos_note(lacks: str, others: str) -> str:
    """Note for models that cannot score a text's first token, unlike the others."""
    return (
        f"{lacks} has no BOS token, so only {others} can score the first token of a text. Set one "
        "with --bos."
    )
