"""Tables of an extraction: examples, shares with confidence intervals, log-linear laws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from attacks.statistics.extraction import (
    exact_memorization,
    extraction_strength,
    greedy,
    log10_n_samples,
    log_p_z,
    n_samples,
)
from attacks.statistics.extraction_laws import fit_log_linear
from attacks.statistics.intervals import clopper_pearson, proportion
from auditor.extraction.sampling import Sampled
from auditor.extraction.windows import Windows
from auditor.runs.result_folder import storable
from auditor.scoring.suffixes import Measured
from reports.privacy.redaction import mask_personal

QUERIES = (1, 100, 10_000)  # numbers of samples in the summary
_EXACT_REPEATS = 12  # with more distinct numbers of repeats, group them by powers of two


def example_rows(
    windows: Windows, measured: Measured, *, n_prefix: int, p: Sequence[float]
) -> pd.DataFrame:
    """One row per window: its position and the metrics of one forward pass.

    Columns
    -------
    doc_id; prefix_start, suffix_start, suffix_end (characters); prefix_tokens, suffix_tokens;
    n_first, exact_memorization (share), extraction_strength; greedy (bool); log_p_z (nats);
    n_outside (suffix tokens that the decoding never draws, which make p_z 0); for each p, `n:P`
    (fewest samples; inf = impossible or beyond float64) and `log10_n:P`.
    """
    nats = log_p_z(measured.logprob)
    ends = windows.char_ends
    begin = windows.begin(n_prefix)
    at = begin + n_prefix
    frame = pd.DataFrame(
        {
            "doc_id": pd.Series([storable(i) for i in windows.doc_id], dtype="str"),
            "prefix_start": ends[:, begin],
            "suffix_start": ends[:, at],
            "suffix_end": ends[:, at + windows.n_suffix],
            "prefix_tokens": n_prefix,
            "suffix_tokens": windows.n_suffix,
            "n_first": measured.first.sum(axis=1),
            "exact_memorization": exact_memorization(measured.first),
            "extraction_strength": extraction_strength(measured.first),
            "greedy": greedy(measured.first),
            "log_p_z": nats,
            "n_outside": np.isneginf(measured.logprob).sum(axis=1),
        }
    )
    for share in p:
        frame[f"n:{share:g}"] = n_samples(nats, share)
        frame[f"log10_n:{share:g}"] = log10_n_samples(nats, share)
    return frame


def add_sampled(frame: pd.DataFrame, sampled: Sampled) -> pd.DataFrame:
    """Add the columns n_samples, n_exact, n_near, edit_distance and near_verbatim."""
    return frame.assign(
        n_samples=sampled.n_samples,
        n_exact=sampled.n_exact,
        n_near=sampled.n_near,
        edit_distance=sampled.distance,
        near_verbatim=sampled.n_near > 0,
    )


def outcomes(examples: pd.DataFrame) -> dict[str, pd.Series]:
    """Criteria of extraction as bool columns: greedy, within n samples, near-verbatim."""
    found = {"greedy": examples["greedy"]}
    if "greedy_unrelated" in examples and examples["greedy_unrelated"].notna().all():
        found["greedy, unrelated prefix"] = examples["greedy_unrelated"].astype(bool)
    for name in examples.columns:
        # A served model has no p_z.
        if name.startswith("n:") and examples[name].notna().all():
            for n in QUERIES:
                found[f"n={n:,} p={name[2:]}"] = examples[name] <= n
    if "near_verbatim" in examples:
        k = int(examples["n_samples"].iloc[0]) if len(examples) else 0
        found[f"near-verbatim in {k:,}"] = examples["near_verbatim"]
    return found


def summarize(examples: pd.DataFrame) -> pd.DataFrame:
    """Share extracted per group and outcome, with Clopper-Pearson intervals (95 %).

    Groups are model x prefix length x number of repeats (repeats_from to repeats_to; both NA =
    all).
    """
    rows = []
    for (model, n_prefix), own in examples.groupby(["model", "prefix_tokens"], sort=False):
        for low, high, part in by_repeats(own):
            for measure, extracted in outcomes(part).items():
                rows.append(
                    {
                        "model": model,
                        "n_parameters": int(part["n_parameters"].iloc[0]),
                        "prefix_tokens": n_prefix,
                        "suffix_tokens": int(part["suffix_tokens"].iloc[0]),
                        "repeats_from": low,
                        "repeats_to": high,
                        "outcome": measure,
                        "n_examples": len(part),
                        "n_extracted": int(extracted.sum()),
                    }
                )
    frame = pd.DataFrame(rows)
    for name in ("repeats_from", "repeats_to"):
        frame[name] = frame[name].astype("Int64")
    frame["share"] = frame["n_extracted"] / frame["n_examples"]
    frame["low"], frame["high"] = clopper_pearson(frame["n_extracted"], frame["n_examples"])
    return frame


def by_repeats(examples: pd.DataFrame) -> Iterator[tuple[object, object, pd.DataFrame]]:
    """All rows, then those of each number of repeats, or of each power of two if these are many."""
    yield pd.NA, pd.NA, examples
    known = examples[examples["repeats"].notna() & (examples["repeats"] > 0)]
    repeats = known["repeats"].astype("int64")
    if repeats.nunique() <= _EXACT_REPEATS:
        for n, part in known.groupby(repeats):
            yield n, n, part
        return
    power = np.floor(np.log2(repeats)).astype("int64")
    for k, part in known.groupby(power):
        yield 2**k, 2 ** (k + 1) - 1, part


def fits(examples: pd.DataFrame) -> pd.DataFrame:
    """Log-linear fits of the greedily extractable share, one row each.

    Columns
    -------
    of (the variable: repeats, prefix_tokens or n_parameters); model and prefix_tokens (fixed;
    missing if they vary); slope, low, high (change of the share per factor of ten); intercept;
    r_squared and its interval; n_points, n_examples, confidence; withheld (the reason, if the fit
    is not reported).
    """
    rows = []
    for (model, n_prefix), own in examples.groupby(["model", "prefix_tokens"], sort=False):
        points = [part for low, _, part in by_repeats(own) if low is not pd.NA]
        # Grouped numbers of repeats are placed at their mean on the log axis.
        x = [10 ** np.log10(part["repeats"].astype(float)).mean() for part in points]
        rows.append(_fit("repeats", model, n_prefix, x, points))
    for model, own in examples.groupby("model", sort=False):
        groups = list(own.groupby("prefix_tokens"))
        rows.append(
            _fit(
                "prefix_tokens", model, pd.NA, [n for n, _ in groups], [part for _, part in groups]
            )
        )
    for n_prefix, own in examples.groupby("prefix_tokens", sort=False):
        # A server may not tell the number of parameters.
        groups = list(own[own["n_parameters"] > 0].groupby("n_parameters"))
        if not groups:
            continue
        rows.append(
            _fit(
                "n_parameters", None, n_prefix, [n for n, _ in groups], [part for _, part in groups]
            )
        )
    frame = pd.DataFrame(rows)
    frame["model"] = frame["model"].astype("str")
    frame["prefix_tokens"] = frame["prefix_tokens"].astype("Int64")
    return frame


def _fit(of: str, model, n_prefix, x: Sequence[float], points: Sequence[pd.DataFrame]) -> dict:
    successes = np.array([int(part["greedy"].sum()) for part in points], dtype=np.int64)
    trials = np.array([len(part) for part in points], dtype=np.int64)
    fit = fit_log_linear(np.array(x, dtype=float), successes, trials)
    return {"of": of, "model": model, "prefix_tokens": n_prefix, **asdict(fit)}


def headline(examples: pd.DataFrame, *, reveal: bool = False) -> list[str]:
    """One sentence per model and prefix length: the greedy share, or the nearest miss.

    Personal data in document ids is masked unless `reveal`.
    """
    sentences = []
    for (model, n_prefix), own in examples.groupby(["model", "prefix_tokens"], sort=False):
        n, k = len(own), int(own["greedy"].sum())
        given = f"{model}, given {n_prefix} tokens:"
        m = int(own["suffix_tokens"].iloc[0])
        if own["log_p_z"].isna().all():
            sentences.append(_continued(own, given))
            continue
        if k:
            sentences.append(
                f"{given} greedy decoding reproduces the next {m} tokens of the training text "
                f"in {proportion(k, n).in_words()}."
            )
            continue
        best = own.loc[own["log_p_z"].idxmax()]
        high = 100 * float(clopper_pearson(0, n)[1])
        doc_id = best["doc_id"] if reveal else mask_personal(best["doc_id"])
        near = f"{power(best['log_p_z'])} in {doc_id}"
        if np.isneginf(best["log_p_z"]):
            near = "none of the suffixes can be drawn under this decoding"
        sentences.append(
            f"{given} greedy decoding reproduces the next {m} tokens in none of {n:,} "
            f"(95 % Clopper–Pearson interval 0–{high:.2g} %). Most likely: {near}; at most "
            f"{100 * own['exact_memorization'].max():.0f} % of a suffix's tokens are the model's "
            "first choices."
        )
    return sentences


def _continued(own: pd.DataFrame, given: str) -> str:
    """The headline of a model that only continued the prefixes."""
    n, m = len(own), int(own["suffix_tokens"].iloc[0])
    shares = [proportion(int(own[k].sum()), n) for k in ("greedy", "greedy_unrelated")]
    return (
        f"{given} greedy decoding reproduces the next {m} tokens of the training text in "
        f"{shares[0].in_words()}; after the prefix of another document, in {shares[1]}. It writes "
        f"at most {own['n_first'].max():,} tokens of a suffix before the first other one."
    )


def power(nats: float) -> str:
    """A probability as short text, however small.

    >>> power(np.log(0.25)), power(-1000 * np.log(10)), power(-np.inf)
    ('p_z 0.25', 'p_z 10^-1000', 'p_z 0')
    """
    if nats > -20:
        return f"p_z {np.exp(nats):.2g}"
    return "p_z 0" if np.isneginf(nats) else f"p_z 10^{nats / np.log(10):.0f}"
