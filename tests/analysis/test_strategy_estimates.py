"""Estimates for whole strategies and comparisons of two lists, against hand-worked values."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attacks.statistics.intervals import clopper_pearson
from attacks.statistics.resampling import paired_proportions
from reports.analysis.schema import COMPARISONS, DISCOVERY, STRATEGIES, SUMMARY, check
from reports.analysis.score_comparisons import above_random, compare_scores
from reports.analysis.strategy_estimates import RESTS_ON, estimate_strategies, number_passages
from reports.analysis.summary import summarize
from reports.figures.precision_at_rank import precision_at_rank
from reports.pages.estimates_section import estimates_section
from reports.pages.sentences import headline
from reports.pages.tables import (
    cost_table,
    shown_comparisons,
    shown_costs,
    shown_precision_at,
    shown_strategies,
)


def samples_of(**numbers):
    """So many samples of 10 tokens of each strategy, in the order of drawing."""
    rows = [(f"{name}-{i:03}", name, 10) for name, n in numbers.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["sample_id", "strategy", "n_tokens"])


def matches_of(*rows):
    return pd.DataFrame(rows, columns=["sample_id", "doc_id", "doc_offset", "n_chars"])


# Passages: document d at 0-150 (two overlapping spans), d at 500-600, e at 0-100.
FOUND = matches_of(
    ("a-000", "d", 0, 100),
    ("a-001", "d", 50, 100),
    ("a-001", "e", 0, 100),
    ("a-003", "d", 500, 100),
    ("b-000", "d", 10, 100),
)


def test_overlapping_spans_of_any_samples_are_one_passage():
    passages = number_passages(FOUND)
    assert passages[0] == passages[1] == passages[4]
    assert passages.nunique() == 3
    shuffled = FOUND.sample(frac=1, random_state=0)
    pd.testing.assert_series_equal(number_passages(shuffled).sort_index(), passages)


def test_a_strategy_is_estimated_from_its_unselected_samples():
    """Five samples; three hold 3 passages: one twice, two once. Chao: 3 + 4/5 × 2²/(2 × 1)."""
    judged = estimate_strategies(samples_of(a=5, b=4), FOUND, {"a": 5, "b": 4})
    check(judged.table, STRATEGIES)
    check(judged.discovery, DISCOVERY)
    a, b = judged.table.to_dict("records")
    assert (a["n_looked_up"], a["n_tokens"], a["n_verbatim"]) == (5, 50, 3)
    assert (a["n_passages"], a["n_once"], a["n_twice"]) == (3, 2, 1)
    assert a["precision"] == 0.6
    low, high = clopper_pearson(3, 5)
    assert (a["precision_low"], a["precision_high"]) == (float(low), float(high))
    assert a["new_rate"] == pytest.approx(2 / 5)
    assert a["total"] == pytest.approx(3 + 0.8 * 2)
    assert a["tokens_per_verbatim"] == pytest.approx(50 / 3)
    assert a["tokens_per_passage"] == pytest.approx(50 / 3)
    assert a["withheld"] == ""
    assert (b["n_passages"], b["precision"]) == (1, 0.25)


def test_samples_that_were_not_searched_are_ignored():
    """The fourth sample was not looked up among the unselected, whatever matched as a candidate."""
    judged = estimate_strategies(samples_of(a=5), FOUND, {"a": 2})
    (a,) = judged.table.to_dict("records")
    assert (a["n_samples"], a["n_looked_up"], a["n_tokens"]) == (5, 2, 20)
    assert (a["n_verbatim"], a["n_passages"]) == (2, 2)


def test_the_curve_counts_passages_in_sampling_order():
    curve = estimate_strategies(samples_of(a=5), FOUND, {"a": 5}).discovery
    assert curve["n_tokens"].tolist() == [10, 20, 30, 40, 50]
    assert curve["observed"].tolist() == [1, 2, 2, 3, 3]
    # A passage in 2 of 5 samples is in one at random with 2/5, one in 1 of 5 with 1/5.
    assert curve["expected"].iloc[0] == pytest.approx(2 / 5 + 1 / 5 + 1 / 5)
    assert curve["expected"].iloc[-1] == 3


def test_dependent_samples_have_counts_but_no_estimate():
    judged = estimate_strategies(samples_of(a=5), FOUND, {"a": 5}, dependent={"a": "one prompt"})
    (a,) = judged.table.to_dict("records")
    assert (a["n_verbatim"], a["n_passages"], a["withheld"]) == (3, 3, "one prompt")
    assert all(math.isnan(a[n]) for n in ("precision_low", "new_rate", "total", "total_high"))
    assert judged.discovery.empty
    assert "withheld: one prompt" in shown_strategies(judged.table).iloc[0].tolist()


def test_without_findings_the_total_is_withheld_and_the_rate_bounded():
    judged = estimate_strategies(samples_of(a=5), matches_of(), {"a": 5})
    (a,) = judged.table.to_dict("records")
    assert (a["n_passages"], a["new_rate"], a["precision"]) == (0, 0, 0)
    assert a["new_rate_high"] == pytest.approx(float(clopper_pearson(0, 5)[1]))
    assert math.isnan(a["total"])
    assert a["withheld"] == "no passage was found in 5 samples"
    assert a["tokens_per_passage"] == math.inf


def test_without_training_text_there_are_only_counts():
    judged = estimate_strategies(samples_of(a=5), None, {})
    check(judged.table, STRATEGIES)
    check(judged.discovery, DISCOVERY)
    assert judged.table.iloc[0]["withheld"] == "no training text was given"
    assert judged.table[["precision", "total", "tokens_per_verbatim"]].isna().all(axis=None)
    assert estimates_section(*[judged.table] * 2, judged.discovery, *[judged.table] * 2) is None


def test_intervals_contain_the_truth_of_a_known_population():
    """60 equally likely passages, half of all samples hold one: 50 runs of 150 samples."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(50):
        shown = rng.integers(0, 120, 150)  # 60 and more: a sample without a passage
        rows = [(f"a-{i:03}", f"d{p}", 0, 100) for i, p in enumerate(shown.tolist()) if p < 60]
        judged = estimate_strategies(samples_of(a=150), matches_of(*rows), {"a": 150})
        (a,) = judged.table.to_dict("records")
        held.append(a["total_low"] <= 60 <= a["total_high"])
    assert np.mean(held) >= 0.85


