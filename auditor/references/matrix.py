"""Score a target against its reference models, and evaluate the scores by leaving one out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attacks.scores.all_scores import TEXTS, all_scores
from attacks.scores.token_stats import TokenStats
from attacks.statistics.intervals import Estimate
from attacks.statistics.reference_matrix import (
    ReferenceMatrix,
    attack_r,
    counterfactual_memorization,
    flip_rate,
    lira,
    rmia,
)
from attacks.statistics.resampling import bootstrap_mean, student_mean
from attacks.statistics.roc import MIN_A_CLASS, auc, unresolved
from auditor.errors import RunError
from auditor.models.loading import fingerprint, load_model, resolve
from auditor.models.tokenizer import check_rows
from auditor.references.training import References, open_references
from auditor.runs import result_folder
from auditor.system.progress import NullProgress, progress_display

_AT_ONCE = 512  # texts scored together
FPRS = (0.1, 0.01, 0.001)
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReferenceAudit:
    """What reference models say about a target.

    texts : DataFrame, one row per text of the pool
        doc_id; for the target: every score, higher = more likely a member, and called_SCORE: above
        the threshold whose FPR among the references is 1 % (missing: withheld); of the pool:
        counterfactual (share of tokens predicted, IN minus OUT) with counterfactual_se, and
        flip_rate.
    evaluation : DataFrame, one row per score and model left out
        score, model, auc, and for each FPR f: tpr_f, fpr_f (reached).
    summary : DataFrame, one row per score
        Means over the models, with 95 % intervals over models (t) and over texts (bootstrap).
    """

    texts: pd.DataFrame
    evaluation: pd.DataFrame
    summary: pd.DataFrame


def audit_by_references(
    folder: str | Path,
    target: str | None = None,
    *,
    device: str = "auto",
    bos: str | None = None,
    progress: NullProgress | bool | None = True,
) -> ReferenceAudit:
    """Fill the matrix of a folder of references, score a target, and evaluate the scores.

    Parameters
    ----------
    folder : as `train_references` wrote it
    target : spec of the model that is judged; None: only evaluate
    device, bos : as `load_model`
    progress : a progress bar in a notebook and at a terminal; False or None = none

    Returns
    -------
    ReferenceAudit

    Raises
    ------
    RunError
        If a model is not trained yet.
    ModelError
        As `load_model`.
    """
    references, shown = open_references(folder), progress_display(progress)
    n_models = references.is_in.shape[1]
    missing = [i for i in range(n_models) if not references.is_trained(i)]
    if missing:
        raise RunError(
            f"{len(missing)} of the {n_models} models of {folder} are not trained. Finish them "
            "with the same `auditor references train` command."
        )
    specs = [str(references.model(i)) for i in range(n_models)] + ([target] if target else [])
    with shown.stage("scoring references", len(specs) * len(references.text), "texts") as bar:
        scorer = _Scorer(references, device, bos, bar, shown.note)
        frames = [scorer.scores(spec) for spec in specs]
    loss, accuracy = (
        np.stack([f[name] for f in frames[:n_models]], axis=1) for name in ("loss", "accuracy")
    )
    matrix = ReferenceMatrix(loss, references.is_in)
    scores, thresholds = _leave_one_out(frames[:n_models], matrix)
    evaluation = _evaluation(scores, thresholds, matrix.is_in)
    texts = pd.DataFrame({"doc_id": references.doc_id})
    if target:
        for name, values in _scores(frames[-1], matrix).items():
            limit = _threshold(scores[name], matrix.is_in, 0.01)
            texts[name] = values
            texts[f"called_{name}"] = pd.array(
                [None if np.isnan(limit) else bool(v > limit) for v in values], dtype="boolean"
            )
    found, error = counterfactual_memorization(ReferenceMatrix(accuracy, matrix.is_in))
    limits = thresholds["lira", 0.01]
    verdicts = np.where(matrix.is_in & ~np.isnan(limits), scores["lira"] > limits, np.nan)
    texts["counterfactual"], texts["counterfactual_se"] = found, error
    texts["flip_rate"] = flip_rate(verdicts)
    return ReferenceAudit(texts, evaluation, _summary(scores, thresholds, evaluation, matrix.is_in))


class _Scorer:
    """Scores the pool under models, with the model that all were trained from as reference."""

    def __init__(self, references: References, device: str, bos: str | None, stage, note):
        self.references, self.device, self.bos = references, device, bos
        self.advance, self.note = stage.advance, note
        self._base: list[TokenStats] = []

    def scores(self, spec: str) -> pd.DataFrame:
        """A row per text: accuracy and the membership scores; kept on disk."""
        folder = self.references.folder / "statistics"
        kept = folder / f"{_fingerprint(resolve(spec))[:24]}.parquet"
        if kept.is_file():
            self.advance(len(self.references.text))
            return pd.read_parquet(kept)
        if not self._base:
            self._base = list(self._passes(self.references.base, moments=False))
        passes = self._passes(spec, moments=True)
        parts = [_row_scores(*pair) for pair in zip(passes, self._base, strict=True)]
        frame = pd.concat(parts, ignore_index=True)
        folder.mkdir(exist_ok=True, mode=0o700)
        frame.to_parquet(kept, index=False)
        return frame

    def _passes(self, spec: str, *, moments: bool) -> Iterator[TokenStats]:
        """The statistics of every text under one model, a batch of texts at a time."""
        model = load_model(
            spec, dtype="float32", device=self.device, bos=self.bos, kinds=("causal",)
        )
        for sentence in model.notes:
            self.note(sentence)
        texts, doc_ids = self.references.text, self.references.doc_id
        for at in range(0, len(texts), _AT_ONCE):
            ids = model.vocabulary.encode_all(texts[at : at + _AT_ONCE])
            for doc_id, own in zip(doc_ids[at : at + _AT_ONCE], ids, strict=True):
                check_rows(model.name, model.vocabulary, model.n_vocab, own, doc_id)
            advance = self.advance if moments else None
            yield model.token_stats(ids, moments=moments, progress=advance)


def _row_scores(stats: TokenStats, base: TokenStats) -> pd.DataFrame:
    """Share of tokens predicted, and the scores that need no further pass."""
    hits = np.add.reduceat(np.append(stats.rank == 0, False), stats.offsets)[:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.where(stats.n_scored() > 0, hits / stats.n_scored(), np.nan)
    found = all_scores(stats, made_for=TEXTS, references={"base": base})
    return pd.DataFrame({"accuracy": accuracy, **found})


def _fingerprint(path: Path) -> str:
    from auditor.models.adapters import adapter_fingerprint, is_adapter

    return adapter_fingerprint(path) if is_adapter(path) else fingerprint(path)


def _scores(frame: pd.DataFrame, matrix: ReferenceMatrix) -> dict[str, Values]:
    """Every score of the pool's texts under a target, higher = more likely a member."""
    target = frame["loss"].to_numpy()
    return {
        **{name: frame[name].to_numpy() for name in frame.columns if name != "accuracy"},
        "lira": lira(target, matrix),
        "lira_online": lira(target, matrix, online=True),
        "rmia": rmia(target, matrix, target, matrix),
        "attack_r": attack_r(target, matrix),
    }


