"""The tables of a report: how precise each list was, and what became of planted documents."""

import numpy as np
import pandas as pd

from attacks.costs import precision_at_k
from attacks.estimates import clopper_pearson
from reports.comparisons import above_random, compare_scores
from reports.csvfile import write_csv
from reports.headline import headline, known_truth, not_claimed, percent
from reports.schema import CONTROL
from reports.shortlist import Shortlist, select_candidates
from reports.strategies import number_passages

__all__ = [
    "Shortlist",
    "by_repeats",
    "headline",
    "known_truth",
    "not_claimed",
    "select_candidates",
    "summarize",
    "table2",
    "write_csv",
]


def summarize(candidates: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """How many of each list are verbatim, with intervals: the frame `summary`.

    Parameters
    ----------
    candidates : DataFrame
        The frame `candidates`.
    counts : DataFrame
        `Shortlist.counts`; its rows are the summary's rows.

    Returns
    -------
    DataFrame
        The frame `summary`. Precision is NaN for a list of which nothing was checked, and at 10 or
        50 for a shorter list.

    Source
    ------
    Carlini et al. 2021, Table 2; the intervals are Clopper-Pearson's, 95 %. Beside a random list:
    see `comparisons.compare_scores`.

    >>> counts = pd.DataFrame({"strategy": ["top-n"], "score": ["zlib"], "n_samples": [9],
    ...     "n_undefined": [0], "n_chosen": [2], "n_duplicates_skipped": [0]})
    >>> candidates = pd.DataFrame({"strategy": ["top-n"] * 2, "rank:zlib": [1, 2],
    ...     "verdict": ["verbatim", "not found"], "doc_id": ["d", None],
    ...     "match_n_tokens": [60, None]})
    >>> summarize(candidates, counts)[["n_verbatim", "precision"]].values.tolist()
    [[1.0, 0.5]]
    """
    rows = []
    passages = _passages(candidates)
    for count in counts.to_dict("records"):
        ranks = candidates.get(f"rank:{count['score']}", pd.Series(pd.NA, candidates.index))
        on_list = candidates[(candidates["strategy"] == count["strategy"]) & ranks.notna()]
        verbatim = on_list[on_list["verdict"] == "verbatim"]
        longest = verbatim["match_n_tokens"].max() if len(verbatim) else pd.NA
        n_checked = int((on_list["verdict"] != "not checked").sum())
        rows.append(
            {
                **count,
                "n_verbatim": len(verbatim),
                "n_fuzzy": int((on_list["verdict"] == "fuzzy").sum()),
                **_precision(len(verbatim), int(count["n_chosen"]), n_checked),
                **_first(on_list.assign(rank=ranks), n_checked),
                "n_passages": passages.loc[verbatim.index].nunique() if n_checked else pd.NA,
                "n_distinct_documents": verbatim["doc_id"].nunique(),
                "longest_match_tokens": longest,
                **_with_personal(on_list),
            }
        )
    personal = list(_with_personal(candidates))
    frame = pd.DataFrame(rows, columns=[*counts.columns, *_MEASURED, *personal])
    whole = dict.fromkeys(("longest_match_tokens", "n_passages"), "Int64")
    frame = frame.astype(whole | dict.fromkeys((*_SHARES, *_AT_K), "float64"))
    if not {"sample_id", "strategy", "verdict"} <= set(candidates.columns):
        return frame
    beside = above_random(compare_scores(candidates, counts))
    return frame.merge(beside, on=["strategy", "score"], how="left")


_KS = (10, 50)
_SHARES = ("precision", "precision_low", "precision_high")
_AT_K = tuple(f"precision_at_{k}{end}" for k in _KS for end in ("", "_low", "_high"))
_MEASURED = (
    *("n_verbatim", "n_fuzzy", *_SHARES, *_AT_K),
    *("n_passages", "n_distinct_documents", "longest_match_tokens"),
)


def _with_personal(rows: pd.DataFrame) -> dict[str, int]:
    """How many rows hold personal data, and how many each kind; nothing where nobody looked."""
    kinds = [name for name in map(str, rows.columns) if name.startswith("personal:")]
    told = {f"with_{name}": int((rows[name] > 0).sum()) for name in kinds}
    if "n_personal" in rows:
        told = {"n_with_personal": int((rows["n_personal"] > 0).sum())} | told
    return told


def _passages(candidates: pd.DataFrame) -> pd.Series:
    """The passage that each verbatim candidate shows by its longest overlap."""
    verbatim = candidates[candidates["verdict"] == "verbatim"]
    if not {"doc_offset", "match_n_chars"} <= set(verbatim.columns):
        return pd.Series(pd.NA, verbatim.index, dtype="Int64")
    places = verbatim[["doc_id", "doc_offset", "match_n_chars"]]
    return number_passages(places.rename(columns={"match_n_chars": "n_chars"}))


def _first(on_list: pd.DataFrame, n_checked: int) -> dict[str, float]:
    """Precision of the first 10 and 50 of a list, where it is that long."""
    row = dict.fromkeys(_AT_K, np.nan)
    if not n_checked:
        return row
    verified = on_list.sort_values("rank")["verdict"] == "verbatim"
    for k, share in precision_at_k(verified.to_numpy(), _KS).items():
        name = f"precision_at_{k}"
        row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
    return row


def _precision(n_verbatim: int, n_chosen: int, n_checked: int) -> dict[str, float]:
    if not n_checked:
        return dict.fromkeys(_SHARES, np.nan)
    low, high = clopper_pearson(n_verbatim, n_chosen)
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
    return table.reindex(index=scores, columns=strategies).fillna("–").astype("str")


def _cell(row: dict) -> str:
    if not row["n_chosen"]:
        return "none chosen"
    if np.isnan(row["precision"]):
        return f"{row['n_chosen']:,} chosen, not checked"
    interval = f"{percent(row['precision_low'])}–{percent(row['precision_high'])}"
    counts = f"{row['n_verbatim']:,} of {row['n_chosen']:,}"
    return f"{counts}, {percent(row['precision'])} % ({interval})"


def by_repeats(candidates: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Of documents whose number of repeats is known, how many came out.

    Parameters
    ----------
    candidates : DataFrame
        A row a candidate, or a row an overlap. Needs doc_id; with a column verdict, only "verbatim"
        rows count. Held-out documents come out only if they were searched as well.
    truth : DataFrame
        doc_id, member, repeats, kind, secret. A match's doc_id is the document's own, or that and
        a dot and the number of the copy ("doc-0017.03").

    Returns
    -------
    DataFrame: kind, repeats, n_documents, n_extracted, share, low, high
        Held-out documents have 0 repeats, whatever `truth` says. A document is extracted if a
        candidate matches it. One with a secret (a canary) is extracted only if a matching
        candidate's text also holds the secret: a canary's frame alone gives nothing away.

    Source
    ------
    Carlini et al. 2021, section 7 (insertion frequency); intervals are Clopper-Pearson's, 95 %.

    >>> truth = pd.DataFrame({"doc_id": ["a", "b"], "member": True, "repeats": [4, 4],
    ...     "kind": "text", "secret": None})
    >>> by_repeats(pd.DataFrame({"doc_id": ["a.02", "a.03"]}), truth).loc[0, "share"].item()
    0.5
    """
    known = truth.assign(repeats=truth["repeats"].where(truth["member"].astype(bool), 0))
    known["extracted"] = _extracted(candidates, truth)
    table = known.groupby(["kind", "repeats"], as_index=False, observed=True).agg(
        n_documents=("doc_id", "size"), n_extracted=("extracted", "sum")
    )
    table["share"] = table["n_extracted"] / table["n_documents"]
    low, high = clopper_pearson(table["n_extracted"].to_numpy(), table["n_documents"].to_numpy())
    return table.assign(low=low, high=high)


def _extracted(candidates: pd.DataFrame, truth: pd.DataFrame) -> list[bool]:
    """For each row of `truth`, whether a candidate gives it (and its secret, if any) away."""
    rows = candidates[candidates["doc_id"].notna()]
    if "verdict" in rows:
        rows = rows[rows["verdict"] == "verbatim"]
    own = rows["doc_id"].astype("str")
    known = own.isin(truth["doc_id"])
    documents = own.where(known, own.str.replace(r"\.\d+$", "", regex=True))
    texts: dict[str, list[str]] = {}
    for doc_id, text in zip(documents, rows.get("text", pd.Series("", rows.index)), strict=True):
        texts.setdefault(doc_id, []).append(text)
    secrets = truth.get("secret", pd.Series(None, truth.index, dtype=object))
    return [
        any(not has_secret or secret in text for text in texts.get(doc_id, []))
        for doc_id, secret, has_secret in zip(
            truth["doc_id"], secrets, secrets.notna(), strict=True
        )
    ]
