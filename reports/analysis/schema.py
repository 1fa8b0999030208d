"""Every column of the frames of an audit, as data: name, type, unit and meaning.

A name may end in `*`: `rank:*` means `rank:zlib`, `rank:random` and so on. Columns that are not
`required` may be absent; columns that are not listed are not allowed. A column of few values is a
category: its values are listed if known in advance, otherwise in order of first appearance.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import pandas as pd

SCORE_PATTERNS = ("likelihood", "reference:*", "zlib", "lowercase", "window")
CONTROL = "random"
VERDICTS = ("verbatim", "fuzzy", "not found", "not checked")
FINISHES = ("length", "eos")
HELD_OUT, CHECKED = "held-out text", "checked half"


@dataclass(frozen=True)
class Column:
    """One column: its name (or pattern), type, unit (or "") and meaning; a category's values.

    >>> Column("rank:*", "Int64", "", "Place in a list.", required=False).matches("rank:zlib")
    True
    """

    name: str
    dtype: str
    unit: str
    meaning: str
    required: bool = True
    values: tuple[str, ...] = ()

    def matches(self, name: str) -> bool:
        """Whether a frame's column of this name is this column."""
        return fnmatchcase(name, self.name)


@dataclass(frozen=True)
class Table:
    """A frame's name, its columns in order, and what it has a row for.

    >>> SUMMARY.name, SUMMARY.columns[0].name
    ('summary', 'strategy')
    """

    name: str
    columns: tuple[Column, ...]
    row: str = ""


def _optional(name: str, dtype: str, unit: str, meaning: str) -> Column:
    return Column(name, dtype, unit, meaning, required=False)


_SAMPLE_ID = Column("sample_id", "str", "", "Name of the sample, unique in the run.")
_STRATEGY = Column("strategy", "category", "", "Sampling strategy that drew it.")
_PROMPT = Column("prompt", "str", "", "Prompt given to the model; empty if none.")
_TEXT = Column("text", "str", "", "Generated text, without the prompt.")
_N_TOKENS = Column("n_tokens", "int64", "tokens", "Length of the generated text.")
_N_CHARS = Column("n_chars", "int64", "characters", "Length of the generated text.")
_DOC_ID = "Document of the training text in which the match was found first."

_RAW = (
    Column("nll", "float64", "nats/token", "Mean negative log-probability under the target."),
    _optional("nll_reference:*", "float64", "nats/token", "The same under a reference model."),
    _optional("nll_lowercase", "float64", "nats/token", "Target, on the lower-cased text."),
    _optional("zlib_bits", "float64", "bits", "Size of the text when compressed by zlib."),
)
_SCORES = tuple(
    _optional(name, "float64", "", "Score; higher = more likely memorized, NaN = undefined.")
    for name in SCORE_PATTERNS
)

SAMPLES = Table(
    "samples",
    (
        _SAMPLE_ID,
        _STRATEGY,
        _PROMPT,
        _TEXT,
        _N_TOKENS,
        _N_CHARS,
        Column("n_bytes", "int64", "bytes", "Length of the generated text in UTF-8."),
        Column("finish", "category", "", "Why it ended: 'length' or 'eos'.", values=FINISHES),
        _optional("prompt_token_ids", "list[int32]", "", "Tokens of the prompt, BOS included."),
        _optional("token_ids", "list[int32]", "", "Generated tokens."),
        _optional("logprob", "list[float32]", "nats", "Log-probability of each token."),
        _optional("rank", "list[int32]", "", "Rank of each token; 0 = the model's first choice."),
    ),
    row="every sample",
)

SCORES = Table(
    "scores",
    (_SAMPLE_ID, _STRATEGY, _N_TOKENS, *_RAW, *_SCORES),
    row="every sample; of scores, higher = more likely memorized",
)

