"""What an audit found, in sentences: the top of the page and the end of the terminal's output."""

import numpy as np
import pandas as pd

from attacks.statistics.intervals import highest_rate
from reports.analysis.found_verbatim import Found, found_verbatim
from reports.analysis.schema import CONTROL
from reports.analysis.strategy_estimates import effective_of, interval_words, passage_words
from reports.analysis.summary import list_interval
from reports.listed import listed
from reports.number_text import count, percent, percents, size
from reports.privacy.items import COLUMNS

_FEW = 3  # documents: text in so few is learned from them, not common knowledge


def headline(
    candidates: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    corpus_bytes: int | None = None,
    n_documents: int | None = None,
    is_pending: bool = False,
) -> list[str]:
    """What was found, with counts and intervals, and what was not checked.

    corpus_bytes, n_documents : size of the training text that was searched.
    is_pending : training text was given, and has not been searched yet.

    Returns: Sentences. The first is about the union of the scores' lists, without the control: its
    interval describes this short list, not what the model gives out at large.

    >>> none = pd.DataFrame({"best_rank": [1], "verdict": ["not checked"]})
    >>> headline(none, pd.DataFrame({"strategy": ["top-n"], "score": ["zlib"]}))
    ['1 candidate is listed.',
     'No training text was given, so nothing is claimed to be memorized.']
    """
    chosen = listed(candidates)
    checked = chosen[chosen["verdict"] != "not checked"]
    if not len(chosen):
        return ["No candidate was chosen: no sample has a score."]
    if not len(checked):
        return [
            f"{count(len(chosen), 'candidate')} {_is(len(chosen))} listed.",
            "The training text has not been searched yet, so nothing is claimed to be memorized."
            if is_pending
            else "No training text was given, so nothing is claimed to be memorized.",
            *personal_sentence(chosen, "the candidates"),
        ]
    verbatim = checked[checked["verdict"] == "verbatim"]
    sentences = [_found(found_verbatim(candidates), _searched(corpus_bytes, n_documents))]
    n_fuzzy = int((checked["verdict"] == "fuzzy").sum())
    if n_fuzzy:
        alike = "resembles" if n_fuzzy == 1 else "resemble"
        sentences.append(
            f"{n_fuzzy:,} more {alike} a passage of the training text without matching verbatim."
        )
    n_near = int(checked["is_near"].sum()) if "is_near" in checked else 0
    if n_near:
        sentences.append(
            f"{n_near:,} {'contains' if n_near == 1 else 'contain'} at least 50 tokens within 10 % "
            "edit distance of the training text."
        )
    n_left = len(chosen) - len(checked)
    if n_left:
        sentences.append(
            f"{count(n_left, 'candidate')} {'was' if n_left == 1 else 'were'} not checked."
        )
    return [
        *sentences,
        *_details(verbatim),
        *personal_sentence(verbatim, "the verbatim candidates"),
        *_best_list(summary),
    ]


def personal_sentence(rows: pd.DataFrame, whose: str) -> list[str]:
    """How many of the rows hold personal data, of which kinds; none where it was not looked for.

    >>> frame = pd.DataFrame({"n_personal": [2, 0], "n_personal_verbatim": [1, 0],
    ...     "personal_e_mail": [2, 0], "match_start": [0, 0]})
    >>> personal_sentence(frame, "the verbatim candidates")
    ['Personal data was detected in 1 of the verbatim candidates (e-mail in 1), within the verbatim
     passage in 1.']
    """
    if "n_personal" not in rows or rows.empty:
        return []
    n = int((rows["n_personal"] > 0).sum())
    if not n:
        return [f"No personal data was detected in {whose}."]
    kinds = {kind: int((rows[name] > 0).sum()) for kind, name in COLUMNS.items() if name in rows}
    told = ", ".join(f"{kind} in {k:,}" for kind, k in kinds.items() if k)
    within = ""
    if rows["match_start"].notna().any():
        n_within = int((rows["n_personal_verbatim"] > 0).sum())
        within = f", within the verbatim passage in {n_within:,}"
    return [f"Personal data was detected in {n:,} of {whose} ({told}){within}."]


def known_truth(table: pd.DataFrame) -> list[str]:
    """How much was extracted of the most repeated documents and canaries, and of held-out text.

    table : from `summary.by_repeats`.

    >>> known_truth(pd.DataFrame({"kind": ["canary", "text", "text"], "repeats": [16, 0, 16],
    ...     "n_documents": [2, 240, 7], "n_extracted": [1, 0, 7], "n_by_candidates": [0, 0, 5],
    ...     "n_samples": 960}))
    ['Known truth, checked in all 960 samples: of 7 documents that occur 16 times in the training
     text, 7 were extracted (5 by the candidates alone); of 2 canaries that occur 16 times, 1 was
     extracted by its secret (0 by the candidates alone); of 240 held-out documents, checked in the
     same way, 0 (ignoring passages that the training text also contains).']
    """
    rows = table.set_index(["kind", "repeats"]).to_dict("index")
    most = max((repeats for kind, repeats in rows if kind == "text"), default=0)
    if not most:
        return []
    texts, canaries, heldout = (
        rows.get(key) for key in (("text", most), ("canary", most), ("text", 0))
    )
    times = "once" if most == 1 else f"{most:,} times"
    sentence = (
        f"Known truth, checked in all {count(int(texts['n_samples']), 'sample')}: of "
        f"{_occurring(texts, times, 'document')} in the training text, {_extracted(texts)}"
        f"{_alone(texts)}"
    )
    if canaries:
        secrets = "its secret" if canaries["n_extracted"] == 1 else "their secrets"
        sentence += (
            f"; of {_occurring(canaries, times, 'canary', 'canaries')}, {_extracted(canaries)} by "
            f"{secrets}{_alone(canaries)}"
        )
    if heldout:
        sentence += (
            f"; of {count(int(heldout['n_documents']), 'held-out document')}, checked in the same "
            f"way, {heldout['n_extracted']:,} (ignoring passages that the training text also "
            "contains)"
        )
    return [sentence + "."]


