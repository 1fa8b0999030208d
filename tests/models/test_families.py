"""Every causal family that transformers knows: its numbers against a plain pass in float64."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.language_model import LanguageModel
from auditor.sampling.generate import generate
from tests import families
from tests.planted import Ids

pytestmark = pytest.mark.filterwarnings("ignore")

# Refused, with what the sentence says.
REFUSED = {
    **dict.fromkeys(("cpmant", "prophetnet", "xlm", "xlnet"), "is not a causal language model"),
    "xmod": "Input language unknown",
}
# Not tried, since a tiny one cannot be made of its config alone.
UNTRIED = {
    **dict.fromkeys(
        (
            *("blt", "dots3_note", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "git"),
            *("gemma4_assistant", "gemma4_unified", "gemma4_unified_assistant", "got_ocr2"),
            *("llama4", "mllama", "moss_transcribe_diarize", "phi4_multimodal", "qwen3_5"),
            *("qwen3_5_moe", "qwen4_exp", "musicgen", "musicgen_melody"),
        ),
        "made of parts for other media",
    ),
    **dict.fromkeys(("dbrx", "kimi_linear", "zamba"), "no small config"),
}
# Families that compute in float32 whatever they are asked for.
IN_FLOAT32 = {"inkling2_text", "xglm"}
TRIED = [name for name in families.FAMILIES if name not in REFUSED | UNTRIED]
LONGROPE = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0, 8.0, 16.0, 32.0],
        "original_max_position_embeddings": 24,
        "short_mscale": 1.0,
        "long_mscale": 1.0,
    },
    "original_max_position_embeddings": 24,
}


def loaded(network, name="odd"):
    return LanguageModel(network, Ids(0, 0), name=name, fingerprint="", dtype=torch.float32)


def judge_of(network, family):
    """The same network for plain passes, in float64, with none of the fast kernels."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if hasattr(module, "config"):
            module.config._experts_implementation = "eager"
    return plain if family in IN_FLOAT32 else plain.double()


@torch.no_grad()
def plain_logprob(judge, tokens):
    """log p of each token but the first, one pass over the whole sequence."""
    ids = torch.tensor([tokens])
    logits = judge(input_ids=ids, use_cache=False).logits[0].double()
    return logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0].numpy()


def check_given_text(model, judge):
    context = min(model.context or families.CONTEXT, families.CONTEXT)
    draw = np.random.default_rng(0)
    texts = [draw.integers(3, 60, n).tolist() for n in (3, context - 1, 9, 17, 5)]
    together = model.token_stats(texts)
    for i, text in enumerate(texts):
        expected = plain_logprob(judge, [0, *text])
        own = together.logprob[together.offsets[i] : together.offsets[i + 1]]
        np.testing.assert_allclose(own, expected, atol=3e-4)
        np.testing.assert_allclose(model.token_stats([text]).logprob, expected, atol=3e-4)


def check_samples(model, judge, n_new):
    draw = np.random.default_rng(1)
    prompts = [[0, *draw.integers(3, 60, n).tolist()] for n in (0, 4, 11, 2, 0, 7)]
    drawn, _ = generate(
        model,
        prompts,
        list(range(6)),
        seed=0,
        stream="s",
        decoding=Decoding(max_new_tokens=n_new, top_k=None),
        n_slots=3,
    )
    for i, prompt in enumerate(prompts):
        new = drawn.token_ids[i, : drawn.length[i]].tolist()
        expected = plain_logprob(judge, prompt + new)[len(prompt) - 1 :]
        np.testing.assert_allclose(drawn.logprob[i, : len(new)], expected, atol=3e-4)


@pytest.mark.parametrize("family", TRIED)
def test_text_and_samples_get_the_numbers_of_a_plain_pass(family):
    """Texts and samples go beyond every sliding window."""
    network = families.tiny_network(family)
    judge, model = judge_of(network, family), loaded(network, family)
    check_given_text(model, judge)
    context = min(model.context or families.CONTEXT, families.CONTEXT)
    assert all(window < context - 12 for window in model.limits.windows)
    check_samples(model, judge, context - 12)


@pytest.mark.parametrize("family", ["phi3", "phimoe"])
def test_the_rotary_factors_of_a_text_are_by_its_own_length(family):
    network = families.tiny_network(family, **LONGROPE)
    judge, model = judge_of(network, family), loaded(network, family)
    assert model.limits.rope_switch == 24
    check_given_text(model, judge)
    check_samples(model, judge, 12)
    with pytest.raises(ModelError, match=r"beyond 24 tokens .* got 12 \+ 13\. Lower --max-new"):
        check_samples(model, judge, 13)


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_model_that_is_not_causal_is_refused_as_such(family):
    with pytest.raises(ModelError, match=REFUSED[family]):
        loaded(families.tiny_network(family), family)


def test_the_documentation_names_what_is_refused_and_what_was_not_tried():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", page[page.index("## Rejected or untested families") :]))
    assert named == set(REFUSED) | set(UNTRIED)
    assert f"{len(TRIED)} families" in page
