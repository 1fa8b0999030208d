"""Readings of the membership scores that came after, and of the TPR at an FPR."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from attacks.scores.dc_pdd import dc_pdd, laplace
from attacks.scores.min_k import min_k, min_k_plus_plus, moments_of, surp
from attacks.scores.neighbourhood import neighbourhood
from attacks.scores.recall import con_recall, recall
from attacks.scores.token_differences import WBC_LENGTHS, ez_mia, wbc
from benchmarks.conformance import inputs as given
from benchmarks.conformance.question import Question, other, ours


def membership_questions() -> tuple[Question, ...]:
    """What papers and code read differently in the scores, and in the point of a ROC curve."""
    return (
        _min_k(),
        _min_k_plus_plus(),
        _surp(),
        _surp_percentile(),
        _recall(),
        _con_recall(),
        _error_zone(),
        _windows(),
        _neighbourhood(),
        _dc_pdd(),
        _tpr(),
    )


def _min_k() -> Question:
    target = given.TARGET
    texts = [-_nats(i) for i in range(len(target))]
    return Question(
        "Min-K%: number of tokens, what is averaged, direction",
        given.NAMES,
        (
            ours(
                "mean log p of max(1, floor(m / 5)) tokens",
                min_k(target),
                "Shi et al. 2024, §3",
            ),
            other(
                "mean log p of floor(m / 5) tokens",
                [_mean(np.sort(x)[: int(len(x) * 0.2)]) for x in texts],
                "Zhang et al. 2024 (Min-K%++), code",
            ),
            other(
                "its negative",
                [-_mean(np.sort(x)[: int(len(x) * 0.2)]) for x in texts],
                "Shi et al. 2024, code (lower = member)",
            ),
            other(
                "mean log p of ceil(m / 5) tokens",
                [_mean(np.sort(x)[: math.ceil(len(x) * 0.2)]) for x in texts],
                "rounded up",
            ),
            other(
                "log of the mean p of the same tokens as ours",
                [math.log(_mean(np.exp(np.sort(x)[: max(1, int(len(x) * 0.2))]))) for x in texts],
                "probabilities averaged before the logarithm",
            ),
            other(
                "ours, m without the first token",
                [_mean(np.sort(x[1:])[: max(1, int((len(x) - 1) * 0.2))]) for x in texts],
                "models without BOS",
            ),
        ),
        "Rounded down as in public code, but to at least one token, so that a short text has a "
        "score.",
    )


def _min_k_plus_plus() -> Question:
    target = given.TARGET
    mean, std = moments_of(target, "Min-K%++")
    raw, summed = [], []
    for i in range(len(target)):
        own = slice(target.offsets[i], target.offsets[i + 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.sort((-_nats(i) - mean[own]) / std[own])
        n_low = max(1, int(len(z) * 0.2))
        raw.append(_mean(z[:n_low]))
        summed.append(math.nan if len(z) < 5 else _mean(z[: int(len(z) * 0.2)]))
    return Question(
        "Min-K%++: a standard deviation of 0",
        given.NAMES,
        (
            ours(
                "variance clamped at 0, deviation at 0.0001 nats, at least one token",
                min_k_plus_plus(target),
                "Zhang et al. 2024 (Min-K%++), its formula",
            ),
            other("not clamped, at least one token", raw, "the formula as it stands"),
            other(
                "not clamped, floor(m / 5) tokens",
                summed,
                "Zhang et al. 2024, code; DC-PDD, code",
            ),
        ),
        "c is one token of which the model is certain: the deviation is 0, and 0 / 0 is undefined. "
        "With the clamp, the expected token gets 0 and any other a very low value.",
    )


def _surp() -> Question:
    values = surp(given.TARGET)
    return Question(
        "SURP: a text without a surprising token",
        given.NAMES,
        (
            ours("undefined", values, "Zhang and Wu 2024, SURP, its formula"),
            other("-100", np.nan_to_num(values, nan=-100), "public code that compares attacks"),
        ),
        "A mean over no tokens is undefined, and is counted as such. -100 would rank the least "
        "surprising text as the least likely member.",
    )


def _surp_percentile() -> Question:
    mean, _ = moments_of(given.TARGET, "SURP")
    entropies = [-mean[a:b] for a, b in pairwise(given.TARGET.offsets)]
    texts = [(-_nats(i), entropy) for i, entropy in enumerate(entropies)]
    counted, interpolated = [], []
    for x, entropy in texts:
        rank = np.argsort(np.argsort(x, kind="stable"), kind="stable")
        counted.append(_mean(x[(rank < int(len(x) * 0.2)) & (entropy < 2)]))
        interpolated.append(_mean(x[(x < np.percentile(x, 20)) & (entropy < 2)]))
    return Question(
        "SURP's percentile: the least likely 20 % of the tokens",
        given.NAMES,
        (
            ours(
                "the max(1, floor(m / 5)) least likely tokens",
                surp(given.TARGET),
                "as Min-K%; ties with the last of them included",
            ),
            other(
                "the floor(m / 5) least likely tokens",
                counted,
                "public code that compares attacks; ties broken arbitrarily",
            ),
            other(
                "tokens below the interpolated percentile",
                interpolated,
                "Zhang and Wu 2024, text, with numpy.percentile",
            ),
        ),
        "The paper takes the tokens below a percentile of the text's probabilities, which can be "
        "defined in several ways. With interpolation, up to ceil((m - 1) / 5) tokens lie below it: "
        "3 of 12, where counting gives 2. Counting gives the same tokens as Min-K%, and one token "
        "for a text of fewer than five.",
    )


def _recall() -> Question:
    target, after = given.TARGET, given.CONDITIONED
    without_first = np.array([_mean(_nats(i)[1:]) for i in range(len(target))])
    return Question(
        "ReCaLL: which tokens are averaged",
        given.NAMES,
        (
            ours(
                "L(text after prefix) / L, over the tokens that both have",
                recall(target, after),
                "Xie et al. 2024, its formula",
            ),
            other(
                "the first token in L(text after prefix) alone",
                after.nll() / without_first,
                "Xie et al. 2024, code",
            ),
            other("L(text after prefix) - L", after.nll() - target.nll(), "as a difference"),
            other(
                "exp(L(text after prefix) - L)",
                np.exp(after.nll() - target.nll()),
                "of perplexities",
            ),
        ),
        "A ratio of means over different tokens depends on the first token as well as on the "
        "prefix. A text of one token would have no second mean.",
    )


def _con_recall() -> Question:
    target, after, like = given.TARGET, given.CONDITIONED, given.AFTER_MEMBERS
    return Question(
        "Con-ReCall: the weight of the members' prefix",
        given.NAMES,
        (
            ours(
                "(L(text after non-members) - L(text after members) / 2) / L",
                con_recall(target, after, like),
                "Wang et al. 2024, its formula with gamma = 1/2",
            ),
            other(
                "the same with gamma = 1",
                con_recall(target, after, like, 1.0),
                "Wang et al. 2024, one of the values that their code tries",
            ),
        ),
        "The authors choose gamma from the labels that they evaluate with, and the prefixes from "
        "the evaluated texts; here gamma is fixed, and a prefix that is one of the scored texts is "
        "refused.",
    )


def _error_zone() -> Question:
    target = given.TARGET
    values = ez_mia(target, given.REFERENCE)
    n_wrong = [int((target.take([i]).rank > 0).sum()) for i in range(len(target))]
    coded = [
        0.0 if not np.isfinite(x) or n < 2 else x for x, n in zip(values, n_wrong, strict=True)
    ]
    return Question(
        "Error zone (EZ-MIA): a text without errors, or without a negative difference",
        given.NAMES,
        (
            ours("infinite: the most likely member", values, "Ilić et al. 2026, appendix"),
            other("0 there, and below two errors", coded, "Ilić et al. 2026, code"),
        ),
        "A perfectly memorized text has no error. With 0 it ranks below every other text.",
    )


def _windows() -> Question:
    coded = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)
    return Question(
        "Window comparison (WBC): the ten lengths",
        given.NAMES,
        (
            ours(
                ", ".join(map(str, WBC_LENGTHS)),
                wbc(given.TARGET, given.REFERENCE),
                "arXiv 2601.02751, eq. 12",
            ),
            other(
                ", ".join(map(str, coded)),
                wbc(given.TARGET, given.REFERENCE, coded),
                "the authors' configuration",
            ),
        ),
        "Lengths above the text's are left out, so short texts are compared on few lengths.",
    )


def _neighbourhood() -> Question:
    values = neighbourhood(given.TARGET, given.NEIGHBOURS, given.N_NEIGHBOURS)
    around = given.NEIGHBOURS.nll()
    ends = np.cumsum(given.N_NEIGHBOURS)
    groups = [around[end - n : end] for n, end in zip(given.N_NEIGHBOURS, ends, strict=True)]
    nll = given.TARGET.nll()
    scaled = [
        (_mean(g) - x) / float(np.std(g)) if len(g) > 1 else math.nan
        for g, x in zip(groups, nll, strict=True)
    ]
    return Question(
        "Neighbourhood: direction and scale",
        given.NAMES,
        (
            ours("mean L(neighbour) - L", values, "Mattern et al. 2023, §2, its negative"),
            other("L - mean L(neighbour)", -values, "Mattern et al. 2023, §2 (lower = member)"),
            other("(mean L(neighbour) - L) / deviation", scaled, "after DetectGPT"),
        ),
        "Higher values indicate members for every score here. A standard deviation needs many "
        "neighbours.",
    )


def _dc_pdd() -> Question:
    target, f = given.TARGET, laplace(given.COUNTS)
    cross = [
        np.exp(-_nats(i)) * -np.log(f[target.token_ids[target.offsets[i] : target.offsets[i + 1]]])
        for i in range(len(target))
    ]
    values = dc_pdd(target, given.COUNTS)
    return Question(
        "DC-PDD: which tokens count, and the limit",
        given.NAMES,
        (
            ours(
                "mean over distinct tokens of min(-p log f, 0.01)",
                values,
                "Zhang et al. 2024 (DC-PDD), its formula",
            ),
            other("its negative", -values, "its code; MIMIR (lower = member)"),
            other("over all tokens", [_mean(np.minimum(x, 0.01)) for x in cross], "repeats count"),
            other(
                "over distinct tokens, no cap",
                dc_pdd(target, given.COUNTS, cap=math.inf),
                "without the last step",
            ),
        ),
        "f adds 1 to the count of every token of the vocabulary, so that a token that is missing "
        "from the corpus has a frequency. The limit is low: a token with a probability above a few "
        "percent counts 0.01, regardless of its frequency.",
    )


def _tpr() -> Question:
    fpr, tpr = _curve(given.MEMBERS, given.NONMEMBERS)
    targets = (0.125, 0.2)
    return Question(
        "TPR at an FPR: the point of the curve",
        ("at 12.5 % FPR", "at 20 % FPR"),
        (
            ours(
                "the last point whose FPR does not exceed the target",
                [tpr[fpr <= at][-1] for at in targets],
                "Zhang et al. 2024 (Min-K%++), code",
            ),
            other(
                "the last point whose FPR is below the target",
                [tpr[fpr < at][-1] for at in targets],
                "Shi et al. 2024, code; DC-PDD, code",
            ),
            other(
                "the first point whose FPR reaches the target",
                [tpr[fpr >= at][0] for at in targets],
                "rounded up",
            ),
            other(
                "linear interpolation between the neighbouring points",
                [np.interp(at, fpr, tpr) for at in targets],
                "interpolated curves",
            ),
        ),
        "The false positive rate must not exceed the target. With 8 non-members, the points of the "
        "curve are 12.5 % apart, and none is at 20 %. So few non-members do not determine the FPR "
        "of a threshold: a report withholds the TPR below 10 false positives.",
    )


def _curve(members, nonmembers) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR of every threshold, the strictest first; equal scores fall together."""
    thresholds = np.unique(np.concatenate([members, nonmembers, [np.inf]]))[::-1]
    caught = [(np.asarray(scores) >= thresholds[:, None]) for scores in (nonmembers, members)]
    fpr, tpr = (c.mean(axis=1) for c in caught)
    return fpr, tpr


def _nats(i: int) -> np.ndarray:
    target = given.TARGET
    return target.token_nll()[target.offsets[i] : target.offsets[i + 1]]


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else math.nan
