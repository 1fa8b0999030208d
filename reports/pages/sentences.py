"""What an audit found, in sentences: the top of the page and the end of the terminal's output."""

import numpy as np
import pandas as pd

from attacks.statistics.intervals import clopper_pearson, effective_trials, highest_rate
from reports.analysis.schema import CONTROL
from reports.analysis.strategy_estimates import (
    clusters_of,
    count_passages,
    effective_of,
    interval_words,
    passage_words,
)
from reports.analysis.summary import percent

_FEW = 3  # documents: what stands in so few is learned from them, not common knowledge


def headline(
    candidates: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    corpus_bytes: int | None = None,
    n_documents: int | None = None,
    is_pending: bool = False,
) -> list[str]:
    """What was found, with counts and intervals; what was not checked is said as well.

    Parameters
    ----------
    corpus_bytes, n_documents : int, optional
        Size of the training text that was searched.
    is_pending : bool
        Training text was given, and has not been searched yet.

    Returns
    -------
    list of str
        Sentences. The first is about the union of the scores' lists, without the control: its
        interval describes this short list, not what the model gives out at large.

    >>> none = pd.DataFrame({"best_rank": [1], "verdict": ["not checked"]})
    >>> headline(none, pd.DataFrame({"strategy": ["top-n"], "score": ["zlib"]}))
    ['1 candidate is listed.',
     'No training text was given, so nothing is claimed to be memorized.']
    """
    listed = candidates[candidates["best_rank"].notna()]
    checked = listed[listed["verdict"] != "not checked"]
    if not len(listed):
        return ["No candidate was chosen: no sample has a score."]
    if not len(checked):
        return [
            f"{_count(len(listed), 'candidate')} {_is(len(listed))} listed.",
            "They were not looked for in the training text yet, so nothing is claimed to be "
            "memorized."
            if is_pending
            else "No training text was given, so nothing is claimed to be memorized.",
            *personal_sentence(listed, "the candidates"),
        ]
    verbatim = checked[checked["verdict"] == "verbatim"]
    sentences = [_found(checked, len(verbatim), _searched(corpus_bytes, n_documents))]
    n_fuzzy = int((checked["verdict"] == "fuzzy").sum())
    if n_fuzzy:
        alike = "resembles" if n_fuzzy == 1 else "resemble"
        sentences.append(f"{n_fuzzy:,} more {alike} a passage of it without matching verbatim.")
    n_near = int(checked["is_near"].sum()) if "is_near" in checked else 0
    if n_near:
        holds = "holds" if n_near == 1 else "hold"
        sentences.append(
            f"{n_near:,} {holds} a stretch of 50 tokens or more that differs from it by at most "
            "10 % (edit distance)."
        )
    n_left = len(listed) - len(checked)
    if n_left:
        were = "was" if n_left == 1 else "were"
        sentences.append(f"{_count(n_left, 'candidate')} {were} not checked.")
    return [
        *sentences,
        *_details(verbatim),
        *personal_sentence(verbatim, "the verbatim"),
        *_best_list(summary),
    ]


def personal_sentence(rows: pd.DataFrame, whose: str) -> list[str]:
    """How many of the rows hold personal data, of which kinds; none where it was not looked for.

    >>> frame = pd.DataFrame({"n_personal": [2, 0], "n_personal_verbatim": [1, 0],
    ...     "personal:e-mail": [2, 0], "match_start": [0, 0]})
    >>> personal_sentence(frame, "the verbatim")
    ['1 of the verbatim holds personal data by its form (e-mail in 1), in 1 of them within the
     verbatim passage.']
    """
    if "n_personal" not in rows or rows.empty:
        return []
    n = int((rows["n_personal"] > 0).sum())
    if not n:
        return [f"In none of {whose} did the rules find personal data."]
    kinds = {
        name.removeprefix("personal:"): int((rows[name] > 0).sum())
        for name in map(str, rows.columns)
        if name.startswith("personal:")
    }
    told = ", ".join(f"{kind} in {k:,}" for kind, k in kinds.items() if k)
    holds = "holds" if n == 1 else "hold"
    within = ""
    if rows["match_start"].notna().any():
        n_within = int((rows["n_personal_verbatim"] > 0).sum())
        within = f", in {n_within:,} of them within the verbatim passage"
    return [f"{n:,} of {whose} {holds} personal data by its form ({told}){within}."]