CANDIDATES = Table(
    "candidates",
    (
        _SAMPLE_ID,
        _STRATEGY,
        _TEXT,
        _PROMPT,
        _N_TOKENS,
        _N_CHARS,
        *_RAW,
        *_SCORES,
        _optional("rank:*", "Int64", "", "Rank in a score's list, 1 = top; NA = not listed."),
        _optional("p_value:*", "float64", "", "Conformal, against controls; NaN = undefined."),
        _optional(
            "q_value:*", "float64", "", "Listed at this FDR or above; NaN = verified or withheld."
        ),
        Column("best_rank", "Int64", "", "Best rank over the scores; NA = only in the control."),
        Column("is_control", "bool", "", "Only the random control lists it: not a candidate."),
        Column("duplicate_of", "str", "", "Earlier candidate that it repeats, or NA."),
        Column("verdict", "category", "", f"One of: {', '.join(VERDICTS)}.", values=VERDICTS),
        Column("match_start", "Int64", "characters", "Start in text of the longest overlap."),
        Column("match_end", "Int64", "characters", "End in text of the longest overlap."),
        Column("match_n_tokens", "Int64", "tokens", "Length of the longest verbatim overlap."),
        Column("match_n_chars", "Int64", "characters", "Length of the longest overlap."),
        Column("n_documents", "Int64", "documents", "Documents that hold it: k of k-eidetic."),
        Column("n_occurrences", "Int64", "", "How often the training text holds it."),
        Column("doc_id", "str", "", _DOC_ID),
        Column("doc_offset", "Int64", "characters", "Where in that document it starts."),
        Column("fuzzy_n_words", "Int64", "words", "Words in common with the nearest passage."),
        Column("fuzzy_doc_id", "str", "", "Document of the nearest passage."),
        _optional(
            "near_n_tokens", "Int64", "tokens", "Length of the passage compared by edit distance."
        ),
        _optional("near_distance", "Int64", "tokens", "Edits between it and the training text."),
        _optional("is_near", "boolean", "", "Whether at least 50 tokens match within 10 % edits."),
        _optional("n_personal", "int64", "", "Pieces of personal data in text, by rules."),
        _optional(
            "n_personal_verbatim", "int64", "", "Of these, entirely within the longest overlap."
        ),
        _optional("personal_*", "int64", "", "Pieces of one kind: e-mail, telephone, ..."),
        _optional("content_kinds", "str", "", "Kinds of text, by rules, joined by '; '; or NA."),
        _optional("token_ids", "list[int32]", "", "Generated tokens. Page only."),
        _optional("token_logprob", "list[float64]", "nats", "Of each token. Page only."),
        _optional("token_rank", "list[int32]", "", "Of each token, 0 = first choice. Page only."),
        _optional("token_end", "list[int32]", "characters", "End of each token. Page only."),
    ),
    row="every sample of the shortlists, those of the random control included",
)

_FALSE = "Estimated number of false entries, too low on average; NaN = withheld."

SUMMARY = Table(
    "summary",
    (
        _STRATEGY,
        Column("score", "category", "", f"Score that made the list, or '{CONTROL}'."),
        Column("n_samples", "int64", "", "Samples of this strategy."),
        Column("n_undefined", "int64", "", "Samples for which the score is undefined."),
        Column("n_chosen", "int64", "", "Candidates on the list."),
        Column("n_duplicates_skipped", "int64", "", "Duplicates skipped."),
        Column("n_verbatim", "int64", "", "Candidates found verbatim in the training text."),
        Column("n_fuzzy", "int64", "", "Candidates with a near match."),
        _optional("n_effective", "float64", "", "n_chosen, repeats of a passage discounted."),
        Column("precision", "float64", "share", "n_verbatim / n_chosen; NaN = not checked."),
        Column("precision_low", "float64", "share", "Korn-Graubard, of n_effective, 95 %, lower."),
        Column("precision_high", "float64", "share", "Korn-Graubard, of n_effective, 95 %, upper."),
        _optional(
            "precision_at_*", "float64", "share", "Precision of the first k; ends in _low, _high."
        ),
        _optional(
            "above_random",
            "float64",
            "share",
            "Precision minus that of a random list of the same length.",
        ),
        _optional("above_random_low", "float64", "share", "95 %, lower end."),
        _optional("above_random_high", "float64", "share", "95 %, upper end."),
        _optional("p_above_random", "float64", "", "McNemar, exact, Holm-corrected over the run."),
        _optional(
            "strategy_*", "float64", "", "For the whole strategy: see the table `strategies`."
        ),
        _optional("n_listed", "Int64", "", "Samples listed at the run's FDR; NA = withheld."),
        _optional("estimated_false", "float64", "", _FALSE),
        _optional(
            "n_passages", "Int64", "", "Distinct passages among the verbatim; NA = not checked."
        ),
        Column("n_distinct_documents", "int64", "", "Distinct doc_id among the verbatim."),
        Column("longest_match_tokens", "Int64", "tokens", "Longest verbatim overlap; NA = none."),
        _optional("n_with_personal", "int64", "", "Candidates that hold personal data, by rules."),
        _optional("with_personal_*", "int64", "", "Candidates that hold this kind: e-mail, ..."),
    ),
    row="every strategy and score (the paper's Table 2)",
)

