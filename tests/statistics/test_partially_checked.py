"""Partially checked lists keep their false discovery rate for any scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.statistics.false_discovery import half_checked_list, random_half
from reports.analysis import schema
from reports.analysis.checked_lists import calibrate_by_checks
from reports.pages.calibration_section import calibration_section, shown_calibration

ENTRIES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12)


def spelled_out(checked, found, fdr):
    """The rule as it reads: the last place where (1 + missed) / unchecked is at most the rate."""
    end = 0
    for k in range(1, len(checked) + 1):
        missed = sum(c and not f for c, f in zip(checked[:k], found[:k], strict=True))
        others = sum(not c for c in checked[:k])
        if others and (1 + missed) / others <= fdr:
            end = k
    return [i for i in range(end) if not checked[i]]


@given(ENTRIES, st.sampled_from([0.1, 0.25, 0.5, 0.8]))
def test_the_list_equals_the_rule_computed_directly(entries, fdr):
    checked, found = map(list, zip(*entries, strict=True))
    made = half_checked_list(checked, found, fdr=fdr)
    assert made.chosen.tolist() == spelled_out(checked, found, fdr)
    assert np.isnan(made.q_values).tolist() == checked


@given(ENTRIES, st.integers(0, 11))
def test_an_entry_is_listed_from_its_q_value_on(entries, at):
    checked, found = map(list, zip(*entries, strict=True))
    q = half_checked_list(checked, found, fdr=0.5).q_values[min(at, len(checked) - 1)]
    if q < 1:
        assert min(at, len(checked) - 1) in half_checked_list(checked, found, fdr=q).chosen
        below = half_checked_list(checked, found, fdr=q * 0.999).chosen
        assert min(at, len(checked) - 1) not in below


@given(ENTRIES)
def test_results_of_unchecked_entries_are_ignored(entries):
    checked, found = (np.array(column) for column in zip(*entries, strict=True))
    one = half_checked_list(checked, found, fdr=0.4)
    other = half_checked_list(checked, np.where(checked, found, ~found), fdr=0.4)
    np.testing.assert_array_equal(one.chosen, other.chosen)


def ranking(rng, n_true=80, n_false=220):
    """Labels in the order of scores whose false ones are nothing like any control.

    Half of the false are as high as the true on average, in clumps of five of one score.
    """
    clumps = np.repeat(rng.normal(rng.choice([0.0, 2.0], n_false // 5), 1), 5)
    scores = np.concatenate([rng.normal(4, 1, n_true), clumps])
    return (np.arange(len(scores)) < n_true)[np.argsort(-scores, kind="stable")]


@pytest.mark.parametrize("fdr", [0.05, 0.2])
def test_at_a_rate_no_more_of_a_list_is_false_on_average(fdr):
    """200 rankings, 5 coins each; 4 standard errors of the means of rankings are let pass."""
    means, lengths = [], []
    for seed in range(200):
        is_true = ranking(np.random.default_rng(seed))
        shares = []
        for toss in range(5):
            checked = random_half(map(str, range(len(is_true))), seed=1000 * seed + toss)
            made = half_checked_list(checked, is_true, fdr=fdr)
            false = np.count_nonzero(~is_true[made.chosen])
            shares.append(false / max(1, len(made.chosen)))
            lengths.append(len(made.chosen))
        means.append(np.mean(shares))
    assert np.mean(means) <= fdr + 4 * np.std(means) / np.sqrt(200)
    assert np.mean(means) <= 1.2 * fdr
    assert np.mean(lengths) > 10  # the rate is not held by listing nothing


def test_the_estimate_of_false_entries_is_low_since_a_list_ends_where_few_were_missed():
    rng, false, estimated = np.random.default_rng(2), 0, 0.0
    for _ in range(400):
        scores = np.concatenate([rng.normal(2, 1, 30), rng.normal(0, 1, 270)])
        is_true = (np.arange(300) < 30)[np.argsort(-scores)]
        made = half_checked_list(rng.random(300) < 0.5, is_true, fdr=0.2)
        false += np.count_nonzero(~is_true[made.chosen])
        estimated += made.estimated_false
    assert 0 < estimated < false


def test_without_true_entries_a_list_is_seldom_made():
    tosses = [random_half(map(str, range(200)), seed=seed) for seed in range(400)]
    made = [len(half_checked_list(c, np.zeros(200, bool), fdr=0.1).chosen) > 0 for c in tosses]
    assert np.mean(made) <= 0.1


def test_random_halves_are_fair_and_depend_only_on_name_and_seed():
    names = [f"top-n-{i:06}" for i in range(4000)]
    tosses = random_half(names, seed=3)
    assert abs(tosses.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    np.testing.assert_array_equal(random_half(names[::-1], seed=3)[::-1], tosses)
    assert abs((random_half(names, seed=4) == tosses).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert abs((tosses[1:] == tosses[:-1]).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_invalid_input_is_refused():
    made = half_checked_list([0] * 19, [0] * 19, fdr=0.05)
    assert (made.withheld, len(made.chosen)) == (
        "needs 20 entries that are not checked, got 19",
        0,
    )
    assert half_checked_list([0] * 20, [0] * 20, fdr=0.05).withheld == ""
    with pytest.raises(ValueError, match=r"one value per entry; got shapes \(2,\) and \(1,\)"):
        half_checked_list([0, 1], [0])
    with pytest.raises(ValueError, match="fdr must lie between 0 and 1; got 0"):
        half_checked_list([0], [0], fdr=0)


def candidates(verdicts, strategy="s"):
    """One list, best first, whose rows are shuffled."""
    n = len(verdicts)
    frame = pd.DataFrame(
        {
            "sample_id": [f"{strategy}-{i:06}" for i in range(n)],
            "strategy": strategy,
            "zlib": np.arange(n, 0, -1.0),
            "rank:zlib": pd.array(range(1, n + 1), dtype="Int64"),
            "verdict": verdicts,
        }
    )
    return frame.sample(frac=1, random_state=0)


def test_each_list_is_made_of_its_own_ranking():
    """With the labels spelled out by hand for the coins that the samples have."""
    verdicts = ["verbatim"] * 60 + ["not found", "fuzzy"] * 20
    a, b = candidates(verdicts, "a"), candidates(verdicts[::-1], "b")
    frame = pd.concat([a, b])
    made = calibrate_by_checks(frame, fdr=0.1, seed=5)
    schema.check(made.table, schema.CALIBRATION)
    assert made.table["strategy"].tolist() == ["a", "b"]
    checked = random_half([f"a-{i:06}" for i in range(100)], seed=5)
    found = np.array([v == "verbatim" for v in verdicts])
    expected = spelled_out(checked.tolist(), found.tolist(), 0.1)
    row = made.table.iloc[0]
    assert (row["n_samples"], row["n_controls"]) == ((~checked).sum(), checked.sum())
    assert row["n_listed"] == len(expected) > 20
    assert row["n_listed_verbatim"] == found[expected].sum()
    assert row["estimated_false"] == 1 + np.sum(checked[: expected[-1]] & ~found[: expected[-1]])
    q = made.samples.set_index("sample_id")["q_value:zlib"]
    assert set(q.index[q <= 0.1]) == {f"a-{i:06}" for i in expected}
    # The second begins with 40 that were not found.
    assert made.table.iloc[1]["n_listed"] == 0


def test_lists_are_withheld_before_anything_was_looked_for():
    table = calibrate_by_checks(candidates(["not checked"] * 50), fdr=0.1).table
    assert table.loc[0, "withheld"] == "the training text was not searched"
    assert "withheld: the training text" in shown_calibration(table).loc[0, "Listed"]
    section = calibration_section(table)
    assert section.title == "Lists calibrated on verified candidates"
    assert "A random half of each shortlist is verified" in section.assumes[0]
    assert "q_value:SCORE" in section.sentences[1]


def test_the_interval_of_a_list_treats_candidates_of_one_passage_as_one():
    """Listed: n candidates of one passage, worth one: of none that is lost, 0 to 97.5 %."""
    frame = candidates(["verbatim"] * 60)
    unknown = calibrate_by_checks(frame, fdr=0.1).table
    n = int(unknown.loc[0, "n_listed"])
    assert n > 20
    assert np.isnan(unknown.loc[0, "n_listed_effective"])
    # Without the passages each counts: the high end h has (1 - h)^n = 0.025.
    assert (
        f"0.0 % (0.0–{100 * (1 - 0.025 ** (1 / n)):.1f})" in shown_calibration(unknown).iloc[0, -1]
    )
    assert "Clopper–Pearson" in calibration_section(unknown).assumes[-1]
    one = frame.assign(doc_id="d", doc_offset=0, match_n_chars=200)
    table = calibrate_by_checks(one, fdr=0.1).table
    assert (table.loc[0, "n_listed"], table.loc[0, "n_listed_effective"]) == (n, 1)
    assert shown_calibration(table).iloc[0, -1] == f"0 of {n}: 0.0 % (0.0–97.5)"
    assert "Korn–Graubard" in calibration_section(table).assumes[-1]
