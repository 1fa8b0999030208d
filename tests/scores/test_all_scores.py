"""The paper's scores: against hand-computed values and a slow second implementation."""

from __future__ import annotations

import json
import math
import zlib as zlib_module
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from attacks.scores import paper
from attacks.scores.all_scores import all_scores, undefined_reasons
from attacks.scores.score_table import scores_for
from attacks.scores.token_stats import TokenStats

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "golden_scores.json").read_text("utf-8"))
# The table's "reference" stands for a column a reference, and is asked in both its forms.
COLUMNS = ["likelihood", "reference:small", "reference:other", "zlib", "lowercase", "window"]
STATS = ("target", "small", "other", "lowercased")


def of(texts: list[list[float | None]]) -> TokenStats:
    ranks = [[-1 if p is None else 0 for p in text] for text in texts]
    return TokenStats.from_lists([range(len(text)) for text in texts], texts, ranks)


def inputs(**kinds) -> SimpleNamespace:
    """All that the scores of some texts are made of; log-probabilities as lists."""
    made = {name: of(texts) if name in STATS else np.array(texts) for name, texts in kinds.items()}
    return SimpleNamespace(**made)


def every_score(of_texts: SimpleNamespace) -> dict[str, np.ndarray]:
    return all_scores(
        of_texts.target,
        zlib_bits=of_texts.zlib_bits,
        references={"small": of_texts.small, "other": of_texts.other},
        lowercased=of_texts.lowercased,
        n_bytes=of_texts.n_bytes,
        other_tokenizer={"other"},
    )


def taken(of_texts: SimpleNamespace, index) -> SimpleNamespace:
    parts = {
        name: values.take(index) if name in STATS else values[index]
        for name, values in vars(of_texts).items()
    }
    return SimpleNamespace(**parts)


def random_texts(seed: int, n: int = 24) -> SimpleNamespace:
    """Texts of 1 to 130 tokens, every fourth with a first token that has no probability."""
    rng = np.random.default_rng(seed)

    def logprobs(lengths):
        texts = [(-rng.gamma(0.7, 2.0, size=k)).tolist() for k in lengths]
        return [[None, *text] if i % 4 == 0 else text for i, text in enumerate(texts)]

    lengths = [*rng.integers(1, 130, n - 3).tolist(), 49, 50, 51]
    return inputs(
        target=logprobs(lengths),
        small=logprobs(lengths),
        other=logprobs(rng.integers(1, 130, n)),
        lowercased=logprobs(rng.integers(1, 130, n)),
        n_bytes=rng.integers(1, 500, n),
        zlib_bits=8 * rng.integers(8, 300, n),
    )


def golden_texts() -> SimpleNamespace:
    def unpacked(runs):
        return [p if p is None else float(p) for p, count in runs for _ in range(count)]

    texts = GOLDEN["texts"]
    stats = {name: [unpacked(text[name]) for text in texts] for name in STATS}
    return inputs(**stats, **{k: [text[k] for text in texts] for k in ("n_bytes", "zlib_bits")})


def golden_value(entry) -> float:
    if isinstance(entry, str):
        return math.nan if entry.startswith("undefined") else float(entry)
    return float(Fraction(*entry)) if isinstance(entry, list) else float(entry)


@pytest.mark.parametrize("column", COLUMNS)
def test_score_equals_the_values_worked_out_by_hand(column):
    expected = [golden_value(text["scores"][column]) for text in GOLDEN["texts"]]
    np.testing.assert_allclose(every_score(golden_texts())[column], expected, rtol=1e-14)


@pytest.mark.parametrize("column", COLUMNS)
def test_every_undefined_value_is_counted_under_its_reason(column):
    golden = golden_texts()
    expected: dict[str, int] = {}
    for text in GOLDEN["texts"]:
        if str(text["scores"][column]).startswith("undefined: "):
            reason = text["scores"][column].removeprefix("undefined: ")
            expected[reason] = expected.get(reason, 0) + 1
    got = undefined_reasons(
        every_score(golden),
        golden.target,
        references={"small": golden.small, "other": golden.other},
        lowercased=golden.lowercased,
        n_bytes=golden.n_bytes,
    )
    assert got[column] == expected


