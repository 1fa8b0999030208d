"""Which documents and canaries count as extracted, on an audit whose memorization is known."""

from types import SimpleNamespace

import pandas as pd
import pytest

from auditor.audit.ground_truth import (
    _overlapping,
    _pieces,
    _revealed_secrets,
    read_or_make,
    truth_table,
)
from auditor.audit.pipeline import report_again
from auditor.cli.show import summary_json
from auditor.config.audit import changed
from auditor.corpus.text_files import Document
from auditor.errors import ConfigError
from auditor.matching.queries import Query
from auditor.models.loading import load_vocabulary
from auditor.runs.run import Run, load_run
from auditor.runs.writer import RunWriter
from reports.analysis import schema
from tests.audits import copied, long_spans


def known_truth(run, truth, path):
    """The table of known truth of a run, had it been given this truth."""
    truth.to_parquet(path)
    manifest = run.manifest.model_copy(update={"config": changed(run.config, {"truth": str(path)})})
    vocabulary = load_vocabulary(run.config.model)
    table = truth_table(Run(run.path, manifest), run.candidates(), vocabulary)
    assert (table["n_samples"] == len(run.samples())).all()
    return table.set_index(["kind", "repeats"])[["n_documents", "n_extracted", "n_by_candidates"]]


def test_often_repeated_documents_are_extracted_and_heldout_ones_never(run, bed, tmp_path):
    table = known_truth(run, bed.truth(), tmp_path / "truth.parquet")
    most, heldout = table.loc[("text", 16)], table.loc[("text", 0)]
    assert most["n_extracted"] == most["n_documents"] > 1
    assert (heldout["n_documents"], heldout["n_extracted"]) == (48, 0)


def test_heldout_documents_are_searched_by_the_same_rule_as_members(run, bed, tmp_path):
    """Model output that is not in the training text, entered as held out: all found.

    They stand in no training text, so only a search of their own can find them.
    """
    found = run.candidates()
    own = found[(found["verdict"] == "not found") & (found["n_chars"] > 150)].head(3)
    texts = [text[20:140] for text in own["text"]]
    planted = pd.DataFrame({"doc_id": [f"unseen-{i}" for i in range(3)], "text": texts})
    planted = planted.assign(member=False, repeats=0, kind="text", secret=None)
    table = known_truth(run, pd.concat([bed.truth(), planted]), tmp_path / "truth.parquet")
    assert table.loc[("text", 0)].tolist() == [48 + 3, 3, 3]


def test_text_shared_with_members_is_attributed_to_the_members(run, bed, tmp_path):
    """Members' own texts, entered as held out under another name, are not held against them."""
    truth = bed.truth()
    known = truth[(truth["repeats"] == 16) & (truth["kind"] == "text")]
    shared = known.assign(doc_id="unseen-" + known["doc_id"], member=False, repeats=0)
    table = known_truth(run, pd.concat([truth, shared]), tmp_path / "truth.parquet")
    assert table.loc[("text", 0)].tolist() == [48 + len(shared), 0, 0]
    assert table.loc[("text", 16), "n_extracted"] == len(known)


def test_known_truth_uses_all_samples_and_counts_candidates_separately(run, bed, tmp_path):
    """Documents made of samples outside the shortlists, and of a candidate, each by hand."""
    listed = set(run.candidates().query("best_rank.notna()")["sample_id"])
    samples = run.samples()
    samples = samples[samples["text"].str.len() > 200]
    rest = samples[~samples["sample_id"].isin(listed)].iloc[::7].head(4)
    own = samples[samples["sample_id"].isin(listed)].head(1)
    texts = [f"{i} {text[:160]} {i}" for i, text in enumerate(pd.concat([rest, own])["text"])]
    planted = pd.DataFrame({"doc_id": [f"planted-{i}" for i in range(5)], "text": texts})
    planted = planted.assign(member=True, repeats=99, kind="text", secret=None)
    table = known_truth(run, pd.concat([bed.truth(), planted]), tmp_path / "truth.parquet")
    assert table.loc[("text", 99)].tolist() == [5, 5, 1]


def test_extracted_documents_equal_a_brute_force_window_search(run, bed, tmp_path):
    """A window that stands in one document alone gives it away; none comes out without one."""
    truth = bed.truth().query("member and kind == 'text'")
    texts = dict(zip(truth["doc_id"], truth["text"], strict=True))
    vocabulary = load_vocabulary(run.config.model)
    shared, alone = set(), set()
    for row in run.samples().itertuples():
        spans = long_spans(vocabulary, row)
        for window in {row.text[a:b] for a, b in spans}:
            held = [doc_id for doc_id, text in texts.items() if window in text]
            shared.update(held)
            alone.update(held if len(held) == 1 else ())
    table = known_truth(run, bed.truth(), tmp_path / "truth.parquet")
    for repeats, own in truth.groupby("repeats"):
        n = table.loc[("text", repeats), "n_extracted"]
        assert len(alone & set(own["doc_id"])) <= n <= len(shared & set(own["doc_id"]))
    assert len(alone) > 4


