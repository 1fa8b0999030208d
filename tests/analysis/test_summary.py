"""The short list, precision, headline, known truth, CSV: worked out by hand."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from attacks.statistics.intervals import clopper_pearson
from reports.analysis.schema import KNOWN_TRUTH, SUMMARY, check
from reports.analysis.shortlist import select_candidates
from reports.analysis.summary import (
    by_repeats,
    list_intervals,
    shown_truth,
    summarize,
    table2,
    truth_caption,
)
from reports.csv_files import write_csv
from reports.pages.sentences import headline, known_truth, not_claimed
from reports.safe_text import restore

HOSTILE = ["=cmd()", "+1", "-1", "@x", "\ttab", "a\nb", "\x1b[31m", "\x00", "\ud800", "\u202e"]
HOSTILE += ['quote " and , comma', "back\\slash", "'quoted", "</script>", ""]


@pytest.fixture
def scores():
    """Two strategies; in "a", samples 1 and 3 have the same text and zlib ties 0 with 2."""
    return pd.DataFrame(
        {
            "sample_id": ["a-3", "a-0", "a-1", "a-2", "b-0"],
            "strategy": ["a", "a", "a", "a", "b"],
            "nll": 1.0,
            "likelihood": [-2.0, np.nan, -1.0, -3.0, -1.0],
            "zlib": [1.0, 5.0, 2.0, 5.0, np.nan],
        }
    )


TEXTS = {"a-0": "one two three", "a-1": "x y z w", "a-2": "four five six", "a-3": "x y z w",
         "b-0": "x y z w"}  # fmt: skip


def chosen(shortlist, strategy, score):
    rows = shortlist.chosen.query("strategy == @strategy and score == @score")
    assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
    return rows["sample_id"].tolist()


def test_lists_follow_score_then_id_and_skip_undefined_and_repeats(scores):
    shortlist = select_candidates(scores, TEXTS, top=10)
    assert chosen(shortlist, "a", "zlib") == ["a-0", "a-2", "a-1"]
    assert chosen(shortlist, "a", "likelihood") == ["a-1", "a-2"]
    assert chosen(shortlist, "b", "likelihood") == ["b-0"]
    assert chosen(shortlist, "b", "zlib") == []
    counts = shortlist.counts.set_index(["strategy", "score"])
    assert counts.loc[("a", "likelihood")].tolist() == [4, 1, 2, 1]
    assert counts.loc[("a", "zlib")].tolist() == [4, 0, 3, 1]
    assert counts.loc[("b", "zlib")].tolist() == [1, 1, 0, 0]


def test_the_control_holds_every_text_once(scores):
    shortlist = select_candidates(scores, TEXTS, top=10)
    control = chosen(shortlist, "a", "random")
    assert {"a-0", "a-2"} < set(control)
    assert len(control) == 3


def test_a_seed_and_nothing_else_decides_the_control():
    frame = pd.DataFrame({"sample_id": [f"s-{i:03}" for i in range(200)], "strategy": "s"})
    texts = {sample_id: f"all of {sample_id} its own" for sample_id in frame["sample_id"]}
    first = select_candidates(frame, texts, top=20, seed=1).chosen
    shuffled = frame.sample(frac=1, random_state=0)
    more = pd.concat([shuffled, pd.DataFrame({"sample_id": ["r-0"], "strategy": "r"})])
    again = select_candidates(more, texts | {"r-0": "else"}, top=20, seed=1).chosen
    assert again.query("strategy == 's'")["sample_id"].tolist() == first["sample_id"].tolist()
    other = select_candidates(frame, texts, top=20, seed=2).chosen
    assert other["sample_id"].tolist() != first["sample_id"].tolist()


@pytest.mark.parametrize("kind", [dict, pd.Series, "callable"])
def test_texts_may_come_in_three_ways(scores, kind):
    asked = (lambda ids: [TEXTS[i] for i in ids]) if kind == "callable" else kind(TEXTS)
    expected = select_candidates(scores, TEXTS, top=2).chosen
    pd.testing.assert_frame_equal(select_candidates(scores, asked, top=2).chosen, expected)


def test_texts_that_no_list_reaches_are_not_read():
    n, asked = 1000, set()
    frame = pd.DataFrame({"sample_id": [f"s-{i:04}" for i in range(n)], "strategy": "s"})
    frame["zlib"] = np.arange(n, dtype=float)

    def texts(ids):
        asked.update(ids)
        return [f"{i} alone has this" for i in ids]

    select_candidates(frame, texts, top=5)
    assert 5 <= len(asked) <= 100


def test_looking_further_down_finds_what_a_full_walk_finds():
    frame = pd.DataFrame({"sample_id": [f"s-{i:04}" for i in range(300)], "strategy": "s"})
    frame["zlib"] = -np.arange(300, dtype=float)
    # 250 copies come first: the list can fill only far below where it looks at first.
    texts = {s: "same old song" if i < 250 else f"text number {i}" for i, s in enumerate(
        frame["sample_id"])}  # fmt: skip
    shortlist = select_candidates(frame, texts, top=4)
    assert chosen(shortlist, "s", "zlib") == ["s-0000", "s-0250", "s-0251", "s-0252"]
    counts = shortlist.counts.set_index("score")
    assert counts.loc["zlib", "n_duplicates_skipped"] == 249


def test_a_list_needs_a_length(scores):
    with pytest.raises(ValueError, match="top must be at least 1; got 0"):
        select_candidates(scores, TEXTS, top=0)


@pytest.fixture
def candidates():
    """Three candidates on the zlib list (one verbatim, one fuzzy), one of the control alone."""
    return pd.DataFrame(
        {
            "sample_id": ["s-0", "s-1", "s-2", "s-3"],
            "strategy": "s",
            "text": ["secret 1234 out", "near", "far", "drawn"],
            "rank:zlib": pd.array([1, 2, 3, None], dtype="Int64"),
            "rank:random": pd.array([None, 2, None, 1], dtype="Int64"),
            "best_rank": pd.array([1, 2, 3, None], dtype="Int64"),
            "verdict": ["verbatim", "fuzzy", "not found", "verbatim"],
            "match_n_tokens": pd.array([60, None, None, 40], dtype="Int64"),
            "n_documents": pd.array([1, None, None, 3], dtype="Int64"),
            "match_n_chars": pd.array([200, None, None, 150], dtype="Int64"),
            "doc_offset": pd.array([0, None, None, 10], dtype="Int64"),
            "doc_id": ["d-1.02", None, None, "d-2"],
        }
    )


COUNTS = pd.DataFrame(
    {"strategy": "s", "score": ["zlib", "random"], "n_samples": 9, "n_undefined": 0,
     "n_chosen": [3, 2], "n_duplicates_skipped": [1, 0]}
)  # fmt: skip


def test_precision_is_verbatim_of_chosen(candidates):
    summary = summarize(candidates, COUNTS)
    check(summary, SUMMARY)
    zlib, control = summary.to_dict("records")
    assert (zlib["n_verbatim"], zlib["n_fuzzy"], zlib["precision"]) == (1, 1, 1 / 3)
    assert (control["n_verbatim"], control["precision"]) == (1, 0.5)
    low, high = clopper_pearson(1, 3)
    assert (zlib["precision_low"], zlib["precision_high"]) == (float(low), float(high))
    # By the definition of the interval: at its lower end, P(1 or more of 3) = 2.5 %.
    assert 1 - (1 - zlib["precision_low"]) ** 3 == pytest.approx(0.025)
    assert summary["longest_match_tokens"].tolist() == [60, 40]
    assert summary["n_distinct_documents"].tolist() == [1, 1]


def test_lists_say_how_many_of_theirs_hold_personal_data_and_of_which_kind(candidates):
    """The fourth stands on the control's list alone; the second on both."""
    looked = candidates.assign(
        n_personal=[3, 1, 0, 2], **{"personal:e-mail": [2, 1, 0, 0], "personal:IBAN": [1, 0, 0, 2]}
    )
    summary = summarize(looked, COUNTS).set_index("score")
    check(summary.reset_index(), SUMMARY)
    assert summary["n_with_personal"].to_dict() == {"zlib": 2, "random": 2}
    assert summary["with_personal:e-mail"].to_dict() == {"zlib": 2, "random": 1}
    assert summary["with_personal:IBAN"].to_dict() == {"zlib": 1, "random": 1}
    assert not any("personal" in name for name in summarize(candidates, COUNTS).columns)


