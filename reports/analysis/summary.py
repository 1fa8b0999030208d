"""The tables of a report: the precision of each list, and the extraction of planted documents."""

import numpy as np
import pandas as pd

from attacks.statistics.costs import precision_at_k
from attacks.statistics.intervals import clopper_pearson, effective_trials
from reports.analysis.schema import CONTROL
from reports.analysis.score_comparisons import above_random, compare_scores
from reports.analysis.strategy_estimates import (
    clusters_of,
    interval_of,
    interval_words,
    passages_of,
)
from reports.number_text import DASH, share
from reports.privacy.items import COLUMNS


def summarize(candidates: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Verbatim candidates of each list, with confidence intervals: the frame `summary`.

    Precision is NaN for a list that was not verified, and precision at 10 or 50 for a shorter list.
    If the positions of matches are unknown, `n_passages` is NA, `n_effective` is NaN, and the
    intervals are Clopper and Pearson's.

    candidates : the frame `candidates`
    counts : `Shortlist.counts`; one row of the summary each

    Source
    ------
    Carlini et al. 2021, Table 2; the intervals are Korn and Graubard's, 95 %: candidates that show
    one passage are one cluster (see `attacks.statistics.intervals.effective_trials`). Beside a
    random list: see `score_comparisons.compare_scores`.

    >>> counts = pd.DataFrame({"strategy": ["top-n"], "score": ["zlib"], "n_samples": [9],
    ...     "n_undefined": [0], "n_chosen": [2], "n_duplicates_skipped": [0]})
    >>> candidates = pd.DataFrame({"strategy": ["top-n"] * 2, "rank:zlib": [1, 2],
    ...     "verdict": ["verbatim", "not found"], "doc_id": ["d", None],
    ...     "match_n_tokens": [60, None]})
    >>> summarize(candidates, counts)[["n_verbatim", "precision"]].values.tolist()
    [[1.0, 0.5]]
    """
    rows = []
    passages, clusters = passages_of(candidates), clusters_of(candidates)
    for count in counts.to_dict("records"):
        ranks = candidates.get(f"rank:{count['score']}", pd.Series(pd.NA, candidates.index))
        on_list = candidates[(candidates["strategy"] == count["strategy"]) & ranks.notna()]
        verbatim = on_list[on_list["verdict"] == "verbatim"]
        longest = verbatim["match_n_tokens"].max() if len(verbatim) else pd.NA
        n_checked = int((on_list["verdict"] != "not checked").sum())
        on_list = on_list.assign(rank=ranks, cluster=clusters)
        shown = passages.loc[verbatim.index]
        is_known = n_checked > 0 and not shown.isna().any()
        worth = effective_trials(on_list["cluster"])[-1] if is_known else np.nan
        rows.append(
            {
                **count,
                "n_verbatim": len(verbatim),
                "n_fuzzy": int((on_list["verdict"] == "fuzzy").sum()),
                "n_effective": worth,
                **_precision(len(verbatim), int(count["n_chosen"]), n_checked, worth),
                **_first(on_list, n_checked),
                "n_passages": shown.nunique() if is_known else pd.NA,
                "n_distinct_documents": verbatim["doc_id"].nunique(),
                "longest_match_tokens": longest,
                **_with_personal(on_list),
            }
        )
    personal = list(_with_personal(candidates))
    frame = pd.DataFrame(rows, columns=[*counts.columns, *_MEASURED, *personal])
    whole = dict.fromkeys(("longest_match_tokens", "n_passages"), "Int64")
    frame = frame.astype(whole | dict.fromkeys(("n_effective", *_SHARES, *_AT_K), "float64"))
    if not {"sample_id", "strategy", "verdict"} <= set(candidates.columns):
        return frame
    beside = above_random(compare_scores(candidates, counts))
    return frame.merge(beside, on=["strategy", "score"], how="left")


_KS = (10, 50)
_SHARES = ("precision", "precision_low", "precision_high")
_AT_K = tuple(f"precision_at_{k}{end}" for k in _KS for end in ("", "_low", "_high"))
_MEASURED = (
    *("n_verbatim", "n_fuzzy", "n_effective", *_SHARES, *_AT_K),
    *("n_passages", "n_distinct_documents", "longest_match_tokens"),
)


def _with_personal(rows: pd.DataFrame) -> dict[str, int]:
    """How many rows hold personal data, and how many each kind; nothing where nobody looked."""
    kinds = [name for name in COLUMNS.values() if name in rows]
    told = {f"with_{name}": int((rows[name] > 0).sum()) for name in kinds}
    if "n_personal" in rows:
        told = {"n_with_personal": int((rows["n_personal"] > 0).sum())} | told
    return told


def _first(on_list: pd.DataFrame, n_checked: int) -> dict[str, float]:
    """Precision of the first 10 and 50 of a list, where it is that long."""
    row = dict.fromkeys(_AT_K, np.nan)
    if not n_checked:
        return row
    ranked = on_list.sort_values("rank")
    verified = (ranked["verdict"] == "verbatim").to_numpy()
    for k, found in precision_at_k(verified, _KS, clusters=ranked["cluster"]).items():
        row |= found.columns(f"precision_at_{k}")
    return row


def _precision(n_verbatim: int, n_chosen: int, n_checked: int, worth: float) -> dict[str, float]:
    if not n_checked:
        return dict.fromkeys(_SHARES, np.nan)
    effective = None if np.isnan(worth) else worth
    low, high = clopper_pearson(n_verbatim, n_chosen, effective=effective)
    return dict(zip(_SHARES, (n_verbatim / n_chosen, float(low), float(high)), strict=True))


def table2(summary: pd.DataFrame) -> pd.DataFrame:
    """Scores down, strategies across, as in the paper's Table 2; cells are text for display.

    Parameters
    ----------
    summary : DataFrame

    Returns
    -------
    DataFrame of str
        "67 of 100, 67.0 % (56.9–76.1)"; "100 chosen, not checked"; "–" where there is no list.
        The control comes last.

    Source
    ------
    Carlini et al. 2021, Table 2.

    >>> table2(pd.DataFrame({"strategy": ["top-n"], "score": ["zlib"], "n_verbatim": [1],
    ...     "n_chosen": [2], "precision": [0.5], "precision_low": [0.0126],
    ...     "precision_high": [0.9874]})).loc["zlib", "top-n"]
    '1 of 2, 50.0 % (1.3–98.7)'
    """
    scores = list(dict.fromkeys(summary["score"]))
    scores.sort(key=lambda score: score == CONTROL)
    cells = pd.DataFrame(
        {"strategy": summary["strategy"], "score": summary["score"]}
        | {"cell": [_cell(row) for row in summary.to_dict("records")]}
    )
    table = cells.pivot(index="score", columns="strategy", values="cell")
    strategies = list(dict.fromkeys(summary["strategy"]))
    return table.reindex(index=scores, columns=strategies).fillna(DASH).astype("str")


def without_control(summary: pd.DataFrame) -> pd.DataFrame:
    """The lists of the scores, without those of the random control.

    >>> without_control(pd.DataFrame({"score": ["zlib", "random"]}))["score"].tolist()
    ['zlib']
    """
    return summary[summary["score"] != CONTROL]


def list_intervals(summary: pd.DataFrame) -> str:
    """Which intervals the precision of lists has; where passages are not known, it has others.

    >>> list_intervals(pd.DataFrame(columns=["precision_low"]))
    '95 % intervals: Clopper–Pearson, which treats repeats of a passage as independent'
    """
    return f"95 % intervals: {interval_words(list_interval(summary))}"


def list_interval(summary: pd.DataFrame) -> str:
    """The method of these intervals."""
    knows_worth = "n_effective" in summary
    if knows_worth and "precision" in summary:
        knows_worth = not summary["n_effective"][summary["precision"].notna()].isna().any()
    return interval_of(knows_passages=knows_worth)


def _cell(row: dict) -> str:
    if not row["n_chosen"]:
        return "none chosen"
    if np.isnan(row["precision"]):
        return f"{row['n_chosen']:,} chosen, not checked"
    shown = share(row["precision"], row["precision_low"], row["precision_high"])
    return f"{row['n_verbatim']:,} of {row['n_chosen']:,}, {shown}"


def by_repeats(truth: pd.DataFrame, n_samples: int) -> pd.DataFrame:
    """Extracted documents by their known number of repeats: the frame `known_truth`.

    Held-out documents count as 0 repeats.

    truth : one row per document: kind, member, repeats, and whether it was extracted by any sample
        (extracted) and by a candidate (by_candidates)
    n_samples : number of samples that were searched for

    Source
    ------
    Carlini et al. 2021, section 7 (insertion frequency); intervals are Clopper-Pearson's, 95 %, of
    documents.

    >>> truth = pd.DataFrame({"kind": "text", "member": True, "repeats": [4, 4],
    ...     "extracted": [True, False], "by_candidates": False})
    >>> by_repeats(truth, 9)[["n_documents", "n_extracted", "n_by_candidates", "share"]].values
    array([[2. , 1. , 0. , 0.5]])
    """
    known = truth.assign(repeats=truth["repeats"].where(truth["member"].astype(bool), 0))
    table = known.groupby(["kind", "repeats"], as_index=False, observed=True).agg(
        n_documents=("member", "size"),
        n_extracted=("extracted", "sum"),
        n_by_candidates=("by_candidates", "sum"),
    )
    low, high = clopper_pearson(table["n_extracted"].to_numpy(), table["n_documents"].to_numpy())
    shares = table["n_extracted"] / table["n_documents"]
    return table.assign(share=shares, low=low, high=high, n_samples=n_samples)


def shown_truth(table: pd.DataFrame) -> pd.DataFrame:
    """Known truth as a person reads it; cells are text.

    >>> shown_truth(pd.DataFrame({"kind": ["text"], "repeats": [16], "n_documents": [2],
    ...     "n_extracted": [1], "n_by_candidates": [0], "share": [0.5], "low": [0.0126],
    ...     "high": [0.9874]})).iloc[0].tolist()
    ['text', '16', '1 of 2', '50.0 % (1.3–98.7)', '0 of 2']
    """
    rows = [
        (
            str(row["kind"]),
            f"{row['repeats']:,}",
            f"{row['n_extracted']:,} of {row['n_documents']:,}",
            share(row["share"], row["low"], row["high"]),
            f"{row['n_by_candidates']:,} of {row['n_documents']:,}",
        )
        for row in table.to_dict("records")
    ]
    names = ["Kind", "Repeats", "Extracted", "Share", "By candidates only"]
    return pd.DataFrame(rows, columns=names)


def truth_caption(table: pd.DataFrame) -> str:
    """What that table holds, and by which interval.

    >>> truth_caption(pd.DataFrame({"n_samples": [960]}))
    'Known truth: documents extracted by any of 960 samples, by number of repeats in the training
     text (95 % intervals: Clopper–Pearson, over documents)'
    """
    n = int(table["n_samples"].max()) if len(table) else 0
    return (
        f"Known truth: documents extracted by any of {n:,} samples, by number of repeats in the "
        "training text (95 % intervals: Clopper–Pearson, over documents)"
    )
