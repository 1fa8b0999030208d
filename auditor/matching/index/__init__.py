"""A suffix array of a corpus, for repeated queries without reading the corpus again."""

from auditor.matching.index.build import build_index
from auditor.matching.index.matching import find_matches_in_index
from auditor.matching.index.query import Index, open_index

__all__ = ["Index", "build_index", "find_matches_in_index", "open_index"]
