"""`extract` from end to end: windows, repeats, tables and the testbed's known truth."""

import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from auditor.config.audit import Decoding
from auditor.config.extraction import ExtractionConfig
from auditor.corpus.reading import Document
from auditor.errors import ConfigError, CorpusError, ModelError, RunError
from auditor.extraction.extract import extract
from auditor.extraction.repeats import count_repeats
from auditor.extraction.tables import fits, headline, summarize
from auditor.extraction.windows import draw_windows, slide
from auditor.models.loading import load_model
from auditor.models.tiny_gpt2 import build_tokenizer
from auditor.models.tokenizer import Vocabulary
from tests.planted import tiny_model
from tests.tiny import WORDS, save_tiny_model


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(build_tokenizer([WORDS] * 4, 300))


@pytest.fixture(scope="module")
def target(bed):
    return load_model(bed.target, dtype="float32")


def documents(texts):
    return [Document(f"d{i}", text, "") for i, text in enumerate(texts)]


texts = st.lists(st.text("abc é\n日", max_size=40), min_size=1, max_size=12)


# ------------------------------------------------------------------------------ windows
@settings(max_examples=40, deadline=None)
@given(texts, st.integers(0, 5), st.integers(1, 4), st.booleans())
def test_windows_are_spans_of_their_documents(vocabulary, given, seed, examples, from_start):
    corpus = documents(given)
    long = {t for t in given if len(vocabulary.encode(t)) >= 8}
    kwargs = {"n_prefix": 5, "n_suffix": 3, "examples": examples, "seed": seed}
    if not long:
        with pytest.raises(CorpusError, match="at least 8 tokens"):
            draw_windows(corpus, vocabulary, **kwargs)
        return
    found = draw_windows(corpus, vocabulary, **kwargs, from_start=from_start)
    assert len(found) == min(examples, len(long))
    chosen = [given[int(doc_id[1:])] for doc_id in found.doc_id]
    assert len(set(chosen)) == len(chosen)
    for i, text in enumerate(chosen):
        ids = vocabulary.encode(text)
        at = next(k for k in range(len(ids)) if ids[k : k + 8] == found.token_ids[i].tolist())
        assert from_start is False or found.token_ids[i].tolist() == ids[:8]
        assert found.token_ids[i].tolist() == ids[at : at + 8]
        assert found.text[i] == text[found.char_ends[i, 0] : found.char_ends[i, -1]]


@settings(max_examples=25, deadline=None)
@given(texts, st.randoms(use_true_random=False))
def test_the_drawn_windows_do_not_depend_on_order_or_copies(vocabulary, given, random):
    kwargs = {"n_prefix": 3, "n_suffix": 2, "examples": 3, "seed": 1}
    given = [*given, "abc abc abc abc"]
    shuffled = [*given, *given[:2]]
    random.shuffle(shuffled)
    one, other = (draw_windows(documents(t), vocabulary, **kwargs) for t in (given, shuffled))
    assert sorted(one.token_ids.tolist()) == sorted(other.token_ids.tolist())