CANDIDATES = pd.DataFrame(
    {
        "sample_id": [f"s-{i}" for i in range(8)],
        "strategy": "s",
        "verdict": ["verbatim"] * 5 + ["not found"] * 3,
        "rank:zlib": pd.array([1, 2, 3, 4, None, 5, None, None], dtype="Int64"),
        "rank:window": pd.array([1, None, 2, 5, None, 3, 4, None], dtype="Int64"),
        "rank:random": pd.array([None, None, None, 1, None, 2, 3, 4], dtype="Int64"),
        "doc_id": ["d"] * 5 + [None] * 3,
        "doc_offset": pd.array([0, 50, 400, 400, 900, None, None, None], dtype="Int64"),
        "match_n_chars": pd.array([100] * 5 + [None] * 3, dtype="Int64"),
        "n_chars": 500,  # of the whole text
        "match_n_tokens": pd.array([40] * 5 + [None] * 3, dtype="Int64"),
    }
)
COUNTS = pd.DataFrame(
    {"strategy": "s", "score": ["zlib", "random", "window"], "n_samples": 9, "n_undefined": 0,
     "n_chosen": [5, 4, 5], "n_duplicates_skipped": 0}
)  # fmt: skip


def test_lists_are_compared_at_equal_length_by_samples_on_only_one():
    """zlib holds s-0 to s-3, random s-3 of the verbatim: cut to 4, three are on zlib's alone.

    Two of the three show one passage, so they are worth 3² / (2² + 1²) = 1.8; at even odds all of
    them fall to zlib with a chance of 0.5^1.8.
    """
    found = compare_scores(CANDIDATES, COUNTS)
    check(found, COMPARISONS)
    pairs = found.set_index(["first", "second"])
    assert list(pairs.index) == [("zlib", "window"), ("zlib", "random"), ("window", "random")]
    row = pairs.loc[("zlib", "random")]
    assert (row["k"], row["n_first_only"], row["n_second_only"]) == (4, 3, 0)
    assert row["difference"] == 0.75
    own = paired_proportions(1.8, 0, 4 * 1.8 / 3)
    assert (row["low"], row["high"]) == pytest.approx((own.low, own.high))
    assert row["p_value"] == pytest.approx(2 * 0.5**1.8)
    assert row["p_corrected"] == 1
    apart = CANDIDATES.assign(doc_offset=CANDIDATES["doc_offset"] * 100 + CANDIDATES.index * 500)
    alone = compare_scores(apart, COUNTS).set_index(["first", "second"]).loc[("zlib", "random")]
    assert alone["p_value"] == pytest.approx(2 * 0.5**3)
    assert alone["p_corrected"] == pytest.approx(3 * 2 * 0.5**3)


