"""Names of people in generated text, found by presidio and a spaCy pipeline (extra `names`).

No rule can identify names; a tagger has false positives and false negatives. It is used only if the
config of an audit names a pipeline, so that a run depends on its config alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reports.privacy import Item
from reports.privacy.finding import Finder

# What finds names needs none of these, and they take most of the time.
_NOT_NEEDED = ["parser", "tagger", "lemmatizer", "attribute_ruler", "senter"]
# Taggers call much a person that code and tables hold: a name has letters, and begins with a large
# one where its script has such.
_NAME = re.compile(r"[^\W\d_][^\W\d_]*(?:[ .,'’\n-]+[^\W\d_]+)*\.?")


def finders(pipeline: str | None) -> tuple[Finder, ...]:
    """The finders besides the rules: that of the pipeline, if one is given.

    Raises
    ------
    ValueError
        As `name_finder`.

    >>> finders(None)
    ()
    """
    return () if pipeline is None else (name_finder(pipeline),)


def describe_names(pipeline: str | None) -> str | None:
    """How names were detected, for the report; None if they were not."""
    if pipeline is None:
        return None
    meta = _pipeline(pipeline).meta
    of = f"{meta.get('lang', '?')}_{meta.get('name', '?')} {meta.get('version', '?')}"
    return f"looked for by presidio {version('presidio-analyzer')} with {of}"


@lru_cache(maxsize=2)
def name_finder(pipeline: str) -> Finder:
    """A finder of names, for `reports.privacy.find_personal`.

    Raises
    ------
    ValueError
        If presidio or the pipeline is not installed, or it tags no people.
    """
    nlp = _pipeline(pipeline)
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    engine: Any = SpacyNlpEngine()  # that it is given its pipeline its types do not know
    engine.nlp = {nlp.lang: nlp}  # given, so that it downloads none
    recognizer = SpacyRecognizer(supported_language=nlp.lang, supported_entities=["PERSON"])

    def find(text: str) -> Iterator[Item]:
        seen = engine.process_text(text, nlp.lang)
        for found in recognizer.analyze(text, ["PERSON"], seen):
            name = text[found.start : found.end]
            if _NAME.fullmatch(name) and name[0] == name[0].upper():
                yield Item(found.start, found.end, "name")

    return find


@lru_cache(maxsize=2)
def _pipeline(name: str) -> Any:
    try:
        import presidio_analyzer  # noqa: F401
        import spacy
    except ImportError:
        raise ValueError(
            "--names needs packages that are not installed. Install the extra: "
            "pip install '.[names]' in a checkout."
        ) from None
    try:
        nlp = spacy.load(Path(name) if Path(name).is_dir() else name, exclude=_NOT_NEEDED)
    except (OSError, ValueError) as error:
        why = (str(error).strip().splitlines() or ["?"])[0][:160]
        raise ValueError(
            f"--names must be an installed spaCy pipeline or the folder of one; got {name!r} "
            f"({why}). Install one (python -m spacy download en_core_web_sm), or leave --names out."
        ) from None
    if not {"ner", "entity_ruler", "span_ruler"} & set(nlp.pipe_names):
        raise ValueError(
            f"--names needs a pipeline that tags people; {name!r} has "
            f"{', '.join(nlp.pipe_names) or 'nothing in it'}. Choose one with `ner`."
        )
    return nlp
