"""What a run will cost is stated before it starts, and confirmed if it is high."""

import json
import shutil
from collections import namedtuple

import pytest

from auditor.audit import cost
from auditor.audit.cost import Cost, Speed
from auditor.audit.pipeline import run_audit
from auditor.errors import ConfigError
from auditor.runs.run import load_run
from auditor.system.progress import NullProgress
from tests.tiny import command, save_tiny_model

Disk = namedtuple("Disk", "total used free")


class Asked(NullProgress):
    """Answers every question in one way, and keeps what it was told."""

    def __init__(self, answer):
        self.answer, self.questions, self.notes = answer, [], []

    def confirm(self, question):
        self.questions.append(question)
        return self.answer

    def note(self, sentence):
        self.notes.append(sentence)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("cost") / "model"))


def settings(model, out, **changes):
    small = {"samples": 12, "shard_size": 5, "top": 4, "decoding": {"max_new_tokens": 16}}
    return {"model": model, "out": str(out), **small, **changes}


def slow(monkeypatch, seconds):
    """Every token takes `seconds`."""
    monkeypatch.setattr(
        "auditor.audit.sampling.measured_speed", lambda *_: Speed(seconds / 2, seconds / 2)
    )


def free(monkeypatch, n_bytes):
    monkeypatch.setattr(cost.shutil, "disk_usage", lambda path: Disk(0, 0, n_bytes))


def test_samples_tokens_time_and_disk_are_stated(model, tmp_path, monkeypatch):
    slow(monkeypatch, 1.0)
    progress = Asked(answer=False)
    run_audit(**settings(model, tmp_path / "run"), until="sample", progress=progress)
    # 12 samples of 16 tokens; 12 bytes a token and 600 a sample.
    assert progress.notes == [
        "To do: 12 samples of up to 192 tokens in all; about 4 min and 10 kB of disk."
    ]
    assert progress.questions == []