def slow_score(column: str, texts: SimpleNamespace, i: int) -> float:
    """Score of text i, from the formulas of the paper and plain loops."""

    def scored(name):
        return [float(-p) for p in getattr(texts, name).take([i]).logprob if not math.isnan(p)]

    def mean(nats):
        return math.fsum(nats) / len(nats)

    target = scored("target")
    if column == "likelihood":
        return -mean(target)
    if column == "reference:small":
        return mean(scored("small")) / mean(target)
    if column == "reference:other":
        bits = [math.fsum(scored(k)) / math.log(2) / texts.n_bytes[i] for k in ("other", "target")]
        return bits[0] / bits[1]
    if column == "zlib":
        return texts.zlib_bits[i] / mean(target)
    if column == "lowercase":
        return mean(scored("lowercased")) / mean(target)
    starts = range(max(1, len(target) - 49))
    return -min(mean(target[start : start + 50]) for start in starts)


@pytest.mark.parametrize("column", COLUMNS)
def test_score_equals_a_slow_second_implementation(column):
    texts = random_texts(seed=1)
    expected = [slow_score(column, texts, i) for i in range(len(texts.target))]
    np.testing.assert_allclose(every_score(texts)[column], expected, rtol=1e-12)


@pytest.mark.parametrize("column", COLUMNS)
def test_likelier_tokens_never_lower_a_score(column):
    texts = random_texts(seed=2)
    before = every_score(texts)[column]
    rng = np.random.default_rng(3)
    for _ in range(20):
        # Some tokens stay as they are, some gain a little, some become certain.
        share = rng.choice([1.0, 0.99, 0.5, 0.0], size=len(texts.target.logprob))
        texts.target = rescaled(texts.target, share)
        after = every_score(texts)[column]
        assert (after >= before).all()
        before = after


@pytest.mark.parametrize("column", COLUMNS)
def test_texts_whose_every_token_is_likelier_score_higher(column):
    texts = random_texts(seed=4)
    before = every_score(texts)[column]
    texts.target = rescaled(texts.target, np.full(len(texts.target.logprob), 0.9))
    assert (every_score(texts)[column] > before).all()


def rescaled(stats: TokenStats, share: np.ndarray) -> TokenStats:
    return TokenStats(stats.offsets, stats.token_ids, stats.logprob * share, stats.rank)


@pytest.mark.parametrize("column", COLUMNS)
def test_scores_follow_their_texts_through_a_permutation(column):
    texts = random_texts(seed=5)
    order = np.random.default_rng(6).permutation(len(texts.target))
    permuted = every_score(taken(texts, order))[column]
    np.testing.assert_array_equal(permuted, every_score(texts)[column][order])


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("source", [golden_texts, lambda: random_texts(seed=7)])
def test_texts_score_the_same_alone_as_in_a_batch(column, source):
    texts = source()
    alone = [every_score(taken(texts, [i]))[column] for i in range(len(texts.target))]
    np.testing.assert_array_equal(every_score(texts)[column], np.concatenate(alone))


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("text", [[], [None]])
def test_texts_with_nothing_scored_are_undefined_and_leave_their_neighbours_alone(column, text):
    full = [-1.0] * 60
    kinds = {name: [text, full, text, text, full, text] for name in STATS}
    values = every_score(inputs(**kinds, n_bytes=[0, 9, 0, 0, 9, 0], zlib_bits=[64] * 6))[column]
    assert np.isnan(values).tolist() == [True, False, True, True, False, True]
    expected = {"likelihood": -1, "window": -1, "zlib": 64}.get(column, 1)
    assert values[[1, 4]].tolist() == [expected, expected]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_texts_have_no_scores(column):
    none = inputs(**{name: [] for name in STATS}, n_bytes=[], zlib_bits=[])
    values = every_score(none)[column]
    assert (values.shape, values.dtype) == ((0,), np.float64)