def test_another_seed_draws_other_documents(vocabulary):
    corpus = documents([f"the quick brown fox number {i} runs away" for i in range(60)])
    kwargs = {"n_prefix": 3, "n_suffix": 2, "examples": 5}
    drawn = [draw_windows(corpus, vocabulary, **kwargs, seed=seed).doc_id for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_short_documents_are_skipped_and_counted(vocabulary):
    corpus = documents(["the quick brown fox jumps", "a", "", "b"])
    found = draw_windows(corpus, vocabulary, n_prefix=2, n_suffix=2, examples=9, seed=0)
    assert (found.doc_id, found.n_documents, found.n_short) == (["d0"], 4, 3)


def test_a_long_document_gives_a_window_with_its_true_place(vocabulary, monkeypatch):
    monkeypatch.setattr("auditor.extraction.windows._CHARS", 60)
    text = " ".join(f"word{i} fox" for i in range(100))
    found = draw_windows(documents([text]), vocabulary, n_prefix=4, n_suffix=4, examples=1, seed=3)
    assert found.char_ends[0, 0] > 60
    assert text[found.char_ends[0, 0] : found.char_ends[0, -1]] == found.text[0]


@pytest.fixture(scope="module", params=["metaspace", "bar and strip"])
def no_first_space(request):
    """Tokenizers that spell no space at a text's begin, not even one that stands there."""
    bar, scheme = "▁", "always" if request.param == "metaspace" else "first"
    pieces = [("<unk>", 0.0), (bar, -2.0), (f"{bar}the", -1.0), ("c", -2.0), ("at", -2.0)]
    pieces += [(letter, -9.0) for letter in "athe"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(bar, scheme, split=False)
    tokenizer.decoder = decoders.Metaspace(bar, scheme)
    if scheme == "first":
        steps = [decoders.Replace(bar, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps)
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def test_the_first_token_has_the_space_that_its_document_begins_with(no_first_space):
    """▁the, c, at, ▁the: with the space 4, 1, 2 and 4 characters."""
    found = slide(documents([" thecat the"])[0], no_first_space, n_prefix=2, n_suffix=2, stride=1)
    assert found.char_ends.tolist() == [[0, 4, 5, 7, 11]]
    assert found.text == [" thecat the"]
    found = slide(documents(["thecat the"])[0], no_first_space, n_prefix=2, n_suffix=2, stride=1)
    assert found.char_ends.tolist() == [[0, 3, 4, 6, 10]]
    assert found.text == ["thecat the"]
    # Of two spaces the second is spelt.
    found = slide(documents(["  the"])[0], no_first_space, n_prefix=1, n_suffix=1, stride=1)
    assert (found.char_ends.tolist(), found.text) == ([[0, 1, 5]], ["  the"])


def test_a_span_that_begins_with_a_space_keeps_its_places(no_first_space, monkeypatch):
    monkeypatch.setattr("auditor.extraction.windows._CHARS", 60)
    text = "the cat the thecat " * 30
    for seed in range(20):
        found = draw_windows(
            documents([text]), no_first_space, n_prefix=2, n_suffix=3, examples=1, seed=seed
        )
        [window], [ends] = found.text, found.char_ends.tolist()
        assert window == text[ends[0] : ends[-1]]
        pieces = [no_first_space.name_of(i).replace("▁", " ") for i in found.token_ids[0]]
        assert [text[a:b] for a, b in pairwise(ends)] == pieces


def test_prefixes_of_a_sweep_end_at_one_suffix_or_begin_with_their_document(vocabulary):
    corpus = documents([WORDS])
    kwargs = {"n_prefix": 5, "n_suffix": 3, "examples": 1, "seed": 0}
    ids = vocabulary.encode(WORDS)
    start = draw_windows(corpus, vocabulary, **kwargs, from_start=True)
    assert start.prefixes(2)[0].tolist() == ids[:2]
    assert start.suffixes(2)[0].tolist() == ids[2:5]
    assert start.suffixes(5)[0].tolist() == ids[5:8]
    inside = draw_windows(corpus, vocabulary, **kwargs)
    assert inside.suffixes(2).tolist() == inside.suffixes(5).tolist()
    assert inside.prefixes(2)[0].tolist() == inside.prefixes(5)[0, -2:].tolist()


@pytest.mark.parametrize("stride", [1, 3, 7, 1000])
def test_windows_slide_to_the_documents_end(vocabulary, stride):
    ids = vocabulary.encode(WORDS)
    found = slide(documents([WORDS])[0], vocabulary, n_prefix=3, n_suffix=2, stride=stride)
    places = sorted({*range(0, len(ids) - 4, stride), len(ids) - 5})
    assert found.token_ids.tolist() == [ids[at : at + 5] for at in places]
    assert found.char_ends[-1, -1] == len(WORDS)


# ------------------------------------------------------------------------------ repeats
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab ", min_size=1, max_size=6), max_size=4), texts)
def test_repeats_are_counted_place_by_place(wanted, given):
    given = [*given, "ab ab ab ab ab"]

    def slow(text):
        return sum(t.startswith(text, i) for t in given for i in range(len(t)))

    found = count_repeats([*wanted, None], documents(given)).tolist()
    assert found[:-1] == [slow(text) for text in wanted]
    assert found[-1] is pd.NA


def test_an_index_counts_instead_where_there_is_one():
    found = count_repeats(["a", None, "b"], [], count={"a": 3, "b": 0}.__getitem__)
    assert found.tolist() == [3, pd.NA, 0]


# ------------------------------------------------------------------------- known truth
def test_members_come_out_the_more_they_are_repeated_and_held_out_text_does_not(bed, target):
    found = extract([target], [bed.corpus], prefix_tokens=32, suffix_tokens=32).examples
    truth = bed.truth().set_index("doc_id")
    repeats = found["doc_id"].str.rsplit(".", n=1).str[0].map(truth["repeats"])
    assert (found["repeats"] == repeats).all()
    strength = found.groupby("repeats")["exact_memorization"].mean()
    nearness = found.groupby("repeats")["log_p_z"].mean()
    assert strength.is_monotonic_increasing
    assert nearness.is_monotonic_increasing
    assert strength.index.tolist() == [1, 2, 4, 8, 16]
    assert found.loc[found["repeats"] == 16, "greedy"].all()

    held = extract([target], [bed.heldout], prefix_tokens=32, suffix_tokens=32)
    assert not held.examples["greedy"].any()
    assert held.examples["log_p_z"].max() < -50
    n = len(held.examples)
    assert f"in none of {n} (95 % Clopper–Pearson interval 0–" in held.headline[0]
    assert "Most likely: p_z 10^-" in held.headline[0]


def test_one_pass_is_real_greedy_decoding_on_the_testbed(bed, target):
    from auditor.sampling.generate import generate

    found = extract([target], [bed.corpus], prefix_tokens=16, suffix_tokens=16).examples
    rows = {d["id"]: d["text"] for d in map(json.loads, bed.corpus.read_text("utf-8").splitlines())}
    ids = [target.vocabulary.encode(rows[doc_id])[:32] for doc_id in found["doc_id"]]
    drawn, _ = generate(
        target,
        [[target.vocabulary.bos_id, *i[:16]] for i in ids],
        range(len(ids)),
        seed=0,
        stream="greedy",
        decoding=Decoding(top_k=1, max_new_tokens=16),
        n_slots=16,
    )
    said = [row.tolist() == i[16:] for row, i in zip(drawn.token_ids, ids, strict=True)]
    assert found["greedy"].tolist() == said
    assert 3 <= sum(said) < len(said)


def test_sampled_shares_agree_with_p_z(bed, target):
    found = extract(
        [target], [bed.corpus], prefix_tokens=16, suffix_tokens=4,
        decoding=Decoding(top_k=10), samples_per_prefix=40,
    ).examples  # fmt: skip
    p = np.exp(found["log_p_z"])
    expected, spread = 40 * p.sum(), math.sqrt(40 * (p * (1 - p)).sum())
    assert abs(found["n_exact"].sum() - expected) < 5 * spread
    assert expected > 100
    outside = found["n_outside"] > 0
    assert outside.any()
    assert np.isneginf(found.loc[outside, "log_p_z"]).all()
    assert np.isinf(found.loc[outside, "n:0.5"]).all()
    assert (found.loc[outside, "n_exact"] == 0).all()


def test_places_are_those_of_the_prefix_and_the_suffix_in_the_document(bed, target):
    found = extract([target], [bed.corpus], prefix_tokens=[4, 9], suffix_tokens=6, examples=7)
    rows = {d["id"]: d["text"] for d in map(json.loads, bed.corpus.read_text("utf-8").splitlines())}
    for row in found.examples.itertuples():
        text = rows[row.doc_id]
        ids = target.vocabulary.encode(text)[: row.prefix_tokens + 6]
        prefix = target.vocabulary.decode(ids[: row.prefix_tokens])
        assert text[row.prefix_start : row.suffix_start] == prefix
        assert prefix + text[row.suffix_start : row.suffix_end] == target.vocabulary.decode(ids)


def test_the_same_options_give_the_same_result(bed, target):
    one, other = (
        extract([target], [bed.corpus], prefix_tokens=8, suffix_tokens=8, examples=9, seed=4)
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one.examples, other.examples)
    pd.testing.assert_frame_equal(one.summary, other.summary)


# ------------------------------------------------------------------------------- tables
def rows_of(model, n_prefix, repeats, hits, n_parameters=100):
    n = len(repeats)
    return pd.DataFrame(
        {
            "model": model,
            "n_parameters": n_parameters,
            "doc_id": [f"d{i}" for i in range(n)],
            "prefix_tokens": n_prefix,
            "suffix_tokens": 4,
            "repeats": pd.array(repeats, dtype="Int64"),
            "exact_memorization": 0.5,
            "greedy": [bool(h) for h in hits],
            "log_p_z": -3.0,
            "n:0.5": [1.0 if h else 200.0 for h in hits],
        }
    )


def test_a_summary_counts_each_group():
    found = summarize(rows_of("m", 50, [1, 1, 1, 4, 4, None], [0, 1, 0, 1, 1, 0]))
    own = found[found["outcome"] == "greedy"]
    assert own["repeats_from"].tolist() == [pd.NA, 1, 4]
    assert own[["n_extracted", "n_examples"]].to_numpy().tolist() == [[3, 6], [1, 3], [2, 2]]
    # Two of two leave everything open from (0.025)^(1/2) on.
    assert own["low"].iloc[2] == pytest.approx(math.sqrt(0.025))
    assert own["high"].iloc[2] == 1
    within = found[found["repeats_from"].isna()].set_index("outcome")["n_extracted"]
    assert within.to_dict() == {
        "greedy": 3, "n=1 p=0.5": 3, "n=100 p=0.5": 3, "n=10,000 p=0.5": 6,
    }  # fmt: skip


def test_many_numbers_of_repeats_are_taken_together_by_doublings():
    found = summarize(rows_of("m", 50, list(range(1, 20)), [0] * 19))
    own = found[(found["outcome"] == "greedy") & found["repeats_from"].notna()]
    assert own[["repeats_from", "repeats_to", "n_examples"]].astype(int).to_numpy().tolist() == [
        [1, 1, 1], [2, 3, 2], [4, 7, 4], [8, 15, 8], [16, 31, 4],
    ]  # fmt: skip


def test_fits_are_reported_for_what_varies_and_withheld_otherwise():
    rows = pd.concat(
        [
            rows_of("m", n_prefix, [1, 10, 100, 1000], hits)
            for n_prefix, hits in ((10, [0, 0, 0, 0]), (100, [0, 0, 1, 1]), (1000, [1, 1, 1, 1]))
        ]
    )
    found = fits(rows)
    prefix = found[found["of"] == "prefix_tokens"].iloc[0]
    assert (prefix["slope"], prefix["r_squared"]) == pytest.approx((0.5, 1.0))
    repeats = found[(found["of"] == "repeats") & (found["prefix_tokens"] == 100)].iloc[0]
    # Shares 0, 0, 1, 1 at a = 0, 1, 2, 3: slope 2 / 5.
    assert repeats["slope"] == pytest.approx(0.4)
    size = found[found["of"] == "n_parameters"]
    assert set(size["withheld"]) == {"needs 3 different values, got 1"}


def test_the_headline_says_what_came_nearest_when_nothing_came_out():
    rows = rows_of("m", 50, [1, 1], [0, 0])
    rows["log_p_z"] = [math.log(0.25), -np.inf]
    [told] = headline(rows)
    # None of two leaves everything open up to 1 - (0.025)^(1/2) = 84 %.
    assert told == (
        "m, given 50 tokens: greedy decoding reproduces the next 4 tokens in none of 2 (95 % "
        "Clopper–Pearson interval 0–84 %). "
        "Most likely: p_z 0.25 in d0; at most 50 % of a suffix's tokens are the model's first "
        "choices."
    )
    rows["log_p_z"] = -np.inf
    assert "none of the suffixes can be drawn" in headline(rows)[0]


# ------------------------------------------------------------------------------- folders
def test_a_folder_contains_tables_figures_and_options(bed, target, tmp_path):
    out = tmp_path / "out"
    args = {"prefix_tokens": [8, 16], "suffix_tokens": 8, "examples": 6, "out": out}
    found = extract([target], [bed.corpus], **args)
    names = {"examples", "summary", "fits"}
    expected = {f"{n}.{kind}" for n in names for kind in ("csv", "parquet")}
    there = {p.name for p in out.iterdir()}
    assert there == expected | {"laws.png", "laws.svg", "extraction.json"}
    pd.testing.assert_frame_equal(pd.read_parquet(out / "examples.parquet"), found.examples)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    extract([target], [bed.corpus], **args)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    with pytest.raises(RunError, match=r"holds another extraction: seed is 0 stored, 1 requested"):
        extract([target], [bed.corpus], **args, seed=1)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_folder_of_something_else_is_refused_before_any_work(bed, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not an extraction's folder"):
        extract("no-such-model", [bed.corpus], out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_hostile_ids_are_stored_safely(tmp_path):
    model = load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")
    corpus = [Document("=cmd()\x1b[31m\ud800", WORDS, "")]
    args = {"prefix_tokens": 4, "suffix_tokens": 4}
    extract([model], corpus, **args, out=tmp_path / "out")
    line = (tmp_path / "out" / "examples.csv").read_text().splitlines()[1]
    assert "'=cmd()\\x1b[31m" in line


# --------------------------------------------------------------------------- bad input
def test_prefix_and_suffix_must_fit_the_context():
    model = tiny_model(context=1024, n_vocab=9)
    with pytest.raises(ConfigError) as caught:
        ExtractionConfig(prefix_tokens=(1000,), with_bos=False).check(model)
    assert str(caught.value) == (
        "--prefix-tokens must be between 1 and 974 (context 1024 minus suffix 50); got 1000. "
        "Lower --prefix-tokens or --suffix-tokens."
    )
    ExtractionConfig(prefix_tokens=(974,)).check(
        model
    )  # BOS takes the place of the token that is never fed
    with pytest.raises(ConfigError, match=r"between 1 and 973 .context 1024 minus suffix 50 and B"):
        ExtractionConfig(prefix_tokens=(974,)).check(model, samples=True)
    with pytest.raises(ConfigError, match="--suffix-tokens must be between 1 and 1023"):
        ExtractionConfig(suffix_tokens=1024).check(model)


def test_the_longest_prefix_that_is_allowed_can_be_measured(tmp_path):
    model = load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")  # context 64
    found = extract([model], documents([WORDS * 9]), prefix_tokens=60, suffix_tokens=4)
    assert len(found.examples) == 1
    with pytest.raises(ConfigError, match="between 1 and 60"):
        extract([model], documents([WORDS * 9]), prefix_tokens=61, suffix_tokens=4)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"prefix_tokens": 0}, "--prefix-tokens must be at least 1; got 0"),
        ({"prefix_tokens": []}, "--prefix-tokens must be given"),
        ({"suffix_tokens": -1}, "--suffix-tokens must be at least 1"),
        ({"examples": 0}, "--examples must be at least 1"),
        ({"samples_per_prefix": -1}, "--samples-per-prefix must be at least 0"),
        ({"p": [1.0]}, "--p must be below 1"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"decoding": Decoding(repetition_penalty=1.2)}, "the same decoding for each token"),
    ],
)
def test_invalid_options_are_refused_before_a_model_is_loaded(asked, told):
    with pytest.raises(ConfigError, match=told):
        extract("no-such-model", documents([WORDS]), **asked)


