"""Membership scores against a slow second implementation, and their invariances."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from attacks.scores.all_scores import TEXTS, all_scores, undefined_reasons
from attacks.scores.score_table import scores_for
from attacks.scores.token_differences import ez_mia, wbc
from attacks.scores.token_stats import RANK_UNKNOWN, TokenStats
from tests.membership_texts import N_VOCAB, every_score, of, random_texts

COLUMNS = [
    *("loss", "reference:small", "reference:other"),
    *("reference_difference:small", "reference_difference:other", "ez_mia:small", "wbc:small"),
    *("zlib", "lowercase", "window", "min_k", "min_k_plus_plus", "surp", "recall", "con_recall"),
    *("neighbourhood", "dc_pdd"),
]
STATS = ("target", "small", "other", "lowercased", "conditioned", "conditioned_members")


def taken(texts: SimpleNamespace, index) -> SimpleNamespace:
    """Some of the texts, each with its neighbours."""
    ends = np.cumsum(texts.n_neighbours)
    own = [range(ends[i] - texts.n_neighbours[i], ends[i]) for i in index]
    parts = {name: getattr(texts, name).take(index) for name in STATS}
    rest = {name: getattr(texts, name)[index] for name in ("n_neighbours", "n_bytes", "zlib_bits")}
    near = texts.neighbours.take(np.array([j for o in own for j in o], dtype=int))
    return SimpleNamespace(**parts, **rest, neighbours=near, token_counts=texts.token_counts)


# ------------------------------------------------------------------- the slow implementation
def nats_of(stats: TokenStats, i: int) -> list[float]:
    return [float(-p) for p in stats.take([i]).logprob if not math.isnan(p)]


def mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def ratio(a: float, b: float) -> float:
    return a / b


def slow_score(column: str, texts: SimpleNamespace, i: int) -> float:
    """The score of text i by the formulas of the papers, one token after the other."""
    target = texts.target
    own = slice(target.offsets[i], target.offsets[i + 1])
    nats = nats_of(target, i)
    kept = [t for t in range(own.start, own.stop) if target.rank[t] >= 0]
    if not nats:
        return math.nan
    name, _, model = column.partition(":")
    n_low = max(1, math.floor(len(nats) * 20 / 100))
    if name == "loss":
        return -mean(nats)
    if name == "zlib":
        return texts.zlib_bits[i] / mean(nats)
    if name == "lowercase":
        return mean(nats_of(texts.lowercased, i)) / mean(nats)
    if name.startswith("reference"):
        other = nats_of(getattr(texts, model), i)
        if model == "small":
            a, b = mean(other), mean(nats)
        else:
            a, b = (math.fsum(x) / math.log(2) / texts.n_bytes[i] for x in (other, nats))
            a = a if other else math.nan
        return a / b if name == "reference" else a - b
    if name == "window":
        return -min(mean(nats[s : s + 50]) for s in range(max(1, len(nats) - 49)))
    if name == "min_k":
        return mean(sorted(-x for x in nats)[:n_low])
    if name == "min_k_plus_plus":
        z = [
            (float(target.logprob[t]) - float(target.vocab_mean[t]))
            / max(float(target.vocab_std[t]), 1e-4)
            for t in kept
        ]
        return mean(sorted(z)[:n_low])
    if name == "surp":
        edge = sorted(float(target.logprob[t]) for t in kept)[n_low - 1]
        return mean(
            float(target.logprob[t])
            for t in kept
            if target.logprob[t] <= edge and -float(target.vocab_mean[t]) < 2
        )
    if name == "recall":
        return slow_recall(texts.target, texts.conditioned, i)
    if name == "con_recall":
        after = (texts.conditioned, texts.conditioned_members)
        unlike, like = (slow_recall(texts.target, stats, i) for stats in after)
        return unlike - 0.5 * like
    if name in ("ez_mia", "wbc"):
        both = [
            (float(a) - float(b), int(rank))
            for a, b, rank in zip(
                target.logprob[own], texts.small.logprob[own], target.rank[own], strict=True
            )
            if not (math.isnan(a) or math.isnan(b))
        ]
        return (slow_error_zone if name == "ez_mia" else slow_windows)(both)
    if name == "neighbourhood":
        last = int(np.cumsum(texts.n_neighbours)[i])
        around = [nats_of(texts.neighbours, j) for j in range(last - texts.n_neighbours[i], last)]
        return mean(mean(x) for x in around if x) - mean(nats)
    total = int(texts.token_counts.sum()) + N_VOCAB
    seen: dict[int, float] = {}
    for t in kept:
        f = (int(texts.token_counts[target.token_ids[t]]) + 1) / total
        cross = math.exp(float(target.logprob[t])) * -math.log(f)
        seen.setdefault(int(target.token_ids[t]), min(cross, 0.01))
    return mean(seen.values())


def slow_recall(target: TokenStats, conditioned: TokenStats, i: int) -> float:
    pairs = [
        (float(-b), float(-a))
        for a, b in zip(target.take([i]).logprob, conditioned.take([i]).logprob, strict=False)
        if not (math.isnan(a) or math.isnan(b))
    ]
    if not pairs:
        return math.nan
    return ratio(math.fsum(b for b, _ in pairs), math.fsum(a for _, a in pairs))


def slow_error_zone(both: list[tuple[float, int]]) -> float:
    if not both:
        return math.nan
    wrong = [d for d, rank in both if rank > 0]
    below = -math.fsum(d for d in wrong if d < 0)
    return math.fsum(d for d in wrong if d > 0) / below if below else math.inf


def slow_windows(both: list[tuple[float, int]]) -> float:
    d = [x for x, _ in both]
    shares = []
    for n in (2, 3, 4, 5, 8, 11, 15, 21, 29, 40):
        windows = [math.fsum(d[s : s + n]) > 0 for s in range(len(d) - n + 1)]
        shares += [mean(windows)] if windows else []
    return mean(shares)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("column", COLUMNS)
def test_score_equals_a_slow_second_implementation(column, seed):
    texts = random_texts(seed)
    expected = [slow_score(column, texts, i) for i in range(len(texts.target))]
    assert not np.isnan(expected).all()
    np.testing.assert_allclose(every_score(texts)[column], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("column", COLUMNS)
def test_texts_score_the_same_alone_as_in_a_batch(column):
    texts = random_texts(3)
    alone = [every_score(taken(texts, [i]))[column] for i in range(len(texts.target))]
    np.testing.assert_array_equal(every_score(texts)[column], np.concatenate(alone))


@pytest.mark.parametrize("column", COLUMNS)
def test_scores_follow_their_texts_through_a_permutation(column):
    texts = random_texts(4)
    order = np.random.default_rng(5).permutation(len(texts.target))
    permuted = every_score(taken(texts, order))[column]
    np.testing.assert_array_equal(permuted, every_score(texts)[column][order])


@pytest.mark.parametrize(
    "column", [c for c in COLUMNS if c not in ("surp", "recall", "con_recall")]
)
def test_texts_whose_every_token_is_likelier_never_score_lower(column):
    texts = random_texts(6)
    before = every_score(texts)
    t = texts.target
    texts.target = TokenStats(
        t.offsets, t.token_ids, t.logprob * 0.5, t.rank, t.vocab_mean, t.vocab_std
    )
    after = every_score(texts)
    defined = ~np.isnan(before[column])
    assert (after[column] >= before[column])[defined].all()
    assert (after[column] > before[column]).any()


@pytest.mark.parametrize("column", COLUMNS)
def test_no_texts_have_no_scores(column):
    values = every_score(random_texts(7, lengths=[]))[column]
    assert (values.shape, values.dtype) == ((0,), np.float64)


@pytest.mark.parametrize("column", [c for c in COLUMNS if c not in ("ez_mia:small", "wbc:small")])
def test_one_token_is_enough_for_every_score(column):
    one = of([[3]], [[-1.0]], [[1.0]], [[0.0]])
    same = of([[3]], [[-2.0]])
    texts = SimpleNamespace(
        target=one,
        small=same,
        other=same,
        lowercased=same,
        conditioned=same,
        conditioned_members=same,
        neighbours=same,
        n_neighbours=np.array([1]),
        n_bytes=np.array([4]),
        zlib_bits=np.array([96]),
        token_counts=np.ones(N_VOCAB, int),
    )
    assert np.isfinite(every_score(texts)[column]).all()


@pytest.mark.parametrize("column", COLUMNS)
def test_a_broken_token_makes_its_text_undefined(column):
    texts = random_texts(8)
    at = int(np.argmax(texts.target.n_tokens()))
    t, broken = texts.target, texts.target.logprob.copy()
    broken[t.offsets[at] + 2] = math.nan
    before = every_score(texts)[column]
    texts.target = TokenStats(t.offsets, t.token_ids, broken, t.rank, t.vocab_mean, t.vocab_std)
    after = every_score(texts)[column]
    assert np.isnan(after[at])
    others = np.arange(len(before)) != at
    np.testing.assert_array_equal(after[others], before[others])


@pytest.mark.parametrize("column", ["min_k_plus_plus", "surp"])
def test_broken_moments_make_their_text_undefined_and_say_so(column):
    target = of([[1, 2], [3, 4]], [[-1.0, -9.0]] * 2, [[1.0, 1.0]] * 2, [[1.0, 1.0]] * 2)
    moments = {name: getattr(target, name).copy() for name in ("vocab_mean", "vocab_std")}
    moments["vocab_mean"][0] = math.nan
    target = TokenStats(target.offsets, target.token_ids, target.logprob, target.rank, **moments)
    values = all_scores(target, made_for=TEXTS)
    assert np.isnan(values[column]).tolist() == [True, False]
    told = undefined_reasons(values, target)
    assert told[column] == {"not finite vocabulary moments": 1}


# ----------------------------------------------------------------------------- table and mistakes
def test_columns_come_in_the_order_of_the_table():
    got = list(every_score(random_texts(10)))
    assert got == COLUMNS
    names = [name.partition(":")[0] for name in got]
    # Causal models have no losses under masks.
    expected = [score.name for score in scores_for("texts") if "masks" not in score.needs]
    assert list(dict.fromkeys(names)) == expected


@pytest.mark.parametrize("score", scores_for("texts"), ids=lambda score: score.name)
def test_a_score_is_given_as_soon_as_its_needs_are_and_not_before(score):
    texts = random_texts(11)
    bare = TokenStats(
        *(getattr(texts.target, n) for n in ("offsets", "token_ids", "logprob", "rank"))
    )
    optional = {
        "reference": {"references": {"small": texts.small}},
        "zlib_bits": {"zlib_bits": texts.zlib_bits},
        "lowercased": {"lowercased": texts.lowercased},
        "conditioned": {"conditioned": texts.conditioned},
        "conditioned_members": {"conditioned_members": texts.conditioned_members},
        "neighbours": {"neighbours": texts.neighbours, "n_neighbours": texts.n_neighbours},
        "token_counts": {"token_counts": texts.token_counts},
        "masks": {
            "masked_losses": texts.target.nll(),
            "reference_masked_losses": {"small": texts.small.nll()},
        },
    }
    given = {}
    for need in score.needs:
        given |= optional.get(need, {})
    target = texts.target if "moments" in score.needs else bare
    assert score.name in {
        name.partition(":")[0] for name in all_scores(target, made_for=TEXTS, **given)
    }
    if score.needs != ("target",):
        assert score.name not in {
            name.partition(":")[0] for name in all_scores(bare, made_for=TEXTS)
        }


def test_every_undefined_value_is_counted_under_a_reason():
    texts = random_texts(12)
    values = every_score(texts)
    told = undefined_reasons(
        values,
        texts.target,
        references={"small": texts.small, "other": texts.other},
        lowercased=texts.lowercased,
        n_bytes=texts.n_bytes,
        conditioned=texts.conditioned,
        conditioned_members=texts.conditioned_members,
        neighbours=texts.neighbours,
        n_neighbours=texts.n_neighbours,
    )
    for name, column in values.items():
        assert sum(told.get(name, {}).values()) == np.isnan(column).sum(), name
    # The empty text, and those of one token with no probability: 3 of the first four.
    assert told["loss"] == {"text has no scored token": int((texts.target.n_scored() == 0).sum())}
    lonely = (texts.n_neighbours == 0) & (texts.target.n_scored() > 0)
    assert told["neighbourhood"]["text has no neighbour"] == lonely.sum()


# ------------------------------------------------------------------------------ token differences
def pair(target, reference, ranks):
    ids = [range(len(text)) for text in target]
    zeros = [[0] * len(text) for text in target]
    return TokenStats.from_lists(ids, target, ranks), TokenStats.from_lists(ids, reference, zeros)


def test_a_memorized_text_ranks_first_by_the_error_zone():
    """Public code returns 0 without a negative difference, or with fewer than two wrong tokens."""
    target, reference = pair(
        [[-0.1, -0.1, -0.1], [-2.0, -2.0, -0.1], [-0.1, -2.0, -0.1], [-2.0, -2.0, -2.0]],
        [[-5.0, -5.0, -5.0], [-5.0, -5.0, -5.0], [-5.0, -5.0, -5.0], [-1.0, -5.0, -1.0]],
        [[0, 0, 0], [3, 2, 0], [0, 4, 0], [1, 2, 5]],
    )
    assert ez_mia(target, reference).tolist() == [math.inf, math.inf, math.inf, 1.5]


def test_unknown_ranks_leave_the_error_zone_undefined_and_say_so():
    target, reference = pair([[-1.0, -2.0]], [[-3.0, -3.0]], [[RANK_UNKNOWN, RANK_UNKNOWN]])
    values = all_scores(target, made_for=TEXTS, references={"r": reference})
    assert np.isnan(values["ez_mia:r"]).all()
    assert values["wbc:r"].tolist() == [1.0]
    told = undefined_reasons(values, target, references={"r": reference})
    assert told == {"ez_mia:r": {"model gives no token ranks": 1}}


def test_the_same_model_as_reference_has_no_window_above():
    rng = np.random.default_rng(0)
    texts = [(-rng.gamma(0.7, 2.0, 30)).tolist() for _ in range(3)]
    target, same = pair(texts, texts, [[1] * 30] * 3)
    assert wbc(target, same).tolist() == [0.0] * 3
    assert np.isnan(ez_mia(target, same)).all()


def test_impossible_tokens_do_not_spoil_other_windows():
    target, reference = pair([[-1.0] * 4], [[-math.inf, -2.0, -0.5, -0.5]], [[1] * 4])
    # Windows of 2: +, +, -; of 3: +, 0; of 4: +.
    assert wbc(target, reference).tolist() == pytest.approx([(2 / 3 + 1 / 2 + 1) / 3])


def test_scores_of_token_differences_need_the_same_tokenizer():
    texts = random_texts(13)
    names = every_score(texts)
    assert "ez_mia:other" not in names
    assert "wbc:other" not in names
