"""Pseudo-log-likelihoods of masked models, against a plain loop over transformers in float64."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, RobertaConfig, RobertaForMaskedLM

from auditor.errors import ModelError
from auditor.models.loading import load_model
from auditor.models.masked_language_model import MaskedLanguageModel, random_masks, windows_of
from auditor.models.tiny_gpt2 import build_tokenizer
from auditor.models.tokenizer import Vocabulary
from tests.models.masked import SPECIAL, bert, bert_tokenizer, save_bert
from tests.tiny import WORDS

CLS, SEP, MASK = 2, 3, 4
TEXT = [5, 12, 13, 15, 12, 14, 16, 7]  # the play ##ing un play ##ed ##s dog


def of(network, tokenizer, pll="word-l2r"):
    vocabulary = Vocabulary(tokenizer, tokenizer.cls_token)
    named = {"name": "tiny", "fingerprint": "", "dtype": torch.float32}
    return MaskedLanguageModel(network, vocabulary, **named, pll=pll)


@pytest.fixture(scope="module")
def tokenizer():
    return bert_tokenizer()


@pytest.fixture(scope="module")
def network(tokenizer):
    return bert(len(tokenizer)).double()


def by_loop(network, before, text, hidden, after=(SEP,)):
    """Log-probability and rank of each token of a text when `hidden(t)` is masked."""
    out = []
    for t, token in enumerate(text):
        ids = [*before, *text, *after]
        for place in hidden(t):
            ids[len(before) + place] = MASK
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([ids])).logits[0, len(before) + t]
        own = logits.log_softmax(-1)
        out.append((own[token].item(), int((logits > logits[token]).sum())))
    return np.array(out).T


def test_the_original_pll_masks_one_token_at_a_time(network, tokenizer):
    found = of(network, tokenizer, "original").token_stats([TEXT], [[CLS]])
    logprob, rank = by_loop(network, [CLS], TEXT, lambda t: [t])
    assert np.allclose(found.logprob, logprob, atol=1e-5)
    assert found.rank.tolist() == rank.tolist()


def test_word_l2r_also_masks_the_later_pieces_of_the_word(network, tokenizer):
    hidden = [[0], [1, 2], [2], [3], [4, 5, 6], [5, 6], [6], [7]]
    found = of(network, tokenizer).token_stats([TEXT], [[CLS]])
    logprob, rank = by_loop(network, [CLS], TEXT, hidden.__getitem__)
    assert np.allclose(found.logprob, logprob, atol=1e-5)
    assert found.rank.tolist() == rank.tolist()


@pytest.mark.parametrize(
    ("pll", "theirs"), [("original", "original"), ("word-l2r", "within_word_l2r")]
)
def test_log_probabilities_and_ranks_are_those_of_minicons(network, tokenizer, pll, theirs):
    from minicons.scorer import MaskedLMScorer

    # A call of theirs is gone from transformers 5: give them encoded texts.
    texts = ["the playing dog sat on mats .", "uns , played the cats", "cat"]
    scorer = MaskedLMScorer(network, device="cpu", tokenizer=tokenizer)
    expected = scorer.token_score(tokenizer(texts, padding=True), rank=True, PLL_metric=theirs)
    found = of(network, tokenizer, pll).token_stats(
        tokenizer(texts, add_special_tokens=False)["input_ids"]
    )
    assert found.logprob.tolist() == pytest.approx(
        [p for row in expected for _, p, _ in row], abs=1e-5
    )
    # Their ranks begin at 1.
    assert (found.rank + 1).tolist() == [rank for row in expected for _, _, rank in row]


def test_both_ways_agree_where_every_word_is_one_piece(network, tokenizer):
    ways = ("word-l2r", "original")
    whole = [[5, 6, 8, 10, 5, 11], [7, 9]]
    first, second = (
        of(network, tokenizer, way).token_stats(whole) for way in ("word-l2r", "original")
    )
    assert np.array_equal(first.logprob, second.logprob)
    split = [of(network, tokenizer, way).token_stats([TEXT]) for way in ways]
    assert not np.allclose(split[0].logprob, split[1].logprob, atol=1e-3)


def test_results_do_not_depend_on_the_batch(network, tokenizer):
    model = of(network, tokenizer)
    texts = [TEXT, [5], TEXT[:3], [], TEXT[2:]]
    together = model.token_stats(texts, batch_tokens=10_000)
    alone = [model.token_stats([text], batch_tokens=1).logprob for text in texts]
    assert np.allclose(together.logprob, np.concatenate(alone), atol=1e-5)
    assert together.n_tokens().tolist() == [8, 1, 3, 0, 6]


def test_a_prefix_is_context_and_is_not_scored(network, tokenizer):
    found = of(network, tokenizer, "original").token_stats([TEXT], [[CLS, 6, 8]])
    logprob, _ = by_loop(network, [CLS, 6, 8], TEXT, lambda t: [t])
    assert np.allclose(found.logprob, logprob, atol=1e-5)


def test_long_texts_are_scored_in_windows_without_losing_a_token(tokenizer):
    network = bert(len(tokenizer), context=10).double()
    model = of(network, tokenizer, "original")
    text = np.random.default_rng(0).integers(5, 18, 30).tolist()
    found = model.token_stats([text], [[CLS]])
    assert model.context == 9
    for start, end, first, last in windows_of(30, 8):
        logprob, _ = by_loop(network, [CLS], text[start:end], lambda t: [t])
        assert np.allclose(
            found.logprob[first:last], logprob[first - start : last - start], atol=1e-5
        )


@pytest.mark.parametrize("room", [2, 3, 5, 8])
@pytest.mark.parametrize("n", [1, 8, 9, 23])
def test_windows_score_every_token_once(n, room):
    windows = windows_of(n, room)
    assert [t for _, _, a, b in windows for t in range(a, b)] == list(range(n))
    assert all(start <= a < b <= end <= start + room for start, end, a, b in windows)


def test_progress_counts_every_text_once(network, tokenizer):
    done = []
    of(network, tokenizer).token_stats([TEXT, [], [5], TEXT], batch_tokens=20, progress=done.append)
    assert sum(done) == 4


def test_moments_are_those_of_the_distribution(network, tokenizer):
    found = of(network, tokenizer, "original").token_stats([TEXT], [[CLS]], moments=True)
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([[CLS, MASK, *TEXT[1:], SEP]])).logits[0, 1]
    p, nats = logits.softmax(-1), logits.log_softmax(-1)
    mean = (p * nats).sum()
    assert found.vocab_mean[0] == pytest.approx(mean.item(), abs=1e-5)
    assert found.vocab_std[0] == pytest.approx(
        (p * (nats - mean) ** 2).sum().sqrt().item(), abs=1e-5
    )


def test_words_of_a_byte_level_tokenizer_begin_at_spaces_and_punctuation():
    tokenizer = build_tokenizer([WORDS] * 4, 300)
    tokenizer.add_special_tokens({"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"})
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=34,
        pad_token_id=1,
    )
    model = of(RobertaForMaskedLM(config).eval(), tokenizer)
    ids = tokenizer("the zebra's é, dogs", add_special_tokens=False)["input_ids"]
    ends = model._words(ids)
    pieces = [model.vocabulary.decode(ids[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    assert [p for p in pieces if p] == ["the", " zebra", "'s", " é", ",", " dogs"]
    # Positions begin after that of the padding, and SEP takes a place.
    assert model.context == 31
    found = model.token_stats([ids * 3])
    assert np.isfinite(found.logprob).all()


def test_masked_losses_hide_at_least_one_token(network, tokenizer):
    losses = of(network, tokenizer).masked_losses([TEXT, [5], [], TEXT], [[CLS]] * 4)
    logprob, _ = by_loop(network, [CLS], [5], lambda t: [t])
    assert losses[1] == pytest.approx(-logprob[0], abs=1e-5)
    assert np.isnan(losses[2])
    assert losses[0] == pytest.approx(losses[3])


def test_masked_losses_are_the_mean_over_all_masks(network, tokenizer):
    text = TEXT * 3  # 24 tokens, of which 4 are hidden
    total = 0.0
    for mask in random_masks(text):
        ids = torch.tensor([[CLS, *np.where(mask, MASK, text), SEP]])
        with torch.inference_mode():
            nats = network(input_ids=ids).logits[0].log_softmax(-1)
        total -= np.mean([nats[1 + t, text[t]].item() for t in np.flatnonzero(mask)])
    assert of(network, tokenizer).masked_losses([text])[0] == pytest.approx(total / 20, abs=1e-5)


def test_masks_depend_on_the_text_alone():
    masks = random_masks(range(40))
    assert masks.shape == (20, 40)
    assert set(masks.sum(axis=1)) == {6}
    assert np.array_equal(masks, random_masks(list(range(40))))
    assert not np.array_equal(masks, random_masks(range(1, 41)))
    assert len({tuple(mask) for mask in masks}) > 1


def test_a_folder_is_loaded_with_cls_as_the_start_of_texts(tmp_path):
    model = load_model(str(save_bert(tmp_path / "bert")), device="cpu")
    assert (model.kind, model.vocabulary.start, model.pll) == ("masked", [CLS], "word-l2r")
    assert load_model(str(tmp_path / "bert"), device="cpu", pll="original").pll == "original"
    assert model.without == {}


def test_a_tokenizer_without_a_mask_is_refused(network):
    tokenizer = build_tokenizer([WORDS] * 4, 300)
    with pytest.raises(ModelError, match="has no mask token"):
        of(network, tokenizer)


def test_special_tokens_have_the_ids_that_the_tests_name(tokenizer):
    assert [tokenizer.convert_tokens_to_ids(t) for t in SPECIAL] == list(range(5))


_SMALL = {
    "vocab_size": 18,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "initializer_range": 0.4,
}
FAMILIES = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "distilbert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 8,
    },
    "albert": {"embedding_size": 8},
    "electra": {"embedding_size": 8},
    "mpnet": {},
    "modernbert": {"global_attn_every_n_layers": 1, "cls_token_id": 2, "sep_token_id": 3},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_the_loop(family, tokenizer):
    config = AutoConfig.for_model(family, **{**_SMALL, **FAMILIES[family]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForMaskedLM.from_config(config).eval().double()
    model = of(network, tokenizer, "original")
    found = model.token_stats([TEXT, [6]], [[CLS], [CLS]])
    for text, own in ((TEXT, slice(0, 8)), ([6], slice(8, 9))):
        logprob, rank = by_loop(network, [CLS], text, lambda t: [t])
        assert np.allclose(found.logprob[own], logprob, atol=1e-4)
        assert found.rank[own].tolist() == rank.tolist()
    # The projection runs on the masked tokens only.
    assert model.passes._gathers
