"""What each score is, in a line: for the page and for anyone who asks what a column means."""

from attacks.scores.score_table import SAMPLES, SCORES, Score
from reports.analysis.schema import CONTROL

_RANDOM = Score(
    name=CONTROL,
    title="Random order",
    made_for=(SAMPLES,),
    formula="none: a seeded random order",
    meaning="The control: a score is useful if its list is more precise than this one.",
    source="",
    needs=(),
)


def definition(score: str) -> Score:
    """The definition of a score by its column's name.

    Raises
    ------
    ValueError
        If no score has this name.

    >>> definition("reference:small").formula
    'L(reference) / L(target)'
    """
    known = {entry.name: entry for entry in (*SCORES, _RANDOM)}
    found = known.get(score.partition(":")[0])
    if found is None:
        raise ValueError(
            f"A score is one of {', '.join(known)}; got {score!r}. Describe a new one in "
            "attacks.scores.score_table."
        )
    return found