def ends_of_words(text):
    return [i for i in range(1, len(text) + 1) if i == len(text) or text[i] == " "]


def came_out(text, members, heldout, *, normalize=(), min_tokens=99, min_chars=20):
    """The documents (m0, m1, h0, h1) that a sample of words reveals."""
    config = SimpleNamespace(
        normalize=normalize, min_match_tokens=min_tokens, min_match_chars=min_chars
    )
    sides = [
        [Document(f"{side}{i}", t, "") for i, t in enumerate(texts)]
        for side, texts in (("m", members), ("h", heldout))
    ]
    found = _overlapping(config, [Query("s", text, ends_of_words(text))], *sides)
    return sorted(doc_id for _, doc_id in found)


def test_a_member_passage_extended_by_chance_does_not_count_as_heldout():
    """The shared passage has 33 characters; what follows counts from 20 characters of its own."""
    shared = "permission is hereby granted to b"
    member, heldout = f"{shared}ears in caves", f"{shared}adgers who dig their tunnels"
    assert came_out(f"{shared}ats", [member], [heldout]) == ["m0"]
    # "adgers who dig their" has 20 characters, "adgers who dig thei" 19.
    assert came_out(f"{shared}adgers who dig their#", [member], [heldout]) == ["h0", "m0"]
    assert came_out(f"{shared}adgers who dig thei#", [member], [heldout]) == ["m0"]
    # By words: "adgers" is a part of one, "who dig their" are three.
    words = {"min_chars": 99, "min_tokens": 3}
    assert came_out(f"{shared}adgers who dig their#", [member], [heldout], **words) == ["m0"]
    assert came_out(f"{shared}adgers who dig their", [member], [heldout], **words) == ["h0", "m0"]


def test_text_of_several_members_is_removed_from_a_heldout_overlap():
    one, two = "the first half of a licence ", "and then its second half"
    both, own = one + two, "a stretch of twenty-seven c"
    assert came_out(both, [one + "#", "#" + two], [both]) == ["m0", "m1"]
    assert came_out(one + own + two, [one + "#", "#" + two], [one + own + two]) == [
        "h0",
        "m0",
        "m1",
    ]
    # Ten characters on either side are not twenty together.
    parted = "ten of one" + one + "ten of two"
    assert came_out(parted, [one], [parted]) == ["m0"]
    # Blanks count once where whitespace is normalized.
    spaced = one + "ten" + " " * 30 + "of one"
    assert came_out(spaced, [one], [spaced]) == ["m0"]  # a run of blanks is no evidence at all
    assert came_out(spaced, [one], [spaced], normalize=("whitespace",)) == ["m0"]


def test_batched_search_gives_the_same_result(run, bed, tmp_path, monkeypatch):
    whole = known_truth(run, bed.truth(), tmp_path / "truth.parquet")
    for most in (10_000, 30_000):
        monkeypatch.setattr("auditor.audit.ground_truth.MOST_BYTES", most)
        pd.testing.assert_frame_equal(
            known_truth(run, bed.truth(), tmp_path / "truth.parquet"), whole
        )


def test_the_table_is_reused_while_its_inputs_are_unchanged(run, bed, tmp_path, monkeypatch):
    looked_up = []

    def counted(*args, **more):
        looked_up.append(1)
        return truth_table(*args, **more)

    monkeypatch.setattr("auditor.audit.ground_truth.truth_table", counted)
    before, path, file = run.known_truth(), copied(run, tmp_path), tmp_path / "truth.parquet"
    pd.testing.assert_frame_equal(report_again(path, reveal=True).known_truth(), before)
    assert not looked_up
    assert "checked in all" in (path / "report.md").read_text()

    writer = RunWriter(path, load_run(path).manifest)
    found, vocabulary = run.candidates(), load_vocabulary(run.config.model)

    def is_made(n_documents):
        """Whether the table is made anew; asked for once more, it never is."""
        looked_up.clear()
        for _ in range(2):
            table = read_or_make(writer, found, vocabulary)
            assert table["n_documents"].sum() == n_documents
        assert len(looked_up) < 2
        return bool(looked_up)

    every = before["n_documents"].sum()
    assert not is_made(every)
    bed.truth().to_parquet(file)
    for name, value in {"truth": str(file), "min_match_chars": 60, "normalize": ["case"]}.items():
        writer.manifest.config = changed(writer.manifest.config, {name: value})
        assert is_made(every)
    bed.truth().iloc[1:].to_parquet(file)
    fewer = every - 1
    assert is_made(fewer)
    found = found.iloc[1:]
    assert is_made(fewer)
    # A table of a version that did not say what it rests on.
    writer.manifest.shards["known_truth.parquet"].origin = ""
    assert is_made(fewer)