def _leave_one_out(
    frames: Sequence[pd.DataFrame], matrix: ReferenceMatrix
) -> tuple[dict[str, Values], dict[tuple[str, float], Values]]:
    """Scores with each model as the target, (n, N), and its thresholds by (score, FPR), (N,).

    The threshold for a model is a quantile of the scores of texts that other models were not
    trained on: it does not use the labels, or the scores, of the model itself.
    """
    per_model = [_scores(frame, matrix.without(j)) for j, frame in enumerate(frames)]
    scores = {name: np.stack([s[name] for s in per_model], axis=1) for name in per_model[0]}
    thresholds = {}
    for name, values in scores.items():
        for fpr in FPRS:
            thresholds[name, fpr] = np.array(
                [
                    _threshold(
                        np.delete(values, j, axis=1), np.delete(matrix.is_in, j, axis=1), fpr
                    )
                    for j in range(matrix.n_models)
                ]
            )
    return scores, thresholds


def _threshold(scores: Values, is_in: NDArray[np.bool_], fpr: float) -> float:
    """The lowest threshold that at most a share `fpr` of the OUT scores exceed; NaN if too few."""
    out = np.sort(scores[~is_in & ~np.isnan(scores)])
    if unresolved(fpr, len(out)):
        return np.nan
    return float(out[len(out) - 1 - int(fpr * len(out))])


