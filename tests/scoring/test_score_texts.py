"""`auditor score`: scores against hand computation, files and errors."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from attacks.scores.score_table import scores_for
from auditor.errors import ConfigError, RunError
from auditor.models.loading import load_model
from auditor.scoring.perturbation import drop_and_swap
from auditor.scoring.score_texts import _chunks, check_out, score_texts, write_scores
from tests.tiny import WORDS, command, save_tiny_model

TEXTS = [
    WORDS,
    "The Quick BROWN fox",
    "x",
    "naïve café 漢字 \U0001f600",
    " ".join([WORDS] * 6),  # longer than the context of 64
    "dog dog dog dog",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models, one of them with another tokenizer, texts and what else a score may need."""
    from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

    folder = tmp_path_factory.mktemp("texts")
    save_tiny_model(folder / "model")
    save_tiny_model(folder / "small", seed=1)
    other = build_gpt2(n_vocab=280, n_layer=1, width=16, n_head=2, context=128, seed=2)
    save_model(other, build_tokenizer(["completely other words " * 9], 280), folder / "other")
    rows = [json.dumps({"id": f"t{i}", "text": text}) for i, text in enumerate(TEXTS)]
    (folder / "texts.jsonl").write_text("\n".join(rows))
    (folder / "prefix.txt").write_text("some unseen text")
    (folder / "counts.txt").write_text("the fox and the dog")
    return folder


def asked(place, **more):
    return {"model": str(place / "model"), "device": "cpu", **more}


@pytest.fixture(scope="module")
def frame(place):
    return score_texts(
        [place / "texts.jsonl"],
        **asked(place),
        references={"small": str(place / "small"), "other": str(place / "other")},
        nonmember_prefix=place / "prefix.txt",
        frequencies=[place / "counts.txt"],
        neighbours=3,
        seed=5,
    )


def nats(model, text, before=None):
    """Nats of each token of a text after BOS (or after more), from the whole network."""
    import torch

    ids = model.vocabulary.encode(text)
    start = [model.vocabulary.bos_id] if before is None else before
    with torch.inference_mode():
        whole = torch.tensor([start + ids])
        logits = model.network(input_ids=whole).logits[0].double().log_softmax(-1)
    return [-float(logits[len(start) + t - 1, i]) for t, i in enumerate(ids)]


SHORT = [0, 1, 2, 3, 5]


def test_every_text_has_its_row_in_order(frame):
    assert frame["doc_id"].tolist() == [f"t{i}" for i in range(len(TEXTS))]
    assert frame["n_bytes"].tolist() == [len(text.encode()) for text in TEXTS]
    assert (frame["n_tokens"] > 0).all()