def known_truth(table: pd.DataFrame) -> list[str]:
    """What came out of documents whose number of repeats is known: most repeated, and held out.

    Parameters
    ----------
    table : DataFrame
        From `tables.by_repeats`.

    >>> known_truth(pd.DataFrame({"kind": ["canary", "text", "text"], "repeats": [16, 0, 16],
    ...     "n_documents": [2, 240, 7], "n_extracted": [1, 0, 7], "n_by_candidates": [0, 0, 5],
    ...     "n_samples": 960}))
    ['Known truth, looked up in all 960 samples: of 7 documents that stand 16 times in the training
     text, 7 were extracted (5 by the candidates alone); of 2 canaries that stand 16 times, 1 by
     their secrets (0 by the candidates alone); of 240 held-out documents, searched for in the same
     way, 0 (passages that training text holds as well left out).']
    """
    rows = table.set_index(["kind", "repeats"]).to_dict("index")
    most = max((repeats for kind, repeats in rows if kind == "text"), default=0)
    if not most:
        return []
    texts, canaries, heldout = (
        rows.get(key) for key in (("text", most), ("canary", most), ("text", 0))
    )
    stand = "stands" if texts["n_documents"] == 1 else "stand"
    were = "was" if texts["n_extracted"] == 1 else "were"
    sentence = (
        f"Known truth, looked up in all {_count(int(texts['n_samples']), 'sample')}: of "
        f"{_count(int(texts['n_documents']), 'document')} that {stand} {_times(most)} in the "
        f"training text, {texts['n_extracted']:,} {were} extracted{_alone(texts)}"
    )
    if canaries:
        n = int(canaries["n_documents"])
        who, stand, whose = ("canary", "stands", "its secret")
        if n != 1:
            who, stand, whose = ("canaries", "stand", "their secrets")
        sentence += (
            f"; of {n:,} {who} that {stand} {_times(most)}, {canaries['n_extracted']:,} by "
            f"{whose}{_alone(canaries)}"
        )
    if heldout:
        sentence += (
            f"; of {_count(int(heldout['n_documents']), 'held-out document')}, searched for in "
            f"the same way, {heldout['n_extracted']:,} (passages that training text holds as well "
            "left out)"
        )
    return [sentence + "."]


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n:,} times"


def _alone(row: dict) -> str:
    return f" ({row['n_by_candidates']:,} by the candidates alone)"


def not_claimed(candidates: pd.DataFrame) -> list[str]:
    """What a reader might take from the numbers and should not.

    >>> len(not_claimed(pd.DataFrame({"verdict": ["not found"]})))
    3
    """
    always = (
        "Candidates are what the scores put on top, not a random draw: their share of verbatim "
        "text says nothing of how often the model repeats training text in ordinary use."
    )
    by_rules = (
        "Personal data is told by rules: forms, checksums, numbering plans. What no rule knows is "
        "not counted"
        + ("" if "personal:name" in candidates else ", names among it: they were not looked for")
        + "; what has the form may be invented or no one’s."
        + (" Names are a tagger’s guess, which errs both ways." * ("personal:name" in candidates))
    )
    personal = [by_rules] if "n_personal" in candidates else []
    if (candidates["verdict"] == "not checked").all():
        return [
            "A high score makes a text worth checking; it is no evidence that it was memorized.",
            always,
            *personal,
        ]
    elsewhere = (
        "“Not found” means not found in the text that was searched. If the model was trained on "
        "more, the candidate may still be memorized."
    )
    commonplace = (
        "“Verbatim” means that the text is in the training text; common phrases and short "
        "boilerplate can be there without having been learned from any one document."
    )
    return [elsewhere, always, commonplace, *personal]


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _bytes(n: int) -> str:
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = next((p for p in range(len(units)) if n < 999.95 * 1000**p), len(units) - 1)
    return _count(n, "byte") if not power else f"{n / 1000**power:.1f} {units[power]}"