def _occurring(row: dict, times: str, noun: str, plural: str = "") -> str:
    n = int(row["n_documents"])
    return f"{count(n, noun, plural)} that {'occurs' if n == 1 else 'occur'} {times}"


def _extracted(row: dict) -> str:
    return f"{row['n_extracted']:,} {'was' if row['n_extracted'] == 1 else 'were'} extracted"


def _alone(row: dict) -> str:
    return f" ({row['n_by_candidates']:,} by the candidates alone)"


def not_claimed(candidates: pd.DataFrame) -> list[str]:
    """What a reader might take from the numbers and should not.

    >>> len(not_claimed(pd.DataFrame({"verdict": ["not found"]})))
    3
    """
    always = (
        "Candidates are the top of each score’s ranking, not a random sample: their share of "
        "verbatim text does not say how often the model repeats training text in ordinary use."
    )
    has_names = COLUMNS["name"] in candidates
    names = (
        "Names are guessed by a tagger, which makes errors of both kinds."
        if has_names
        else "Names were not searched for."
    )
    by_rules = (
        "Personal data is detected by rules: forms, checksums and numbering plans. Data that no "
        f"rule covers is not counted, and a match may be invented or belong to no one. {names}"
    )
    personal = [by_rules] if "n_personal" in candidates else []
    if (candidates["verdict"] == "not checked").all():
        return [
            "A high score makes a text worth checking; it is no evidence of memorization.",
            always,
            *personal,
        ]
    elsewhere = (
        "“Not found” means not found in the text that was searched. If the model was trained on "
        "other text as well, the candidate may still be memorized."
    )
    commonplace = (
        "“Verbatim” means that the text occurs in the training text; common phrases and short "
        "boilerplate can occur there without having been learned from any single document."
    )
    return [elsewhere, always, commonplace, *personal]


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _searched(corpus_bytes: int | None, n_documents: int | None) -> str:
    text = "the training text" if corpus_bytes is None else f"{size(corpus_bytes)} of text"
    return text if n_documents is None else f"{text} in {count(n_documents, 'document')}"


def _found(found: Found, searched: str) -> str:
    n, k = found.n, int(found.value)
    are = f"{k:,} {_is(k)}" if k else "none is"
    low, high = found.low / n, found.high / n
    share = (
        f"{percent(k / n)} %, 95 % interval {percents(low, high)}, {interval_words(found.interval)}"
    )
    verbatim = f"{are} verbatim{passage_words(found.passages)}"
    return f"Of {count(n, 'candidate')} checked against {searched}, {verbatim} ({share})."


def _details(verbatim: pd.DataFrame) -> list[str]:
    """The longest match, and how many matches are in one document alone (k-eidetic, k = 1)."""
    sentences = []
    longest = verbatim["match_n_tokens"].max() if len(verbatim) else pd.NA
    if pd.notna(longest):
        sentences.append(f"The longest verbatim passage is {count(int(longest), 'token')} long.")
    if not len(verbatim):
        return sentences
    few, single = (int((verbatim["n_documents"] <= k).sum()) for k in (_FEW, 1))
    if few:
        sentences.append(
            f"{few:,} of the {count(len(verbatim), 'verbatim candidate')} "
            f"{'occurs' if few == 1 else 'occur'} in at most {_FEW} training documents, "
            f"{f'{single:,}' if single else 'none'} of them in only one."
        )
    return sentences


def _best_list(summary: pd.DataFrame) -> list[str]:
    """The most precise list beside a random draw of the same strategy.

    Its interval holds for having looked at all lists (Bonferroni); Table 2 has those of each alone.
    """
    real = summary[(summary["score"] != CONTROL) & summary["precision"].notna()]
    if real.empty or not real["n_verbatim"].any():
        return []
    at, interval = highest_rate(real["n_verbatim"], real["n_chosen"], effective=effective_of(real))
    best = real.iloc[at]
    control = summary[(summary["score"] == CONTROL) & (summary["strategy"] == best["strategy"])]
    of = f", adjusted for being the best of {len(real):,} lists" if len(real) > 1 else ""
    sentence = (
        f"The most precise list is {best['score']} on {best['strategy']}: "
        f"{best['n_verbatim']:,} of {best['n_chosen']:,} verbatim{_passages(best)} "
        f"(95 % {list_interval(real)} interval{of}: {percents(interval.low, interval.high, 0)} %)"
    )
    if control.empty or np.isnan(control["precision"].iloc[0]):
        return [sentence + "."]
    return [f"{sentence}; in a random draw, {_share_of_list(control.iloc[0])}."]


def _share_of_list(row: pd.Series) -> str:
    interval = f"{percents(row['precision_low'], row['precision_high'], 0)} %"
    return f"{row['n_verbatim']:,} of {row['n_chosen']:,}{_passages(row)} ({interval})"


def _passages(row: pd.Series) -> str:
    """Passages and documents of a list, where its summary knows them."""
    n = row.get("n_passages")
    return (
        "" if n is None or pd.isna(n) else passage_words((int(n), int(row["n_distinct_documents"])))
    )