MATCHES = Table(
    "matches",
    (
        _SAMPLE_ID,
        Column("start", "int64", "characters", "Where in the sample the overlap starts."),
        Column("end", "int64", "characters", "Where in the sample it ends."),
        Column("n_tokens", "int64", "tokens", "Its length."),
        Column("n_chars", "int64", "characters", "Its length."),
        Column("n_documents", "int64", "documents", "Documents that hold it."),
        Column("n_occurrences", "int64", "", "How often the training text holds it."),
        Column("doc_id", "str", "", _DOC_ID),
        Column("doc_offset", "int64", "characters", "Where in that document it starts."),
        _optional("places", "list", "", "Up to 5 first places: doc_id and offset in characters."),
    ),
    row="every maximal verbatim overlap of a candidate with the training text",
)

_ENDS = "95 %, {} end; NaN where the estimate is."

STRATEGIES = Table(
    "strategies",
    (
        _STRATEGY,
        Column("n_samples", "int64", "", "Samples drawn."),
        Column("n_looked_up", "int64", "", "Of them, unselected and looked up; 0 = not checked."),
        Column(
            "n_tokens", "int64", "tokens", "Total length of those looked up (of all, if none was)."
        ),
        Column("n_verbatim", "int64", "", "Of those looked up, found verbatim."),
        Column("precision", "float64", "share", "n_verbatim / n_looked_up; NaN = not checked."),
        Column("precision_low", "float64", "share", "Clopper-Pearson, 95 %, lower end."),
        Column("precision_high", "float64", "share", "Clopper-Pearson, 95 %, upper end."),
        Column("n_passages", "int64", "", "Distinct passages in them."),
        Column("n_once", "int64", "", "Passages found in one sample."),
        Column("n_twice", "int64", "", "Passages found in two samples."),
        Column(
            "new_rate",
            "float64",
            "passages",
            "New passages expected in the next sample (Good-Turing).",
        ),
        Column("new_rate_low", "float64", "passages", _ENDS.format("lower")),
        Column("new_rate_high", "float64", "passages", _ENDS.format("upper")),
        Column(
            "total", "float64", "passages", "Lower bound of what this sampling can find (Chao)."
        ),
        Column("total_low", "float64", "passages", _ENDS.format("lower")),
        Column(
            "total_high",
            "float64",
            "passages",
            "Upper end of the interval; not a bound of the total.",
        ),
        Column("tokens_per_verbatim", "float64", "tokens", "Sampled for one verbatim sample."),
        Column("tokens_per_verbatim_low", "float64", "tokens", _ENDS.format("lower")),
        Column("tokens_per_verbatim_high", "float64", "tokens", _ENDS.format("upper")),
        Column("tokens_per_passage", "float64", "tokens", "Sampled for one distinct passage."),
        Column("withheld", "str", "", "Why there is no estimate; empty if there is one."),
    ),
    row="every sampling strategy as a whole",
)

COMPARISONS = Table(
    "comparisons",
    (
        _STRATEGY,
        Column("first", "str", "", "Score that made one list."),
        Column("second", "str", "", "Score that made the other, from the same samples."),
        Column("k", "int64", "", "Length to which both are cut."),
        Column("n_first_only", "int64", "", "Verbatim candidates on the first list alone."),
        Column("n_second_only", "int64", "", "Verbatim candidates on the second alone."),
        Column(
            "difference", "float64", "share", "Precision of the first minus that of the second."
        ),
        Column("low", "float64", "share", "95 %, lower end."),
        Column("high", "float64", "share", "95 %, upper end."),
        Column("p_value", "float64", "", "Exact McNemar test of equal precision."),
        Column("p_corrected", "float64", "", "Holm, over all comparisons of the run."),
    ),
    row="every pair of lists of a strategy",
)

DISCOVERY = Table(
    "discovery",
    (
        _STRATEGY,
        Column("n_samples", "int64", "", "Samples drawn so far."),
        Column("n_tokens", "float64", "tokens", "Their length."),
        Column("observed", "int64", "", "Distinct passages in the samples drawn first."),
        Column("expected", "float64", "", "In as many samples drawn at random from all."),
        Column("low", "float64", "", "95 %, lower end."),
        Column("high", "float64", "", "95 %, upper end."),
    ),
    row="points along what a strategy sampled",
)