def test_comparisons_with_random_are_corrected_for_all_lists():
    beside = above_random(compare_scores(CANDIDATES, COUNTS)).set_index("score")
    assert beside.loc["zlib", "above_random"] == 0.75
    assert beside.loc["zlib", "p_above_random"] == pytest.approx(min(1, 2 * 2 * 0.5**1.8))
    assert set(beside.index) == {"zlib", "window"}


def test_nothing_is_compared_where_nothing_was_checked():
    found = compare_scores(CANDIDATES.assign(verdict="not checked"), COUNTS)
    assert found.empty
    check(found, COMPARISONS)


def test_the_summary_has_passages_and_the_lead_over_random():
    """zlib's verbatim: d at 0-150 (two candidates), d at 400-500 (two): two passages."""
    summary = summarize(CANDIDATES, COUNTS).set_index("score")
    assert summary["n_passages"].to_dict() == {"zlib": 2, "random": 1, "window": 2}
    assert summary.loc["zlib", "above_random"] == 0.75
    assert math.isnan(summary.loc["random", "above_random"])
    assert summary["precision_at_10"].isna().all()


def test_the_interval_of_a_list_counts_candidates_of_one_passage_as_one_cluster():
    """zlib: two passages of two candidates each and one that was not found: 5² / (4 + 4 + 1).

    So 4 of 5 are worth 20/9 of 25/9 candidates; at its lower end, by the definition of the
    interval in its beta form, the tail is 2.5 %.
    """
    zlib = summarize(CANDIDATES, COUNTS).set_index("score").loc["zlib"]
    assert zlib["n_effective"] == pytest.approx(25 / 9)
    assert zlib["precision"] == 0.8
    assert stats.beta.cdf(zlib["precision_low"], 20 / 9, 5 / 9 + 1) == pytest.approx(0.025)
    assert stats.beta.sf(zlib["precision_high"], 20 / 9 + 1, 5 / 9) == pytest.approx(0.025)
    ranks = precision_at_rank(CANDIDATES)
    last = ranks[(ranks["score"] == "zlib") & (ranks["rank"] == 5)].iloc[0]
    assert (last["low"], last["high"]) == (zlib["precision_low"], zlib["precision_high"])
    # The first two show one passage: no more than one candidate's worth, 0.025 to 1.
    first = ranks[(ranks["score"] == "zlib") & (ranks["rank"] == 2)].iloc[0]
    assert (first["low"], first["high"]) == pytest.approx((0.025, 1))


def test_a_hundred_candidates_of_one_passage_count_as_one():
    frame = pd.DataFrame(
        {"sample_id": [f"s-{i}" for i in range(100)], "strategy": "s", "verdict": "verbatim",
         "rank:zlib": range(1, 101), "best_rank": range(1, 101), "doc_id": "d", "doc_offset": 7,
         "match_n_chars": 200, "match_n_tokens": 50, "n_documents": 1}
    )  # fmt: skip
    counts = COUNTS.iloc[:1].assign(n_chosen=100)
    summary = summarize(frame, counts)
    check(summary, SUMMARY)
    row = summary.iloc[0]
    assert (row["n_effective"], row["n_passages"], row["n_distinct_documents"]) == (1, 1, 1)
    assert (row["precision_low"], row["precision_high"]) == pytest.approx((0.025, 1))
    assert (row["precision_at_50_low"], row["precision_at_10_low"]) == pytest.approx((0.025, 0.025))
    told = headline(frame, summary)
    assert (
        "100 are verbatim: 1 passage from 1 document (100.0 %, 95 % interval 2.5–100.0, Korn–"
        in (told[0])
    )
    share = "1 passage from 1 document (95 % Korn–Graubard interval: 3–100 %)"
    assert any(f"100 of 100 verbatim: {share}" in sentence for sentence in told)


