"""Effect of fine-tuning on every score and p_z of each text, before and after."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attacks.scores.token_stats import RANK_UNKNOWN, TokenStats
from attacks.statistics.extraction import greedy, log_p_z
from attacks.statistics.intervals import Estimate, proportion
from attacks.statistics.resampling import (
    bootstrap_mean,
    difference_of,
    label_permutation_p,
    paired_proportions,
    sign_flip_p,
)
from auditor.comparison.model_pair import Pair
from auditor.config.audit import Decoding
from auditor.config.comparison import ComparisonConfig
from auditor.config.keywords import with_keywords
from auditor.corpus.reading import read_corpus
from auditor.errors import ConfigError, RunError
from auditor.finetuning.callback import read_probes
from auditor.finetuning.checkpoints import PROBES
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.interfaces import ScoresTexts
from auditor.models.loading import resolve
from auditor.models.span_corruption import long_span
from auditor.models.tokenizer import check_rows
from auditor.scoring.infilling import measure_spans
from auditor.scoring.text_scorer import Texts, TextScorer
from auditor.system.progress import NullProgress, progress_display
from reports.number_text import count

_LARGEST = 20


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of the same texts under a model before and after fine-tuning.

    texts : DataFrame, one row per text
        doc_id, member, n_tokens, text and, for each metric NAME (every score, `log_p_z` in nats,
        `extracted`), NAME_base, NAME_tuned and NAME_change; higher = more likely memorized.
    tests : DataFrame, one row per metric
        Mean change of members and of held-out text, and their difference, with 95 % intervals
        (studentized bootstrap; Tango's for `extracted`; NaN for fewer than 20 texts or if most
        changes are equal). Two-sided p-values: `p_members` (sign flips) for no change of members,
        `p_difference` (label permutation) for equal changes of members and held-out text.
        n_undefined texts without a finite change are excluded.
    extraction : DataFrame, one row per group and model
        Texts whose suffix greedy decoding reproduces from the prefix (by default 50 tokens each),
        with Clopper-Pearson intervals (95 %).
    probes : DataFrame or None, measurements during training
    notes : list of str
    facts : dict, specs and fingerprints
    """

    texts: pd.DataFrame
    tests: pd.DataFrame
    extraction: pd.DataFrame
    probes: pd.DataFrame | None
    notes: list[str]
    facts: dict[str, Any]

    def largest_increases(self, n: int = _LARGEST, *, by: str = "likelihood") -> pd.DataFrame:
        """The n texts whose metric `by` rose most, in descending order.

        Raises a ConfigError if there is no such metric.
        """
        if by not in (names := figure_names(self.texts)):
            raise ConfigError(f"by must be one of {', '.join(names)}; got {by!r}.")
        named = [c for c in self.texts if c.startswith((f"{by}_", "extracted_", "log_p_z_"))]
        rows = self.texts.sort_values(f"{by}_change", ascending=False, kind="stable")
        return rows[["doc_id", "member", "n_tokens", *named, "text"]].head(n)


_NO_SUFFIXES = (
    "Extraction is left out: masked models do not continue a prefix. `auditor extract` shows how "
    "many masked spans two models recover."
)


@with_keywords(ComparisonConfig)
def compare_models(
    base: str | None,
    tuned: str,
    *,
    progress: NullProgress | bool | None = True,
    **options: Any,
) -> Comparison:
    """Score the same texts under a model before and after fine-tuning.

    Each model uses its own tokenizer; both must yield the same tokens for every text.

    Parameters
    ----------
    base : model spec; None: read from the tuned model's folder
    tuned : model spec, or an adapter's folder
    progress : a progress bar in a notebook and at a terminal; False or None = none
    options : fields of ComparisonConfig

    Returns
    -------
    Comparison

    Raises
    ------
    ConfigError
        If an option is invalid or the same text is on both sides.
    CorpusError, ModelError
        As `read_corpus` and `Pair`.
    """
    progress = progress_display(progress)
    config = ComparisonConfig(base=base, tuned=tuned, **options)
    pair = Pair(base, tuned, device=config.device, bos=config.bos)
    chosen = _Texts.read(config)
    pair.check_texts(chosen.text)
    widths = config.prefix_tokens, config.suffix_tokens
    # Both models score each text as is and lowercased.
    with progress.stage("scoring", 4 * len(chosen.text), "texts") as bar:
        # No variable keeps a model, so that only one is in memory. The tuned model is first, so
        # that an adapter that does not fit its base fails before any work is done.
        after = _score(pair.tuned(), chosen, widths, bar.advance, progress.note)
        before = _score(pair.base(), chosen, widths, bar.advance, progress.note)
    frame = _frame(chosen, before, after)
    return Comparison(
        texts=frame,
        tests=_tests(frame, config.seed),
        extraction=_extraction(frame),
        probes=_probes(resolve(pair.tuned_spec)),
        notes=chosen.notes
        + (_short_note(before, widths) if pair.kind == "causal" else [_NO_SUFFIXES]),
        facts={
            "base": {"spec": pair.base_spec, "fingerprint": pair.base_fingerprint},
            "tuned": {"spec": pair.tuned_spec, "fingerprint": pair.tuned_fingerprint},
            "texts": list(config.texts),
            "heldout": list(config.heldout),
            **config.model_dump(include={"seed", "prefix_tokens", "suffix_tokens"}),
            **config.model_dump(include={"bos"}, exclude_none=True),
        },
    )