def _evaluation(scores, thresholds, is_in: NDArray[np.bool_]) -> pd.DataFrame:
    rows = []
    for name, values in scores.items():
        for j in range(is_in.shape[1]):
            inside, outside = values[is_in[:, j], j], values[~is_in[:, j], j]
            row: dict[str, Any] = {"score": name, "model": j, "auc": _auc(inside, outside)}
            for fpr in FPRS:
                limit = thresholds[name, fpr][j]
                row[f"tpr_{fpr:g}"] = _share_above(inside, limit)
                row[f"fpr_{fpr:g}"] = _share_above(outside, limit)
            rows.append(row)
    return pd.DataFrame(rows)


def _auc(inside: Values, outside: Values) -> float:
    defined = min((~np.isnan(side)).sum() for side in (inside, outside))
    return auc(inside, outside).value if defined >= MIN_A_CLASS else np.nan


def _share_above(values: Values, limit: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.mean(known > limit)) if len(known) and not np.isnan(limit) else np.nan


def _summary(scores, thresholds, evaluation: pd.DataFrame, is_in) -> pd.DataFrame:
    rows = []
    for name, own in evaluation.groupby("score", sort=False):
        row: dict[str, Any] = {"score": name, "n_models": len(own), "n_texts": len(is_in)}
        for column in own.columns[2:]:
            row |= student_mean(own[column].dropna()).columns(column)
        for fpr in FPRS:
            limits = thresholds[name, fpr]
            called = (scores[name] > limits) & is_in
            per_text = called.sum(axis=1) / np.maximum(is_in.sum(axis=1), 1)
            found = Estimate() if np.isnan(limits).any() else bootstrap_mean(per_text)
            row |= {
                f"tpr_{fpr:g}_low_over_texts": found.low,
                f"tpr_{fpr:g}_high_over_texts": found.high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def shown_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary for a reader: a row per defined score, intervals over models."""
    rows = []
    for row in summary.dropna(subset="auc").to_dict("records"):
        shown = {"score": row["score"], "AUC": _interval(row, "auc", 1, 3)}
        for fpr in FPRS:
            cell = _interval(row, f"tpr_{fpr:g}", 100, 1)
            reached = row[f"fpr_{fpr:g}"]
            shown[f"TPR at {100 * fpr:g} % FPR (FPR reached)"] = (
                "withheld" if np.isnan(reached) else f"{cell} [{100 * reached:.2g} %]"
            )
        rows.append(shown)
    return pd.DataFrame(rows)


def _interval(row: dict[str, Any], name: str, scale: int, digits: int) -> str:
    value, low, high = (scale * row[n] for n in (name, f"{name}_low", f"{name}_high"))
    unit = " %" if scale == 100 else ""
    ends = f"{max(0.0, low):.{digits}f}–{min(scale, high):.{digits}f}"
    return f"{value:.{digits}f}{unit} ({ends})"


def telling_texts(texts: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The texts with the highest counterfactual memorization, with the flip rate of verdicts."""
    top = texts.sort_values("counterfactual", ascending=False, kind="stable").head(n)
    error = [f"± {1.96 * e:.3f}" if e == e else "" for e in top["counterfactual_se"]]
    shown = pd.DataFrame(
        {
            "text": top["doc_id"],
            "memorization": [f"{x:+.3f}" for x in top["counterfactual"]],
            "95 %": error,
            "flip rate": [f"{x:.2f}" if x == x else "–" for x in top["flip_rate"]],
        }
    )
    if "called_lira" in top:
        words = {True: "yes", False: "no"}
        shown["member by LiRA"] = [words.get(x, "withheld") for x in top["called_lira"]]
    return shown


def save(found: ReferenceAudit, out: str | Path) -> None:
    """Write texts, evaluation and summary as Parquet and CSV, and references-audit.json."""
    result_folder.save(
        Path(out),
        "references-audit.json",
        {"format": 1, "n_texts": len(found.texts), "scores": found.summary["score"].tolist()},
        tables={
            "texts": found.texts,
            "evaluation": found.evaluation,
            "summary": found.summary,
        },
    )
