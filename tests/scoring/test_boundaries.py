"""Samples that cross document boundaries: every score compares the same documents."""

import json
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from auditor.audit.pipeline import run_audit
from auditor.config.audit import make_config
from auditor.corpus.reading import read_corpus
from auditor.scoring.score_texts import score_texts
from tests.tiny import WORDS


def other_tokenizer():
    """Byte-level too, with a beginning and an end of its own names."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        ["completely other words " * 9],
        trainers.BpeTrainer(
            vocab_size=280,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **ends)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A target, a reference with its tokenizer, and one whose text ends with a token of its own."""
    from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

    folder = tmp_path_factory.mktemp("boundaries")
    small = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=512, seed=1)
    save_model(small, build_tokenizer([WORDS] * 4, 300), folder / "small")
    target = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=512, seed=0)
    with torch.no_grad():  # the end of a text comes often
        end = target.transformer.wte.weight[0]
        target.transformer.ln_f.bias.copy_(3 * end / end.square().sum())
    save_model(target, build_tokenizer([WORDS] * 4, 300), folder / "target")
    other = build_gpt2(n_vocab=280, n_layer=1, width=16, n_head=2, context=512, seed=2)
    save_model(other, other_tokenizer(), folder / "other")
    (folder / "prompts.txt").write_text(f"{WORDS} <|endoftext|>{WORDS.upper()} " * 9)
    return folder


@pytest.fixture(scope="module")
def run(place):
    return run_audit(
        make_config(
            {
                "model": str(place / "target"),
                "references": {n: str(place / n) for n in ("small", "other")},
                "strategies": ["pure", "internet"],
                "prompts": {"corpus": [str(place / "prompts.txt")]},
                "decoding": {"max_new_tokens": 40},
                "samples": 24,
                "top": 4,
                "dtype": "float32",
                "out": str(place / "run"),
            }
        )
    )


def nats(folder, ids, n_before):
    """Nats of each token after the first so many, by the whole network in float64."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    x = torch.tensor([ids])
    with torch.no_grad():
        found = network(input_ids=x, use_cache=False).logits[0].log_softmax(-1)
    return -found[:-1].gather(1, x[0, 1:, None])[n_before - 1 :, 0].numpy()


def documents(ids, end):
    """Token ids cut at each end of a text; the ends are left out."""
    found = [[]]
    for i in ids:
        if i == end:
            found.append([])
        else:
            found[-1].append(i)
    return found


def sequence(tokenizer, end, prompts, texts, change=str):
    """Prompt and sample as documents, each changed, with this end between: (before, own).

    The prompt's last document and the text's first are one string, cut at the prompt's end.
    """

    def coded(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    before, own = [], []
    for text in prompts[:-1]:
        before += [*coded(change(text)), end]
    left, right = change(prompts[-1]), change(texts[0])
    seam = tokenizer(left + right, add_special_tokens=False, return_offsets_mapping=True)
    until = [b for _, b in seam["offset_mapping"]]
    n = sum(b <= len(left) for b in until) if left else 0
    before += seam["input_ids"][:n]
    own += seam["input_ids"][n:]
    for text in texts[1:]:
        own += [end, *coded(change(text))]
    return before, own


def right(place, row):
    """The table's figures of a sample, from plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained(place / "target")
    other = AutoTokenizer.from_pretrained(place / "other")
    end, ids = tokenizer.eos_token_id, list(row["token_ids"])
    prompt = list(row["prompt_token_ids"])[1:]
    said = [[tokenizer.decode(part) for part in documents(some, end)] for some in (prompt, ids)]
    own = nats(place / "target", [end, *prompt, *ids], 1 + len(prompt))
    found = {"nll": own.mean(), "likelihood": -own.mean()}
    before, lower = sequence(tokenizer, end, *said, str.lower)
    if all(text == text.lower() for some in said for text in some):
        before, lower = prompt, ids
    found["nll_lowercase"] = nats(place / "target", [end, *before, *lower], 1 + len(before)).mean()
    found["lowercase"] = found["nll_lowercase"] / own.mean()
    small = nats(place / "small", [end, *prompt, *ids], 1 + len(prompt))
    found |= {"nll_reference:small": small.mean(), "reference:small": small.mean() / own.mean()}
    before, theirs = sequence(other, other.eos_token_id, *said)
    judged = nats(place / "other", [other.bos_token_id, *before, *theirs], 1 + len(before))
    found["nll_reference:other"] = judged.mean()
    found["reference:other"] = judged.sum() / own.sum()  # both by the same bytes
    found["zlib"] = 8 * len(zlib.compress(row["text"].encode(), 6)) / own.mean()
    found["window"] = -own.mean()
    return found


