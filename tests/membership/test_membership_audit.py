"""`auditor members`: from score files or texts to a verdict, a table and a folder."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from attacks.statistics.membership_test import evaluate
from attacks.statistics.roc import tpr_at_fpr
from auditor.cli.command import VERBS
from auditor.errors import ConfigError, CorpusError
from auditor.membership import audit_members
from auditor.membership.notes import notes_on_columns, notes_on_sides, notes_on_table
from auditor.membership.sides import Side, check_alike, scored_side
from auditor.membership.tables import score_table, shown_table
from tests.tiny import WORDS, command, save_tiny_model

VOCABULARY = WORDS.split() + [f"{word}s" for word in WORDS.split()]


@pytest.fixture(autouse=True)
def verb(monkeypatch):
    monkeypatch.setitem(VERBS, "members", ("auditor.cli.members", "Members and non-members."))


def frame(seed, n, shift, *, name, with_text=True, marker=""):
    """A score file: `loss` tells members apart by `shift`, `noise` does not."""
    rng = np.random.default_rng(seed)
    columns = {
        "doc_id": [f"{name}{i}" for i in range(n)],
        "nll": rng.normal(3, 1, n),
        "n_tokens": rng.integers(20, 40, n),
        "loss": rng.normal(shift, 1, n),
        "noise": rng.normal(0, 1, n),
    }
    if with_text:
        texts = [" ".join(rng.choice(VOCABULARY, rng.integers(20, 40))) for _ in range(n)]
        columns["text"] = [marker + text for text in texts]
    return pd.DataFrame(columns)


@pytest.fixture
def place(tmp_path):
    """in.parquet and out.parquet with texts; members score 1.5 higher."""
    write(tmp_path, frame(0, 60, 1.5, name="a"), frame(1, 80, 0.0, name="b"))
    return tmp_path


def write(folder, members, nonmembers):
    members.to_parquet(folder / "in.parquet")
    nonmembers.to_parquet(folder / "out.parquet")


def asked(folder, *more):
    return (
        *("members", "--members", folder / "in.parquet"),
        *("--nonmembers", folder / "out.parquet", *more),
    )


def found(folder, *more):
    ended = command(*asked(folder, *more, "--json"))
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def is_one_sentence(ended, code=1):
    lines = [line for line in ended.err.splitlines() if line]
    return (ended.code, ended.out, len(lines), "Traceback" in ended.err) == (code, "", 1, False)


# ------------------------------------------------------------------------------- score files
def test_the_verdict_is_first_and_the_table_has_every_score_and_baseline(place):
    ended = command(*asked(place))
    assert ended.code == 0, ended.err
    assert ended.out.startswith("The score loss (AUC 0.")
    assert "separates members from non-members" in ended.out.splitlines()[0]
    for name in ("loss", "noise", "bag of words", "character n-grams", "length"):
        assert f"│ {name}" in ended.out
    # What is no score is not compared by.
    assert "│ nll" not in ended.out
    assert "│ n_tokens" not in ended.out


def test_numbers_are_those_of_the_score_files(place):
    made = found(place)
    loss = next(row for row in made["scores"] if row["score"] == "loss")
    members, nonmembers = (pd.read_parquet(place / f"{n}.parquet")["loss"] for n in ("in", "out"))
    pairs = members.to_numpy()[:, None] - nonmembers.to_numpy()[None, :]
    assert loss["auc"] == pytest.approx((pairs > 0).mean())
    assert (loss["n_members"], loss["n_nonmembers"]) == (60, 80)
    assert loss["tpr_at_0.01"] is None
    assert loss["tpr_at_0.01_withheld"] == "needs 1,000 non-members, got 80"
    assert made["verdict"]["kind"] == "claim"
    assert made["correction"].startswith("Holm")


def test_a_split_that_shows_without_the_model_claims_nothing(tmp_path):
    write(
        tmp_path,
        frame(0, 60, 0.8, name="a", marker="breaking news "),
        frame(1, 80, 0.0, name="b", marker="once upon a time "),
    )
    made = found(tmp_path)
    assert (made["verdict"]["kind"], made["verdict"]["guard_fires"]) == ("confounded", True)
    ended = command(*asked(tmp_path))
    assert "separates the sets without the model" in ended.out.splitlines()[0]


def test_without_texts_nothing_is_claimed(tmp_path):
    write(
        tmp_path,
        frame(0, 60, 3.0, name="a", with_text=False),
        frame(1, 80, 0.0, name="b", with_text=False),
    )
    assert found(tmp_path)["verdict"]["kind"] == "unchecked"


def test_texts_are_joined_to_scores_by_their_ids(tmp_path):
    sides = frame(0, 60, 1.5, name="a"), frame(1, 80, 0.0, name="b")
    flags = []
    for side, name, flag in zip(sides, ("in", "out"), ("member", "nonmember"), strict=True):
        shuffled = side.sample(frac=1, random_state=0)
        rows = shuffled.rename(columns={"doc_id": "id"})[["id", "text"]]
        rows.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
        flags += [f"--{flag}-texts", tmp_path / f"{name}.jsonl"]
    write(tmp_path, *sides)
    expected = found(tmp_path)
    write(tmp_path, *(side.drop(columns="text") for side in sides))
    joined = found(tmp_path, *flags)
    assert joined["scores"] == expected["scores"]
    ended = command(*asked(tmp_path, "--member-texts", tmp_path / "out.jsonl"))
    assert is_one_sentence(ended)
    assert "got 60 of 60 that are not, 'a0' first" in ended.err


def test_csv_and_parquet_are_equal(place):
    for name in ("in", "out"):
        pd.read_parquet(place / f"{name}.parquet").to_csv(place / f"{name}.csv", index=False)
    by_csv = audit_members([place / "in.csv"], [place / "out.csv"])
    by_parquet = audit_members([place / "in.parquet"], [place / "out.parquet"])
    pd.testing.assert_frame_equal(by_csv.table, by_parquet.table)


def test_same_seed_same_result(place):
    assert found(place) == found(place)


def test_undefined_scores_are_counted_and_named(place):
    side = pd.read_parquet(place / "in.parquet")
    side.loc[:4, "loss"] = np.nan
    side.to_parquet(place / "in.parquet")
    ended = command(*asked(place))
    assert "loss is undefined for 5 of 60 members and 0 of 80 non-members" in ended.err


def test_a_score_without_variety_is_left_out_with_its_reason(place):
    for name in ("in", "out"):
        side = pd.read_parquet(place / f"{name}.parquet").assign(flat=1.0)
        side.to_parquet(place / f"{name}.parquet")
    ended = command(*asked(place))
    assert ended.code == 0
    assert "flat is left out: scores must not all be equal" in ended.err
    assert "withheld" in ended.out
    assert "nan" not in ended.out
    ended = command(*asked(place, "--score", "flat"))
    assert is_one_sentence(ended)
    assert "flat: scores must not all be equal; got 1 for every text" in ended.err


# ---------------------------------------------------------------------- texts on both sides
def test_a_text_on_both_sides_is_refused_or_left_out_of_both(place):
    members, nonmembers = (pd.read_parquet(place / f"{n}.parquet") for n in ("in", "out"))
    nonmembers.loc[:2, "text"] = members.loc[:2, "text"] + "\n"
    write(place, members, nonmembers)
    ended = command(*asked(place))
    assert is_one_sentence(ended)
    assert "got 3 of 60 members among the non-members" in ended.err
    made = found(place, "--drop-shared")
    assert next((r["n_members"], r["n_nonmembers"]) for r in made["scores"]) == (57, 77)
    assert any(
        note.startswith("3 texts that are both members and non-members") for note in made["notes"]
    )


def test_the_same_file_on_both_sides_is_refused_without_texts_too(tmp_path):
    side = frame(0, 20, 1.0, name="a", with_text=False)
    write(tmp_path, side, side)
    ended = command(*asked(tmp_path))
    assert is_one_sentence(ended)
    assert "got 20 of 20 members among the non-members" in ended.err


def test_repeated_texts_are_reported(place):
    side = pd.read_parquet(place / "in.parquet")
    side.loc[1:3, "text"] = side.loc[0, "text"]
    side.to_parquet(place / "in.parquet")
    assert "3 of 60 members repeat another text" in command(*asked(place)).err


# -------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (("--score", "typo"), 2, "--score must name columns of numbers that both sides have"),
        (("--list-by", "typo"), 2, "--list-by must be one of the scores compared (loss, noise)"),
        (("--fdr", "5"), 2, "--fdr must be below 1; got 5.0"),
        (("--reference", "gpt2"), 2, "--model must be given to score texts with references"),
        (("--device", "cpu"), 2, "--model must be given to score texts with device"),
        (("--member-texts", "nowhere.jsonl"), 1, "nowhere.jsonl"),
        (("--model", "x", "--member-texts", "t"), 2, "the texts of score files; got them with"),
    ],
)
def test_contradictory_options_are_one_line_errors(place, more, code, told):
    ended = command(*asked(place, *more))
    assert is_one_sentence(ended, code), ended.err
    assert told in ended.err


def test_files_without_scores_are_one_line_errors(place):
    (place / "bad.parquet").write_bytes(b"no table")
    (place / "empty.csv").write_text("")
    (place / "texts.jsonl").write_text('{"text": "a"}\n')
    for name, told in (
        ("bad.parquet", "is no table of scores"),
        ("empty.csv", "is no table of scores"),
        ("nowhere.csv", "cannot be read (No such file or directory)"),
        ("texts.jsonl", "must be scores, a file that ends in .parquet or .csv"),
    ):
        ended = command("members", "--members", place / name, "--nonmembers", place / "out.parquet")
        assert is_one_sentence(ended, 2 if name == "texts.jsonl" else 1), ended.err
        assert told in ended.err


def test_too_few_of_a_class_is_a_one_line_error(tmp_path):
    write(tmp_path, frame(0, 1, 1.0, name="a"), frame(1, 30, 0.0, name="b"))
    ended = command(*asked(tmp_path))
    assert is_one_sentence(ended), ended.err
    assert "members must have 2 or more defined scores; got 1" in ended.err


# ------------------------------------------------------------------------------- the folder
def test_the_folder_contains_the_tables_and_the_options(place):
    out = place / "made"
    assert command(*asked(place, "--out", out)).code == 0
    table, listed = (pd.read_parquet(out / f"{n}.parquet") for n in ("members", "listed"))
    assert set(table["kind"]) == {"attack", "blind"}
    assert len(pd.read_csv(out / "members.csv")) == len(table)
    manifest = json.loads((out / "members.json").read_text())
    assert manifest["list"]["n_listed"] == len(listed)
    assert manifest["asked"]["seed"] == 0
    assert (out / "members.json").stat().st_mode & 0o077 == 0


def test_the_page_holds_the_verdict_the_table_and_no_request(place):
    assert command(*asked(place, "--out", place / "made")).code == 0
    page = (place / "made" / "members.html").read_text()
    verdict = json.loads((place / "made" / "members.json").read_text())["verdict"]
    assert verdict["sentence"] in page
    assert "bag of words" in page
    assert "TPR at 1 % FPR is withheld: needs 1,000 non-members, got 80." in page


def test_a_folder_is_not_overwritten_by_default(place):
    out = place / "made"
    assert command(*asked(place, "--out", out)).code == 0
    again = command(*asked(place, "--out", out))
    assert is_one_sentence(again)
    assert "Add --overwrite" in again.err
    assert command(*asked(place, "--out", out, "--overwrite")).code == 0
    other = command(*asked(place, "--out", place))
    assert is_one_sentence(other)
    assert "is not a membership result" in other.err


@pytest.mark.parametrize("reveal", [False, True])
def test_personal_data_in_ids_is_masked_in_csv_and_page_unless_revealed(tmp_path, reveal):
    members = frame(0, 60, 5.0, name="a")
    members["doc_id"] = [f"mail{i} jane{i}@example.org" for i in range(60)]
    write(tmp_path, members, frame(1, 80, 0.0, name="b"))
    out = tmp_path / "out"
    result = command(*asked(tmp_path, "--out", out, *(["--reveal"] if reveal else [])))
    assert result.code == 0, result.err
    for name in ("listed.csv", "members.html"):
        text = (out / name).read_text("utf-8")
        assert ("@example.org" in text) == reveal
        assert ("j•••@•••.org" in text) != reveal
    page = (out / "members.html").read_text("utf-8")
    assert ("Sensitive: this page shows personal data." in page) == reveal
    assert ("keep them confidential" in result.err) == reveal
    assert json.loads((out / "members.json").read_text("utf-8"))["revealed"] is reveal
    # As of an audit and a comparison, the Parquet files are the raw record.
    assert pd.read_parquet(out / "listed.parquet")["doc_id"].str.contains("@example.org").all()


def test_listed_texts_are_members_by_falling_score(tmp_path):
    write(tmp_path, frame(0, 60, 6.0, name="a"), frame(1, 80, 0.0, name="b"))
    made = audit_members([tmp_path / "in.parquet"], [tmp_path / "out.parquet"])
    assert len(made.listed) >= 50
    assert made.listed["doc_id"].str.startswith("a").all()
    assert made.listed["score"].is_monotonic_decreasing


# ---------------------------------------------------------------------------- with a model
def test_texts_are_scored_under_the_model_and_compared(tmp_path):
    save_tiny_model(tmp_path / "model")
    for seed, name in enumerate(("in", "out")):
        rows = frame(seed, 12, 0.0, name=name)[["text"]]
        rows.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    ended = command(
        *("members", "--members", tmp_path / "in.jsonl", "--nonmembers", tmp_path / "out.jsonl"),
        *("--model", tmp_path / "model", "--out", tmp_path / "made"),
    )
    assert ended.code == 0, ended.err
    table = pd.read_parquet(tmp_path / "made" / "members.parquet")
    attacks = set(table.loc[table["kind"] == "attack", "score"])
    assert {"zlib", "min_k"} <= {name.partition(":")[0] for name in attacks}
    assert {"bag of words", "length"} <= set(table.loc[table["kind"] == "blind", "score"])
    manifest = json.loads((tmp_path / "made" / "members.json").read_text())
    assert len(manifest["members"]["model"]["sha256"]) == 64


def test_a_corpus_that_changes_while_it_is_read_is_refused(monkeypatch):
    made = frame(0, 3, 0, name="")
    monkeypatch.setattr("auditor.scoring.score_texts.score_texts", lambda *_, **__: made)
    with pytest.raises(CorpusError, match="changed while it was read: 2 texts, then 3"):
        scored_side(["in.jsonl"], ["a", "b"], text_field=None, model="x")


def test_notes_say_why_a_score_is_undefined_and_what_was_cut():
    """Of what made the scores; two reasons, each once."""
    frame = pd.DataFrame({"recall": [1.0, np.nan], "doc_id": ["a", "b"]})
    why = {"undefined": {"recall": {"text has no scored token": 1}}}
    members = Side(frame, None, {**why, "nonmember_prefix": {"texts_cut": 2}})
    nonmembers = Side(frame, None, {**why, "nonmember_prefix": {"texts_cut": 1}})
    (cut,) = notes_on_sides(members, nonmembers, 0, [])
    assert cut.startswith("2 members and 1 non-members do not fit into the context")
    column = frame["recall"].to_numpy()
    (undefined,) = notes_on_columns({"recall": (column, column)}, members, nonmembers)
    assert "1 of 2 members and 1 of 2 non-members (text has no scored token): left" in undefined


def test_a_tpr_that_is_withheld_has_its_reason_once():
    table = pd.DataFrame(
        {
            "score": ["loss", "zlib", "surp", "flat"],
            "withheld": ["", "", "", "all equal"],
            "tpr_at_0.01_threshold": np.nan,
            "tpr_at_0.01_withheld": ["got 80", "got 80", "got 79", "all equal"],
            "tpr_at_0.1_threshold": 1.0,
            "tpr_at_0.1_withheld": ["", "", "", "all equal"],
        }
    )
    assert notes_on_table(table) == ["TPR at 1 % FPR is withheld: got 80; of surp: got 79."]


def test_a_tpr_is_shown_with_its_own_interval_and_that_of_the_fpr_reached():
    rng = np.random.default_rng(0)
    sides = rng.normal(1, 1, 50), rng.normal(0, 1, 120)
    table = score_table(evaluate({"loss": sides}), {}, {})
    few, none, _ = tpr_at_fpr(*sides)
    row = table.iloc[0]
    assert row["tpr_at_0.1_fpr"] == few.fpr.value == 12 / 120
    assert (row["tpr_at_0.1_fpr_low"], row["tpr_at_0.1_fpr_high"]) == (few.fpr.low, few.fpr.high)
    assert (row["tpr_at_0.1_low"], row["tpr_at_0.1_high"]) == (few.tpr.low, few.tpr.high)
    cells = shown_table(table).iloc[0]
    low, high = 100 * few.tpr.low, 100 * few.tpr.high
    # Clopper and Pearson's interval of 12 in 120: 5.3 to 16.8 %.
    expected = f"{100 * few.tpr.value:.1f} % ({low:.1f}–{high:.1f}; FPR 5.3–17 %)"
    assert cells["TPR at 10 % FPR"] == expected
    assert (none.tpr, cells["TPR at 1 % FPR"]) == (None, "withheld")


def test_incomparable_inputs_are_reported_before_a_model_is_loaded(place):
    """The model does not exist: an error about it would mean that it was asked for first."""
    lines = [json.dumps({"id": str(i), "text": f"text number {i}"}) for i in range(6)]
    for name, own in (("a", lines[:3]), ("b", lines[2:]), ("c", lines[3:]), ("one", lines[:1])):
        (place / f"{name}.jsonl").write_text("\n".join(own))

    def ended(members, nonmembers, *more):
        sides = ("--members", place / members, "--nonmembers", place / nonmembers)
        return command("members", *sides, "--model", place / "nowhere", *more)

    assert "got 1 of 3 members among the non-members" in ended("a.jsonl", "b.jsonl").err
    assert "nowhere: no such file" in ended("a.jsonl", "b.jsonl", "--drop-shared").err
    assert "--members must hold 2 texts or more; got 1" in ended("one.jsonl", "c.jsonl").err
    pd.read_parquet(place / "out.parquet").drop(columns="text").to_csv(place / "out.csv")
    assert "--nonmembers with --model must be texts" in ended("a.jsonl", "out.csv").err
    wrong = ended("a.jsonl", "c.jsonl", "--reference", "small=x", "--score", "reference:big")
    assert "reference:small, reference_difference:small" in wrong.err
    assert "got reference:big" in wrong.err
    assert "--list-by must be a score" in ended("a.jsonl", "c.jsonl", "--list-by", "los").err
    lacking = ended("a.jsonl", "c.jsonl", "--score", "recall").err
    assert "--score recall needs --nonmember-prefix; got none" in lacking
    for name in ("loss", "nll", "reference:small"):
        made = ended("a.jsonl", "c.jsonl", "--reference", "small=x", "--score", name)
        assert "nowhere: no such file" in made.err


def test_sides_scored_by_different_models_are_refused():
    frame = pd.DataFrame({"loss": [1.0, 2.0]})
    made = {"model": {"spec": "a", "sha256": "1" * 64, "dtype": "float32"}}
    check_alike(Side(frame, None, made), Side(frame, None, made))
    check_alike(Side(frame, None, made), Side(frame, None, {}))  # a table that does not say
    moved = {"model": {**made["model"], "spec": "copy/of/a"}}
    check_alike(Side(frame, None, made), Side(frame, None, moved))
    other = {"model": {**made["model"], "sha256": "2" * 64}}
    with pytest.raises(ConfigError, match="must be scored alike; their model differ: 1111"):
        check_alike(Side(frame, None, made), Side(frame, None, other))
    cut = {**made, "nonmember_prefix": {"tokens": 9, "texts_cut": 1}}
    check_alike(Side(frame, None, cut), Side(frame, None, {**cut, "undefined": {"loss": {}}}))
    with pytest.raises(ConfigError, match="their nonmember prefix differ: 9 and None"):
        check_alike(Side(frame, None, cut), Side(frame, None, made))


def test_a_seed_below_0_and_texts_of_one_side_are_reported(place):
    assert "--seed must be at least 0; got -1" in command(*asked(place, "--seed", "-1")).err
    side = pd.read_parquet(place / "out.parquet").drop(columns="text")
    side.to_parquet(place / "out.parquet")
    assert "only one side has texts. Add --nonmember-texts" in command(*asked(place)).err
