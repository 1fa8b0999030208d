"""Fine-tuning: resuming gives the same weights; invalid requests are refused."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from auditor.cli.command import VERBS
from auditor.comparison.model_pair import Pair
from auditor.errors import AuditError, ConfigError, ModelError, RunError
from auditor.finetuning import training
from auditor.finetuning.callback import read_probes
from auditor.finetuning.checkpoints import last_checkpoint
from auditor.finetuning.finetune import finetune
from auditor.models.loading import load_model
from tests.tiny import WORDS, command, save_texts, save_tiny_model


def weights(folder):
    network = load_model(str(folder), dtype="float32").network
    return torch.cat([p.detach().flatten() for p in network.parameters()])


QUICK = {"epochs": 2, "batch": 4, "learning_rate": 1e-2, "save_every": 3, "probe_every": 4}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, base, texts):
    return finetune(str(base), texts, out=tmp_path_factory.mktemp("tuned") / "out", **QUICK)


def test_a_tuned_model_loads_and_knows_its_text_better(base, texts, tuned):
    before, after = load_model(str(base)), load_model(str(tuned.folder))
    ids = [before.vocabulary.encode(WORDS)]
    assert after.token_stats(ids).nll()[0] < before.token_stats(ids).nll()[0] - 0.5
    assert after.fingerprint == tuned.manifest["fingerprint"]
    assert tuned.manifest["base"]["fingerprint"] == before.fingerprint
    assert tuned.manifest["steps"] == 10  # 18 rows in fours, twice
    assert tuned.manifest["corpus"] | {"fingerprint": ""} == {
        "fingerprint": "", "documents": 18, "heldout_documents": 2, "rows_an_epoch": 18,
        "tokens_an_epoch": tuned.manifest["corpus"]["tokens_an_epoch"],
    }  # fmt: skip
    frame = read_probes(tuned.folder / "probes")
    assert frame["step"].tolist() == [0, 4, 5, 8, 10]
    assert tuned.manifest["final"]["member_nll"] == frame["member_nll"].iloc[-1]


def test_a_finished_model_is_opened_and_not_trained_again(base, texts, tuned, monkeypatch):
    monkeypatch.setattr(
        "auditor.finetuning.finetune._train", lambda work: pytest.fail("trained again")
    )
    again = finetune(str(base), texts, out=tuned.folder, **QUICK)
    assert again.manifest == tuned.manifest


def test_a_resumed_training_ends_in_the_same_weights(tmp_path, base, texts, tuned):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        finetune(str(base), texts, out=out, progress=Stops(at=8), **QUICK)
    assert last_checkpoint(out).name == "checkpoint-6"
    # What a process that is killed while it writes a checkpoint leaves.
    (out / "checkpoints" / "checkpoint-9").mkdir()
    (out / "checkpoints" / "checkpoint-9" / "model.safetensors").write_bytes(b"half")
    done = finetune(str(base), texts, out=out, **QUICK)
    assert torch.equal(weights(out), weights(tuned.folder))
    assert done.manifest["final"] == tuned.manifest["final"]
    assert read_probes(out / "probes")["step"].tolist() == [0, 4, 5, 8, 10]


class Stops:
    """A progress that interrupts at a step."""

    def __init__(self, at):
        self.left = at

    def note(self, sentence):
        pass

    def stage(self, name, total, unit):
        from contextlib import nullcontext

        return nullcontext(self)

    def advance(self, n):
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt


_KILLED = """
import os, signal, sys
from auditor.finetuning.finetune import finetune
from auditor.system.progress import NullProgress
from contextlib import contextmanager
class Kills(NullProgress):
    n = 0
    @contextmanager
    def stage(self, *args):
        yield self
    def advance(self, n):
        self.n += n
        if self.n >= 7:
            os.kill(os.getpid(), signal.SIGKILL)
base, texts, out = sys.argv[1:]
finetune(base, texts, out=out, progress=Kills(), epochs=2, batch=4, learning_rate=1e-2,
         save_every=3, probe_every=4)
