"""Continuations of a prompt that is fed once have the log-probabilities of whole sequences."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from auditor.models.adapters import with_lora
from auditor.models.teacher_forcing import continuation_logprob
from tests import families
from tests.models.test_families import LONGROPE
from tests.planted import tiny_network

PROMPT = [0, 17, 4, 9]
RESTS = [[5], [6, 7, 8], [5, 5], [11, 3, 2, 40], [6, 7, 9]]


def one_at_a_time(network, prompt):
    """The slow and obvious way: one sequence, one pass, a softmax a token."""
    totals = []
    for rest in RESTS:
        ids = [*prompt, *rest]
        with torch.no_grad():
            logits = network(torch.tensor([ids]), use_cache=False).logits[0].double()
            logits = logits.log_softmax(-1)
        totals.append(sum(float(logits[t - 1, ids[t]]) for t in range(len(prompt), len(ids))))
    return totals


def judged(forward, prompt, batch_tokens=1000):
    with torch.no_grad():
        return continuation_logprob(
            forward, prompt, RESTS, batch_tokens=batch_tokens, device=torch.device("cpu")
        )


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:1]])
@pytest.mark.parametrize("batch_tokens", [1, 9, 1000])
def test_token_stats_equal_those_of_each_sequence_alone(kind, prompt, batch_tokens):
    network = tiny_network(kind)
    found = judged(network, prompt, batch_tokens)
    assert found == pytest.approx(one_at_a_time(network, prompt), abs=1e-4)
    assert np.ptp(found) > 1


def test_a_model_that_keeps_nothing_of_a_prompt_is_fed_it_whole():
    network, fed = tiny_network("gpt2"), []

    def forward(input_ids, use_cache):
        fed.append(input_ids.shape[1])
        return SimpleNamespace(logits=network(input_ids).logits)

    assert judged(forward, PROMPT) == pytest.approx(one_at_a_time(network, PROMPT), abs=1e-4)
    assert fed == [3, 7]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["jamba", "lfm2", "mamba", "gemma3_text", "recurrent_gemma"])
def test_states_that_are_not_keys_and_values_are_not_shared(family):
    network = families.tiny_network(family)
    for prompt in (PROMPT, list(range(3, 20))):
        found = judged(network, prompt)
        assert found == pytest.approx(one_at_a_time(network, prompt), abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_what_a_prompt_leaves_is_not_used_beyond_a_switch_of_rotary_factors():
    network = families.tiny_network("phi3", **LONGROPE)
    prompt = list(range(1, 23))  # 22 tokens, and up to 4 more: the switch is at 24
    with torch.no_grad():
        found = continuation_logprob(
            network, prompt, RESTS, batch_tokens=1000, device=torch.device("cpu"), rope_switch=24
        )
    expected = []
    for rest in RESTS:
        ids = [*prompt, *rest]
        with torch.no_grad():
            logits = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected.append(sum(float(logits[21 + i, t]) for i, t in enumerate(rest)))
    assert found == pytest.approx(expected, abs=1e-4)


def test_adapters_are_on_unless_disabled():
    network = tiny_network("gpt2")
    before = one_at_a_time(network, PROMPT)
    tuned = with_lora(network, rank=2, seed=0).eval()
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(len(name)))
    assert judged(tuned, PROMPT) == pytest.approx(one_at_a_time(tuned, PROMPT), abs=1e-4)
    assert judged(tuned, PROMPT) != pytest.approx(before, abs=0.1)
    with tuned.disable_adapter():
        assert judged(tuned, PROMPT) == pytest.approx(before, abs=1e-4)