def test_a_broken_token_makes_its_text_undefined_under_all_scores():
    texts = random_texts(seed=8)
    logprob = texts.target.logprob.copy()
    logprob[texts.target.offsets[1] - 1] = math.nan
    target = texts.target
    texts.target = TokenStats(target.offsets, target.token_ids, logprob, target.rank)
    for name, values in every_score(texts).items():
        assert np.isnan(values).nonzero()[0].tolist() == [0], name
    counted = undefined_reasons(every_score(texts), texts.target)
    assert counted == {name: {"not finite token log-probability": 1} for name in COLUMNS}


def test_reasons_tell_what_the_text_was_compared_with():
    # One fault a text: no scored token, a broken one, a text of no bytes, sure or not.
    texts = inputs(
        target=[[-1.0], [-1.0], [-1.0], [0.0]],
        small=[[None], [math.nan], [-1.0], [-1.0]],
        other=[[None], [math.nan], [-1.0], [-1.0]],
        lowercased=[[], [math.nan], [-1.0], [-1.0]],
        n_bytes=[7, 7, 0, 0],
        zlib_bits=[64, 64, 64, 64],
    )
    missing = "text to compare with has no scored token"
    shared = {missing: 1, "not finite token log-probability": 1}
    got = undefined_reasons(
        every_score(texts),
        texts.target,
        references={"small": texts.small, "other": texts.other},
        lowercased=texts.lowercased,
        n_bytes=texts.n_bytes,
    )
    by_bytes = shared | {"text has no bytes": 2}
    assert got == {"reference:small": shared, "reference:other": by_bytes, "lowercase": shared}
    untold = undefined_reasons(every_score(texts), texts.target)
    assert untold == {name: {"other": sum(reasons.values())} for name, reasons in got.items()}


@pytest.mark.parametrize("score", scores_for("samples"), ids=lambda score: score.name)
def test_a_score_is_given_as_soon_as_its_needs_are_and_not_before(score):
    texts = random_texts(seed=9)
    optional = {
        "reference": {"references": {"small": texts.small}},
        "zlib_bits": {"zlib_bits": texts.zlib_bits},
        "lowercased": {"lowercased": texts.lowercased},
    }
    needs = [optional[need] for need in score.needs if need != "target"]
    given = {key: value for need in needs for key, value in need.items()}
    assert score.name in {name.partition(":")[0] for name in all_scores(texts.target, **given)}
    if needs:
        assert score.name not in {n.partition(":")[0] for n in all_scores(texts.target)}


def test_columns_come_in_the_order_of_the_table():
    got = [name.partition(":")[0] for name in every_score(random_texts(seed=10))]
    assert list(dict.fromkeys(got)) == [score.name for score in scores_for("samples")]
    assert list(every_score(random_texts(seed=10))) == COLUMNS


@pytest.mark.parametrize("width", [1, 2, 3, 7, 31, 50, 64, 100])
def test_windows_of_any_width_equal_a_loop(width):
    target = random_texts(seed=11).target
    expected = []
    for i in range(len(target)):
        nats = [float(-p) for p in target.take([i]).logprob if not math.isnan(p)]
        windows = [nats[a : a + width] for a in range(max(1, len(nats) - width + 1))]
        expected.append(-min(math.fsum(w) / len(w) for w in windows))
    np.testing.assert_allclose(paper.window(target, width=width), expected, rtol=1e-13)