CALIBRATION = Table(
    "calibration",
    (
        _STRATEGY,
        Column("score", "str", "", "Score that samples and controls are compared by."),
        Column("fdr", "float64", "share", "Maximum average share of false entries."),
        Column("controls", "str", "", f"What samples are compared with: {HELD_OUT} or {CHECKED}."),
        Column("n_samples", "int64", "", "Samples with the score; unverified ones of a list."),
        Column("n_controls", "int64", "", "Controls with the score; verified ones of a list."),
        Column("n_undefined", "int64", "", "Samples and controls without the score, left out."),
        Column("n_listed", "Int64", "", "Samples on the list; NA = withheld."),
        Column("least_fdr", "float64", "share", "Lowest rate at which any sample is listed."),
        Column("estimated_false", "float64", "", _FALSE),
        Column("n_listed_looked_up", "Int64", "", "Of them looked up in the training text."),
        Column("n_listed_verbatim", "Int64", "", "Of those found verbatim."),
        _optional(
            "n_listed_effective",
            "float64",
            "",
            "Those looked up, repeats of a passage discounted; NaN = passages unknown.",
        ),
        Column("auc_not_found", "float64", "", "AUC of samples not found against controls."),
        Column("auc_low", "float64", "", "99 %, lower end; above 0.5 withholds the list."),
        Column("auc_high", "float64", "", "99 %, upper end."),
        Column("withheld", "str", "", "Why there is no list; empty if there is one."),
    ),
    row="every strategy and score, where lists are held at a false discovery rate",
)

KNOWN_TRUTH = Table(
    "known_truth",
    (
        Column("kind", "str", "", "text, or canary: a document with a secret."),
        Column("repeats", "int64", "", "Times in the training text; 0 = held out."),
        Column("n_documents", "int64", "documents", "Documents of this kind and repeats."),
        Column("n_extracted", "int64", "documents", "Of them, extracted by any sample."),
        Column("n_by_candidates", "int64", "documents", "Of them, extracted by a candidate."),
        Column("share", "float64", "share", "n_extracted / n_documents."),
        Column("low", "float64", "share", "Clopper-Pearson, of documents, 95 %, lower end."),
        Column("high", "float64", "share", "Clopper-Pearson, of documents, 95 %, upper end."),
        Column("n_samples", "int64", "", "Samples that were looked up: all of the run."),
    ),
    row="every kind of document and number of repeats, where the truth is known",
)

TABLES = (
    *(SAMPLES, SCORES, CANDIDATES, SUMMARY, MATCHES),
    *(STRATEGIES, COMPARISONS, DISCOVERY, CALIBRATION, KNOWN_TRUTH),
)


def describe(table: Table) -> pd.DataFrame:
    """A table's columns as a frame, for a notebook or a page of documentation.

    Returns DataFrame: name, dtype, unit, meaning, required, values; one row a column.

    >>> describe(SCORES).head(1)["name"].item()
    'sample_id'
    """
    return pd.DataFrame([vars(column) for column in table.columns])


def check(frame: pd.DataFrame, table: Table) -> None:
    """Refuse a frame that lacks a required column or has one that nobody described.

    Raises
    ------
    ValueError
        Naming every missing and every unknown column.

    >>> check(pd.DataFrame({"sample_id": ["a"], "strategy": ["top-n"], "colour": [1]}), SCORES)
    Traceback (most recent call last):
    ValueError: scores must have the columns that reports.analysis.schema lists; missing: n_tokens,
    nll; unknown: colour. Add or rename the missing, drop the unknown.
    """
    names = [str(name) for name in frame.columns]
    missing = [c.name for c in table.columns if c.required and c.name not in names]
    unknown = [name for name in names if not any(c.matches(name) for c in table.columns)]
    if missing or unknown:
        parts = [("missing", missing), ("unknown", unknown)]
        found = "; ".join(f"{word}: {', '.join(some)}" for word, some in parts if some)
        raise ValueError(
            f"{table.name} must have the columns that reports.analysis.schema lists; {found}. "
            "Add or rename the missing, drop the unknown."
        )


def conform(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """The frame with its columns in the table's order; columns of one pattern keep theirs.

    Raises
    ------
    ValueError
        As `check` does.

    >>> frame = pd.DataFrame({"zlib": [2.0], "nll": [1.0], "n_tokens": [9]})
    >>> list(conform(frame.assign(strategy="top-n", sample_id="a"), SCORES).columns)
    ['sample_id', 'strategy', 'n_tokens', 'nll', 'zlib']
    """
    check(frame, table)
    return frame[[n for c in table.columns for n in frame.columns if c.matches(str(n))]]


def score_names(frame: pd.DataFrame) -> list[str]:
    """The columns of a frame that are scores, in the table's order.

    Parameters
    ----------
    frame : DataFrame
        `scores` or `candidates`.

    Returns
    -------
    list of str

    >>> score_names(pd.DataFrame(columns=["nll", "zlib", "reference:small", "likelihood"]))
    ['likelihood', 'reference:small', 'zlib']
    """
    return [n for p in SCORE_PATTERNS for n in map(str, frame.columns) if fnmatchcase(n, p)]
