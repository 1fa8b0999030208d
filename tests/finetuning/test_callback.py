"""Callbacks: they do not change training, and their measurements are correct."""

import json
import random

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import Trainer, TrainingArguments

from auditor.canaries.canaries import Canary, make_canaries
from auditor.canaries.exposure import measure_canaries
from auditor.errors import ConfigError, ModelError, RunError
from auditor.finetuning.callback import MemorizationCallback, ProbeLog, read_probes
from auditor.finetuning.probes import MemorizationProbe
from auditor.models.adapters import with_lora
from auditor.models.preserve_state import evaluation_mode, isolated_rng
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model
from tests.tiny import WORDS

TEXTS = [f"{WORDS}, number {i}, and so on until the {i}th day" for i in range(8)]
OTHERS = [f"an altogether different sentence about {i} lazy dogs" for i in range(4)]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer([*TEXTS, *OTHERS], 300)


def network(seed=0, dropout=0.0):
    made = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=64, seed=seed)
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return made


def canaries(n_controls=3):
    row = [Canary("in", "the code is ", "4711", ".", 4)]
    return row + [Canary(f"out-{i}", "the code is ", f"08{i}5", ".", 0) for i in range(n_controls)]


def probe(tokenizer, **changes):
    given = {"members": TEXTS, "heldout": OTHERS, "canaries": canaries()}
    given |= {"prefix_tokens": 3, "suffix_tokens": 4, **changes}
    return MemorizationProbe(tokenizer, **given)


def examples(tokenizer, texts=TEXTS):
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [{"input_ids": [0, *row][:40], "labels": [0, *row][:40]} for row in rows]