"""


def test_a_killed_training_is_resumed_by_the_same_command(tmp_path, base, texts, tuned):
    out = tmp_path / "out"
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(base), texts, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert last_checkpoint(out).name == "checkpoint-6"
    finetune(str(base), texts, out=out, **QUICK)
    # Threads of another number may round otherwise, so near is all that can be asked.
    assert torch.allclose(weights(out), weights(tuned.folder), atol=1e-4)


def test_the_global_random_state_is_not_changed(tmp_path, base, texts):
    torch.manual_seed(3), np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3), np.random.seed(3)  # noqa: NPY002
    finetune(str(base), texts, out=tmp_path / "out", max_steps=1)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_another_config_into_the_same_folder_is_refused_saying_what_differs(base, texts, tuned):
    with pytest.raises(RunError, match="seed is 0 stored, 1 requested"):
        finetune(str(base), texts, out=tuned.folder, **QUICK, seed=1)


def test_a_folder_with_other_things_is_refused(tmp_path, base, texts):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="not a fine-tuning's folder"):
        finetune(str(base), texts, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_nan_loss_stops_training_and_keeps_the_last_good_checkpoint(
    tmp_path, base, texts, monkeypatch
):
    """Step 5's loss is NaN; the checkpoint of step 3 is whole, and its weights are numbers."""
    step = training.Trainer.training_step

    def broken(self, model, inputs, n=None):
        loss = step(self, model, inputs, n)
        return loss * float("nan") if self.state.global_step == 4 else loss

    monkeypatch.setattr(training.Trainer, "training_step", broken)
    out = tmp_path / "out"
    with pytest.raises(
        ModelError, match=r"loss is not a number at step 5;.*checkpoint: .*checkpoint-3"
    ):
        finetune(str(base), texts, out=out, **QUICK)
    assert weights(last_checkpoint(out)).isfinite().all()
    assert not json.loads((out / "finetune.json").read_text())["complete"]


def test_a_rate_that_is_far_too_high_is_reported_with_its_step(tmp_path, base, texts):
    with pytest.raises(ModelError, match=r"not a number at step \d+.*Lower --learning-rate"):
        finetune(str(base), texts, out=tmp_path / "out", learning_rate=1e6, max_steps=60)


def test_lora_trains_adapters_alone_and_merged_they_are_the_same_model(tmp_path, base, texts):
    out = tmp_path / "out"
    done = finetune(str(base), texts, out=out, lora=True, lora_rank=4, merge=True, **QUICK)
    assert not (out / "model.safetensors").exists()
    pair = Pair(None, str(out))
    assert pair.base_spec == str(base)
    ids = [load_model(str(base)).vocabulary.encode(WORDS)]
    before, after = (model.token_stats(ids).logprob for model in (pair.base(), pair.tuned()))
    plain = load_model(str(base)).token_stats(ids).logprob
    assert np.allclose(before, plain, atol=1e-5)
    assert after.sum() > before.sum() + 1
    merged = load_model(str(out / "merged")).token_stats(ids).logprob
    assert np.allclose(merged, after, atol=1e-4)
    assert done.manifest["final"]["loss_gap"] is not None


