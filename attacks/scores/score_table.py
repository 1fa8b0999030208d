"""Every score of a text in one literal table: name, formula, what it is after, and its source.

Higher means more likely memorized, without exception. L is the mean negative log-probability of a
text's tokens, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES, TEXTS = "samples", "texts"


@dataclass(frozen=True)
class Score:
    """A score's entry in the table: what it is called, where it is from and what it is made of.

    `made_for`: "samples" of an audit, which it ranks; "texts" whose membership is asked about.
    A score that compares with a reference has a column for each: "reference:NAME".
    """

    name: str
    title: str
    made_for: tuple[str, ...]
    formula: str
    meaning: str
    source: str
    needs: tuple[str, ...]


SCORES: tuple[Score, ...] = (
    Score(
        name="perplexity",
        title="Perplexity",
        made_for=(SAMPLES,),
        formula="−L(target)",
        meaning="Text that the model finds likely. Puts repetitive text on top as well.",
        source="Carlini et al. 2021, §4.2",
        needs=("target",),
    ),
    Score(
        name="loss",
        title="Loss",
        made_for=(TEXTS,),
        formula="−L(target)",
        meaning="Text that the model finds likely.",
        source="Yeom et al. 2018, §3; Carlini et al. 2021, §4.2",
        needs=("target",),
    ),
    Score(
        name="reference",
        title="Reference model, ratio",
        made_for=(SAMPLES, TEXTS),
        formula="L(reference) / L(target)",
        meaning="Likely for the target, less so for another model that may not have seen the text.",
        source="Carlini et al. 2021, §5.2 (Small, Medium)",
        needs=("target", "reference"),
    ),
    Score(
        name="reference_difference",
        title="Reference model, difference",
        made_for=(TEXTS,),
        formula="L(reference) − L(target)",
        meaning="The same by difference, so that a text's own difficulty weighs less.",
        source="Duan et al. 2024 (Reference)",
        needs=("target", "reference"),
    ),
    Score(
        name="zlib",
        title="zlib entropy",
        made_for=(SAMPLES, TEXTS),
        formula="zlib bits / L(target)",
        meaning="Likely, and not because it is easy to compress.",
        source="Carlini et al. 2021, §5.2 (zlib)",
        needs=("target", "zlib_bits"),
    ),
    Score(
        name="lowercase",
        title="Lower-cased text",
        made_for=(SAMPLES, TEXTS),
        formula="L(target, text lower-cased) / L(target)",
        meaning="Likely only in its exact spelling.",
        source="Carlini et al. 2021, §5.2 (Lowercase)",
        needs=("target", "lowercased"),
    ),
    Score(
        name="window",
        title="Sliding window",
        made_for=(SAMPLES, TEXTS),
        formula="−min L(target) over windows of 50 tokens",
        meaning="Likely in one stretch, whatever surrounds it.",
        source="Carlini et al. 2021, §5.2 (Window)",
        needs=("target",),
    ),
    Score(
        name="min_k",
        title="Min-K%",
        made_for=(TEXTS,),
        formula="mean log p(token) of the 20 % least likely tokens",
        meaning="No token surprises the model much.",
        source="Shi et al. 2024, §3",
        needs=("target",),
    ),
    Score(
        name="min_k_plus_plus",
        title="Min-K%++",
        made_for=(TEXTS,),
        formula="mean of the lowest 20 % of (log p(token) − mean) / deviation",
        meaning="The same, each token measured by what the model thought of all the others.",
        source="Zhang et al. 2024, Min-K%++",
        needs=("target", "moments"),
    ),
    Score(
        name="surp",
        title="Surprising tokens",
        made_for=(TEXTS,),
        formula="mean log p(token) of the 20 % least likely where the entropy is below 2 nats",
        meaning="Where the model is sure, it is seldom sure of something else.",
        source="Zhang and Wu 2024, SURP",
        needs=("target", "moments"),
    ),
    Score(
        name="recall",
        title="ReCaLL",
        made_for=(TEXTS,),
        formula="L(target, text after non-members) / L(target)",
        meaning="Unfamiliar text before it makes it less likely.",
        source="Xie et al. 2024, ReCaLL",
        needs=("target", "conditioned"),
    ),
    Score(
        name="neighbourhood",
        title="Neighbourhood",
        made_for=(TEXTS,),
        formula="mean L(target, neighbour) − L(target)",
        meaning="Likelier than texts that differ from it by a few words.",
        source="Mattern et al. 2023, §2",
        needs=("target", "neighbours"),
    ),
    Score(
        name="dc_pdd",
        title="DC-PDD",
        made_for=(TEXTS,),
        formula="mean over distinct tokens of min(−p(token) log f(token), 0.01)",
        meaning="Tokens that are likely here though they are rare elsewhere.",
        source="Zhang et al. 2024, DC-PDD",
        needs=("target", "token_counts"),
    ),
)


def scores_made_for(what: str) -> tuple[Score, ...]:
    """The scores of samples, or of texts, in the table's order.

    Parameters
    ----------
    what : "samples" or "texts"

    >>> [score.name for score in scores_made_for("samples")]
    ['perplexity', 'reference', 'zlib', 'lowercase', 'window']
    """
    return tuple(score for score in SCORES if what in score.made_for)
