"""`--bos`: the token that starts a text, for every model of a command."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from auditor.audit.pipeline import run_audit
from auditor.comparison.models import compare_models
from auditor.errors import ConfigError, ModelError, RunError
from auditor.extraction.extract import extract
from auditor.finetuning.finetune import finetune
from auditor.finetuning.probes import MemorizationProbe
from auditor.membership import audit_members
from auditor.models.loading import load_model
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model
from auditor.scoring.score_texts import score_texts
from tests.tiny import WORDS, command, save_texts

END = "<|endoftext|>"
TEXTS = [WORDS, "the lazy fox", "a", "jumps over all of them", "quick dog and fox"]


def save(folder, *, seed, bos=None, end=END, context=64):
    """A random GPT-2 whose tokenizer ends a text with `end` and, if told so, starts it."""
    backend = build_tokenizer([WORDS] * 4, 300).backend_tokenizer
    raw = backend.to_str().replace(END, end)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=type(backend).from_str(raw), eos_token=end, bos_token=bos
    )
    network = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=context, seed=seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4)
    save_model(network, tokenizer, folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A target and a reference that name no BOS, one that does, and one without such a token."""
    root = tmp_path_factory.mktemp("models")
    return {
        "target": save(root / "target", seed=1),
        "ref": save(root / "ref", seed=2),
        "own": save(root / "own", seed=3, bos=END),
        "other": save(root / "other", seed=4, end="<end>"),
    }


