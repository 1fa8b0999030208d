"""Personal data in the frame `candidates`: counted by kind, and masked."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from reports.listed import listed
from reports.privacy.finding import Finder, find_personal
from reports.privacy.items import COLUMNS, KINDS, SECRET, Item
from reports.privacy.redaction import Masked, mask, mask_personal

_TOKENS = ("token_end", "token_logprob", "token_rank")
OTHER_TEXTS = ("prompt", "doc_id", "fuzzy_doc_id")


def find_in_candidates(
    candidates: pd.DataFrame, *, more: Iterable[Finder] = ()
) -> list[list[Item]]:
    """The personal data in each candidate's text, one list of items per row.

    >>> find_in_candidates(pd.DataFrame({"text": ["a@b.org", "none"]}))
    [[Item(start=0, end=7, kind='e-mail', detail='')], []]
    """
    more = tuple(more)
    return [find_personal(_text(text), more=more) for text in candidates["text"].tolist()]


def count_personal(
    candidates: pd.DataFrame, found: Sequence[Sequence[Item]], *, kinds: Sequence[str]
) -> pd.DataFrame:
    """The number of items of personal data in each candidate.

    candidates : with match_start and match_end
    found : from `find_in_candidates`
    kinds : the kinds to count

    Returns DataFrame: n_personal, n_personal_verbatim (items within the longest verbatim overlap),
    and a column of `items.COLUMNS` for each kind; int64.

    >>> frame = pd.DataFrame({"text": ["a@b.org"], "match_start": [0], "match_end": [7]})
    >>> count_personal(frame, find_in_candidates(frame), kinds=["e-mail"]).values.tolist()
    [[1, 1, 1]]
    """
    starts, ends = (
        candidates[name].astype("Int64").fillna(-1).tolist()
        for name in ("match_start", "match_end")
    )
    rows = list(zip(found, starts, ends, strict=True))
    columns = {
        "n_personal": [len(items) for items in found],
        "n_personal_verbatim": [
            sum(start <= i.start and i.end <= end for i in items) for items, start, end in rows
        ],
    }
    for kind in kinds:
        columns[COLUMNS[kind]] = [sum(i.kind == kind for i in items) for items in found]
    return pd.DataFrame(columns, index=candidates.index, dtype="int64")


def searched_kinds(*, names: bool) -> list[str]:
    """KINDS that count as personal data, without "name" unless names are detected.

    >>> len(searched_kinds(names=False))
    8
    """
    return [kind for kind in KINDS if kind != SECRET and (names or kind != "name")]


def personal_table(candidates: pd.DataFrame) -> pd.DataFrame:
    """Personal data by kind: numbers of items, of candidates, and of verbatim candidates.

    candidates : with the columns of `count_personal`; the random control is omitted

    Returns DataFrame: kind, n_items, n_candidates, n_verbatim

    >>> frame = pd.DataFrame({"personal_e_mail": [2, 0], "personal_name": [0, 0],
    ...     "best_rank": [1, 2], "verdict": ["verbatim", "not found"]})
    >>> personal_table(frame).values.tolist()
    [['e-mail', 2, 1, 1], ['name', 0, 0, 0]]
    """
    rows = listed(candidates)
    verbatim = rows["verdict"] == "verbatim"
    counts = [
        (
            kind,
            int(rows[name].sum()),
            int((rows[name] > 0).sum()),
            int(((rows[name] > 0) & verbatim).sum()),
        )
        for kind, name in COLUMNS.items()
        if name in rows
    ]
    return pd.DataFrame(counts, columns=["kind", "n_items", "n_candidates", "n_verbatim"])


def mask_candidates(
    candidates: pd.DataFrame, found: Sequence[Sequence[Item]], *, more: Iterable[Finder] = ()
) -> tuple[pd.DataFrame, list[list[Item]]]:
    """The frame with personal data masked in texts, prompts and document names, and the masks.

    In the frame, offsets refer to the masked text. The tokens of an item become one token without
    a probability or a rank, because the text could be recovered from the ranks and the model. The
    masks are given by their positions in the masked text, one list per row.

    found : from `find_in_candidates`
    more : further finders, for prompts

    >>> frame = pd.DataFrame({"text": ["at joe@abc.org"]})
    >>> mask_candidates(frame, find_in_candidates(frame))[0]["text"].item()
    'at j•••@•••.org'
    """
    more = tuple(more)
    masked = [
        mask(_text(t), items) for t, items in zip(candidates["text"].tolist(), found, strict=True)
    ]
    columns: dict[str, object] = {
        # A column of objects may hold lone surrogates; as text it could not.
        "text": pd.Series([m.text for m in masked], candidates.index, candidates["text"].dtype)
    }
    if "match_start" in candidates and "match_end" in candidates:
        ends = zip(candidates["match_start"], candidates["match_end"], strict=True)
        spans = [
            (None, None) if pd.isna(a) or pd.isna(b) else m.span(int(a), int(b))
            for m, (a, b) in zip(masked, ends, strict=True)
        ]
        for at, name in enumerate(("match_start", "match_end")):
            columns[name] = pd.array([span[at] for span in spans], dtype="Int64")
    columns |= _tokens(candidates, masked, found)
    columns |= {
        n: _masked_texts(candidates[n], more if n == "prompt" else ())
        for n in OTHER_TEXTS
        if n in candidates
    }
    return candidates.assign(**columns), [m.items for m in masked]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _masked_texts(column: pd.Series, more: Iterable[Finder]) -> pd.Series:
    known = {t: mask_personal(t, more=more) for t in column.unique() if isinstance(t, str)}
    shown = [known.get(text, text) if isinstance(text, str) else text for text in column]
    return pd.Series(shown, column.index, column.dtype)


def _tokens(
    candidates: pd.DataFrame, masked: Sequence[Masked], found: Sequence[Sequence[Item]]
) -> dict[str, list]:
    """The three token columns, with the tokens of each item of personal data merged into one."""
    if not all(name in candidates for name in _TOKENS):
        return {}
    columns: dict[str, list] = {name: [] for name in _TOKENS}
    rows = zip(*(candidates[name] for name in _TOKENS), strict=True)
    for m, items, row in zip(masked, found, rows, strict=True):
        for name, values in zip(_TOKENS, _joined(m, items, *row) if items else row, strict=True):
            columns[name].append(values)
    return columns


def _joined(
    masked: Masked, items: Sequence[Item], ends, logprobs, ranks
) -> tuple[list[int], list[float], list[int]]:
    """The tokens of one row: ends in the masked text, log-probabilities, ranks."""
    out: tuple[list[int], list[float], list[int]] = ([], [], [])
    start, before = 0, set[int]()
    for raw_end, logprob, rank in zip(ends, logprobs, ranks, strict=True):
        end = int(raw_end)
        touched = {at for at, i in enumerate(items) if start < i.end and i.start < end}
        place = int(masked.place[min(end, len(masked.place) - 1)])
        if touched & before:
            out[0][-1] = place
        else:
            out[0].append(place)
            out[1].append(np.nan if touched else logprob)
            out[2].append(0 if touched else rank)
        start, before = end, touched
    return out
