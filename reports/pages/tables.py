"""Tables of a run's estimates beyond its lists, as text for display."""

import math
from collections.abc import Mapping

import pandas as pd

from attacks.statistics.costs import cost_per_passage, cost_ratio
from attacks.statistics.intervals import Estimate
from reports.analysis.schema import CONTROL
from reports.number_text import DASH, number, numbers, p_value, percent, points, share

_NONE = "none found"


def cost_table(
    strategies: pd.DataFrame, seconds: Mapping[str, float], price_per_hour: float | None = None
) -> pd.DataFrame:
    """What a verbatim sample and a distinct passage cost: tokens, seconds and, at a price, money.

    strategies : the frame `strategies`; those whose samples were looked up make a row each.
    seconds : mapping of strategy to float. How long all of its samples took to draw.
    price_per_hour : of the machine, in any currency.

    Returns:
    DataFrame: strategy, n_verbatim, n_passages, and per_verbatim, per_verbatim_low,
    per_verbatim_high, per_passage in each unit (tokens_*, seconds_*, money_*); ratio, ratio_low,
    ratio_high: tokens for a verbatim sample in multiples of the cheapest strategy's, NaN for
    itself or where nothing was found.

    Source
    ------
    As `attacks.statistics.costs`. Only sampling is counted: scoring and looking up come on top.

    >>> frame = pd.DataFrame({"strategy": ["top-n"], "n_samples": [100], "n_looked_up": [50],
    ...     "n_tokens": [1000], "n_verbatim": [5], "n_passages": [4]})
    >>> made = cost_table(frame, {"top-n": 60.0}, 6.0)
    >>> made[["tokens_per_verbatim", "seconds_per_verbatim"]].values
    array([[200.,   6.]])
    """
    rows = strategies[strategies["n_looked_up"] > 0].to_dict("records")
    spent = {row["strategy"]: _effort(row, seconds, price_per_hour) for row in rows}
    tokens = {row["strategy"]: _cost(row, spent[row["strategy"]]["tokens"]) for row in rows}
    found = [name for name, cost in tokens.items() if cost.n]
    cheapest = min(found, key=lambda name: tokens[name].value, default=None)
    out = []
    for row in rows:
        name = row["strategy"]
        told = {k: row[k] for k in ("strategy", "n_verbatim", "n_passages")}
        for unit, effort in spent[name].items():
            cost = _cost(row, effort)
            n = row["n_passages"]
            told |= cost.columns(f"{unit}_per_verbatim")
            told[f"{unit}_per_passage"] = effort / n if n else math.inf
        is_compared = cheapest not in (None, name)
        ratio = cost_ratio(tokens[name], tokens[cheapest]) if is_compared else Estimate()
        out.append(told | ratio.columns("ratio"))
    return pd.DataFrame(out)


def _effort(row: Mapping, seconds: Mapping[str, float], price: float | None) -> dict[str, float]:
    """What the samples that were looked up took; seconds by their share of all samples."""
    spent = {"tokens": float(row["n_tokens"])}
    if row["strategy"] in seconds:
        spent["seconds"] = seconds[row["strategy"]] * row["n_looked_up"] / row["n_samples"]
        if price is not None:
            spent["money"] = spent["seconds"] / 3600 * price
    return spent


def _cost(row: Mapping, effort: float):
    return cost_per_passage(int(row["n_verbatim"]), int(row["n_looked_up"]), effort)


def shown_strategies(strategies: pd.DataFrame) -> pd.DataFrame:
    """Precision and what is left of each strategy as a person reads it; cells are text.

    >>> frame = pd.DataFrame({"strategy": ["top-n"], "n_looked_up": [0], "n_samples": [9],
    ...     "withheld": "no training text was given"})
    >>> shown_strategies(frame).iloc[0].tolist()
    ['top-n', 'not checked', '–', '–', '–']
    """
    rows = []
    for row in strategies.to_dict("records"):
        cells = [row["strategy"], "not checked", "–", "–", "–"]
        if row["n_looked_up"]:
            found = f"{row['n_verbatim']:,} of {row['n_looked_up']:,}, "
            ends = [row[f"precision{end}"] for end in ("", "_low", "_high")]
            found += share(*ends) if ends[1] == ends[1] else f"{percent(ends[0])} %"
            withheld = f"withheld: {row['withheld']}"
            known = not math.isnan(row["new_rate"])
            rate = [row[f"new_rate{end}"] * 1000 for end in ("", "_low", "_high")]
            total = [row[f"total{end}"] for end in ("", "_low", "_high")]
            cells = [
                row["strategy"],
                found,
                f"{row['n_passages']:,} ({row['n_once']:,} once, {row['n_twice']:,} twice)",
                f"{rate[0]:,.1f} ({rate[1]:,.1f}–{rate[2]:,.1f})" if known else withheld,
                withheld if math.isnan(total[0]) else numbers(total),
            ]
        rows.append(cells)
    names = ["Strategy", "Samples verbatim", "Distinct passages", "New per 1,000 samples"]
    names.append("Total (lower bound)")
    return pd.DataFrame(rows, columns=names)