def nats(spec, text, *, bos=True):
    """Log-probability of each token of a text by plain transformers in float64."""
    tokenizer = AutoTokenizer.from_pretrained(spec)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if bos:
        ids = [tokenizer.convert_tokens_to_ids(END), *ids]
    network = AutoModelForCausalLM.from_pretrained(spec, dtype=torch.float64).eval()
    with torch.no_grad():
        said = network(torch.tensor([ids])).logits[0].log_softmax(-1)
    return said[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


def test_references_that_name_none_are_scored_after_it_too(models, tmp_path):
    corpus = save_texts(tmp_path / "texts.jsonl", TEXTS)
    frame = score_texts(
        [corpus], model=models["target"], references={"r": models["ref"]}, bos=END
    )  # fmt: skip
    for row, text in zip(frame.itertuples(index=False), TEXTS, strict=True):
        mine, theirs = (-nats(models[name], text).mean() for name in ("target", "ref"))
        assert row.nll == pytest.approx(mine, abs=1e-4)
        figures = dict(zip(frame.columns, row, strict=True))
        assert figures["nll_reference:r"] == pytest.approx(theirs, abs=1e-4)
        assert figures["reference:r"] == pytest.approx(theirs / mine, abs=1e-4)
    assert frame.attrs["scored"]["references"]["r"]["bos_id"] == 0


def test_a_reference_keeps_a_bos_of_its_own(models):
    a = load_model(models["target"]).vocabulary.encode("a")[0]
    assert load_model(models["own"], bos="a", is_reference=True).vocabulary.bos_id == 0
    assert load_model(models["own"], bos="a").vocabulary.bos_id == a
    assert load_model(models["ref"], bos="a", is_reference=True).vocabulary.bos_id == a


def test_a_reference_without_that_token_is_refused(models, tmp_path):
    corpus = save_texts(tmp_path / "texts.jsonl", TEXTS)
    done = command(
        "score", corpus, "--model", models["target"], "--reference", f"r={models['other']}",
        "--bos", END, "--out", tmp_path / "out.csv",
    )  # fmt: skip
    assert done.code == 2
    assert f"{models['other']}: --bos must be a token of the model's vocabulary" in done.err
    assert "Leave this reference out" in done.err


def test_a_model_without_bos_beside_one_with_it_is_reported(models, tmp_path):
    corpus = save_texts(tmp_path / "texts.jsonl", TEXTS)
    for model, reference, told in (
        (
            "own",
            "ref",
            "r has no BOS token, so only the target can score the first token",
        ),
        (
            "ref",
            "own",
            "The target has no BOS token, so only r can score the first token",
        ),
    ):
        done = command(
            "score", corpus, "--model", models[model], "--reference", f"r={models[reference]}",
            "--out", tmp_path / "out.csv", "--overwrite",
        )  # fmt: skip
        assert done.code == 0
        assert told in " ".join(done.err.split())


def test_sides_scored_with_different_starts_are_refused(models, tmp_path):
    files = []
    for i, bos in enumerate((END, "a")):
        corpus = save_texts(tmp_path / f"{i}.jsonl", [f"{t} {i}" for t in TEXTS])
        files.append(tmp_path / f"{i}.parquet")
        made = command(
            "score", corpus, "--model", models["target"], "--bos", bos, "--out", files[i]
        )
        assert made.code == 0
    with pytest.raises(ConfigError, match="begins their texts with different tokens"):
        audit_members([files[0]], [files[1]])


def test_an_audit_scores_its_references_after_it(models, tmp_path):
    run = run_audit(
        model=models["target"], references={"r": models["other"], "s": models["own"]}, bos="a",
        samples=4, strategies=["pure"], decoding={"max_new_tokens": 6}, out=str(tmp_path / "run"),
        until="score",
    )  # fmt: skip
    of = run.manifest.models
    a = load_model(models["target"]).vocabulary.encode("a")[0]
    assert [of[name].bos_id for name in ("target", "r", "s")] == [a, a, 0]


def test_a_run_whose_models_began_otherwise_is_not_resumed(models, tmp_path):
    asked = {
        "model": models["target"], "references": {"r": models["ref"]}, "bos": END, "samples": 4,
        "strategies": ["pure"], "decoding": {"max_new_tokens": 6}, "out": str(tmp_path / "run"),
    }  # fmt: skip
    run_audit(**asked, until="sample")
    manifest = tmp_path / "run" / "manifest.json"
    told = json.loads(manifest.read_text())
    # As a version wrote it that judged references without --bos.
    told["models"]["r"] = {"sha256": load_model(models["ref"]).fingerprint}
    manifest.write_text(json.dumps(told))
    with pytest.raises(RunError, match="has another BOS token than when"):
        run_audit(**asked)


def test_canaries_that_begin_with_their_secret_are_measured_after_it(models, tmp_path):
    made = command(
        "canaries", "create", "--template", "{digits:1}a", "--count", "2", "--controls", "3",
        "--out", tmp_path / "c.json",
    )  # fmt: skip
    assert made.code == 0
    measure = ["canaries", "measure", tmp_path / "c.json", "--model", models["target"]]
    refused = command(*measure)
    assert refused.code == 2
    assert "or name a BOS token with --bos" in refused.err
    done = command(*measure, "--bos", END, "--reveal", "--out", tmp_path / "c.csv")
    assert done.code == 0, done.err
    found = pd.read_csv(tmp_path / "c.csv", dtype={"secret": str})
    assert len(found) == 5
    for row in found.itertuples():
        assert row.logprob == pytest.approx(nats(models["target"], row.secret).sum(), abs=1e-3)


def test_extract_puts_it_before_prefixes(models, tmp_path):
    corpus = save_texts(tmp_path / "t.jsonl", [WORDS])
    found = extract(models["target"], [corpus], prefix_tokens=4, suffix_tokens=4, bos=END)
    every = nats(models["target"], WORDS)
    assert found.examples["log_p_z"][0] == pytest.approx(every[4:8].sum(), abs=1e-3)
    without = extract(models["target"], [corpus], prefix_tokens=4, suffix_tokens=4)
    every = nats(models["target"], WORDS, bos=False)
    assert without.examples["log_p_z"][0] == pytest.approx(every[3:7].sum(), abs=1e-3)
    with pytest.raises(ConfigError, match="--no-bos rules it out"):
        extract(models["target"], [corpus], with_bos=False, bos=END)
    with pytest.raises(ConfigError, match="has no effect on a loaded model"):
        extract([load_model(models["target"])], [corpus], bos=END)
    asked = ["extract", "--model", models["target"], "--prefix-tokens", "4", "--suffix-tokens", "4"]
    out = tmp_path / "out"
    assert command(*asked, "--corpus", corpus, "--bos", END, "--out", out).code == 0
    again = command(*asked, "--corpus", corpus, "--out", out)
    assert again.code == 1
    assert f'bos is "{END}" stored, null requested' in again.err
    document = command(*asked, "--document", corpus, "--stride", "9", "--bos", END)
    assert document.code == 0, document.err


def test_both_models_of_a_comparison_begin_with_it(models, tmp_path):
    corpus = save_texts(tmp_path / "t.jsonl", TEXTS[:2])
    asked = {"texts": [corpus], "prefix_tokens": 2, "suffix_tokens": 2}
    found = compare_models(models["target"], models["ref"], bos=END, **asked)
    for row in found.texts.itertuples():
        assert row.likelihood_base == pytest.approx(
            nats(models["target"], row.text).mean(), abs=1e-4
        )
        assert row.likelihood_tuned == pytest.approx(nats(models["ref"], row.text).mean(), abs=1e-4)
    assert found.facts["bos"] == END
    with pytest.raises(ModelError, match=r"both have a BOS token, or neither; .*own has one and"):
        compare_models(models["target"], models["own"], **asked)


def test_fine_tuning_trains_and_measures_with_it_and_saves_it(models, tmp_path):
    corpus = save_texts(tmp_path / "t.jsonl", TEXTS)
    held = save_texts(tmp_path / "h.jsonl", ["fox and dog run away"])
    asked = {"heldout": [held], "max_steps": 1, "learning_rate": 1e-9, "batch": 2}
    done = finetune(models["target"], [corpus], out=tmp_path / "out", bos=END, **asked)
    # Nothing was learned, so what it measured is the first model's, every text after BOS.
    every = np.concatenate([nats(models["target"], text) for text in TEXTS])
    assert done.manifest["final"]["member_nll"] == pytest.approx(-every.mean(), abs=1e-4)
    # A row a text: BOS, its tokens, EOS.
    n = len(every) + 2 * len(TEXTS)
    assert done.manifest["corpus"]["tokens_an_epoch"] == n
    assert load_model(str(tmp_path / "out")).vocabulary.bos_id == 0
    with pytest.raises(RunError, match="bos is"):
        finetune(models["target"], [corpus], out=tmp_path / "out", **asked)
    with pytest.raises(ConfigError, match=r"--bos must be a special token of .*; got 'a'"):
        finetune(models["target"], [corpus], out=tmp_path / "next", bos="a", **asked)


def test_a_probe_of_ones_own_training_begins_with_it(models):
    tokenizer = AutoTokenizer.from_pretrained(models["target"])
    network = AutoModelForCausalLM.from_pretrained(models["target"])
    row = MemorizationProbe(tokenizer, members=TEXTS, bos=END).measure(network, 0)
    every = np.concatenate([nats(models["target"], text) for text in TEXTS])
    assert row.member_nll == pytest.approx(-every.mean(), abs=1e-4)
