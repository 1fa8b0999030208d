"""Data passed between the stages of an audit."""

import numpy as np
import pytest
import torch

from auditor.audit.pipeline import run_audit
from auditor.audit.provenance import about
from auditor.config.audit import make_config
from auditor.errors import ConfigError, RunError
from auditor.models import loading
from auditor.models.loading import load_model
from auditor.models.tiny_gpt2 import build_tokenizer
from auditor.runs.manifest import Manifest
from auditor.runs.run import Run
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("stages") / "model")


def test_an_unknown_stage_is_refused_before_any_work(model, tmp_path):
    with pytest.raises(ConfigError, match=r"one of sample, score, .* got 'scores'\. Choose one\."):
        run_audit(**asked(model, tmp_path / "run"), until="scores")
    assert not (tmp_path / "run").exists()


def asked(model, out, **more):
    given = {"model": str(model), "samples": 6, "decoding": {"max_new_tokens": 12}}
    return {**given, "out": str(out), **more}


def test_a_bos_with_text_precedes_the_lower_cased_text_once(model, tmp_path):
    """Written out as the prompt's text as well, it would be read twice."""
    run = run_audit(**asked(model, tmp_path / "run", bos="a"), until="score")
    samples = run.samples()
    assert set(samples["prompt"]) == {""}
    loaded = load_model(str(model), bos="a")
    bos = loaded.vocabulary.bos_id
    assert samples["prompt_token_ids"].map(list).tolist() == [[bos]] * 6
    assert loaded.vocabulary.decode([bos]) == "a"
    lowered = loaded.vocabulary.encode_all([text.lower() for text in samples["text"]])
    expected = loaded.token_stats(lowered, [[bos]] * 6).nll()
    assert np.allclose(run.scores()["nll_lowercase"], expected, rtol=1e-5)


def test_bfloat16_samples_are_rescored_in_float32_after_resuming(model, tmp_path, monkeypatch):
    """Begun on a machine that has bfloat16, ended on one that has not."""
    given = asked(model, tmp_path / "run")
    monkeypatch.setattr(loading, "_dtype", lambda *_: torch.bfloat16)
    run_audit(**given, until="sample")
    monkeypatch.setattr(loading, "_dtype", lambda *_: torch.float32)
    run = run_audit(**given)
    assert run.manifest.models["target"].dtype == "bfloat16"
    assert run.manifest.rescored_in_float32
    found = run.candidates().set_index("sample_id")
    samples = run.samples().set_index("sample_id").loc[found.index]
    exact = load_model(str(model)).token_stats([list(ids) for ids in samples["token_ids"]]).nll()
    assert np.allclose(found["nll"], exact, rtol=1e-5)
    drawn = [-np.mean(logprob) for logprob in samples["logprob"]]
    assert not np.allclose(drawn, exact, rtol=1e-5)


def test_unreadable_prefixes_and_controls_are_reported(model, tmp_path):
    """As it is of training text: a run must not rest on half of a file in silence."""
    words = "the quick brown fox jumps over the lazy dog and runs away from all of them"
    for name in ("prefixes", "held-out"):
        lines = [f'{{"text": "{words}"}}\n'] * 4
        (tmp_path / f"{name}.jsonl").write_text("".join([*lines, "{broken\n"]))
    run = run_audit(
        **asked(
            model,
            tmp_path / "run",
            strategies=["internet"],
            prompts={"corpus": [str(tmp_path / "prefixes.jsonl")]},
            controls=[str(tmp_path / "held-out.jsonl")],
        )
    )
    for name in ("prefixes", "held-out"):
        (told,) = [note for note in run.notes() if f"{name}.jsonl" in note]
        assert "line 5 is not JSON" in told
        assert "1 of 5 lines skipped" in told


@pytest.mark.parametrize("until", ["sample", "shortlist"])
def test_another_tokenizer_under_the_same_weights_is_refused(tmp_path, until):
    """Whether the model is loaded next, or only its tokenizer."""
    folder, corpus = save_tiny_model(tmp_path / "model"), tmp_path / "corpus.txt"
    corpus.write_text("a text of the training set, long enough to be looked in")
    given = asked(folder, tmp_path / "run", corpus=[str(corpus)])
    run_audit(**given, until=until)
    build_tokenizer(["zebras zigzag quietly"] * 9, 300).save_pretrained(folder)
    with pytest.raises(RunError, match=r"another tokenizer than when .* original tokenizer\.$"):
        run_audit(**given)


def told_of(strategy, path):
    """The description of a strategy in a report."""
    config = make_config({"model": "m", "strategies": [strategy]}).identity()
    rows = dict(about(Run(path, Manifest(config=config, stages={}, shards={}))))
    return rows[f"Strategy {strategy['name']}"]


def test_a_report_describes_only_the_options_a_strategy_used(tmp_path):
    decoding = {"top_k": 40, "top_p": 0.9, "temperature_start": 10, "repetition_penalty": 1.2}
    drawn = told_of({"name": "own", "decoding": decoding}, tmp_path)
    assert drawn.endswith(
        "from BOS, temperature 10 → 1 over the first 20 tokens, top_k 40, top_p 0.9, "
        "repetition penalty 1.2"
    )
    searched = told_of({"name": "own", "decoding": {**decoding, "beams": 4}}, tmp_path)
    assert searched.endswith("from BOS, the best of 4 beams, repetition penalty 1.2")
