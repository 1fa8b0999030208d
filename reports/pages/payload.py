"""Candidates as compressed JSON for the page.

Everything is by column. Text is as it will be shown: hidden characters are escapes already, and
offsets count what the browser counts (UTF-16 units). Per token the page gets three numbers: length,
log-probability in tenths of a nat, and rank.
"""

import base64
import gzip
import json
import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd

from reports.analysis.content_types import CONTENT_KINDS
from reports.analysis.schema import CONTROL, VERDICTS, score_names
from reports.pages.page_content import Masks
from reports.privacy.items import KINDS, Item
from reports.safe_text import visible

_WHOLE = (
    *("n_tokens", "best_rank", "match_n_tokens", "match_n_chars", "n_documents"),
    *("n_occurrences", "doc_offset", "fuzzy_n_words", "near_n_tokens", "near_distance"),
)
_NAMES = ("doc_id", "fuzzy_doc_id", "duplicate_of")


def packed_candidates(
    candidates: pd.DataFrame,
    places: Sequence[Sequence[Item]] | None = None,
    masks: Masks | None = None,
    attention: Collection[str] = (),
) -> str:
    """The candidates as JSON, compressed with gzip and written in base64.

    candidates : the frame `candidates`; the token columns may be absent.
    places : list a row of Item, optional. Personal data, or the masks in its place.
    masks : what stands in its place when a reader asks for it; a page that reveals none has none.
    attention : collection of str. Samples with a page of their attention.

    Returns: Letters, digits, +, / and =, which cannot end a <script> element.

    >>> packed = packed_candidates(pd.DataFrame({"sample_id": ["a"], "text": ["</script>"]}))
    >>> json.loads(gzip.decompress(base64.b64decode(packed)))["text"]
    ['</script>']
    """
    frame = candidates
    places = places if places is not None else [[]] * len(frame)
    shown = [_shown(row, items) for row, items in zip(_records(frame), places, strict=True)]
    scores = score_names(frame)
    raw = [name for name in frame.columns if str(name).startswith(("nll", "zlib_bits"))]
    lists = [n for n in (*scores, CONTROL) if f"rank:{n}" in frame]
    payload = {
        "n": len(frame),
        "verdicts": VERDICTS,
        "verdict": [VERDICTS.index(v) if v in VERDICTS else 3 for v in _column(frame, "verdict")],
        "id": _texts(frame, "sample_id"),
        **_coded(frame, "strategy"),
        **_coded(frame, "prompt"),
        **{name: _whole(frame[name]) for name in _WHOLE if name in frame},
        **{name: _texts(frame, name) for name in _NAMES},
        "scores": {name: _decimals(frame[name]) for name in scores},
        "raw": {name: _decimals(frame[name]) for name in raw},
        "lists": {name: _whole(frame[f"rank:{name}"]) for name in lists},
        **{name: [row[name] for row in shown] for name in _SHOWN},
        "kinds": KINDS,
        "contents": CONTENT_KINDS,
        "content": [_kinds_of(text) for text in _column(frame, "content_kinds")],
        "attention": [name for name in _texts(frame, "sample_id") if name in attention],
        "masks": None if masks is None else _masks(masks),
    }
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


_SHOWN = ("text", "start", "end", "lengths", "surprise", "ranks", "personal")
_TOKENS = ("token_end", "token_logprob", "token_rank")


def _records(frame: pd.DataFrame) -> Iterable[dict]:
    names = [n for n in ("text", "match_start", "match_end", *_TOKENS) if n in frame]
    for values in zip(*(frame[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def _kinds_of(text: object) -> list[int]:
    names = text.split("; ") if isinstance(text, str) and text else []
    return [CONTENT_KINDS.index(name) for name in names if name in CONTENT_KINDS]


def _masks(masks: Masks) -> dict:
    """Masks of texts by row, and of other texts by what they stand for, as shown."""
    others = {
        name: {_escaped(text): _escaped(hidden) for text, hidden in known.items()}
        for name, known in masks.others.items()
    }
    return {"text": [list(map(_escaped, row)) for row in masks.texts], **others}


def _shown(row: dict, items: Sequence[Item]) -> dict:
    """One candidate's text as shown, with its match and its tokens in the page's units."""
    raw = row["text"] if isinstance(row.get("text"), str) else ""
    text = _escaped(raw)
    place = _places(raw, text)
    ends = _list(row.get("token_end"))
    at = place[np.clip(np.array([0, *ends], dtype=np.int64), 0, len(raw))]
    has_match = not pd.isna(row.get("match_start")) and not pd.isna(row.get("match_end"))
    return {
        "text": text,
        "start": int(place[row["match_start"]]) if has_match else None,
        "end": int(place[row["match_end"]]) if has_match else None,
        "lengths": np.diff(at).tolist(),
        # 0 stands for "no probability"; a token that is certain has 1.
        "surprise": _encoded_nats(_list(row.get("token_logprob"))),
        "ranks": np.maximum(np.array(_list(row.get("token_rank")), np.int64), 0).tolist(),
        # Start, end and kind of each piece of personal data.
        "personal": [[int(place[i.start]), int(place[i.end]), KINDS.index(i.kind)] for i in items],
    }


def _list(value: Sequence | np.ndarray | None) -> list:
    return list(value) if isinstance(value, list | tuple | np.ndarray) else []


def _encoded_nats(logprobs: Sequence[float]) -> list[int]:
    """Tenths of a nat and 1, at most 10,000; 0 where there is no probability."""
    values = np.array(logprobs, dtype=np.float64)
    tenths = 1 + np.rint(np.clip(-10 * values, 0, 9999))
    return np.where(np.isnan(values), 0, tenths).astype(np.int64).tolist()


def _places(raw: str, shown: str) -> np.ndarray:
    """Where each raw character starts in the shown text, in UTF-16 units; and the end."""
    if len(raw) == len(shown) and max(raw, default="") < "\U00010000":
        return np.arange(len(raw) + 1)
    widths = [len(_escaped(char)) + (char > "\uffff" and _escaped(char) == char) for char in raw]
    return np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])


def _escaped(text: str) -> str:
    return visible(text, keep_newlines=True, double_backslash=False)


def _column(frame: pd.DataFrame, name: str) -> list:
    return frame[name].tolist() if name in frame else [None] * len(frame)


def _texts(frame: pd.DataFrame, name: str) -> list[str | None]:
    values = _column(frame, name)
    return [_escaped(value) if isinstance(value, str) else None for value in values]


def _coded(frame: pd.DataFrame, name: str) -> dict[str, list]:
    """A column of few different texts as those texts (plural name) and their numbers."""
    texts = _texts(frame, name)
    kinds = list(dict.fromkeys(texts))
    number = {kind: at for at, kind in enumerate(kinds)}
    plural = {"strategy": "strategies", "prompt": "prompts"}[name]
    return {plural: kinds, name: [number[text] for text in texts]}


def _whole(column: pd.Series) -> list[int | None]:
    missing = column.isna().tolist()
    return [None if m else int(v) for v, m in zip(column.tolist(), missing, strict=True)]


def _decimals(column: pd.Series) -> list[float | str | None]:
    """Five significant digits; JSON has no infinity, so that goes as text."""
    values = column.to_numpy(dtype=float, na_value=np.nan).tolist()
    return [None if v != v else float(f"{v:.5g}") if math.isfinite(v) else str(v) for v in values]