def test_precision_at_10_uses_only_the_first_ten():
    n = 30
    found = pd.DataFrame(
        {
            "sample_id": [f"s-{i}" for i in range(n)],
            "strategy": "s",
            "verdict": ["verbatim"] * 7 + ["not found"] * (n - 7),
            "rank:zlib": pd.array(range(n, 0, -1), dtype="Int64"),  # the verbatim come last
            "doc_id": "d",
            "match_n_tokens": 40,
        }
    )
    counts = COUNTS.iloc[:1].assign(n_chosen=n)
    row = summarize(found, counts).iloc[0]
    assert (row["precision_at_10"], row["precision"]) == (0, 7 / 30)
    row = summarize(found.assign(**{"rank:zlib": range(1, n + 1)}), counts).iloc[0]
    assert row["precision_at_10"] == 0.7
    low, high = clopper_pearson(7, 10)
    assert (row["precision_at_10_low"], row["precision_at_10_high"]) == (float(low), float(high))
    assert (
        "70.0 %"
        in shown_precision_at(summarize(found, counts).assign(precision_at_10=0.7))[
            "First 10"
        ].iloc[0]
    )


def test_costs_are_tokens_seconds_and_money_of_what_was_looked_up():
    """Half of the samples were looked up: half of the 60 s, at 120 an hour 1 in money."""
    table = estimate_strategies(samples_of(a=10, b=5), FOUND, {"a": 5, "b": 5}).table
    costs = cost_table(table, {"a": 60.0, "b": 10.0}, 120.0).set_index("strategy")
    assert costs.loc["a", "tokens_per_verbatim"] == pytest.approx(50 / 3)
    assert costs.loc["a", "seconds_per_verbatim"] == pytest.approx(30 / 3)
    assert costs.loc["a", "money_per_verbatim"] == pytest.approx(30 / 3 * 120 / 3600)
    assert costs.loc["a", "seconds_per_passage"] == pytest.approx(30 / 3)
    low, high = clopper_pearson(3, 5)
    assert costs.loc["a", "tokens_per_verbatim_low"] == pytest.approx(50 / (5 * float(high)))
    assert costs.loc["a", "tokens_per_verbatim_high"] == pytest.approx(50 / (5 * float(low)))
    assert math.isnan(costs.loc["a", "ratio"])  # the cheapest
    assert costs.loc["b", "ratio"] == pytest.approx(3)  # 50 tokens for one instead of three
    shown = shown_costs(costs.reset_index())
    assert shown.loc[0, "Per distinct passage"] == "16.7"
    assert shown.set_index("Strategy").loc["b", "Ratio to the cheapest"].iloc[0].startswith("3 (")


def test_without_findings_the_cost_has_only_a_lower_bound():
    table = estimate_strategies(samples_of(a=5), matches_of(), {"a": 5}).table
    (cell,) = shown_costs(cost_table(table, {}))["Per verbatim sample"]
    least = 50 / (5 * float(clopper_pearson(0, 5)[1]))
    assert cell == f"none found (over {least:.3g})"


def test_the_best_list_is_compared_with_every_other():
    summary = summarize(CANDIDATES, COUNTS)
    shown = shown_comparisons(compare_scores(CANDIDATES, COUNTS), summary)
    assert shown["Lists"].tolist() == ["zlib vs window", "zlib vs random"]
    assert shown["Verbatim on one list only"].tolist() == ["1 and 0", "3 and 0"]
    assert shown["Percentage points"].iloc[1].startswith("+75.0 (")


def test_lists_with_equal_findings_are_not_claimed_to_be_equal():
    same = CANDIDATES.assign(**{"rank:window": CANDIDATES["rank:zlib"]})
    shown = shown_comparisons(compare_scores(same, COUNTS), summarize(same, COUNTS))
    ends = paired_proportions(0, 0, 5)
    cell = f"+0.0 (−{100 * ends.high:.1f} to +{100 * ends.high:.1f})"
    assert shown["Percentage points"].iloc[0] == cell


def test_the_section_has_a_curve_and_states_its_assumptions():
    judged = estimate_strategies(samples_of(a=5, b=4), FOUND, {"a": 5, "b": 4})
    costs = cost_table(judged.table, {})
    pairs = compare_scores(CANDIDATES, COUNTS)
    made = estimates_section(
        summarize(CANDIDATES, COUNTS), judged.table, judged.discovery, pairs, costs
    )
    assert "<svg" in made.discovery
    assert [row[0] for row in made.strategies[1]] == ["a", "b"]
    assert any("independent" in sentence for sentence in made.rests_on)


def test_chao1_is_never_presented_as_an_upper_bound():
    judged = estimate_strategies(samples_of(a=5, b=4), FOUND, {"a": 5, "b": 4})
    assert shown_strategies(judged.table).columns[-1] == "Total (lower bound)"
    assert any("does not bound the true total" in sentence for sentence in RESTS_ON)
    told = {column.name: column.meaning for column in STRATEGIES.columns}
    assert "Lower bound" in told["total"]
    assert "not a bound" in told["total_high"]