def test_every_figure_is_of_the_documented_sequences(run, place):
    samples, scores = run.samples(), run.scores().set_index("sample_id")
    end = AutoTokenizer.from_pretrained(place / "target").eos_token_id
    inside = [end in list(ids)[:-1] for ids in samples["token_ids"]]
    assert sum(inside) >= 3
    chosen = [*np.flatnonzero(inside)[:6].tolist(), 0, len(samples) - 1]
    for _, row in samples.iloc[chosen].iterrows():
        for name, value in right(place, row).items():
            assert scores.loc[row["sample_id"], name] == pytest.approx(value, rel=2e-5), name


def as_parquet(run, folder):
    return sorted((run.path / "samples").glob("*.parquet"))


def as_lines(run, folder):
    run.samples().to_json(folder / "s.jsonl", orient="records", lines=True)
    return [folder / "s.jsonl"]


def as_csv(run, folder):
    rows = run.samples()
    rows = rows[~rows["text"].str.contains("\r")].copy()
    for name in ("token_ids", "prompt_token_ids"):
        rows[name] = rows[name].map(lambda ids: str(list(map(int, ids))))
    rows.to_csv(folder / "s.csv", index=False)
    return [folder / "s.csv"]


@pytest.mark.parametrize("export", [as_parquet, as_lines, as_csv])
def test_exported_samples_score_as_they_did_in_the_audit(run, place, export, tmp_path):
    files = export(run, tmp_path)
    frame = score_texts(
        files,
        model=str(place / "target"),
        references={n: str(place / n) for n in ("small", "other")},
        device="cpu",
    )
    scores = run.scores()
    # In a corpus of several files an id has its file's name before it.
    frame["doc_id"] = frame["doc_id"].str.rpartition("#")[2]
    both = frame.merge(scores, left_on="doc_id", right_on="sample_id", suffixes=("", "_audit"))
    assert len(both) == len(frame) > 40
    names = ["nll", "nll_lowercase", "lowercase", "zlib", "window"]
    names += [f"{kind}:{n}" for kind in ("nll_reference", "reference") for n in ("small", "other")]
    for name in names:
        np.testing.assert_allclose(both[name], both[f"{name}_audit"], rtol=2e-5, err_msg=name)
    assert frame.attrs["scored"]["texts_by_tokens"] == len(frame)