def test_scores_of_the_target_are_those_of_the_whole_network(frame, place):
    model = load_model(str(place / "model"), dtype="float32", device="cpu")
    for i in SHORT:
        own = nats(model, TEXTS[i])
        lowered = nats(model, TEXTS[i].lower())
        n_low = max(1, len(own) // 5)
        expected = {
            "loss": -np.mean(own),
            "lowercase": np.mean(lowered) / np.mean(own),
            "min_k": -np.mean(sorted(own)[-n_low:]),
            "zlib": frame["zlib_bits"][i] / np.mean(own),
        }
        for name, value in expected.items():
            assert frame[name][i] == pytest.approx(value, rel=1e-4), (name, i)


def test_references_go_by_tokens_or_by_bytes_as_their_tokenizer_is(frame, place):
    target, small, other = (
        load_model(str(place / name), dtype="float32", device="cpu")
        for name in ("model", "small", "other")
    )
    assert frame.attrs["scored"]["by_bytes"] == ["other"]
    for i in SHORT:
        a, b, c = (nats(m, TEXTS[i]) for m in (target, small, other))
        assert frame["reference:small"][i] == pytest.approx(np.mean(b) / np.mean(a), rel=1e-4)
        assert frame["reference:other"][i] == pytest.approx(sum(c) / sum(a), rel=1e-4)
        bits = (sum(c) - sum(a)) / math.log(2) / len(TEXTS[i].encode())
        got = frame["reference_difference:other"][i]
        assert got == pytest.approx(bits, rel=1e-2, abs=1e-5)


def test_recall_conditions_on_the_prefix_of_non_members(frame, place):
    model = load_model(str(place / "model"), dtype="float32", device="cpu")
    before = [model.vocabulary.bos_id, *model.vocabulary.encode("some unseen text\n\n")]
    for i in SHORT:
        expected = np.mean(nats(model, TEXTS[i], before)) / np.mean(nats(model, TEXTS[i]))
        assert frame["recall"][i] == pytest.approx(expected, rel=1e-4)


def test_a_text_that_does_not_fit_after_the_prefix_counts_by_its_beginning(frame, place):
    model = load_model(str(place / "model"), dtype="float32", device="cpu")
    before = [model.vocabulary.bos_id, *model.vocabulary.encode("some unseen text\n\n")]
    ids = model.vocabulary.encode(TEXTS[4])[: 64 - len(before)]
    stats = [model.token_stats([ids], prefix) for prefix in ([before], None)]
    expected = stats[0].nll()[0] / stats[1].nll()[0]
    assert frame["recall"][4] == pytest.approx(expected, rel=1e-4)
    told = frame.attrs["scored"]["nonmember_prefix"]
    assert told == {"tokens": len(before), "texts_cut": 1}


def test_con_recall_contrasts_the_prefixes_of_non_members_and_of_members(place, tmp_path):
    (tmp_path / "members.txt").write_text("seen in training")
    found = score_texts(
        [place / "texts.jsonl"],
        **asked(place),
        nonmember_prefix=place / "prefix.txt",
        member_prefix=tmp_path / "members.txt",
    )
    model = load_model(str(place / "model"), dtype="float32", device="cpu")
    unlike, like = (
        [model.vocabulary.bos_id, *model.vocabulary.encode(f"{text}\n\n")]
        for text in ("some unseen text", "seen in training")
    )
    for i in SHORT:
        own, a, b = (np.mean(nats(model, TEXTS[i], p)) for p in (None, unlike, like))
        assert found["con_recall"][i] == pytest.approx((a - 0.5 * b) / own, rel=1e-4)
        assert found["recall"][i] == pytest.approx(a / own, rel=1e-4)
    assert found.attrs["scored"]["member_prefix"] == {"tokens": len(like)}


def test_a_prefix_that_is_one_of_the_texts_is_refused(place, tmp_path):
    (tmp_path / "seen.txt").write_text(f"{TEXTS[1]}\n")
    for flag in ("nonmember_prefix", "member_prefix"):
        prefixes = {"nonmember_prefix": place / "prefix.txt", flag: tmp_path / "seen.txt"}
        with pytest.raises(ConfigError, match="other texts than those scored; got t1 in both"):
            score_texts([place / "texts.jsonl"], **asked(place), **prefixes)
    with pytest.raises(ConfigError, match="needs --nonmember-prefix"):
        score_texts([place / "texts.jsonl"], **asked(place), member_prefix=place / "prefix.txt")


def test_neighbours_are_scored_under_the_target(frame, place):
    model = load_model(str(place / "model"), dtype="float32", device="cpu")
    for i in (0, 1, 5):
        around = drop_and_swap(TEXTS[i], 3, seed=5)
        expected = np.mean([np.mean(nats(model, t)) for t in around]) - np.mean(
            nats(model, TEXTS[i])
        )
        assert frame["n_neighbours"][i] == len(around)
        assert frame["neighbourhood"][i] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert np.isnan(frame["neighbourhood"][2])  # "x" has none
    assert frame.attrs["scored"]["neighbours"]["how"] == "words dropped and swapped"
    assert frame.attrs["scored"]["undefined"]["neighbourhood"] == {"text has no neighbour": 1}


def test_frequencies_are_counted_with_the_targets_tokens(frame, place):
    model = load_model(str(place / "model"), dtype="float32", device="cpu")
    counts = np.bincount(model.vocabulary.encode("the fox and the dog"), minlength=300)
    f = (counts + 1) / (counts.sum() + 300)
    ids, own = model.vocabulary.encode(TEXTS[5]), nats(model, TEXTS[5])
    seen = {}
    for i, x in zip(ids, own, strict=True):
        seen.setdefault(i, min(math.exp(-x) * -math.log(f[i]), 0.01))
    assert frame["dc_pdd"][5] == pytest.approx(np.mean(list(seen.values())), rel=1e-4)


def test_chunks_change_nothing(frame, place, monkeypatch):
    monkeypatch.setattr("auditor.scoring.score_texts._CHUNK_TEXTS", 2)
    again = score_texts(
        [place / "texts.jsonl"],
        **asked(place),
        references={"small": str(place / "small"), "other": str(place / "other")},
        nonmember_prefix=place / "prefix.txt",
        frequencies=[place / "counts.txt"],
        neighbours=3,
        seed=5,
    )
    assert again.attrs == frame.attrs
    # Differences of two nats, each rounded to some 1e-7.
    pd.testing.assert_frame_equal(again, frame, rtol=1e-5, atol=1e-6)


def test_each_model_is_run_once_for_what_its_scores_share(place, monkeypatch):
    from auditor.models.language_model import LanguageModel

    calls, whole = [], LanguageModel.token_stats

    def counted(self, texts, prefixes=None, **options):
        calls.append((self.name, len(texts)))
        return whole(self, texts, prefixes, **options)

    monkeypatch.setattr(LanguageModel, "token_stats", counted)
    score_texts([place / "texts.jsonl"], **asked(place), references=[str(place / "small")])
    target, small = str(place / "model"), str(place / "small")
    # The target on the texts, and on those lower-cased that are not so already.
    n = sum(text != text.lower() for text in TEXTS)
    assert sorted(calls) == sorted([(target, 6), (target, n), (small, 6)])


def test_every_score_tells_the_testbeds_members_from_held_out_text(bed, tmp_path):
    """Known truth: over all pairs, how often the member scores higher (ties count half)."""
    unseen = json.loads(bed.heldout.read_text("utf-8").splitlines()[0])["text"]
    (tmp_path / "unseen.txt").write_text(unseen[:150])
    seen = json.loads(bed.corpus.read_text("utf-8").splitlines()[0])["text"]
    (tmp_path / "seen.txt").write_text(seen[:150])
    members, others = (
        score_texts(
            [text],
            model=bed.target,
            references={"small": bed.references["small"]},
            nonmember_prefix=tmp_path / "unseen.txt",
            member_prefix=tmp_path / "seen.txt",
            frequencies=[bed.heldout],
            neighbours=1,
        )
        for text in (bed.corpus, bed.heldout)
    )
    scores = list(members.columns)[list(members.columns).index("loss") :]
    # Losses under masks are of masked models.
    assert len(scores) == len([s for s in scores_for("texts") if "masks" not in s.needs])
    for name in scores:
        a, b = members[name].dropna().to_numpy(), others[name].dropna().to_numpy()[:, None]
        auc = ((a > b) + 0.5 * (a == b)).mean()
        assert auc > 0.8, (name, auc)


def test_a_corpus_without_any_neighbour_is_scored_all_the_same(place, tmp_path):
    (tmp_path / "x.txt").write_text("x")
    frame = score_texts([tmp_path / "x.txt"], **asked(place), neighbours=2)
    assert frame["n_neighbours"].tolist() == [0]
    assert frame["neighbourhood"].isna().tolist() == [True]
    assert np.isfinite(frame["min_k_plus_plus"][0])


def test_no_chunk_holds_more_texts_than_it_may_with_their_neighbours(monkeypatch):
    from auditor.corpus.reading import Document

    monkeypatch.setattr("auditor.scoring.score_texts._CHUNK_TEXTS", 12)
    documents = [Document(str(i), "text", "here") for i in range(10)]
    sizes = [len(chunk) for chunk in _chunks(documents, share=4)]
    assert sizes == [3, 3, 3, 1]
    monkeypatch.setattr("auditor.scoring.score_texts._CHUNK_CHARS", 32)
    assert [len(chunk) for chunk in _chunks(documents, share=4)] == [2] * 5


# ------------------------------------------------------------------------------- the verb
def test_scores_are_written_as_the_ending_says_and_read_back(place, tmp_path, frame):
    args = ["score", place / "texts.jsonl", "--model", place / "model", "--device", "cpu"]
    for name in ("s.parquet", "s.csv"):
        ended = command(*args, "--out", tmp_path / name)
        assert (ended.code, ended.out) == (0, f"{tmp_path / name}\n"), ended.err
    table = pd.read_parquet(tmp_path / "s.parquet")
    text = pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == list(text.columns)
    assert table["doc_id"].tolist() == text["doc_id"].tolist() == frame["doc_id"].tolist()
    np.testing.assert_allclose(table["loss"], frame["loss"], rtol=1e-5)
    np.testing.assert_array_equal(table["loss"], text["loss"])
    assert table.attrs["scored"]["model"]["dtype"] == "float32"
    assert "recall" not in table
    assert {p.name for p in tmp_path.iterdir()} == {"s.parquet", "s.csv"}


def test_json_tells_what_was_made(place, tmp_path):
    args = ["score", place / "texts.jsonl", "--model", place / "model", "--out"]
    ended = command(*args, tmp_path / "s.csv", "--neighbours", 1, "--json")
    told = json.loads(ended.out)
    assert told["texts"] == len(TEXTS)
    assert told["neighbours"]["how"] == "words dropped and swapped"
    assert "neighbourhood" in told["columns"]


def test_what_is_there_is_replaced_only_when_asked(place, tmp_path):
    out = tmp_path / "s.csv"
    out.write_text("mine")
    args = ["score", place / "texts.jsonl", "--model", place / "model", "--out", out]
    ended = command(*args)
    assert ended.code == 1
    assert "exists. Add --overwrite" in ended.err
    assert out.read_text() == "mine"
    assert command(*args, "--overwrite").code == 0
    assert out.read_text().startswith("doc_id,")


def test_scores_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    out = tmp_path / "s.parquet"
    frame = pd.DataFrame({"doc_id": ["a"], "loss": [-1.0]})
    write_scores(frame, out)
    before = out.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(RunError, match="The disk is full"):
        write_scores(frame, out, overwrite=True)
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--model", "./nowhere"], 1, "./nowhere: no such file or folder"),
        ([], 1, "is not a run folder: it has no manifest.json"),
        (["--model", "model", "--out", "s.txt"], 2, "--out must end in .parquet or .csv"),
        (["--model", "model", "--text-field", "body"], 1, "no field 'body'"),
        (["--model", "model", "--nonmember-prefix", "long.txt"], 2, "at most 63 tokens"),
        (["--model", "model", "--nonmember-prefix", "no.txt"], 1, "no.txt does not exist"),
        (["--model", "model", "--frequencies", "no.txt"], 1, "no.txt does not exist"),
        (["--model", "model", "--neighbours", "-1"], 2, "--neighbours must be at least 0; got -1"),
        (["--model", "model", "--masked-model", "bert"], 2, "Add --neighbours 25"),
        (["--model", "model", "--reference", "a b=model"], 2, "a reference name"),
        (["--model", "model", "--neighbours", "1", "--masked-model", "model"], 1, "masked"),
        (["--model", "model", "--dtype", "float8"], 2, "float8"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(place, monkeypatch, flags, code, says):
    monkeypatch.chdir(place)
    (place / "long.txt").write_text(WORDS * 20)
    ended = command("score", "texts.jsonl", *flags)
    assert says in ended.err, ended
    assert (ended.code, ended.out, "Traceback" in ended.err) == (code, "", False)
    assert not (place / "scores.parquet").exists()


def test_no_texts_are_refused(place, tmp_path):
    (tmp_path / "empty.txt").touch()
    args = ["score", tmp_path / "empty.txt", "--model", place / "model"]
    ended = command(*args, "--out", tmp_path / "s.csv")
    assert ended.code == 1
    assert "The corpus has no documents" in ended.err
    assert command("score").code == 2


def test_a_run_is_recognised_by_its_manifest(place, tmp_path):
    run = tmp_path / "run"
    sampled = command(
        *("sample", "--model", place / "model", "--samples", 2, "--max-new-tokens", 4),
        *("--out", run),
    )
    assert sampled.code == 0, sampled.err
    ended = command("score", run, "--model", place / "model", "--neighbours", 3)
    assert ended.code == 2
    assert "--model, --neighbours" in ended.err
    ended = command("score", run)
    assert (ended.code, ended.out) == (0, f"{run / 'scores'}\n")


def test_an_out_that_is_a_folder_is_no_out(tmp_path):
    (tmp_path / "s.csv").mkdir()
    with pytest.raises(RunError, match=r"exists. Choose another --out"):
        check_out(tmp_path / "s.csv", overwrite=True)
    with pytest.raises(ConfigError, match="must end in"):
        check_out(tmp_path / "s.json")
