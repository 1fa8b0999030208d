"""An audit interrupted in the middle of a shard keeps its work and ends in the same bytes."""

import copy
from contextlib import contextmanager

import pytest

from auditor.audit.pipeline import run_audit
from auditor.audit.workers.shard_worker import ShardWorker
from auditor.audit.workers.tasks import Settings, Task
from auditor.config.audit import make_config
from auditor.models.language_model import LanguageModel
from auditor.runs.run import load_run
from auditor.sampling.engine import Generation
from tests.tiny import command, save_texts, save_tiny_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models, training text and a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("interrupt")
    save_tiny_model(folder / "model")
    save_tiny_model(folder / "other", seed=1)
    save_texts(folder / "texts.jsonl", ["the quick brown fox", "and runs away from all of them"])
    run_audit(**settings(folder, "whole"))
    return folder


def settings(folder, out, **changes):
    return {
        "model": str(folder / "model"),
        "references": {"other": str(folder / "other")},
        "decoding": {"max_new_tokens": 16},
        "samples": 24,
        "shard_size": 12,
        "batch_size": 5,
        "top": 6,
        "corpus": [str(folder / "texts.jsonl")],
        "out": str(folder / out),
        **changes,
    }


def results(path):
    names = ["candidates.csv", "summary.csv", "candidates.parquet", "matches/matches.parquet"]
    shards = [p.relative_to(path).as_posix() for p in sorted(path.glob("s[ac]*/*.parquet"))]
    return {name: (path / name).read_bytes() for name in [*names, *shards]}


def stopping(monkeypatch, n):
    """From the n-th step of sampling on, a signal has been noted."""
    calls = 0

    @contextmanager
    def deferred():
        def stop():
            nonlocal calls
            calls += 1
            return calls >= n

        yield stop

    monkeypatch.setattr("auditor.audit.sampling.deferred", deferred)


def counted_steps(monkeypatch):
    """The samples' sequences that are stepped from now on, one entry a step."""
    steps, step = [], Generation._step

    def counted(self):
        if self.stream != "probe":
            steps.append(len(self.sample))
        return step(self)

    monkeypatch.setattr(Generation, "_step", counted)
    return steps


def test_an_interrupt_in_the_middle_of_sampling_loses_no_step(place, tmp_path, monkeypatch):
    whole = counted_steps(monkeypatch)
    run_audit(**settings(place, tmp_path / "all"), until="sample")
    n_all = len(whole)
    whole.clear()
    for n in (7, 11, 60):  # the last one in the second shard
        with monkeypatch.context() as patch:
            stopping(patch, n)
            with pytest.raises(KeyboardInterrupt) as caught:
                run_audit(**settings(place, tmp_path / "run"))
        (kept,) = caught.value.__notes__
        assert f"Kept in {tmp_path / 'run'}: " in kept
        assert "unfinished work on 1 shard" in kept
        assert f"To resume, run: auditor audit --resume {tmp_path / 'run'}" in kept
    assert "12 of 24 samples drawn, 0 scored" in kept
    run_audit(**settings(place, tmp_path / "run"))
    assert len(whole) == n_all
    assert results(tmp_path / "run") == results(place / "whole")
    assert list((tmp_path / "run" / "partial").iterdir()) == []


@pytest.mark.parametrize("n", [1, 2, 4])
def test_an_interrupt_in_the_middle_of_scoring_keeps_the_finished_batches(
    place, tmp_path, monkeypatch, n
):
    for out in ("run", "all"):
        run_audit(**settings(place, tmp_path / out), until="sample")
    passes, real = [], LanguageModel.hidden_states

    def watched(stops):
        def hidden_states(self, ids, **kwargs):
            if len(ids) > 2:  # a model is looked at with two short texts when it is loaded
                if stops and len(passes) == n:
                    raise KeyboardInterrupt
                passes.append(len(ids))
            return real(self, ids, **kwargs)

        return hidden_states

    # Batches of about four texts.
    monkeypatch.setattr(LanguageModel, "batch_tokens", 70)
    monkeypatch.setattr(LanguageModel, "hidden_states", watched(stops=False))
    run_audit(**settings(place, tmp_path / "all"), until="score")
    n_all = len(passes)
    passes.clear()
    monkeypatch.setattr(LanguageModel, "hidden_states", watched(stops=True))
    with pytest.raises(KeyboardInterrupt):
        run_audit(**settings(place, tmp_path / "run"), until="score")
    assert len(list((tmp_path / "run" / "partial").glob("score-top-n-*.npz"))) == 1
    monkeypatch.setattr(LanguageModel, "hidden_states", watched(stops=False))
    run_audit(**settings(place, tmp_path / "run"), until="score")
    assert len(passes) == n_all
    shards = [p.name for p in sorted((tmp_path / "all" / "scores").iterdir())]
    for name in shards:
        again = (tmp_path / "run" / "scores" / name).read_bytes()
        assert again == (tmp_path / "all" / "scores" / name).read_bytes()


def test_a_worker_that_is_interrupted_keeps_its_shard_for_any_other(place, tmp_path, monkeypatch):
    config = make_config(settings(place, tmp_path / "run"))
    (tmp_path / "run").mkdir()
    told = Settings(str(tmp_path / "run"), config.model_dump(mode="json"), {}, 0, 1)
    task = Task("sample", "top-n", "top-n-00000", 0, 12, batch_size=5)
    with monkeypatch.context() as patch:
        stopping(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            ShardWorker(copy.deepcopy(told)).do(task)
    assert [p.name for p in (tmp_path / "run" / "partial").iterdir()] == ["sample-top-n-00000.npz"]
    steps = counted_steps(monkeypatch)
    outcome = ShardWorker(told).do(task)
    assert outcome.error is None
    made = load_run(place / "whole").manifest.shards
    assert outcome.files == {k: v for k, v in made.items() if k == "samples/top-n-00000.parquet"}
    assert 0 < len(steps) < 3 * 16 - 7  # three rounds of five slots, less what was kept
    assert list((tmp_path / "run" / "partial").iterdir()) == []


def test_a_smaller_batch_than_before_starts_the_shard_again(place, tmp_path, monkeypatch):
    """It is the remedy when memory runs out, and the cache kept is of the larger batch."""
    with monkeypatch.context() as patch:
        stopping(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            run_audit(**settings(place, tmp_path / "run"), until="sample")
    run = run_audit(**settings(place, tmp_path / "run", batch_size=2), until="sample")
    whole = load_run(place / "whole").samples()
    assert run.samples()["text"].tolist() == whole["text"].tolist()


def test_the_command_says_what_was_kept(place, tmp_path, monkeypatch):
    stopping(monkeypatch, 9)
    ended = command(
        *("audit", "--model", place / "model", "--samples", 8, "--max-new-tokens", 16),
        *("--out", tmp_path / "run"),
    )
    assert ended.code == 130
    last = ended.err.splitlines()[-1]
    assert last == (
        f"Interrupted. Kept in {tmp_path / 'run'}: 0 of 8 samples drawn, 0 scored and unfinished "
        f"work on 1 shard. To resume, run: auditor audit --resume {tmp_path / 'run'}"
    )