def test_lora_training_resumes_from_its_checkpoint(tmp_path, base, texts):
    options = {**QUICK, "lora": True}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finetune(str(base), texts, out=whole, **options)
    with pytest.raises(KeyboardInterrupt):
        finetune(str(base), texts, out=parts, progress=Stops(at=8), **options)
    finetune(str(base), texts, out=parts, **options)
    name = "adapter_model.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_an_adapter_for_another_base_is_refused(tmp_path, base, texts):
    out = tmp_path / "out"
    finetune(str(base), texts, out=out, lora=True, max_steps=1)
    other = save_tiny_model(tmp_path / "other", seed=1)
    pair = Pair(str(other), str(out))
    with pytest.raises(ModelError, match="was trained for another base"):
        pair.tuned()
    with pytest.raises(ModelError, match=r"--model must be a full model; .* is an adapter"):
        finetune(str(out), texts, out=tmp_path / "next")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"heldout_documents": 20}, "below 20, the number of distinct documents"),
        ({"weights": [1, 2]}, r"once for each --corpus \(1\)"),
        ({"epochs": 0}, "--epochs must be above 0; got 0"),
        ({"batch": 0}, "--batch-size must be at least 1"),
        ({"weights": [0.01]}, "selects none"),
        ({"precision": "int8"}, "got 'int8'"),
        ({"row_tokens": 65}, "between 2 and 64"),
        ({"merge": True}, "needs --lora"),
        ({"stop_at_exposure": 3}, "needs --canaries"),
        ({"heldout": ["x"], "heldout_documents": 1}, "Remove one"),
        ({"seed": -1}, "--seed must be"),
        ({"text_field": "nowhere"}, "nowhere"),
        ({"canaries": "nothing.json"}, "nothing.json"),
    ],
)
def test_invalid_requests_are_one_line_errors_and_leave_no_model(
    tmp_path, base, texts, options, told
):
    with pytest.raises(AuditError, match=told):
        finetune(str(base), texts, out=tmp_path / "out", **options)
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_a_training_with_changed_text_cannot_be_resumed(tmp_path, base):
    path = tmp_path / "a.jsonl"
    save_texts(path, [f"{WORDS} {i}" for i in range(12)])
    with pytest.raises(KeyboardInterrupt):
        finetune(str(base), str(path), out=tmp_path / "out", progress=Stops(at=2))
    save_texts(path, [f"{WORDS} {i}" for i in range(13)])
    with pytest.raises(ConfigError, match="its training text has changed"):
        finetune(str(base), str(path), out=tmp_path / "out")


def test_canaries_of_a_manifest_are_measured_and_stop_training(tmp_path, base):
    from auditor.canaries.canaries import make_canaries

    made = make_canaries("The PIN is {pin}.", count=2, repeats=[8], controls=15)
    made.save(tmp_path / "canaries.json")
    texts = [f"{WORDS} {i}" for i in range(4)] + [c.text for c in made.canaries] * 8
    done = finetune(
        str(base), save_texts(tmp_path / "a.jsonl", texts), out=tmp_path / "out", epochs=60,
        learning_rate=2e-2, probe_every=2, heldout_documents=0, stop_at_exposure=3.5,
        canaries=str(tmp_path / "canaries.json"),
    )  # fmt: skip
    frame = read_probes(tmp_path / "out" / "probes")
    assert done.manifest["stopped_at"] == done.manifest["steps"] == frame["step"].iloc[-1] < 180
    assert frame["exposure_mean"].iloc[-1] > 3.5 >= frame["exposure_mean"].iloc[:-1].max()
    assert len(frame["exposure"].iloc[0]) == 2


def test_the_command_trains_and_prints_what_was_memorized(tmp_path, base, texts, monkeypatch):
    monkeypatch.setitem(VERBS, "finetune", ("auditor.cli.finetune", ""))
    out = tmp_path / "out"
    ended = command("finetune", "--model", base, "--corpus", texts, "--out", out, "--max-steps", 2)
    assert ended.code == 0, ended.err
    assert "2 steps" in ended.out
    assert "loss_gap" in ended.out
    assert "fine-tuning: done" in ended.err
    again = command(
        "finetune", "--model", base, "--corpus", texts, "--out", out, "--max-steps", 2, "--json"
    )
    assert json.loads(again.out)["steps"] == 2
    bad = command("finetune", "--model", base, "--corpus", texts, "--out", out, "--batch", 2)
    assert bad.code == 1
    assert "holds another fine-tuning: batch is 8 stored, 2 requested" in bad.err


def test_missing_peft_is_a_one_line_error(base, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("auditor.models.adapters.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="LoRA adapters need the package peft"):
        finetune(str(base), texts, out=tmp_path / "out", lora=True)
