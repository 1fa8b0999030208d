"""What the stages of an audit hand on to each other."""

import numpy as np
import pytest
import torch
from tiny import save_tiny_model

from auditor.audit import run_audit
from auditor.language_models import loading
from auditor.language_models.loading import load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("stages") / "model")


def asked(model, out, **more):
    given = {"model": str(model), "samples": 6, "decoding": {"max_new_tokens": 12}}
    return {**given, "out": str(out), **more}


def test_a_bos_that_has_text_of_its_own_stands_once_before_the_lower_cased_text(model, tmp_path):
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


def test_what_was_drawn_in_bfloat16_is_judged_again_wherever_the_run_goes_on(
    model, tmp_path, monkeypatch
):
    """Begun on a machine that has bfloat16, ended on one that has not."""
    given = asked(model, tmp_path / "run")
    monkeypatch.setattr(loading, "_dtype", lambda *_: torch.bfloat16)
    run_audit(**given, until="sample")
    monkeypatch.setattr(loading, "_dtype", lambda *_: torch.float32)
    run = run_audit(**given)
    assert run.manifest["models"]["target"]["dtype"] == "bfloat16"
    assert run.manifest["rescored_in_float32"]
    found = run.candidates().set_index("sample_id")
    samples = run.samples().set_index("sample_id").loc[found.index]
    exact = load_model(str(model)).token_stats([list(ids) for ids in samples["token_ids"]]).nll()
    assert np.allclose(found["nll"], exact, rtol=1e-5)
    drawn = [-np.mean(logprob) for logprob in samples["logprob"]]
    assert not np.allclose(drawn, exact, rtol=1e-5)