def shown_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """What a find costs, as a person reads it: a row a strategy and unit; cells are text.

    >>> frame = pd.DataFrame({"strategy": ["top-n"], "n_verbatim": [5], "n_passages": [4],
    ...     "tokens_per_verbatim": [200.0], "tokens_per_verbatim_low": [90.0],
    ...     "tokens_per_verbatim_high": [600.0], "tokens_per_passage": [250.0], "ratio": math.nan})
    >>> shown_costs(frame).iloc[0].tolist()
    ['top-n', 'tokens', '200 (90–600)', '250']
    """
    rows = []
    for row in costs.to_dict("records"):
        for unit in ("tokens", "seconds", "money"):
            name = f"{unit}_per_verbatim"
            if name not in row:
                continue
            ends = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
            times = [row.get(f"ratio{end}", math.nan) for end in ("", "_low", "_high")]
            # It is that of tokens: seconds differ by what else the machine did.
            compared = "" if unit != "tokens" else DASH if math.isnan(times[0]) else numbers(times)
            passage = row[f"{unit}_per_passage"]
            each = number(passage) if math.isfinite(passage) else _NONE
            rows.append([row["strategy"], unit, _cost_text(ends), each, compared])
    names = [
        "Strategy",
        "Unit",
        "Per verbatim sample",
        "Per distinct passage",
        "Ratio to the cheapest",
    ]
    shown = pd.DataFrame(rows, columns=names)
    is_alone = shown["Ratio to the cheapest"].isin(["", "–"]).all()
    return shown.drop(columns="Ratio to the cheapest") if is_alone else shown


def shown_comparisons(comparisons: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """The most precise list of each strategy beside the others; cells are text.

    >>> shown_comparisons(pd.DataFrame(columns=["strategy"]), pd.DataFrame()).empty
    True
    """
    rows = []
    for strategy, pairs in comparisons.groupby("strategy", sort=False):
        own = summary[(summary["strategy"] == strategy) & (summary["score"] != CONTROL)]
        own = own.set_index("score")["precision"].dropna()
        if own.empty or not (pairs["n_first_only"] + pairs["n_second_only"]).any():
            continue
        best = own.idxmax()
        for row in pairs.to_dict("records"):
            if best not in (row["first"], row["second"]):
                continue
            sign = 1 if row["first"] == best else -1
            other = row["second"] if sign == 1 else row["first"]
            ends = sorted((sign * row["low"], sign * row["high"]))
            only = [row["n_first_only"], row["n_second_only"]][::sign]
            rows.append(
                [
                    strategy,
                    f"{best} vs {other}",
                    points(sign * row["difference"], *ends),
                    f"{only[0]:,} and {only[1]:,}",
                    p_value(row["p_corrected"]),
                ]
            )
    names = ["Strategy", "Lists", "Percentage points", "Verbatim on one list only", "Corrected p"]
    return pd.DataFrame(rows, columns=names)


def shown_precision_at(summary: pd.DataFrame) -> pd.DataFrame:
    """Precision of the first 10 and 50 of each list beside the whole; cells are text.

    >>> shown_precision_at(pd.DataFrame({"strategy": ["s"], "score": ["zlib"], "n_chosen": [20],
    ...     "precision": [0.5], "precision_low": [0.3], "precision_high": [0.7],
    ...     "precision_at_10": [0.8], "precision_at_10_low": [0.4], "precision_at_10_high": [0.9]})
    ...     ).iloc[0].tolist()
    ['s', 'zlib', '80.0 % (40.0–90.0)', '20: 50.0 % (30.0–70.0)']
    """
    ks = [n for n in summary.columns if n.startswith("precision_at_") and n.count("_") == 2]
    out = {"Strategy": summary["strategy"].tolist(), "Score": summary["score"].tolist()}
    for name in ks:
        if summary[name].notna().any():
            out[f"First {name.removeprefix('precision_at_')}"] = _shares(summary, name)
    whole = zip(summary["n_chosen"], _shares(summary, "precision"), strict=True)
    out["Whole list"] = [f"{n:,}: {share}" for n, share in whole]
    return pd.DataFrame(out)


def _shares(frame: pd.DataFrame, name: str) -> list[str]:
    ends = frame[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
    return [share(*row) for row in ends]


def _cost_text(ends: list[float]) -> str:
    return numbers(ends) if math.isfinite(ends[0]) else f"{_NONE} (over {number(ends[1])})"


_COUNTS = {
    "strategy": "Strategy",
    "score": "Score",
    "n_samples": "Samples",
    "n_undefined": "Score undefined",
    "n_duplicates_skipped": "Duplicates skipped",
    "n_chosen": "Listed",
    "n_verbatim": "Verbatim",
    "n_fuzzy": "Near match",
    "n_effective": "Effective number",
    "n_passages": "Distinct passages",
    "n_distinct_documents": "Documents",
    "longest_match_tokens": "Longest match, tokens",
    "n_with_personal": "With personal data",
}


def shown_counts(summary: pd.DataFrame) -> pd.DataFrame:
    """The counts of each list under headings for a reader; cells are text.

    Precision is left out: the table of the lists has it. Columns that the summary lacks, or that
    have no value, are omitted.

    >>> shown_counts(pd.DataFrame({"strategy": ["s"], "score": ["zlib"], "n_chosen": [1200],
    ...     "n_verbatim": [3], "n_effective": [float("nan")]})).to_dict("records")
    [{'Strategy': 's', 'Score': 'zlib', 'Listed': '1,200', 'Verbatim': '3'}]
    """
    names = [name for name in _COUNTS if name in summary and summary[name].notna().any()]
    shown = {_COUNTS[name]: [_count(value) for value in summary[name]] for name in names}
    if "above_random" in summary and summary["above_random"].notna().any():
        ends = summary[[f"above_random{end}" for end in ("", "_low", "_high")]].to_numpy(float)
        shown["Above random, percentage points"] = [
            DASH if math.isnan(row[0]) else points(*row) for row in ends
        ]
        p = summary["p_above_random"]
        shown["p, corrected"] = [DASH if math.isnan(value) else p_value(value) for value in p]
    return pd.DataFrame(shown)


def _count(value: object) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):  # type: ignore[call-overload]
        return DASH
    whole = round(float(value), 1)  # type: ignore[arg-type]
    return f"{whole:,.0f}" if whole == int(whole) else f"{whole:,.1f}"
