"""The files of lm-extraction-benchmark: read, written, scored by hand, and refused when wrong."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import CorpusError
from auditor.extraction.benchmark import attack_benchmark, score_guesses
from auditor.extraction.benchmark_files import (
    Examples,
    Guess,
    read_examples,
    write_guesses,
)
from auditor.models.loading import load_model
from tests.benchmark_folder import read_guesses, write_examples
from tests.planted import tiny_model
from tests.tiny import save_tiny_model


def arrays(n=6, p=4, m=3, seed=0):
    rng = np.random.default_rng(seed)
    prefix, suffix, before = (rng.integers(0, 300, (n, k)).astype(np.uint16) for k in (p, m, 8))
    return Examples(prefix, suffix, before)


def test_arrays_are_read_by_split_and_part(tmp_path):
    written = arrays()
    write_examples(tmp_path, written, split="val")
    found = read_examples(tmp_path, split="val")
    for name in ("prefix", "suffix", "preprefix"):
        assert getattr(found, name).dtype == np.uint16
        assert getattr(found, name).tolist() == getattr(written, name).tolist()
    np.save(tmp_path / "test_prefix.npy", written.prefix)  # as the test split: no suffixes
    found = read_examples(tmp_path, split="test")
    assert found.prefix.tolist() == written.prefix.tolist()
    assert found.suffix is None
    assert found.preprefix is None


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


def test_pickles_are_never_loaded(tmp_path):
    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "train_prefix.npy", trap, allow_pickle=True)
    with pytest.raises(CorpusError, match="cannot be read as an array of numbers"):
        read_examples(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (np.zeros((6, 3), np.int64), "must be a table of uint16 .*; got int64 of shape"),
        (np.zeros(6, np.uint16), r"got uint16 of shape \(6,\)"),
        (np.zeros((6, 0), np.uint16), "must be a table of uint16"),
        (np.zeros((5, 3), np.uint16), "as many rows as train_prefix.npy, 6; got 5"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, wrong, told):
    write_examples(tmp_path, arrays())
    np.save(tmp_path / "train_suffix.npy", wrong)
    with pytest.raises(CorpusError, match=told):
        read_examples(tmp_path)


def test_missing_empty_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"has no train_prefix\.npy"):
        read_examples(tmp_path)
    (tmp_path / "train_prefix.npy").write_bytes(b"\x93NUMPY junk")
    with pytest.raises(CorpusError, match="cannot be read as an array"):
        read_examples(tmp_path)
    (tmp_path / "train_prefix.npy").write_bytes(b"")
    with pytest.raises(CorpusError, match="cannot be read as an array"):
        read_examples(tmp_path)
    np.save(tmp_path / "train_prefix.npy", np.zeros((0, 4), np.uint16))
    with pytest.raises(CorpusError, match="no examples"):
        read_examples(tmp_path)


def test_an_archive_in_place_of_an_array_is_refused(tmp_path):
    sink = io.BytesIO()
    np.savez(sink, a=arrays().prefix)
    (tmp_path / "train_prefix.npy").write_bytes(sink.getvalue())
    with pytest.raises(CorpusError, match="archive"):
        read_examples(tmp_path)


# ------------------------------------------------------------------------------ guesses
ids = st.integers(0, 65_535)
guess = st.builds(Guess, st.integers(0, 999), st.lists(ids, max_size=5).map(tuple))


@given(st.lists(guess, max_size=6))
def test_guesses_round_trip_in_order(tmp_path_factory, guesses):
    path = tmp_path_factory.mktemp("guesses") / "guess.csv"
    write_guesses(path, guesses)
    assert read_guesses(path) == guesses


def test_guesses_are_written_as_the_benchmark_reads_them(tmp_path):
    write_guesses(tmp_path / "g.csv", [Guess(8, (3, 6, 9)), Guess(12, (4,))])
    text = (tmp_path / "g.csv").read_text()
    assert text == 'Example ID,Suffix Guess\n8,"[3,6,9]"\n12,[4]\n'
    # As its own script takes a line apart: without the brackets, cut at commas.
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [list(map(int, r["Suffix Guess"][1:-1].split(","))) for r in rows] == [[3, 6, 9], [4]]


# ------------------------------------------------------------------------------- scores
def test_scores_by_hand():
    suffixes = np.array([[1, 1], [2, 2], [3, 3], [4, 4]])
    guesses = [Guess(i, g) for i, g in ((2, (3, 3)), (0, (1, 0)), (0, (1, 1)), (2, (3, 3)))]
    row = score_guesses(guesses, suffixes, 4).iloc[0]
    # Right: the 1st, 3rd and 4th guess; examples 0 and 2.
    assert (row["n_guesses"], row["n_correct"]) == (4, 2)
    assert (row["precision"], row["recall"], row["recall_at_100_errors"]) == (0.75, 0.5, 0.5)
    assert row["recall_low"] < 0.5 < row["recall_high"]


def test_at_the_hundredth_error_the_score_stands():
    suffixes = np.arange(200)[:, None]
    wrong = [Guess(i, (999,)) for i in range(99)]
    guesses = [Guess(150, (150,)), *wrong, Guess(151, (151,)), Guess(0, (999,)), Guess(152, (152,))]
    row = score_guesses(guesses, suffixes, 200).iloc[0]
    assert row["recall_at_100_errors"] == 2 / 200
    assert row["recall"] == 3 / 200


def test_guesses_for_other_examples_are_refused():
    with pytest.raises(CorpusError, match="examples 0 to 3"):
        score_guesses([Guess(4, (1, 1))], np.zeros((4, 2), int), 4)
    with pytest.raises(CorpusError, match="hold 2 tokens"):
        score_guesses([Guess(1, (1,))], np.zeros((4, 2), int), 4)


# ------------------------------------------------------------------------------- attack
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(save_tiny_model(tmp_path_factory.mktemp("m"))), dtype="float32")


def greedy_of(model, prefix, m):
    import torch

    out = list(prefix)
    with torch.inference_mode():
        for _ in range(m):
            out.append(int(model.network(input_ids=torch.tensor([out])).logits[0, -1].argmax()))
    return out[len(prefix) :]


def test_greedy_continuations_are_guessed_and_scored(tmp_path, model):
    own = arrays(n=8, m=3)
    suffix = own.suffix.copy()
    said = [greedy_of(model, row.tolist(), 3) for row in own.prefix]
    suffix[:5] = said[:5]
    examples = Examples(own.prefix, suffix, own.preprefix, model.vocabulary.fingerprint)
    write_examples(tmp_path / "bench", examples)
    found = attack_benchmark(model, tmp_path / "bench", out=tmp_path / "out")
    assert {g.example_id: list(g.suffix) for g in found.guesses} == dict(enumerate(said))
    assert found.scores["n_correct"].item() == 5
    assert found.examples["greedy"].tolist() == [True] * 5 + [False] * 3
    assert read_guesses(tmp_path / "out" / "guess.csv") == found.guesses
    assert found.notices == []
    # The surest first.
    shown = [own.prefix[g.example_id].tolist() for g in found.guesses]
    stats = model.token_stats([g.suffix for g in found.guesses], shown)
    assert (np.diff(stats.total_nll()) >= -1e-4).all()


def test_the_tokens_before_the_prefix_can_be_shown_too(tmp_path, model):
    own = arrays()
    write_examples(tmp_path, Examples(own.prefix, None, own.preprefix))
    found = attack_benchmark(model, tmp_path, suffix_tokens=2, use_preprefix=True)
    shown = [*own.preprefix[0].tolist(), *own.prefix[0].tolist()]
    [first] = [g for g in found.guesses if g.example_id == 0]
    assert list(first.suffix) == greedy_of(model, shown, 2)
    assert "no suffixes to check them against" in found.headline[0]
    write_examples(tmp_path, Examples(own.prefix), split="val")
    with pytest.raises(CorpusError, match=r"has no val_preprefix\.npy"):
        attack_benchmark(model, tmp_path, split="val", use_preprefix=True)


def test_ids_beyond_the_vocabulary_are_refused(tmp_path, model):
    own = arrays()
    own.suffix[3, 1] = 300
    write_examples(tmp_path, own)
    with pytest.raises(CorpusError, match=r"must be below 300, the size of .* got 300"):
        attack_benchmark(model, tmp_path)


def test_another_tokenizer_is_refused_where_it_is_known_and_told_where_not(tmp_path, model):
    own = arrays()
    write_examples(tmp_path / "a", Examples(own.prefix, own.suffix, None, "0" * 64))
    with pytest.raises(CorpusError, match=r"tokenizer that made them .sha256 000000000000"):
        attack_benchmark(model, tmp_path / "a")
    write_examples(tmp_path / "b", own)
    found = attack_benchmark(model, tmp_path / "b")
    assert "do not say which tokenizer" in found.notices[0]


class Spelling:
    """A vocabulary of 60,000 tokens that are not GPT-2's."""

    bos_id = eos_id = 0
    token_bytes = [b"x"] * 60_000
    fingerprint = "f" * 64


def test_gpt2s_ids_are_not_shown_to_a_model_of_another_tokenizer(tmp_path):
    model = tiny_model()
    model.vocabulary = Spelling()
    write_examples(tmp_path, Examples(np.array([[50_000, 3]], np.uint16)))
    with pytest.raises(CorpusError, match=r"by their ids .up to 50,000. that of GPT-2"):
        attack_benchmark(model, tmp_path, suffix_tokens=2)