def test_invalid_corpora_and_models_are_one_line_errors(tmp_path):
    model = load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")
    with pytest.raises(CorpusError, match="no documents"):
        draw_windows([], model.vocabulary, n_prefix=4, n_suffix=4, examples=9, seed=0)
    with pytest.raises(CorpusError, match="--corpus must be given"):
        extract([model], [])
    with pytest.raises(CorpusError, match="read only once"):
        extract([model], iter(documents([WORDS])))
    with pytest.raises(CorpusError, match="at least 40 tokens"):
        extract([model], documents(["a b"]), prefix_tokens=20, suffix_tokens=20)
    bare = tiny_model(bos_id=None)
    with pytest.raises(ModelError, match="no BOS token"):
        ExtractionConfig(with_bos=True).check(bare)
    assert not ExtractionConfig().starts_with_bos(bare)


# --------------------------------------------------------------------- personal data
ADDRESS = "jane.doe@example.org"


@pytest.mark.parametrize("reveal", [False, True])
def test_personal_data_in_ids_is_masked_in_csv_and_sentences_unless_revealed(tmp_path, reveal):
    model = load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")
    corpus = [Document(f"mail to {ADDRESS}", WORDS, "")]
    out = tmp_path / "out"
    found = extract([model], corpus, prefix_tokens=4, suffix_tokens=4, out=out, reveal=reveal)
    assert (ADDRESS in (out / "examples.csv").read_text("utf-8")) == reveal
    assert ("j•••@•••.org" in (out / "examples.csv").read_text("utf-8")) != reveal
    assert (ADDRESS in " ".join(found.headline)) == reveal
    assert (ADDRESS in (out / "extraction.json").read_text("utf-8")) == reveal
    # As of an audit and a comparison, the Parquet files are the raw record.
    assert pd.read_parquet(out / "examples.parquet")["doc_id"].tolist() == [f"mail to {ADDRESS}"]


def test_revealed_results_may_replace_masked_ones(tmp_path):
    model = load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")
    corpus = [Document(ADDRESS, WORDS, "")]
    args = {"prefix_tokens": 4, "suffix_tokens": 4, "out": tmp_path / "out"}
    extract([model], corpus, **args, reveal=True)
    extract([model], corpus, **args)
    assert ADDRESS not in (tmp_path / "out" / "examples.csv").read_text("utf-8")
