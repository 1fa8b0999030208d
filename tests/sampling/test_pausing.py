"""Sampling that is interrupted at any step continues to the same samples, bit by bit."""

import numpy as np
import pytest
import torch

from auditor.audit.partial import keep, kept
from auditor.config.audit import Decoding
from auditor.models.language_model import LanguageModel
from auditor.sampling.engine import PausedError
from auditor.sampling.generate import generate
from tests.planted import tiny_model
from tests.sampling.test_engine import EOS, GPT2, LLAMA, prompts_of

DECODINGS = {
    "plain": Decoding(max_new_tokens=40, top_k=20),
    "eos": Decoding(
        max_new_tokens=20, temperature=4.0, repetition_penalty=1.5, top_p=0.9, stop_at_eos=True
    ),
}


def after(n):
    """A function that is true from its n-th call on, as a signal would make it."""
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        return calls >= n

    return stop


def drawn(model, decoding, **more):
    ids = list(range(12))
    how = {"seed": 5, "stream": "s", "decoding": decoding, "n_slots": 5}
    return generate(model, prompts_of(ids), ids, **how, **more)[0]


def interrupted(model, decoding, n, place, **more):
    """Interrupt at the n-th step; returns the state as it is read back from a file."""
    with pytest.raises(PausedError) as caught:
        drawn(model, decoding, stop=after(n), **more)
    assert keep(place, {"n": n}, caught.value.state)
    return kept(place, {"n": n})


def same(one, two):
    for name in ("token_ids", "logprob", "rank", "length", "ended"):
        a, b = getattr(one, name), getattr(two, name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("model", [GPT2, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())
@pytest.mark.parametrize("n", [1, 2, 9, 33])
def test_interrupted_at_a_step_the_samples_are_the_same_bits(tmp_path, model, decoding, n):
    state = interrupted(model, decoding, n, tmp_path / "s.npz")
    assert not state["finished"].all()
    same(drawn(model, decoding, state=state), drawn(model, decoding))


def test_interrupted_again_and_again(tmp_path):
    state = None
    for n in (3, 5, 8, 1, 20):
        state = interrupted(GPT2, DECODINGS["plain"], n, tmp_path / "s.npz", state=state)
    same(drawn(GPT2, DECODINGS["plain"], state=state), drawn(GPT2, DECODINGS["plain"]))


def test_interrupted_in_bfloat16(tmp_path):
    """In bfloat16 the bits depend on which sequences are computed together."""
    network = tiny_model("gpt2", eos_id=EOS, n_vocab=23).network.to(torch.bfloat16)
    model = LanguageModel(network, GPT2.vocabulary, name="m", fingerprint="f", dtype=torch.bfloat16)
    state = interrupted(model, DECODINGS["plain"], 30, tmp_path / "s.npz")
    assert str(state["dtype"]) == "bfloat16"
    same(drawn(model, DECODINGS["plain"], state=state), drawn(model, DECODINGS["plain"]))


def test_interrupted_without_a_key_value_cache(tmp_path, monkeypatch):
    monkeypatch.setitem(GPT2.slow_because, "steps", "planted")
    state = interrupted(GPT2, DECODINGS["eos"], 11, tmp_path / "s.npz")
    assert "rows" in state
    same(drawn(GPT2, DECODINGS["eos"], state=state), drawn(GPT2, DECODINGS["eos"]))


def test_an_interrupt_after_the_last_step_keeps_all_samples(tmp_path):
    """The samples are complete, and not written yet."""
    whole = drawn(GPT2, DECODINGS["plain"])
    steps = 0

    def counted():
        nonlocal steps
        steps += 1
        return False

    drawn(GPT2, DECODINGS["plain"], stop=counted)
    state = interrupted(GPT2, DECODINGS["plain"], steps, tmp_path / "s.npz")
    assert state["finished"].all()
    same(drawn(GPT2, DECODINGS["plain"], state=state), whole)


def test_progress_counts_each_token_once_over_both_parts(tmp_path):
    told = []
    with pytest.raises(PausedError) as caught:
        drawn(GPT2, DECODINGS["plain"], stop=after(10), progress=told.append)
    before = sum(told)
    told.clear()
    whole = drawn(GPT2, DECODINGS["plain"], state=caught.value.state, progress=told.append)
    assert 0 < before < sum(told) == whole.length.sum()


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"x" * len(raw)]
)
def test_a_damaged_file_is_ignored(tmp_path, damage):
    place = tmp_path / "s.npz"
    assert keep(place, {"n": 1}, {"a": np.arange(1000)})
    assert kept(place, {"n": 1})["a"].tolist() == list(range(1000))
    place.write_bytes(damage(place.read_bytes()))
    assert kept(place, {"n": 1}) is None


def test_a_flipped_byte_is_ignored(tmp_path):
    place = tmp_path / "s.npz"
    assert keep(place, {"n": 1}, {"a": np.arange(1000)})
    raw = bytearray(place.read_bytes())
    raw[raw.index(np.int64(500).tobytes())] ^= 1
    place.write_bytes(raw)
    assert kept(place, {"n": 1}) is None


def test_work_of_another_model_is_ignored(tmp_path):
    assert keep(tmp_path / "s.npz", {"model": "a"}, {"a": np.arange(3)})
    assert kept(tmp_path / "s.npz", {"model": "b"}) is None
    assert kept(tmp_path / "none.npz", {"model": "a"}) is None


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("auditor.audit.partial._MOST_BYTES", 100)
    assert not keep(tmp_path / "s.npz", {}, {"a": np.arange(1000)})
    assert list(tmp_path.iterdir()) == []