def test_tokens_that_are_not_the_models_own_are_left_aside(place, tmp_path):
    """Another model's ids spell another text, or begin with no BOS of this one."""
    rows = [
        {"text": "the fox", "prompt_token_ids": [0], "token_ids": [5, 6]},
        {"text": "the fox", "prompt_token_ids": [0], "token_ids": [999_999]},
        {"text": "the fox", "prompt_token_ids": [0], "token_ids": "none"},
        {"text": "the fox"},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame = score_texts([path], model=str(place / "target"), device="cpu")
    assert frame["nll"].nunique() == 1
    assert "texts_by_tokens" not in frame.attrs["scored"]


def test_the_name_of_an_end_in_a_text_is_an_end_whatever_it_is_compared_with(place, tmp_path):
    text = "The Quick<|endoftext|>Brown FOX"
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n")
    [row] = score_texts(
        [path], model=str(place / "target"), references={"other": str(place / "other")},
        device="cpu",
    ).to_dict("records")  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(place / "target")
    said = [""], text.split("<|endoftext|>")
    _, lower = sequence(tokenizer, 0, *said, str.lower)
    assert row["nll_lowercase"] == pytest.approx(
        nats(place / "target", [0, *lower], 1).mean(), rel=2e-5
    )
    other = AutoTokenizer.from_pretrained(place / "other")
    _, theirs = sequence(other, other.eos_token_id, *said)
    judged = nats(place / "other", [other.bos_token_id, *theirs], 1)
    assert row["nll_reference:other"] == pytest.approx(judged.mean(), rel=2e-5)


def test_lower_case_text_is_not_judged_again_and_scores_exactly_one(place, tmp_path, monkeypatch):
    from auditor.models.language_model import LanguageModel

    asked, whole = [], LanguageModel.token_stats

    def counted(self, texts, prefixes=None, **options):
        asked.append(len(texts))
        return whole(self, texts, prefixes, **options)

    monkeypatch.setattr(LanguageModel, "token_stats", counted)
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("the fox", "x 1!", "Fox")))
    frame = score_texts([path], model=str(place / "target"), device="cpu")
    assert frame["lowercase"].tolist()[:2] == [1.0, 1.0]
    assert frame["lowercase"][2] != 1.0
    assert asked == [3, 1]


def test_a_reference_with_fewer_rows_lacks_only_the_samples_that_hold_them(tmp_path):
    """Both have one tokenizer; its padding rows can be drawn, and spell nothing."""
    from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

    for name, rows in (("target", 340), ("small", 320)):
        network = build_gpt2(n_vocab=rows, n_layer=1, width=16, n_head=2, context=64, seed=rows)
        save_model(network, build_tokenizer([WORDS] * 4, 300), tmp_path / name)
    run = run_audit(
        make_config(
            {
                "model": str(tmp_path / "target"),
                "references": {"small": str(tmp_path / "small")},
                "strategies": ["pure"],
                "decoding": {"max_new_tokens": 12},
                "samples": 40,
                "top": 4,
                "out": str(tmp_path / "run"),
            }
        )
    )
    samples, scores = run.samples(), run.scores()
    beyond = samples["token_ids"].map(lambda ids: max(ids) >= 320).to_numpy(bool)
    assert 0 < beyond.sum() < len(beyond)
    assert np.isnan(scores["reference:small"]).tolist() == beyond.tolist()
    assert scores["lowercase"].notna().all()
    shard = json.loads((run.path / "manifest.json").read_text())["shards"][
        "scores/pure-00000.parquet"
    ]
    assert shard["undefined"]["reference:small"] == {
        "model to compare with has no row for a token of the text": int(beyond.sum())
    }
    for _, row in samples[~beyond].head(3).iterrows():
        ids = list(row["token_ids"])
        ratio = (
            nats(tmp_path / "small", [0, *ids], 1).sum()
            / nats(tmp_path / "target", [0, *ids], 1).sum()
        )
        found = scores.set_index("sample_id").loc[row["sample_id"], "reference:small"]
        assert found == pytest.approx(ratio, rel=2e-5)


def test_documents_with_tokens_keep_them_and_others_have_none(tmp_path):
    rows = pd.DataFrame(
        {"sample_id": ["s-1"], "text": ["ab"], "token_ids": [[5]], "prompt_token_ids": [[0]]}
    )
    rows.to_parquet(tmp_path / "a.parquet")
    rows.drop(columns="prompt_token_ids").to_parquet(tmp_path / "b.parquet")
    [document] = read_corpus([tmp_path / "a.parquet"])
    assert (document.doc_id, document.tokens) == ("s-1", ((0,), (5,)))
    [document] = read_corpus([tmp_path / "b.parquet"])
    assert (document.doc_id, document.tokens) == ("b.parquet:1", None)