def test_windows_of_a_million_tokens_lose_nothing_to_rounding():
    """A sure passage after a million unlikely tokens, where cumulative sums would be coarse."""
    rng = np.random.default_rng(12)
    nats = np.concatenate([rng.uniform(50, 100, 10**6), rng.uniform(0, 1e-6, 300)])
    nats = nats.astype(np.float32).astype(np.float64)
    stats = TokenStats([0, len(nats)], np.arange(len(nats)), -nats, np.zeros(len(nats), int))
    brute = min(math.fsum(nats[a : a + 50]) / 50 for a in range(10**6, len(nats) - 49))
    assert paper.window(stats)[0] == pytest.approx(-brute, rel=1e-9)
    early = stats.take([0])
    backwards = TokenStats(early.offsets, early.token_ids, -nats[::-1], early.rank)
    assert paper.window(backwards)[0] == pytest.approx(-brute, rel=1e-9)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_zlib_bits_are_those_of_a_stream_that_zlib_can_read_back(level):
    texts = ["", "a" * 500, "Überraschung \U0001f600", b"\xff\x00raw", "lone \ud800 surrogate"]
    for text, bits in zip(texts, paper.zlib_bits(texts, level=level), strict=True):
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        packed = zlib_module.compressobj(level)
        stream = packed.compress(raw) + packed.flush()
        assert zlib_module.decompress(stream) == raw
        assert bits == 8 * len(stream)


def test_repetition_costs_fewer_bits_than_variety():
    repeated, varied = "ab" * 200, "".join(map(chr, range(300, 700)))
    short, long = paper.zlib_bits([repeated, varied])
    assert short < long
    assert paper.zlib_bits([]).dtype == np.int64


def test_bytes_count_by_their_number():
    # 6 nats over 3 bytes are 2 nats, or 2 / ln 2 bits, each.
    assert paper.bits_per_byte(of([[-6.0]]), [3]).tolist() == pytest.approx([2 / math.log(2)])


ONE, TWO = of([[-1.0]]), of([[-1.0], [-2.0]])
MISTAKES = [
    (lambda: paper.reference(TWO, ONE), "reference must be of the target's 2 texts; got 1"),
    (
        lambda: paper.reference(ONE, of([[-1.0, -1.0]])),
        "reference must hold the target's token_ids",
    ),
    (
        lambda: paper.reference_by_bytes(TWO, ONE, [1, 1]),
        "reference must be of the target's 2",
    ),
    (lambda: paper.reference_by_bytes(ONE, ONE, [1, 1]), "n_bytes must be of the target's 1"),
    (lambda: paper.reference_by_bytes(ONE, ONE, [-1]), "n_bytes must be 0 or more; got -1"),
    (lambda: paper.zlib(TWO, [64]), "zlib_bits must be of the target's 2 texts; got 1"),
    (lambda: paper.lowercase(TWO, ONE), "lowercased must be of the target's 2 texts; got 1"),
    (lambda: paper.window(ONE, width=0), "width must be 1 token or more; got 0"),
    (
        lambda: paper.zlib_bits(["a"], level=10),
        "level must be a whole number from 0 to 9; got 10",
    ),
    (lambda: all_scores(ONE, other_tokenizer={"x"}), r"other_tokenizer must name .* got x"),
    (
        lambda: all_scores(ONE, references={"x": ONE}, other_tokenizer={"x"}),
        "n_bytes must be given",
    ),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_invalid_input_is_distinguished_from_undefined_scores(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()


@pytest.mark.parametrize("texts", ["one text", b"one text", [None]])
def test_non_text_input_is_not_compressed(texts):
    with pytest.raises(TypeError, match="texts must"):
        paper.zlib_bits(texts)


def test_scores_that_a_model_does_not_have_are_left_out():
    target = of([[-1.0, -2.0]])
    given = {"zlib_bits": [160], "references": {"small": target}}
    assert "reference:small" in all_scores(target, **given)
    assert list(all_scores(target, without=["zlib", "reference"], **given)) == [
        "likelihood",
        "window",
    ]
