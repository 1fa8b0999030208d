"""The asynchronous CUDA loop draws the same samples as the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.kernels.cuda_graph import recorded
from auditor.sampling.cuda_engine import BURST, CudaGeneration
from auditor.sampling.engine import Generation
from auditor.sampling.generate import generate
from tests.planted import tiny_model

EOS = 7
DECODINGS = {
    "shorter than a burst": Decoding(max_new_tokens=BURST - 3, top_k=20),
    "whole bursts": Decoding(max_new_tokens=2 * BURST, temperature_start=10.0),
    "eos": Decoding(max_new_tokens=3 * BURST + 5, temperature=4.0, stop_at_eos=True),
    "penalty": Decoding(
        max_new_tokens=BURST + 9, temperature=4.0, repetition_penalty=1.5, stop_at_eos=True
    ),
    "room that grows": Decoding(max_new_tokens=90, temperature=3.0),
}


def prompts_of(ids):
    return [[0, *((i * 7 + j * 3) % 23 for j in range(i % 6))] for i in ids]


def draw(kind, model, decoding, ids, n_slots, progress=None):
    work = kind(model, prompts_of(ids), ids, seed=5, stream="s", decoding=decoding)
    return work.run(n_slots, progress)


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_cuda_engine_draws_the_same_samples(kind, decoding):
    model = tiny_model(kind, eos_id=EOS, n_vocab=23, context=128)
    ids = list(range(3, 23))
    plain = draw(Generation, model, decoding, ids, 64)
    if decoding.stop_at_eos:
        assert plain.ended.any()
        assert not plain.ended.all()
    for n_slots in (1, 7, 64):
        told = []
        ahead = draw(CudaGeneration, model, decoding, ids, n_slots, told.append)
        assert (ahead.length == plain.length).all()
        assert (ahead.ended == plain.ended).all()
        for i, n in enumerate(plain.length):
            assert ahead.token_ids[i, :n].tolist() == plain.token_ids[i, :n].tolist()
            assert ahead.rank[i, :n].tolist() == plain.rank[i, :n].tolist()
            assert np.allclose(ahead.logprob[i, :n], plain.logprob[i, :n], atol=1e-4)
        assert sum(told) == plain.length.sum()


def test_the_cuda_engine_is_used_for_asynchronous_devices(monkeypatch):
    model = tiny_model(eos_id=EOS, n_vocab=23)
    assert not model.queues_steps  # a CPU has nobody to wait for
    seen = []
    run = CudaGeneration.run
    monkeypatch.setattr(
        CudaGeneration, "run", lambda self, *a: (seen.append(self), run(self, *a))[1]
    )
    decoding = Decoding(max_new_tokens=5)
    given = {"seed": 5, "stream": "s", "decoding": decoding, "n_slots": 4}
    for ahead in (False, True):
        model.queues_steps = ahead
        generate(model, prompts_of(range(6)), range(6), **given)
        assert len(seen) == ahead


def test_samples_that_ran_out_of_memory_start_again(monkeypatch):
    model = tiny_model(eos_id=EOS, n_vocab=23)
    decoding, ids = Decoding(max_new_tokens=20, temperature=4.0), list(range(12))
    plain = draw(Generation, model, decoding, ids, 12)
    queue = CudaGeneration._queue

    def full(self):
        if len(self.sample) > 5:
            raise torch.OutOfMemoryError("planted: out of memory")
        return queue(self)

    monkeypatch.setattr(CudaGeneration, "_queue", full)
    model.queues_steps = True
    told: list[str] = []
    drawn, fitted = generate(
        model, prompts_of(ids), ids, seed=5, stream="s", decoding=decoding, n_slots=12,
        note=told.append,
    )  # fmt: skip
    assert fitted == 3
    assert drawn.token_ids.tolist() == plain.token_ids.tolist()
    assert len(told) == 2


def test_nan_logits_are_reported():
    model = tiny_model(eos_id=EOS, n_vocab=23)
    draw(CudaGeneration, model, Decoding(max_new_tokens=4), list(range(3)), 2)
    with torch.no_grad():
        model.network.transformer.ln_f.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        draw(CudaGeneration, model, Decoding(max_new_tokens=4), list(range(3)), 2)


def test_recording_a_graph_restores_the_state():
    x, seen = torch.tensor([1.0, 2.0]), []

    def work():
        seen.append(x.tolist())
        x.mul_(2)

    again = recorded(work, [x], torch.device("cpu"))
    assert x.tolist() == [1, 2]
    assert seen == [[1, 2]]
    again()
    again()
    assert x.tolist() == [4, 8]