@dataclass(frozen=True, eq=False)
class _Texts:
    """Distinct texts with their ids; members first."""

    doc_id: list[str]
    text: list[str]
    member: NDArray[np.bool_]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, config: ComparisonConfig) -> _Texts:
        members = _chosen(config.texts, config)
        others = _chosen(config.heldout, config) if config.heldout else {}
        notes = []
        if both := set(members) & set(others):
            notes.append(
                f"{count(len(both), 'text')} in both --texts and --heldout: removed from both."
            )
            members = {t: i for t, i in members.items() if t not in both}
            others = {t: i for t, i in others.items() if t not in both}
        if not members or (config.heldout and not others):
            raise ConfigError(
                "--texts and --heldout must differ; got the same text in both. Give text that was "
                "trained on and text that was not."
            )
        ids = [*members.values(), *others.values()]
        is_member = np.arange(len(ids)) < len(members)
        return cls(ids, [*members, *others], is_member, notes)


def _chosen(specs: tuple[str, ...], config: ComparisonConfig) -> dict[str, str]:
    """Up to `examples` distinct texts, each with the id of its first copy."""
    heap: list[tuple[int, int, str, str]] = []
    seen: set[int] = set()
    key = config.seed.to_bytes(8, "little")
    for order, document in enumerate(read_corpus(list(specs), text_field=config.text_field)):
        raw = document.text.encode("utf-8", "surrogatepass")
        urgency = int.from_bytes(hashlib.blake2b(raw, key=key, digest_size=8).digest(), "little")
        if urgency in seen or not document.text:
            continue
        seen.add(urgency)
        item = (-urgency, -order, document.text, document.doc_id)
        if len(heap) < config.examples:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    return {text: doc_id for _, _, text, doc_id in sorted(heap, key=lambda item: -item[1])}


def _score(
    model: ScoresTexts, chosen: _Texts, widths: tuple[int, int], advance, note
) -> dict[str, NDArray]:
    """All metrics of all texts under one model."""
    for sentence in model.notes:
        note(sentence)
    n_prefix, n_suffix = widths
    n_start = 0 if model.vocabulary.bos_id is None else 1
    most = (model.context or 1 << 30) + 1
    if model.kind == "causal" and n_start + n_prefix + n_suffix > most:
        raise ConfigError(
            f"Prefix and suffix must have at most {most - n_start} tokens together (the model's "
            f"context); got {n_prefix + n_suffix}. Lower them."
        )
    texts = Texts.given(model.vocabulary, chosen.text)
    for doc_id, ids in zip(chosen.doc_id, texts.token_ids, strict=True):
        check_rows(model.name, model.vocabulary, model.n_vocab, ids, doc_id)
    scored = TextScorer(model, for_samples=True, advance=advance).score(texts)
    if isinstance(model, EncoderDecoder):
        suffixes = _spans(model, texts.token_ids, n_prefix, n_suffix, note)
    else:
        suffixes = _suffixes(scored.stats, n_prefix, n_suffix, is_causal=model.kind == "causal")
    return {"n_tokens": scored.stats.n_tokens(), **scored.scores, **suffixes}


def _suffixes(
    stats: TokenStats, n_prefix: int, n_suffix: int, *, is_causal: bool = True
) -> dict[str, NDArray]:
    """log p_z and greedy extraction of each text's suffix; NaN for texts that are too short.

    NaN also for models that are not causal: they see what follows a token. The values follow from
    the scores of the whole text, which condition the suffix on its prefix.
    """
    long = np.flatnonzero(stats.n_tokens() >= n_prefix + n_suffix)
    log_p, extracted = (np.full(len(stats), np.nan) for _ in range(2))
    if len(long) and is_causal:
        at = stats.offsets[long][:, None] + n_prefix + np.arange(n_suffix)  # (texts, suffix)
        log_p[long], extracted[long] = log_p_z(stats.logprob[at]), greedy(stats.rank[at] == 0)
        # Without ranks the greedy continuation is unknown.
        extracted[long[(stats.rank[at] == RANK_UNKNOWN).any(axis=1)]] = np.nan
    return {"log_p_z": log_p, "extracted": extracted}


