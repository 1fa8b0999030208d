"""Tables of a comparison, formatted for the page."""

from __future__ import annotations

import pandas as pd

from attacks.statistics.intervals import proportion

_EXCERPT = 320  # characters of a text


def extraction_shown(extraction: pd.DataFrame) -> pd.DataFrame:
    """Format `Comparison.extraction`: one row per group, shares with intervals and counts.

    >>> counts = pd.DataFrame({"group": ["members"] * 2, "model": ["base", "tuned"],
    ...     "n_extracted": [0, 3], "n_texts": [10, 10]})
    >>> extraction_shown(counts).iloc[0].tolist()
    ['members', '0.0 % (0.0–30.8; 0 of 10)', '30.0 % (6.7–65.2; 3 of 10)']
    """
    rows = []
    for group, own in extraction.groupby("group", sort=False):
        by = own.set_index("model")
        rates = [
            proportion(int(by.loc[when, "n_extracted"]), int(by.loc[when, "n_texts"]))
            for when in ("base", "tuned")
        ]
        rows.append([_named(group == "members"), *(str(r) if r.n else "–" for r in rates)])
    return pd.DataFrame(rows, columns=["texts", "extracted before", "after"])


def changes_shown(tests: pd.DataFrame) -> pd.DataFrame:
    """Format `Comparison.tests`: mean changes with intervals, and p-values."""
    columns: dict[str, list[str]] = {"figure": tests["figure"].tolist()}
    titles = {"members": "members", "heldout": "held out", "difference": "difference"}
    for name, title in titles.items():
        columns[title] = [with_interval(row, name) for _, row in tests.iterrows()]
    for name, title in {"p_members": "p, members", "p_difference": "p, difference"}.items():
        columns[title] = [f"{p:.2g}" if p == p else "–" for p in tests[name]]
    if tests["n_undefined"].any():
        columns["texts excluded"] = [f"{n:,}" for n in tests["n_undefined"]]
    return pd.DataFrame(columns)


def largest_increases_shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Format `Comparison.largest_increases`.

    The score `likelihood` is the mean log-likelihood, in nats per token.
    """
    return pd.DataFrame(
        {
            "text": rows["doc_id"],
            "group": [_named(m) for m in rows["member"]],
            "tokens": [f"{n:,}" for n in rows["n_tokens"]],
            "log-likelihood before": rows["likelihood_base"],
            "after": rows["likelihood_tuned"],
            "log p_z before": rows["log_p_z_base"],
            "after ": rows["log_p_z_tuned"],
            "extracted": [
                "–" if now != now else "yes" if now else "no" for now in rows["extracted_tuned"]
            ],
            "excerpt": [_excerpt(text) for text in rows["text"]],
        }
    )


def differences_shown(differences: pd.DataFrame) -> pd.DataFrame:
    """Format `RunComparison.differences`: counts in A and B, B minus A in percentage points.

    >>> one = pd.DataFrame({"strategy": ["all"], "score": ["all candidates"], "n_verbatim_a": [3],
    ...     "n_a": [10], "n_verbatim_b": [5], "n_b": [10], "difference": [0.2], "low": [-0.2],
    ...     "high": [0.52]})
    >>> differences_shown(one).iloc[0].tolist()
    ['all', 'all candidates', '3 of 10', '5 of 10', '+20.0 (-20.0 to +52.0)']
    """
    rows = [
        [
            row.strategy,
            row.score,
            f"{row.n_verbatim_a:,} of {row.n_a:,}",
            f"{row.n_verbatim_b:,} of {row.n_b:,}",
            f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})",
        ]
        for row in differences.itertuples()
    ]
    names = ["strategy", "score", "verbatim in A", "in B", "B minus A, percentage points"]
    return pd.DataFrame(rows, columns=names)


def passages_shown(passages: pd.DataFrame) -> pd.DataFrame:
    """Format `RunComparison.passages`, with an excerpt of each text."""
    return pd.DataFrame(
        {
            "found in": passages["where"],
            "candidates of A": [f"{n:,}" for n in passages["n_a"]],
            "of B": [f"{n:,}" for n in passages["n_b"]],
            "tokens": [f"{n:,}" for n in passages["n_tokens"]],
            "document": passages["doc_id"],
            "passage": [_excerpt(text) for text in passages["text"]],
        }
    )


def with_interval(row: pd.Series, name: str) -> str:
    """Format a value with its interval: columns NAME, NAME_low and NAME_high.

    >>> with_interval(pd.Series({"x": 1.234, "x_low": -0.5, "x_high": 2.0}), "x")
    '+1.23 (-0.5 to +2)'
    """
    value, low = row[name], row[f"{name}_low"]
    if value != value:
        return "–"
    if low != low:
        return f"{value:+.3g} (interval withheld)"
    return f"{value:+.3g} ({row[f'{name}_low']:+.3g} to {row[f'{name}_high']:+.3g})"


def _named(is_member: bool) -> str:
    return "members" if is_member else "held out"


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + " …"
