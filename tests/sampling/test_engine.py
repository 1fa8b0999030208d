"""The batched loop: what a sample becomes depends on (seed, stream, sample id) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks.scores.token_stats import RANK_UNKNOWN
from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.interfaces import Samples
from auditor.sampling.engine import Generation
from auditor.sampling.generate import generate
from tests.planted import PlantedModel, counts, noise, recites, tiny_model

EOS = 7
GPT2, LLAMA = (tiny_model(kind, eos_id=EOS, n_vocab=23) for kind in ("gpt2", "llama"))
MODELS = pytest.mark.parametrize("model", [GPT2, LLAMA], ids=["gpt2", "llama"])


def sample(model, prompts, ids, decoding, n_slots=64, **more):
    return generate(
        model, prompts, ids, seed=5, stream="s", decoding=decoding, n_slots=n_slots, **more
    )[0]


def tokens(drawn):
    return [row[:n].tolist() for row, n in zip(drawn.token_ids, drawn.length, strict=True)]


def prompts_of(ids, most=6):
    """A prompt for each sample, of 1 to `most` tokens, that depends on its number alone."""
    return [[0, *((i * 7 + j * 3) % 23 for j in range(i % most))] for i in ids]


DECODINGS = {
    "top_k": Decoding(max_new_tokens=12, top_k=20),
    "hot": Decoding(max_new_tokens=12, temperature_start=10.0, temperature_steps=5),
    "eos": Decoding(max_new_tokens=20, temperature=4.0, stop_at_eos=True),
    "penalty": Decoding(
        max_new_tokens=20, temperature=4.0, repetition_penalty=1.5, top_p=0.9, stop_at_eos=True
    ),
}
ALL = pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())


# ---------------------------------------------------------------- the same in any batch


@MODELS
@ALL
def test_batch_size_changes_no_token(model, decoding):
    ids = list(range(20))
    alone = sample(model, prompts_of(ids), ids, decoding, n_slots=1)
    for n_slots in (7, 64):
        batched = sample(model, prompts_of(ids), ids, decoding, n_slots=n_slots)
        assert tokens(batched) == tokens(alone)
        assert (batched.ended == alone.ended).all()
        assert np.allclose(batched.logprob, alone.logprob, atol=1e-4)
        assert (batched.rank == alone.rank).all()


@MODELS
@ALL
def test_order_and_choice_of_samples_change_no_token(model, decoding):
    ids = list(range(20))
    whole = tokens(sample(model, prompts_of(ids), ids, decoding))
    some = [19, 3, 17, 8, 0, 12]
    assert tokens(sample(model, prompts_of(some), some, decoding, n_slots=4)) == [
        whole[i] for i in some
    ]


def test_eos_is_met_often_enough_for_slots_to_be_refilled():
    """The invariances above would be empty if no sequence ended early, or all at once."""
    ids = list(range(20))
    for name in ("eos", "penalty"):
        drawn = sample(GPT2, prompts_of(ids), ids, DECODINGS[name])
        assert 3 <= drawn.ended.sum() < 20
        assert len(set(drawn.length.tolist())) > 3


def test_seed_and_stream_change_the_samples():
    decoding, ids = DECODINGS["top_k"], list(range(10))
    found = [
        tokens(
            generate(GPT2, prompts_of(ids), ids, seed=seed, stream=s, decoding=decoding, n_slots=8)[
                0
            ]
        )
        for seed, s in ((0, "a"), (1, "a"), (0, "b"))
    ]
    assert found[0] != found[1]
    assert found[0] != found[2]


# ---------------------------------------------------------------- what is kept of each token


@MODELS
@ALL
def test_logprobs_and_ranks_equal_those_of_given_text(model, decoding):
    """Under the raw distribution: temperature, truncation and penalty leave them alone."""
    ids = list(range(24))
    drawn = sample(model, prompts_of(ids), ids, decoding, n_slots=9)
    stats = model.token_stats(tokens(drawn), prompts_of(ids))
    mine = np.concatenate([row[:n] for row, n in zip(drawn.logprob, drawn.length, strict=True)])
    ranks = np.concatenate([row[:n] for row, n in zip(drawn.rank, drawn.length, strict=True)])
    assert np.allclose(mine, stats.logprob, atol=1e-4)
    # Two tokens of all but one logit may change places.
    assert (ranks == stats.rank).mean() > 0.99


def test_logprobs_are_those_of_the_planted_rule():
    rule, decoding = noise(11), Decoding(max_new_tokens=9, top_k=3)
    drawn = sample(PlantedModel(rule, 11), [[0], [0, 4]], [0, 1], decoding)
    for row, prompt in enumerate(([0], [0, 4])):
        said = list(prompt)
        for at, token in enumerate(drawn.token_ids[row].tolist()):
            logits = rule(tuple(said))
            logprob = logits[token] - np.log(np.exp(logits).sum())
            assert drawn.logprob[row, at] == pytest.approx(logprob, abs=1e-5)
            assert drawn.rank[row, at] == (logits > logits[token]).sum() < 3
            said.append(token)


def test_without_eos_stopping_every_sample_has_its_full_length():
    ids = list(range(20))
    drawn = sample(GPT2, prompts_of(ids), ids, DECODINGS["hot"], n_slots=6)
    assert drawn.length.tolist() == [12] * 20
    assert not drawn.ended.any()
    assert (drawn.token_ids == EOS).any()  # EOS came up and ended nothing


def test_a_sample_ends_with_its_first_eos():
    ids = list(range(40))
    drawn = sample(GPT2, prompts_of(ids), ids, DECODINGS["eos"], n_slots=6)
    for said, ended in zip(tokens(drawn), drawn.ended, strict=True):
        assert (EOS in said) == ended
        assert EOS not in said[:-1]


def test_greedy_sampling_reproduces_the_planted_text():
    secret = [5, 3, 3, 8, 1, 9, 2]
    model = PlantedModel(recites(secret, 10), 10)
    drawn = sample(model, [[0], [0, 5, 3]], [0, 1], Decoding(max_new_tokens=5, top_k=1))
    assert tokens(drawn) == [secret[:5], secret[2:]]
    assert not drawn.rank.any()
    # One logit of 10 among nine of 0.
    assert drawn.logprob == pytest.approx(-np.log1p(9 * np.exp(-10)), rel=1e-4)


# ---------------------------------------------------------------- repetition penalty


def test_the_penalty_counts_prompt_and_own_tokens_and_forgets_the_last_sample():
    """Greedy by hand: all logits 1 to 8 by id; a seen one is divided by 100."""
    rule = lambda said: np.arange(1.0, 9.0)  # noqa: E731
    model = PlantedModel(rule, 8)
    decoding = Decoding(max_new_tokens=3, top_k=1, repetition_penalty=100.0)
    prompts = [[0], [0, 7], [0, 6, 5], [0]]
    drawn = sample(model, prompts, range(4), decoding, n_slots=1)
    assert tokens(drawn) == [[7, 6, 5], [6, 5, 4], [7, 4, 3], [7, 6, 5]]
    assert tokens(sample(model, prompts, range(4), decoding, n_slots=4)) == tokens(drawn)


def test_the_penalty_is_that_of_the_model_own_logits_in_bfloat16_too():
    """A head whose logits all lie near -50: its rows are centred, the penalty must not see that."""
    from auditor.models.lm_head import Head

    class Shifted(PlantedModel):
        dtype = torch.bfloat16

        def __init__(self):
            super().__init__(lambda said: np.array([1.0, 0.0, 0.0, 0.0, 0.0]), 5)
            # Logits -50, -50.5, -51, -51.5: a penalty of 1.1 takes off 5 from those that are seen.
            weight = torch.zeros(4, 5)
            weight[:, 0] = torch.tensor([-50.0, -50.5, -51.0, -51.5])
            self.head = Head(weight, None, torch.bfloat16)

    decoding = Decoding(max_new_tokens=4, top_k=1, repetition_penalty=1.1)
    drawn = sample(Shifted(), [[0]], [0], decoding)
    # Unpenalised in turn: 1, 2, 3; then all are seen, and the first is the likeliest again.
    assert tokens(drawn) == [[1, 2, 3, 0]]


# ---------------------------------------------------------------- slots


def test_slots_are_refilled_dropped_and_never_overflow():
    """A planted session fails where a slot holds more than its capacity."""

    def rule(said):
        # A prompt's second token says how many follow before EOS; a parked slot holds but one.
        logits = np.zeros(40)
        assert len(said) == 1 or said[1] in lengths, "a parked slot went on"
        logits[0 if len(said) - 2 >= max(said[:2]) else 1] = 50
        return logits

    lengths = [30, 1, 1, 2, 1, 3, 1, 1, 2, 1, 30, 1]
    model = PlantedModel(rule, 40)
    decoding = Decoding(max_new_tokens=35, top_k=1, stop_at_eos=True)
    drawn = sample(model, [[0, n] for n in lengths], range(12), decoding, n_slots=4)
    assert drawn.length.tolist() == [n + 1 for n in lengths]
    assert drawn.ended.all()
    widths = model.sessions[0].widths
    assert widths[0] == 4
    assert widths[-1] == 1
    assert widths == sorted(widths, reverse=True)


def test_progress_counts_every_token_once():
    told = []
    ids = list(range(30))
    drawn = sample(GPT2, prompts_of(ids), ids, DECODINGS["eos"], n_slots=8, progress=told.append)
    assert sum(told) == drawn.length.sum()


def test_no_prompts_give_no_samples():
    drawn = sample(GPT2, [], [], DECODINGS["eos"])
    assert drawn.token_ids.shape == (0, 20)


# ---------------------------------------------------------------- what goes wrong


def test_out_of_memory_halves_the_batch_and_changes_no_token():
    notes, ids = [], list(range(10))
    enough = PlantedModel(noise(12), 12)
    scarce = PlantedModel(noise(12), 12, most_slots=2)
    decoding = Decoding(max_new_tokens=6)
    drawn, fitted = generate(
        scarce, [[0]] * 10, ids, seed=0, stream="s", decoding=decoding, n_slots=64,
        note=notes.append,
    )  # fmt: skip
    alone, kept = generate(
        enough, [[0]] * 10, ids, seed=0, stream="s", decoding=decoding, n_slots=64
    )
    assert tokens(drawn) == tokens(alone)
    assert (fitted, kept) == (2, 64)
    assert notes == [
        "Out of memory; continuing with 5 concurrent sequences.",
        "Out of memory; continuing with 2 concurrent sequences.",
    ]


def test_what_was_finished_before_memory_ran_out_is_kept():
    """Memory runs out at the 12th step of all; by then two of three samples are done."""
    steps = []

    def rule(said):
        steps.append(said)
        if len(steps) == 12:
            raise torch.OutOfMemoryError
        return noise(9)(said)

    told = []
    decoding = Decoding(max_new_tokens=5)
    work = dict(seed=0, stream="s", decoding=decoding, n_slots=1, progress=told.append)  # noqa: C408
    drawn, fitted = generate(PlantedModel(noise(9), 9), [[0]] * 3, range(3), **work)
    with pytest.raises(ModelError, match="one sequence of 5 new tokens does not fit into memory"):
        generate(PlantedModel(rule, 9), [[0]] * 3, range(3), **work)
    steps.clear()
    told.clear()
    again, fitted = generate(PlantedModel(rule, 9), [[0]] * 3, range(3), **{**work, "n_slots": 2})
    assert fitted == 1
    assert tokens(again) == tokens(drawn)
    assert sum(told) == 15


def test_other_runtime_errors_are_not_taken_for_lack_of_memory():
    def rule(said):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        sample(PlantedModel(rule, 5), [[0]], [0], Decoding(max_new_tokens=2))


@pytest.mark.parametrize("text", ["[enforce fail] DefaultCPUAllocator: can't allocate memory"])
def test_a_cpu_that_cannot_allocate_is_out_of_memory(text):
    def rule(said):
        raise RuntimeError(text)

    with pytest.raises(ModelError, match="does not fit into memory"):
        sample(PlantedModel(rule, 5), [[0]], [0], Decoding(max_new_tokens=2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("top_k", [None, 2])
def test_nan_logits_are_a_one_line_error(bad, top_k):
    decoding = Decoding(max_new_tokens=4, top_k=top_k)

    def rule(said):
        return np.full(5, bad) if len(said) > 2 else np.zeros(5)

    with pytest.raises(ModelError, match=r"not numbers \(NaN\) in float32. Its weights may be"):
        sample(PlantedModel(rule, 5), [[0]], [0], decoding)


def test_an_empty_prompt_is_a_one_line_error():
    with pytest.raises(ModelError, match="at least one token; got an empty prompt"):
        sample(PlantedModel(noise(5), 5), [[0], []], [0, 1], Decoding(max_new_tokens=2))


def test_a_prompt_of_tokens_that_the_weights_lack_is_a_one_line_error():
    says = r"planted: its tokenizer .* token ids must be below 5; got 5"
    with pytest.raises(ModelError, match=says):
        sample(PlantedModel(noise(5), 5), [[0], [0, 5, 1]], [0, 1], Decoding(max_new_tokens=2))


def test_more_than_the_context_is_a_one_line_error():
    model = PlantedModel(noise(5), 5, context=8)
    with pytest.raises(ModelError, match=r"fit into its context of 8 tokens; got 3 \+ 6. Lower"):
        sample(model, [[0], [0, 1, 2]], [0, 1], Decoding(max_new_tokens=6))
    assert tokens(sample(model, [[0, 1, 2]], [0], Decoding(max_new_tokens=5)))


def test_sampling_touches_no_global_generator():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    sample(GPT2, [[0]], [0], DECODINGS["hot"])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_drawn_frequencies_are_the_probabilities_of_the_planted_rule():
    """4,000 first tokens of logits ln 1, ln 2, ln 3, ln 4: within 5 standard deviations."""
    model = PlantedModel(lambda said: np.log([1.0, 2.0, 3.0, 4.0]), 4)
    n = 4_000
    drawn = sample(model, [[0]] * n, range(n), Decoding(max_new_tokens=1), n_slots=n)
    share = np.array([0.1, 0.2, 0.3, 0.4])
    found = counts(tuple(drawn.token_ids[:, 0].tolist()), 4)
    assert (np.abs(found - n * share) < 5 * np.sqrt(n * share * (1 - share))).all()


def test_a_generation_can_be_run_once_more_and_draws_nothing_new():
    model = PlantedModel(noise(9), 9)
    work = Generation(
        model, [[0], [0]], [0, 1], seed=0, stream="s", decoding=Decoding(max_new_tokens=3)
    )
    first = tokens(work.run(2))
    assert tokens(work.run(2)) == first
    assert len(model.sessions) == 1


def test_a_model_that_samples_by_itself_draws_its_own_samples():
    class Served:
        def draw(self, prompts, ids, *, seed, stream, decoding, progress):
            shape = (len(prompts), decoding.max_new_tokens)
            token_ids = np.array(ids, np.int32)[:, None] + np.arange(shape[1], dtype=np.int32)
            nats, rank = np.zeros(shape, np.float32), np.full(shape, RANK_UNKNOWN, np.int32)
            length = np.full(len(prompts), shape[1], np.int32)
            progress(int(length.sum()))
            return Samples(token_ids, nats, rank, length, np.zeros(len(prompts), bool))

    told = []
    drawn = sample(Served(), [[1], [2]], [5, 9], Decoding(max_new_tokens=3), progress=told.append)
    assert tokens(drawn) == [[5, 6, 7], [9, 10, 11]]
    assert sum(told) == 6