def _searched(corpus_bytes: int | None, n_documents: int | None) -> str:
    size = "the training text given" if corpus_bytes is None else f"{_bytes(corpus_bytes)} of text"
    return size if n_documents is None else f"{size} in {_count(n_documents, 'document')}"


def _found(checked: pd.DataFrame, n_verbatim: int, searched: str) -> str:
    n, found = len(checked), "none is"
    if n_verbatim:
        found = f"{n_verbatim:,} {_is(n_verbatim)}"
    passages = count_passages(checked)
    worth = effective_trials(clusters_of(checked))[-1]
    low, high = clopper_pearson(n_verbatim, n, effective=worth)
    share = (
        f"{percent(n_verbatim / n)} %, 95 % interval {percent(float(low))}–{percent(float(high))} "
        f"{interval_words(knows_passages=passages is not None)}"
    )
    candidates, found = _count(n, "candidate"), f"{found} verbatim{passage_words(passages)}"
    return f"Of {candidates} checked against {searched}, {found} ({share})."


def _details(verbatim: pd.DataFrame) -> list[str]:
    """The longest match, and how many matches are in one document alone (k-eidetic, k = 1)."""
    sentences = []
    longest = verbatim["match_n_tokens"].max() if len(verbatim) else pd.NA
    if pd.notna(longest):
        sentences.append(f"The longest verbatim passage is {_count(int(longest), 'token')} long.")
    if not len(verbatim):
        return sentences
    few, single = (int((verbatim["n_documents"] <= k).sum()) for k in (_FEW, 1))
    if few:
        stand = "stands" if few == 1 else "stand"
        alone = f", {'none' if not single else f'{single:,}'} in a single one"
        sentences.append(
            f"{few:,} of the {len(verbatim):,} verbatim {stand} in at most {_FEW} documents of "
            f"it{alone}."
        )
    return sentences


def _best_list(summary: pd.DataFrame) -> list[str]:
    """The most precise list beside a random draw of the same strategy.

    Its interval holds for having looked at all lists (Bonferroni); Table 2 has those of each alone.
    """
    real = summary[(summary["score"] != CONTROL) & summary["precision"].notna()]
    if real.empty or not real["n_verbatim"].any():
        return []
    at, interval = highest_rate(
        real["n_verbatim"], real["n_chosen"], strict=True, effective=effective_of(real)
    )
    best = real.iloc[at]
    control = summary[(summary["score"] == CONTROL) & (summary["strategy"] == best["strategy"])]
    of = f", as the highest of {len(real):,} lists" if len(real) > 1 else ""
    sentence = (
        f"The most precise list is {best['score']} on {best['strategy']}: "
        f"{best['n_verbatim']:,} of {best['n_chosen']:,} verbatim{_passages(best)} "
        f"(95 % interval{of}: {percent(interval.low, 0)}–{percent(interval.high, 0)} %)"
    )
    if control.empty or np.isnan(control["precision"].iloc[0]):
        return [sentence + "."]
    return [f"{sentence}; of a random draw, {_share_of_list(control.iloc[0])}."]


def _share_of_list(row: pd.Series) -> str:
    interval = f"{percent(row['precision_low'], 0)}–{percent(row['precision_high'], 0)} %"
    return f"{row['n_verbatim']:,} of {row['n_chosen']:,}{_passages(row)} ({interval})"


def _passages(row: pd.Series) -> str:
    """Passages and documents of a list, where its summary knows them."""
    n = row.get("n_passages")
    return (
        "" if n is None or pd.isna(n) else passage_words((int(n), int(row["n_distinct_documents"])))
    )
