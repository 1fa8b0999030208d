"""What each score is, in a line: for the page and for anyone who asks what a column means."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Definition:
    """A score's formula, what it is after, and where the paper has it."""

    pattern: str
    formula: str
    meaning: str
    source: str


DEFINITIONS = (
    Definition(
        "perplexity",
        "−L(target)",
        "Text that the model finds likely. Puts repetitive text on top as well.",
        "section 4.2",
    ),
    Definition(
        "reference:*",
        "L(reference) / L(target)",
        "Likely for the target, less so for another model that may not have seen the text.",
        "section 5.2",
    ),
    Definition(
        "zlib",
        "zlib bits / L(target)",
        "Likely, and not because it is easy to compress.",
        "section 5.2",
    ),
    Definition(
        "lowercase",
        "L(target, text lower-cased) / L(target)",
        "Likely only in its exact spelling.",
        "section 5.2",
    ),
    Definition(
        "window",
        "−min L(target) over windows of 50 tokens",
        "Likely in one stretch, whatever surrounds it.",
        "section 5.2",
    ),
    Definition(
        "random",
        "none: a seeded random order",
        "The control. What a list is worth is how far it is above this one.",
        "",
    ),
)


def definition(score: str) -> Definition:
    """The definition of a score by its column's name.

    Parameters
    ----------
    score : str

    Returns
    -------
    Definition

    Raises
    ------
    ValueError
        If no score has this name.

    Source
    ------
    Carlini et al. 2021; each definition names its section.

    >>> definition("reference:small").formula
    'L(reference) / L(target)'
    """
    for known in DEFINITIONS:
        if fnmatchcase(score, known.pattern):
            return known
    allowed = ", ".join(known.pattern for known in DEFINITIONS)
    raise ValueError(
        f"A score is one of {allowed}; got {score!r}. Describe a new one in reports.definitions."
    )
