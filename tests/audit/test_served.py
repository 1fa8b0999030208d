"""An audit of a served model, with and without log-probabilities, and resumed."""

import json

import numpy as np
import pytest

from auditor.audit.pipeline import run_audit
from auditor.errors import ConfigError, ModelError
from tests.serving import NAME, connected, save_served_model, serving
from tests.tiny import save_texts

PASSAGE = "the quick brown fox jumps over the lazy dog and runs away from all of them"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_served_model(tmp_path_factory.mktemp("served") / "model")


def audit(fake, folder, tmp_path, **changes):
    settings = {
        "model": fake.url,
        "served_model": NAME,
        "tokenizer": str(folder),
        "strategies": ["pure"],
        "samples": 8,
        "max_new_tokens": 8,
        "shard_size": 4,
        "corpus": [save_texts(tmp_path / "corpus.jsonl", [PASSAGE])],
        "min_match_tokens": 3,
        "out": str(tmp_path / "run"),
    }
    return run_audit(**{**settings, **changes}, progress=False)


def test_an_audit_runs_to_its_report_without_any_log_probability(folder, tmp_path):
    off = {"echo": False, "prompt_logprobs": False, "logprobs": False, "settings": ()}
    with serving(folder, **off) as fake:
        run = audit(fake, folder, tmp_path)
    assert run.complete
    assert run.scores()["zlib_bits"].gt(0).all()
    assert run.scores()["nll"].isna().all()
    assert not {"likelihood", "zlib", "window"} & set(run.scores().columns)
    candidates = run.candidates()
    assert candidates["rank:random"].notna().all()
    assert len(candidates) > 0
    assert set(candidates["verdict"]) <= {"verbatim", "fuzzy", "not found"}
    kept = run.manifest.models["target"].capabilities
    assert kept["log-probabilities of given text"] == "unavailable: the server gives none"
    assert "likelihood is left out: the server gives no log-probabilities." in [
        note.sentence for note in run.manifest.notes
    ]


def test_an_audit_with_log_probabilities_of_drawn_tokens_ranks_by_them(folder, tmp_path):
    with serving(folder, echo=False, prompt_logprobs=False) as fake:
        run = audit(fake, folder, tmp_path)
    scores = run.scores()
    assert scores[["likelihood", "zlib", "window"]].notna().all().all()
    assert "lowercase" not in scores


def test_a_stopped_audit_asks_nothing_twice_and_gives_the_same(folder, tmp_path):
    with serving(folder, has_seed=False) as fake:
        connected(fake, folder)
        n_probe = len(fake.bodies)
        fake.bodies.clear()
        with pytest.raises(ModelError, match="--max-requests"):
            # Within the second shard.
            audit(fake, folder, tmp_path, max_requests=n_probe + 6, concurrency=1)
        kept = (tmp_path / "run" / "answers" / "target.jsonl").read_bytes()
        n = len(fake.bodies)
        run = audit(fake, folder, tmp_path)
        lines = (run.path / "answers/target.jsonl").read_text().splitlines()
        keys = [json.loads(line)["key"] for line in lines]
    assert run.complete
    assert n == kept.count(b"\n")
    assert (run.path / "answers/target.jsonl").read_bytes().startswith(kept)
    assert len(keys) == len(set(keys)) == len(fake.bodies)


def test_the_key_is_nowhere_in_the_run(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    with serving(folder, key="sk-very-secret") as fake:
        run = audit(fake, folder, tmp_path, api_key_env="SOME_KEY")
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if b"sk-very-secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"workers": 2}, "--workers and --ray are for models on this machine"),
        ({"references": ["a=http://localhost:1/v1"]}, "--reference a must be a model on this"),
        ({"served_model": None}, "Add --served-model NAME"),
        ({"tokenizer": None}, "Add --tokenizer SPEC"),
        ({"model": "http://me:secret@localhost/v1"}, "must be an address without a name, key"),
        ({"api_key_env": "sk-12 34"}, "must be the name of an environment variable"),
        ({"max_cost": 3}, "--max-cost needs a price"),
        ({"model": "gpt2"}, "--served-model is for models behind a server"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, tmp_path, changes, told):
    class Nowhere:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(ConfigError) as error:
        audit(Nowhere, folder, tmp_path, **changes)
    assert told in str(error.value)
    assert "secret" not in str(error.value)
    assert "sk-12" not in str(error.value)


def test_controls_that_cannot_be_scored_are_refused_before_sampling(folder, tmp_path):
    heldout = save_texts(tmp_path / "heldout.jsonl", ["another text"])
    with serving(folder, echo=False, prompt_logprobs=False) as fake:
        with pytest.raises(ConfigError) as told:
            audit(fake, folder, tmp_path, controls=[heldout])
        n_asked = len(fake.bodies)
        connected(fake, folder)
        n_probe = len(fake.bodies) - n_asked
    assert str(told.value).endswith("Use --controls verified.")
    assert n_asked == n_probe


def test_given_text_is_scored_where_the_server_allows_it(folder, tmp_path):
    from auditor.scoring.score_texts import score_texts

    corpus = save_texts(tmp_path / "corpus.jsonl", [PASSAGE, PASSAGE.title()])
    served = {"served_model": NAME, "tokenizer": str(folder)}
    here = score_texts([corpus], model=str(folder), progress=False)
    with serving(folder) as fake:
        found = score_texts([corpus], model=fake.url, served=served, progress=False)
    names = ["loss", "zlib", "lowercase", "window", "min_k"]
    np.testing.assert_allclose(found[names], here[names], rtol=1e-5)
    assert "min_k_plus_plus" not in found
    with serving(folder, echo=False, prompt_logprobs=False) as fake:
        found = score_texts([corpus], model=fake.url, served=served, progress=False)
    assert found["zlib_bits"].tolist() == here["zlib_bits"].tolist()
    assert found["nll"].isna().all()
    assert not set(names) & set(found.columns)