def test_only_what_is_missing_counts(model, tmp_path, monkeypatch):
    slow(monkeypatch, 1.0)
    given = settings(model, tmp_path / "run", batch_size=5)
    run_audit(**given, until="sample")
    (tmp_path / "run" / "samples" / "top-n-00001.parquet").unlink()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    del manifest["shards"]["samples/top-n-00001.parquet"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    progress = Asked(answer=False)
    run_audit(**given, until="sample", progress=progress)
    assert progress.notes[0].startswith("To do: 5 samples of up to 80 tokens in all")
    progress.notes.clear()
    run_audit(**given, until="sample", progress=progress)
    assert progress.notes == []


def test_more_than_a_day_is_confirmed_or_refused_with_the_number_and_the_remedy(
    model, tmp_path, monkeypatch
):
    slow(monkeypatch, 86400 / 192 + 1)
    given = settings(model, tmp_path / "run")
    progress = Asked(answer=False)
    with pytest.raises(ConfigError, match=r"takes more than 24 hours \(12 samples.*--yes \(yes ="):
        run_audit(**given, progress=progress)
    assert "about 24 h 03 min" in progress.questions[0]
    assert not (tmp_path / "run").exists()
    assert run_audit(**given, until="sample", progress=Asked(answer=True)).samples().shape[0] == 12
    agreed = settings(model, tmp_path / "other", yes=True)
    assert run_audit(**agreed, until="sample").samples().shape[0] == 12


def test_less_than_a_day_is_not_asked_about(model, tmp_path, monkeypatch):
    slow(monkeypatch, 86400 / 192 - 1)
    run_audit(**settings(model, tmp_path / "run"), until="sample")


def test_more_disk_than_is_free_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    free(monkeypatch, 9_503)
    with pytest.raises(ConfigError, match="more disk than the 10 kB that is free"):
        run_audit(**settings("no-such-model", tmp_path / "run"))
    free(monkeypatch, 9_504)  # 12 * 600 + 192 * 12
    with pytest.raises(Exception, match="no-such-model"):
        run_audit(**settings("./no-such-model", tmp_path / "run"))


def test_a_run_of_too_many_files_is_refused_at_once(tmp_path):
    given = settings("no-such-model", tmp_path / "run", samples=10**9, shard_size=1, yes=True)
    with pytest.raises(ConfigError, match=r"at most 1,000,000 files.*are 2,000,000,000"):
        run_audit(**given)


def test_what_the_probe_measures_changes_no_byte(model, tmp_path, monkeypatch):
    run_audit(**settings(model, tmp_path / "probed"))
    monkeypatch.setattr("auditor.audit.sampling.measured_speed", lambda *_: None)
    run_audit(**settings(model, tmp_path / "not"))
    for name in ("candidates.csv", "samples/top-n-00000.parquet", "scores/top-n-00002.parquet"):
        assert (tmp_path / "probed" / name).read_bytes() == (tmp_path / "not" / name).read_bytes()


def test_the_probe_draws_a_small_share_of_the_tokens_and_times_each(model, monkeypatch):
    """With a clock that advances by a second a sequence step, a token takes a second."""
    from auditor.config.audit import Decoding
    from auditor.models.loading import load_model
    from auditor.sampling.engine import Generation

    clock, step = [0.0], Generation._step

    def timed(self):
        if not clock[0]:
            clock[0] += 3.0  # compilation in the very first step does not count
        clock[0] += 0.001 * int((self.sample >= 0).sum())
        return step(self)

    monkeypatch.setattr(Generation, "_step", timed)
    monkeypatch.setattr(cost.time, "monotonic", lambda: clock[0])
    loaded = load_model(model)
    decoding = Decoding(max_new_tokens=64)
    speed = cost._sampling_speed(loaded, [[0], [0, 1]], decoding, 32, 1000.0)
    assert speed == pytest.approx(0.001)
    assert clock[0] <= 3.0 + 2.0  # batches of 8, 32, 64, ..., 1,000 tokens at most
    clock[0] = 0.0
    cost._sampling_speed(loaded, [[0]], decoding, 1000, 10.0**9)
    assert clock[0] <= cost._PROBE_SECONDS


def test_an_existing_run_with_an_absurd_number_is_refused(model, tmp_path):
    run_audit(**settings(model, tmp_path / "run"), until="sample")
    for number, says in ((10**20, "at most 1,000,000,000"), (10**9, "files")):
        shutil.copytree(tmp_path / "run", tmp_path / str(number))
        file = tmp_path / str(number) / "manifest.json"
        manifest = json.loads(file.read_text())
        manifest["config"]["samples"] = number
        file.write_text(json.dumps(manifest))
        ended = command("audit", "--resume", tmp_path / str(number))
        assert ended.code in (1, 2)
        assert says in ended.err
        assert "Traceback" not in ended.err


def test_the_key_of_an_audit_file_agrees_and_is_not_part_of_the_run(model, tmp_path, monkeypatch):
    slow(monkeypatch, 86400)
    file = tmp_path / "audit.toml"
    text = f'model = "{model}"\nsamples = 4\nout = "{tmp_path / "run"}"\n'
    small = ("--max-new-tokens", 4)
    file.write_text(text)
    ended = command("audit", file, *small)
    assert (ended.code, "add --yes" in ended.err) == (2, True)
    file.write_text(text + "yes = true\n")
    assert command("audit", file, *small).code == 0
    assert load_run(tmp_path / "run").config.yes is False
    assert command("audit", "--resume", tmp_path / "run", "--yes").code == 0


@pytest.mark.parametrize(
    ("sampling", "words"),
    [(None, "9 MB of disk"), (5.0, "about 5 s and 9 MB"), (10**7, "about 115.7 days and 9 MB")],
)
def test_a_cost_in_words(sampling, words):
    assert words in str(Cost(10, 20, 9 * 10**6, 10**12, sampling))