def trainer(folder, tokenizer, model, **changes):
    given = {"num_train_epochs": 2, "per_device_train_batch_size": 1, "learning_rate": 1e-2}
    given |= {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
    given |= {"dataloader_pin_memory": False, "logging_steps": 4, **changes}
    arguments = TrainingArguments(output_dir=str(folder), **given)
    return Trainer(model=model, args=arguments, train_dataset=examples(tokenizer))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_with_the_callback_gives_the_same_weights_bit_for_bit(tmp_path, tokenizer):
    """Dropout is on, so one number drawn more or less anywhere would show."""
    plain, watched = network(dropout=0.2), network(dropout=0.2)
    trainer(tmp_path / "a", tokenizer, plain).train()
    callback = MemorizationCallback(probe(tokenizer), every=3, folder=tmp_path / "rows")
    callback.attach(trainer(tmp_path / "b", tokenizer, watched)).train()
    assert torch.equal(weights(plain), weights(watched))
    assert not torch.equal(weights(plain), weights(network()))
    assert [row.step for row in callback.rows] == [3, 6, 8, 9, 12, 15, 16]


def test_a_measurement_leaves_modes_gradients_and_randomness_as_they_were(tokenizer):
    model = network(dropout=0.5)
    model.train()
    model.transformer.h[0].mlp.eval()  # a part that is frozen in evaluation mode
    modes = [m.training for m in model.modules()]
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    before = [p.grad.clone() for p in model.parameters()]
    torch.manual_seed(7), random.seed(7), np.random.seed(7)  # noqa: NPY002
    expected = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002, S311
    torch.manual_seed(7), random.seed(7), np.random.seed(7)  # noqa: NPY002
    probe(tokenizer).measure(model, 1)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
    assert all(p.requires_grad for p in model.parameters())
    assert (torch.rand(1), random.random(), np.random.rand()) == expected  # noqa: NPY002, S311


def test_dropout_is_off_while_measuring(tokenizer):
    model = network(dropout=0.5)
    training = probe(tokenizer).measure(model.train(), 1)
    assert probe(tokenizer).measure(model.eval(), 1).member_nll == training.member_nll


def test_modes_are_put_back_even_when_a_measurement_fails(tokenizer):
    model = network().train()
    with pytest.raises(KeyError), evaluation_mode(model):
        raise KeyError
    assert all(m.training for m in model.modules())


def test_isolated_rng_depends_on_the_seed_and_restores_the_global_state():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with isolated_rng(5):
        one = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with isolated_rng(5):
        assert torch.equal(torch.rand(2), one)


def nats(model, ids, start):
    """The slow and obvious way: one sequence, one pass, a softmax a token."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    return [float(logits[t - 1].log_softmax(-1)[ids[t]]) for t in range(start, len(ids))], [
        int(logits[t - 1].argmax()) == ids[t] for t in range(start, len(ids))
    ]


def test_figures_are_those_of_one_text_at_a_time(tokenizer):
    model = network(3).eval()
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    row = probe(tokenizer).measure(model, 1)
    for texts, found in ((TEXTS, row.member_nll), (OTHERS, row.heldout_nll)):
        every = [n for t in texts for n in nats(model, [0, *encode(t)], 1)[0]]
        assert found == pytest.approx(-np.mean(every), abs=1e-5)
    assert row.loss_gap == pytest.approx(row.heldout_nll - row.member_nll)
    right = [all(nats(model, [0, *encode(t)[:7]], 4)[1]) for t in TEXTS]
    assert (row.n_extracted, row.n_probed) == (sum(right), 8)
    begin = len(encode("the code is "))
    totals = [sum(nats(model, [0, *encode(c.prefix + c.secret)], begin)[0]) for c in canaries()]
    rank = 1 + sum(t > totals[0] for t in totals[1:])
    assert row.exposure == pytest.approx((np.log2(4) - np.log2(rank),))


def test_controls_are_scored_after_each_canarys_prefix(tokenizer, tmp_path):
    """As `canaries measure` does: after its own prefix a control is as rare as that is unseen."""
    folder = tmp_path / "model"
    save_model(network(5), tokenizer, folder)
    made = make_canaries("the code of {n} is {digits:3}.", count=4, controls=40)
    watch = MemorizationProbe(tokenizer, canaries=[*made.canaries, *made.controls])
    found = watch.measure(network(5), 0).exposure
    frame = measure_canaries(str(folder), made, enumerate_up_to=0)
    expected = frame.loc[frame["role"] == "canary", "interpolated"]
    assert found == pytest.approx(tuple(expected))
    assert len(set(found)) > 1


def test_only_the_first_controls_are_scored(tokenizer):
    few = probe(tokenizer, canaries=canaries(7), max_controls=3)
    assert (few.n_controls, few.max_exposure) == (3, 2.0)
    assert few.measure(network(5), 0).exposure == probe(tokenizer).measure(network(5), 0).exposure


def test_what_is_trained_on_is_extracted_and_exposed_more(tokenizer, tmp_path):
    model = network()
    canary = canaries()[0]
    texts = [TEXTS[0], canary.prefix + canary.secret] * 6
    watch = probe(tokenizer, members=TEXTS[:1], canaries=canaries(7))
    before = watch.measure(model, 0)
    work = trainer(tmp_path, tokenizer, model, num_train_epochs=12)
    work.train_dataset = examples(tokenizer, texts)
    work.train()
    after = watch.measure(model, 1)
    assert before.n_extracted == 0
    assert after.n_extracted == 1
    assert after.exposure_mean == watch.max_exposure == 3.0
    assert after.loss_gap > before.loss_gap + 1


def test_canaries_unknown_to_the_model_have_no_exposure(tokenizer):
    """A network of zeros thinks all alike: of 3 controls and the canary, the last place."""
    model = network()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert probe(tokenizer).measure(model, 0).exposure == (0.0,)


def test_the_same_object_serves_a_loop_written_by_hand(tokenizer):
    model, watch, rows = network(), probe(tokenizer), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step, example in enumerate(examples(tokenizer), start=1):
        ids = torch.tensor([example["input_ids"]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rows.append(watch.measure(model, step))
    assert rows[-1].member_nll < rows[0].member_nll
    assert [r.step for r in rows] == list(range(1, 9))


def test_measurements_are_saved_and_read_back(tmp_path, tokenizer):
    row = probe(tokenizer).measure(network(), 20)
    log = ProbeLog(tmp_path)
    log.write(row)
    log.write(probe(tokenizer).measure(network(), 3))
    log.write(row)  # the step once more, after a restart
    (tmp_path / ".step-000000021.parquet.part").write_bytes(b"killed here")
    frame = read_probes(tmp_path)
    assert frame["step"].tolist() == [3, 20]
    assert frame["member_nll"].iloc[1] == row.member_nll
    assert frame["exposure"].iloc[1].tolist() == list(row.exposure)
    assert len(pd.read_parquet(tmp_path / "step-000000003.parquet")) == 1


def test_an_empty_folder_has_no_measurements(tmp_path):
    with pytest.raises(RunError, match="no measurements"):
        read_probes(tmp_path)


def test_the_trainers_own_log_receives_every_row(tmp_path, tokenizer):
    """Through the log, trackers receive it as any other line; the loss lines stay."""
    from transformers import TrainerCallback

    heard = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            heard.append((state.global_step, dict(logs)))

    work = trainer(tmp_path, tokenizer, network(), num_train_epochs=1)
    work.add_callback(Tracker())  # before ours, as the built-in trackers are
    callback = MemorizationCallback(probe(tokenizer), every=4)
    callback.attach(work).train()
    gaps = {s: x["memorization/loss_gap"] for s, x in heard if "memorization/loss_gap" in x}
    assert gaps == {row.step: row.loss_gap for row in callback.rows}
    assert [s for s, x in heard if "loss" in x] == [4, 8]
    history = [x["step"] for x in work.state.log_history if "memorization/exposure_mean" in x]
    assert history == [4, 8]
    assert json.dumps(work.state.log_history)


def test_without_attaching_the_figures_join_the_next_line(tmp_path, tokenizer):
    work = trainer(tmp_path, tokenizer, network(), num_train_epochs=1)
    work.add_callback(MemorizationCallback(probe(tokenizer), every=4))
    work.train()
    assert [x["step"] for x in work.state.log_history if "memorization/loss_gap" in x] == [4, 8]


def test_training_stops_once_exposure_passes_the_limit(tmp_path, tokenizer):
    with torch.random.fork_rng():
        work = trainer(tmp_path, tokenizer, network(), num_train_epochs=40)
    text = canaries()[0].prefix + canaries()[0].secret
    work.train_dataset = examples(tokenizer, [text])
    watch = probe(tokenizer, canaries=canaries(15))
    callback = MemorizationCallback(watch, every=1, stop_at_exposure=3.5)
    callback.attach(work).train()
    assert callback.stopped_at == work.state.global_step < 40
    assert callback.rows[-1].exposure_mean > 3.5
    assert all(row.exposure_mean <= 3.5 for row in callback.rows[:-1])


@pytest.mark.parametrize("limit", [2.0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_cannot_be_reached_or_is_passed_at_once_is_refused(tokenizer, limit):
    told = r"above 0 and below 2\.00 bits, the maximum with 3 controls"
    with pytest.raises(ConfigError, match=told):
        MemorizationCallback(probe(tokenizer), stop_at_exposure=limit)


def test_an_interval_of_no_steps_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="got 0"):
        MemorizationCallback(probe(tokenizer), every=0)


def test_a_probe_of_nothing_and_canaries_without_controls_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="got neither"):
        MemorizationProbe(tokenizer)
    with pytest.raises(ConfigError, match="must be 1 or more; got 3, 4, 100, 0"):
        probe(tokenizer, max_controls=0)
    with pytest.raises(ConfigError, match="got 1 inserted and 0 controls"):
        MemorizationProbe(tokenizer, canaries=canaries()[:1])
    with pytest.raises(ConfigError, match="no secret"):
        probe(tokenizer, canaries=[Canary("a", "x", "", "", 1), Canary("b", "x", "y", "", 0)])


def test_a_canary_past_the_context_is_refused_and_long_texts_are_cut(tokenizer):
    long = probe(tokenizer, members=[WORDS * 20], canaries=())
    assert long.measure(network(), 0).n_probed == 1
    too_long = [Canary("a", WORDS * 9, "1", "", 1), Canary("b", WORDS * 9, "2", "", 0)]
    with pytest.raises(ModelError, match="at most 65 tokens"):
        probe(tokenizer, canaries=too_long).measure(network(), 0)


def test_a_model_that_has_nan_output_is_reported_with_its_step(tokenizer):
    model = network()
    with torch.no_grad():
        model.transformer.wte.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="step 17"):
        probe(tokenizer).measure(model, 17)


def test_adapters_are_measured_on_and_their_base_off(tokenizer):
    base = network()
    plain = probe(tokenizer).measure(base, 0)
    tuned = with_lora(base, rank=2, seed=0)
    assert probe(tokenizer).measure(tuned, 0).member_nll == plain.member_nll
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    with tuned.disable_adapter():
        assert probe(tokenizer).measure(tuned, 0).member_nll == plain.member_nll
    assert probe(tokenizer).measure(tuned, 0).member_nll != plain.member_nll
