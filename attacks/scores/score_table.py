"""Table of all scores: name, formula, meaning and source.

A higher score means more likely memorized. L is the mean negative log-probability of a text's
tokens, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES, TEXTS = "samples", "texts"


@dataclass(frozen=True)
class Score:
    """One score: its name, formula, meaning, source and inputs.

    `made_for`: "samples" of an audit, to rank them; "texts" whose membership is tested.
    A score that needs a reference has one column per reference: "reference:NAME".
    """

    name: str
    title: str
    formula: str
    meaning: str
    source: str
    made_for: tuple[str, ...] = (TEXTS,)
    needs: tuple[str, ...] = ("target",)


SCORES: tuple[Score, ...] = (
    Score(
        name="likelihood",
        title="Likelihood",
        formula="−L(target)",
        meaning="The model finds the text likely. Also high for repetitive text.",
        source="Carlini et al. 2021, §4.2",
        made_for=(SAMPLES,),
    ),
    Score(
        name="loss",
        title="Loss",
        formula="−L(target)",
        meaning="The model finds the text likely.",
        source="Yeom et al. 2018, §3; Carlini et al. 2021, §4.2",
    ),
    Score(
        name="reference",
        title="Reference model, ratio",
        formula="L(reference) / L(target)",
        meaning="Likely for the target, less so for another model that may not have seen the text.",
        source="Carlini et al. 2021, §5.2 (Small, Medium)",
        made_for=(SAMPLES, TEXTS),
        needs=("target", "reference"),
    ),
    Score(
        name="reference_difference",
        title="Reference model, difference",
        formula="L(reference) − L(target)",
        meaning="The same as a difference, so that the difficulty of the text matters less.",
        source="Duan et al. 2024 (Reference)",
        needs=("target", "reference"),
    ),
    Score(
        name="masked_reference",
        title="Reference model, random masks",
        formula="M(reference) − M(target), M: mean cross-entropy over 20 random 15 % masks",
        meaning="Its gaps are filled better than by another model that may not have seen the text.",
        source="Mireshghallah et al. 2022, §3.2",
        needs=("target", "reference", "masks"),
    ),
    Score(
        name="ez_mia",
        title="Error zone",
        formula="Σ positive d / |Σ negative d| where the first choice of the target is wrong; "
        "d = log p(target) − log p(reference)",
        meaning="Even where the target errs, it finds the token likelier than the reference does.",
        source="Ilić et al. 2026, EZ-MIA",
        needs=("target", "reference"),
    ),
    Score(
        name="wbc",
        title="Window comparison",
        formula="mean share of windows of 2 to 40 tokens with Σ d > 0",
        meaning="The target finds most passages likelier than the reference does.",
        source="arXiv 2601.02751, WBC",
        needs=("target", "reference"),
    ),
    Score(
        name="zlib",
        title="zlib entropy",
        formula="zlib bits / L(target)",
        meaning="Likely, but not because it is easy to compress.",
        source="Carlini et al. 2021, §5.2 (zlib)",
        made_for=(SAMPLES, TEXTS),
        needs=("target", "zlib_bits"),
    ),
    Score(
        name="lowercase",
        title="Lower-cased text",
        formula="L(target, text lower-cased) / L(target)",
        meaning="Likely only in its exact spelling.",
        source="Carlini et al. 2021, §5.2 (Lowercase)",
        made_for=(SAMPLES, TEXTS),
        needs=("target", "lowercased"),
    ),
    Score(
        name="window",
        title="Sliding window",
        formula="−min L(target) over windows of 50 tokens",
        meaning="One passage is likely, regardless of the rest.",
        source="Carlini et al. 2021, §5.2 (Window)",
        made_for=(SAMPLES, TEXTS),
    ),
    Score(
        name="min_k",
        title="Min-K%",
        formula="mean log p(token) of the 20 % least likely tokens",
        meaning="No token is very unlikely.",
        source="Shi et al. 2024, §3",
    ),
    Score(
        name="min_k_plus_plus",
        title="Min-K%++",
        formula="mean of the lowest 20 % of (log p(token) − mean) / deviation",
        meaning="The same, with each token standardized by the distribution over the vocabulary.",
        source="Zhang et al. 2024, Min-K%++",
        needs=("target", "moments"),
    ),
    Score(
        name="surp",
        title="Surprising tokens",
        formula="mean log p(token) of the 20 % least likely where the entropy is below 2 nats",
        meaning="Where the model is confident, it is rarely wrong.",
        source="Zhang and Wu 2024, SURP",
        needs=("target", "moments"),
    ),
    Score(
        name="recall",
        title="ReCaLL",
        formula="L(target, text after non-members) / L(target)",
        meaning="A prefix of unfamiliar text makes it less likely.",
        source="Xie et al. 2024, ReCaLL",
        needs=("target", "conditioned"),
    ),
    Score(
        name="con_recall",
        title="Con-ReCall",
        formula="(L(target, text after non-members) − ½ L(target, text after members)) / L(target)",
        meaning="A prefix of unfamiliar text makes it less likely, one of members does not.",
        source="Wang et al. 2024, Con-ReCall",
        needs=("target", "conditioned", "conditioned_members"),
    ),
    Score(
        name="neighbourhood",
        title="Neighbourhood",
        formula="mean L(target, neighbour) − L(target)",
        meaning="More likely than texts that differ from it in a few words.",
        source="Mattern et al. 2023, §2",
        needs=("target", "neighbours"),
    ),
    Score(
        name="dc_pdd",
        title="DC-PDD",
        formula="mean over distinct tokens of min(−p(token) log f(token), 0.01)",
        meaning="Tokens are likely here although they are rare elsewhere.",
        source="Zhang et al. 2024, DC-PDD",
        needs=("target", "token_counts"),
    ),
)


def scores_for(what: str) -> tuple[Score, ...]:
    """The scores of "samples" or of "texts", in table order.

    >>> [score.name for score in scores_for("samples")]
    ['likelihood', 'reference', 'zlib', 'lowercase', 'window']
    """
    return tuple(score for score in SCORES if what in score.made_for)