def test_precision_is_undefined_where_nothing_was_checked(candidates):
    summary = summarize(candidates.assign(verdict="not checked"), COUNTS)
    assert summary[["precision", "precision_low", "precision_high"]].isna().all(axis=None)
    assert table2(summary).loc["zlib", "s"] == "3 chosen, not checked"


def test_an_empty_list_has_no_precision(candidates):
    summary = summarize(candidates.iloc[:0], COUNTS.assign(n_chosen=0))
    assert summary["precision"].isna().all()
    assert set(table2(summary)["s"]) == {"none chosen"}


def test_table2_has_scores_down_strategies_across_and_the_control_last(candidates):
    more = pd.concat([COUNTS.iloc[::-1], COUNTS.iloc[:1].assign(strategy="t")])
    table = table2(summarize(candidates, more))
    assert (list(table.index), list(table.columns)) == (["zlib", "random"], ["s", "t"])
    assert table.loc["zlib", "s"].startswith("1 of 3, 33.3 % (")
    assert table.loc["random", "t"] == "–"


@pytest.mark.parametrize("missing", ["doc_offset", "match_n_chars"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_where_places_are_not_known_no_passages_are_counted(candidates, missing, is_gone):
    """A run of before: repeats of a passage count, and the sentence says so.

    Two of two, 1/40 in each tail: the low end is 0.025 ** (1 / 2) = 0.158.
    """
    two = candidates[candidates["verdict"] == "verbatim"].assign(best_rank=[1, 2])
    two["rank:zlib"] = pd.array([1, 2], dtype="Int64")
    old = two.drop(columns=missing) if is_gone else two.assign(**{missing: pd.NA})
    counts = COUNTS.iloc[:1].assign(n_chosen=2)
    summary = summarize(old, counts)
    check(summary, SUMMARY)
    [row] = summary.to_dict("records")
    assert pd.isna(row["n_passages"])
    assert np.isnan(row["n_effective"])
    assert row["precision_low"] == pytest.approx(0.025**0.5)
    told = headline(old, summary)
    assert told[0] == (
        "Of 2 candidates checked against the training text, 2 are verbatim (100.0 %, 95 % "
        "interval 15.8–100.0, Clopper–Pearson, which treats repeats of a passage as independent)."
    )
    share = "2 of 2 verbatim (95 % Clopper–Pearson interval: 16–100 %)"
    assert any(share in sentence for sentence in told)
    assert list_intervals(summary).startswith("95 % intervals: Clopper–Pearson, which treats")
    assert list_intervals(summarize(two, counts)).startswith("95 % intervals: Korn–Graubard")
    unchecked = summarize(two.assign(verdict="not checked"), counts)
    assert list_intervals(unchecked).startswith("95 % intervals: Korn–Graubard")


def test_headline_counts_the_lists_without_the_control(candidates):
    sentences = headline(
        candidates, summarize(candidates, COUNTS), corpus_bytes=12_345_678, n_documents=1204
    )
    assert sentences[0].startswith(
        "Of 3 candidates checked against 12.3 MB of text in 1,204 documents, 1 is verbatim: "
        "1 passage from 1 document (33.3 %, 95 % interval 0.8–90.6, Korn–Graubard, "
        "with candidates of one passage"
    )
    assert "1 more resembles a passage of the training text without matching verbatim." in sentences
    assert sentences[3] == (
        "1 of the 1 verbatim candidate occurs in at most 3 training documents, 1 of them in only "
        "one."
    )
    assert any("in a random draw, 1 of 2" in sentence for sentence in sentences)


def test_the_interval_of_the_most_precise_list_knows_that_it_was_picked(candidates):
    """3 of 3, the best of two lists: 0.0125 ** (1 / 3) = 0.232; alone 0.025 ** (1 / 3) = 0.292."""
    candidates["rank:window"] = candidates["rank:zlib"]
    counts = pd.concat([COUNTS, COUNTS.iloc[:1].assign(score="window")])
    summary = summarize(candidates.assign(verdict="verbatim"), counts)
    summary.loc[summary["score"] == "window", ["n_verbatim", "precision"]] = [0, 0.0]
    [picked] = [s for s in headline(candidates, summary) if "most precise" in s]
    assert picked.startswith(
        "The most precise list is zlib on s: 3 of 3 verbatim (95 % Clopper–Pearson interval, "
        "adjusted for being the best of 2 lists: 23–100 %); in a random draw, 2 of 2 ("
    )
    [alone] = [s for s in headline(candidates, summary.iloc[:2]) if "most precise" in s]
    assert "3 of 3 verbatim (95 % Clopper–Pearson interval: 29–100 %)" in alone


def test_headline_claims_nothing_without_training_text(candidates):
    unchecked = candidates.assign(verdict="not checked")
    sentences = headline(unchecked, summarize(unchecked, COUNTS))
    assert sentences[-1] == "No training text was given, so nothing is claimed to be memorized."
    assert not any("verbatim" in sentence for sentence in sentences)
    assert any("no evidence" in sentence for sentence in not_claimed(unchecked))


def test_headline_says_what_was_not_checked(candidates):
    candidates.loc[2, "verdict"] = "not checked"
    sentences = headline(candidates, summarize(candidates, COUNTS))
    assert sentences[0].startswith("Of 2 candidates checked against the training text, ")
    assert "1 candidate was not checked." in sentences


def test_headline_of_nothing_found_gives_the_interval_all_the_same(candidates):
    nothing = candidates.assign(verdict="not found")
    sentences = headline(nothing, summarize(nothing, COUNTS), corpus_bytes=999)
    # 1 - 0.025 ** (1 / 3) = 0.708
    expected = (
        "Of 3 candidates checked against 999 bytes of text, none is verbatim "
        "(0.0 %, 95 % interval 0.0–70.8, Korn–Graubard, with candidates of one passage as one "
        "cluster)."
    )
    assert sentences == [expected]


def test_headline_of_no_candidates(candidates):
    none = candidates.iloc[:0]
    assert headline(none, summarize(none, COUNTS.assign(n_chosen=0))) == [
        "No candidate was chosen: no sample has a score."
    ]


def test_known_truth_of_one_document_and_one_canary_is_told_in_the_singular():
    table = pd.DataFrame(
        {"kind": ["text", "canary"], "repeats": 1, "n_documents": 1, "n_extracted": 1,
         "n_by_candidates": 0, "n_samples": 1}
    )  # fmt: skip
    (said,) = known_truth(table)
    assert said == (
        "Known truth, checked in all 1 sample: of 1 document that occurs once in the training "
        "text, 1 was extracted (0 by the candidates alone); of 1 canary that occurs once, 1 was "
        "extracted by its secret (0 by the candidates alone)."
    )


@pytest.fixture
def truth():
    return pd.DataFrame(
        {
            "doc_id": ["d-1", "d-2", "d-2.1", "d-9"],
            "member": [True, True, True, False],
            "repeats": [8, 8, 8, 8],
            "kind": ["canary", "text", "text", "text"],
            "secret": ["1234", None, None, None],
        }
    )


def test_by_repeats_counts_what_came_out_of_all_samples_and_of_candidates(truth):
    """Held-out documents have no repeats, whatever the truth says of d-9."""
    known = truth.assign(
        extracted=[True, True, False, True], by_candidates=[False, True, False, False]
    )
    table = by_repeats(known, 9)
    check(table, KNOWN_TRUTH)
    got = table.set_index(["kind", "repeats"])
    counts = got[["n_documents", "n_extracted", "n_by_candidates"]]
    assert counts.loc[("canary", 8)].tolist() == [1, 1, 0]
    assert counts.loc[("text", 8)].tolist() == [2, 1, 1]
    assert counts.loc[("text", 0)].tolist() == [1, 1, 0]
    assert got.loc[("text", 8), ["share", "low", "high"]].tolist() == [
        0.5,
        *map(float, clopper_pearson(1, 2)),
    ]
    assert shown_truth(table).iloc[-1].tolist()[2:] == ["1 of 2", "50.0 % (1.3–98.7)", "1 of 2"]
    assert "by any of 9 samples" in truth_caption(table)


def written(frame):
    buffer = io.StringIO()
    write_csv(frame, buffer)
    return buffer.getvalue()


def test_csv_gives_hostile_texts_back_one_line_each():
    frame = pd.DataFrame({"text": pd.Series(HOSTILE, dtype=object), "n": range(len(HOSTILE))})
    text = written(frame)
    assert len(text.splitlines()) == 1 + len(HOSTILE)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [restore(row["text"].removeprefix("'")) for row in rows] == HOSTILE
    assert not any(row["text"].startswith(("=", "+", "-", "@", "\t")) for row in rows)


def test_csv_gives_numbers_back_to_the_bit():
    values = [0.1, 1 / 3, 1e-300, -2.5, np.inf, np.nan]
    frame = pd.DataFrame({"x": values, "n": pd.array([1, None, -3, 4, 5, 6], dtype="Int64")})
    rows = list(csv.DictReader(io.StringIO(written(frame))))
    assert [float(row["x"]) for row in rows[:-1]] == values[:-1]
    assert [row["n"] for row in rows] == ["1", "", "-3", "4", "5", "6"]
    assert rows[-1]["x"] == ""  # undefined is an empty cell


def test_csv_leaves_lists_out():
    frame = pd.DataFrame({"a": [1, 2], "tokens": [None, [1, 2]], "array": [np.arange(2)] * 2})
    assert written(frame) == "a\n1\n2\n"


def test_csv_file_is_the_same_bytes_anywhere(tmp_path):
    frame = pd.DataFrame({"text": ["naïve", None], "strategy": ["top-n", "-x"]})
    write_csv(frame, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == "text,strategy\nnaïve,top-n\n,'-x\n".encode()