def _spans(
    model: EncoderDecoder, texts: Sequence[Sequence[int]], n_prefix: int, n_suffix: int, note
) -> dict[str, NDArray]:
    """As `_suffixes`, for one span of `n_suffix` tokens between two halves of the prefix tokens."""
    width = n_prefix + n_suffix
    long = np.array([i for i, ids in enumerate(texts) if len(ids) >= width], np.int64)
    log_p, extracted = (np.full(len(texts), np.nan) for _ in range(2))
    if len(long):
        found = measure_spans(
            model,
            [texts[i][:width] for i in long],
            [long_span(width, n_suffix)] * len(long),
            decoding=Decoding(),
            note=note,
        )
        log_p[long] = log_p_z(found.tokens.logprob)
        extracted[long] = greedy(found.tokens.first) & found.closed
    return {"log_p_z": log_p, "extracted": extracted}


def _frame(chosen: _Texts, before: dict, after: dict) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "doc_id": chosen.doc_id,
        "member": chosen.member,
        "n_tokens": before["n_tokens"],
    }
    for name in before:
        if name == "n_tokens":
            continue
        old, new = before[name], after[name]
        with np.errstate(invalid="ignore"):  # two infinities have no difference: NaN
            change = new - old
        columns |= {f"{name}_base": old, f"{name}_tuned": new, f"{name}_change": change}
    return pd.DataFrame({**columns, "text": chosen.text})


def figure_names(frame: pd.DataFrame) -> list[str]:
    """Names of the metrics in a frame of texts."""
    return [c.removesuffix("_change") for c in frame.columns if c.endswith("_change")]


def _tests(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    is_member = frame["member"].to_numpy(bool)
    for name in figure_names(frame):
        change = frame[f"{name}_change"].to_numpy(float)
        finite = np.isfinite(change)
        inside, outside = change[finite & is_member], change[finite & ~is_member]
        row = {"figure": name, "n_members": len(inside), "n_heldout": len(outside)}
        row["n_undefined"] = int((~finite).sum())
        if name == "extracted":
            own, other = _gained(inside), _gained(outside)
        else:
            own, other = (bootstrap_mean(c, seed=seed) for c in (inside, outside))
        apart = difference_of(own, other)
        for what, found in (("members", own), ("heldout", other), ("difference", apart)):
            row |= {what: found.value, f"{what}_low": found.low, f"{what}_high": found.high}
        row["p_members"] = sign_flip_p(inside, seed=seed)
        row["p_difference"] = label_permutation_p(inside, outside, seed=seed)
        rows.append(row)
    return pd.DataFrame(rows)


def _gained(changes: NDArray) -> Estimate:
    """Share of texts extracted only after fine-tuning, minus the share only before."""
    gained, lost = (int(np.count_nonzero(changes == sign)) for sign in (1, -1))
    return paired_proportions(gained, lost, len(changes))


def _extraction(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for group, own in (("members", frame[frame["member"]]), ("heldout", frame[~frame["member"]])):
        for when in ("base", "tuned"):
            known = own[f"extracted_{when}"].dropna()
            found = proportion(int(known.sum()), len(known))
            rows.append(
                {
                    "group": group,
                    "model": when,
                    "n_extracted": found.successes,
                    "n_texts": found.n,
                    "rate": found.value,
                    "low": found.low,
                    "high": found.high,
                }
            )
    return pd.DataFrame(rows)


def _probes(folder: Path) -> pd.DataFrame | None:
    try:
        return read_probes(folder / PROBES)
    except RunError:
        return None


def _short_note(before: dict, widths: tuple[int, int]) -> list[str]:
    n = int(np.isnan(before["log_p_z"]).sum())
    unranked = int(np.isnan(before["extracted"]).sum()) - n
    notes = []
    if unranked:
        notes.append(
            f"{count(unranked, 'text')} left out of the extraction rates: the model gives no token "
            "ranks."
        )
    if not n:
        return notes
    short = (
        f"{n:,} of {count(len(before['log_p_z']), 'text')} too short for prefix and suffix "
        f"({sum(widths)} tokens): without log p_z, and left out of the extraction rates."
    )
    return [short, *notes]