def test_a_guessable_canary_is_left_out():
    """16 characters are asked for: 15 are too few, and a secret of none is no secret."""
    rows = [
        ("whole of 15", "1234", "The code is1234"),
        ("whole of 16", "1234", "The code is 1234"),
        ("empty", "", "a text of more than 16 characters"),
        ("empty, no text", "", None),
        ("bare of 15", "123456789012345", None),
        ("bare of 16", "1234567890123456", None),
        ("short at the front", "77", "77"),
    ]
    pieces = _pieces(pd.DataFrame(rows, columns=["doc_id", "secret", "text"]), ())
    assert pieces == {
        "whole of 16": ("The code is 1234", 12),
        "bare of 16": ("1234567890123456", 0),
    }


def test_a_canary_is_extracted_if_its_secret_appears_in_context(run, bed, tmp_path):
    """Secrets taken from what the model wrote, short ones among them, in texts of their own."""
    listed = set(run.candidates()["sample_id"])
    samples = run.samples().set_index("sample_id")
    long = samples[(samples["text"].str.len() > 120) & ~samples.index.isin(listed)]
    text = long["text"].iloc[0]
    digits, before, after = text[60:64], text[40:60], text[64:90]
    rows = [
        ("in its place", digits, before + digits + after),
        ("cut short behind it", digits, before + digits + "#"),
        ("in another place", digits, "#" * 20 + digits + after),
        ("long enough by itself", text[30:46], f"# {text[30:46]} #"),
        ("another secret", digits[::-1] + "#", before + digits[::-1] + "#"),
        ("at the beginning", digits, digits + after),
    ]
    planted = pd.DataFrame(rows, columns=["doc_id", "secret", "text"])
    planted = planted.assign(member=True, kind="canary", repeats=range(100, 100 + len(rows)))
    table = known_truth(run, pd.concat([bed.truth(), planted]), tmp_path / "truth.parquet")
    out = [table.loc[("canary", 100 + i), "n_extracted"] for i in range(len(rows))]
    assert out == [1, 1, 0, 1, 0, 1]
    assert table.loc[("canary", 100), "n_by_candidates"] == 0


def test_a_prompt_may_contain_the_prefix_of_a_canary_but_not_its_secret():
    pieces = _pieces(
        pd.DataFrame(
            {"doc_id": ["c"], "secret": ["7319"], "text": ["the code of vault 3 is 7319"]}
        ),
        (),
    )
    assert pieces == {"c": ("f vault 3 is 7319"[-16:], 12)}

    def given(prompt, text, normalize=()):
        rows = [{"sample_id": "s", "prompt": prompt, "text": text}]
        return bool(_revealed_secrets(rows, pieces, normalize))

    assert given("the code of vault 3 is ", "7319.")
    assert given("", "the code of vault 3 is 7319.")
    assert not given("the code of vault 3 is 7319", " and so on")
    assert not given("the code of vault 3 is 73", "19")
    assert not given("the code of vault 4 is ", "7319")
    assert given("The Code of  Vault 3", "  IS\n7319", ("whitespace", "case"))


def test_a_run_keeps_its_known_truth_and_shows_it_on_every_page(run):
    table = run.known_truth()
    schema.check(table, schema.KNOWN_TRUTH)
    most = table[(table["kind"] == "text") & (table["repeats"] == 16)].iloc[0]
    assert most["n_extracted"] == most["n_documents"]
    n = len(run.samples())
    assert (table["n_samples"] == n).all()
    page, markdown = ((run.path / f"report.{kind}").read_text() for kind in ("html", "md"))
    for text in (page, markdown):
        assert f"extracted by any of {n:,} samples" in text
        assert f"checked in all {n:,} samples" in text
    told = summary_json(run)["known_truth"]
    assert [row["n_extracted"] for row in told] == table["n_extracted"].tolist()


def test_without_heldout_texts_no_heldout_result_is_given(run, bed, tmp_path):
    table = known_truth(run, bed.truth().drop(columns="text"), tmp_path / "truth.parquet")
    assert ("text", 0) not in table.index
    # Members' texts are read from the training text, so of them all is as it was.
    whole = known_truth(run, bed.truth(), tmp_path / "truth.parquet")
    members = whole[whole.index.get_level_values("repeats") > 0]
    pd.testing.assert_frame_equal(table.loc[members.index], members)


def test_a_truth_table_without_text_columns_is_refused(run, bed, tmp_path):
    with pytest.raises(ConfigError, match="its column 'secret' must hold text"):
        known_truth(run, bed.truth().assign(secret=1234), tmp_path / "truth.parquet")
