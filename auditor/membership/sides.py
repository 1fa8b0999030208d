"""The two sides of a comparison: scores, one row per text, and texts if available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attacks.scores.score_table import SCORES, TEXTS
from attacks.statistics.blind_baselines import shared_texts
from attacks.statistics.roc import MIN_A_CLASS
from auditor.corpus.reading import read_corpus
from auditor.errors import ConfigError, CorpusError, in_short

# Prefixes of numeric columns that are not scores: counts, and values that are lower for members.
_NO_SCORES = ("nll", "n_", "zlib_bits", "total_nll", "nll_")
_ENDINGS = (".parquet", ".csv")


@dataclass(frozen=True, eq=False)
class Side:
    """One side's texts and scores.

    frame : DataFrame with one row per text; doc_id if known
    texts : list of str, or None if there are only scores
    about : dict
        Origin of the scores, as plain data.
    """

    frame: pd.DataFrame
    texts: list[str] | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def without(self, places) -> Side:
        """The side without the texts at `places`."""
        kept = np.setdiff1d(np.arange(len(self)), places)
        texts = None if self.texts is None else [self.texts[i] for i in kept]
        return Side(self.frame.iloc[kept].reset_index(drop=True), texts, self.about)


def texts_of(specs: Sequence[str | Path], flag: str, *, text_field: str | None = None) -> list[str]:
    """The texts of a side that a model will score.

    Raises
    ------
    CorpusError
        If they cannot be read, or are fewer than 2.
    ConfigError
        If a file contains scores.
    """
    for spec in specs:
        if _holds_scores(Path(spec)):
            raise ConfigError(
                f"{flag} with --model must be texts; {spec} holds scores. Leave out --model to "
                "compare scores, or name the texts."
            )
    texts = [document.text for document in read_corpus(specs, text_field=text_field)]
    if len(texts) < MIN_A_CLASS:
        raise CorpusError(
            f"{flag} must hold {MIN_A_CLASS} texts or more; got {len(texts):,} in {specs[0]}. Add "
            "texts."
        )
    return texts


def scored_side(
    specs: Sequence[str | Path], texts: list[str], *, text_field: str | None, **options: Any
) -> Side:
    """Score the `texts` of a corpus under a model; `options` are those of `score_texts`."""
    from auditor.scoring.score_texts import score_texts

    frame = score_texts(specs, text_field=text_field, **options)
    if len(texts) != len(frame):
        raise CorpusError(
            f"{specs[0]} changed while it was read: {len(texts):,} texts, then {len(frame):,}. "
            "Run again when it no longer changes."
        )
    return Side(frame, texts, dict(frame.attrs.get("scored", {})))


def _holds_scores(path: Path) -> bool:
    """Whether a file was written by `auditor score`."""
    if path.suffix not in _ENDINGS or not path.is_file():
        return False
    try:
        if path.suffix == ".parquet":
            columns = pq.read_schema(path).names
        else:
            columns = list(pd.read_csv(path, nrows=0).columns)
    except (OSError, ValueError, pa.ArrowException):
        return False  # reading it as text reports the error
    return {"doc_id", "nll", "n_tokens"} <= set(columns) and "text" not in columns


def read_side(
    specs: Sequence[str | Path],
    flag: str,
    *,
    texts: Sequence[str | Path] = (),
    text_field: str | None = None,
) -> Side:
    """Read a side from score files, as `auditor score` writes them.

    Texts come from a column `text`, or from a corpus joined by doc_id.

    Raises
    ------
    CorpusError
        If a file cannot be read or has no row, or a row has no text in the corpus.
    ConfigError
        If a file's suffix is neither .parquet nor .csv.
    """
    frames = [_read(Path(spec), flag) for spec in specs]
    frame = pd.concat(frames, ignore_index=True)
    if not len(frame):
        raise CorpusError(f"{flag} {specs[0]} has no row. Score some texts first.")
    made = [dict(f.attrs.get("scored", {})) for f in frames]
    for other, spec in zip(made[1:], specs[1:], strict=True):
        _check_alike(made[0], other, f"{flag} {specs[0]}", f"{flag} {spec}")
    about = {"files": [str(spec) for spec in specs], **made[0]}
    if texts:
        return Side(frame, _joined(frame, texts, flag, text_field), about)
    has_text = "text" in frame and frame["text"].notna().all()
    return Side(frame, [str(text) for text in frame["text"]] if has_text else None, about)


# Facts recorded by `score_texts` that must be equal for scores to be comparable.
_ALIKE = (
    *("model", "references", "by_bytes", "nonmember_prefix", "member_prefix", "frequencies"),
    "neighbours",
)


def check_alike(members: Side, nonmembers: Side) -> None:
    """Refuse sides whose scores are known to come from different models or options.

    Raises
    ------
    ConfigError
        A difference between such sides could be one between models.
    """
    _check_alike(members.about, nonmembers.about, "--members", "--nonmembers")


def _check_alike(one: Mapping[str, Any], other: Mapping[str, Any], *names: str) -> None:
    if not one.get("model") or not other.get("model"):
        return  # tables without a recorded origin
    for key in _ALIKE:
        a, b = (_identity(key, about.get(key)) for about in (one, other))
        if a != b:
            raise ConfigError(
                f"{names[0]} and {names[1]} must be scored alike; their {key.replace('_', ' ')} "
                f"differ: {a} and {b}. Score both with the same models and options."
            )
    for a, b in zip(_made_by(one), _made_by(other), strict=True):
        if "bos_id" in a and "bos_id" in b and a["bos_id"] != b["bos_id"]:
            raise ConfigError(
                f"{names[0]} and {names[1]} must be scored alike; {a['spec']} begins their texts "
                f"with different tokens: ids {a['bos_id']} and {b['bos_id']}. Score both with the "
                "same --bos."
            )


def _made_by(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The target, then the references by name."""
    return [about["model"], *(of for _, of in sorted((about.get("references") or {}).items()))]


def _identity(key: str, made: Any) -> Any:
    """The identity of a setting: for models weights and dtype, not the path; no counts."""
    if key == "model":
        return f"{made['sha256'][:12]} in {made['dtype']}"
    if key == "references":
        return {name: _identity("model", of) for name, of in (made or {}).items()}
    if key in ("nonmember_prefix", "member_prefix") and made is not None:
        return made["tokens"]
    return made


# What a score needs besides models, and the option for it.
_GIVEN_BY = {
    "conditioned": "nonmember_prefix",
    "conditioned_members": "member_prefix",
    "neighbours": "neighbours",
    "token_counts": "frequencies",
}


def check_names(
    requested: Sequence[str], flag: str, references: Sequence[str], options: Mapping[str, Any]
) -> None:
    """Refuse unavailable scores before a model scores any text.

    Raises
    ------
    ConfigError
        If there is no score of that name, or `options` lack an input of it.
    """
    known: dict[str, str] = {}
    for score in (s for s in SCORES if TEXTS in s.made_for):
        is_pair = "reference" in score.needs
        names = [f"{score.name}:{r}" for r in references] if is_pair else [score.name]
        wanted = [_GIVEN_BY[n] for n in score.needs if n in _GIVEN_BY]
        known |= dict.fromkeys(names, next((w for w in wanted if not options.get(w)), ""))
    for name in requested:
        if name not in known and not name.startswith(_NO_SCORES):
            raise ConfigError(
                f"{flag} must be a score of texts ({', '.join(known)}); got {name}. Leave out "
                f"{flag}, or name one of them."
            )
        if lacking := known.get(name):
            option = f"--{lacking.replace('_', '-')}"
            raise ConfigError(
                f"{flag} {name} needs {option}; got none. Add it, or leave out {name}."
            )


def score_names(members: Side, nonmembers: Side, requested: Sequence[str]) -> list[str]:
    """The columns to compare: those requested, else every score that both sides have.

    Raises
    ------
    ConfigError
        If a side lacks a requested score, or they have no score in common.
    """
    both = [_numbers(side.frame) for side in (members, nonmembers)]
    if requested:
        missing = [name for name in requested if not all(name in names for names in both)]
        if missing:
            raise ConfigError(
                f"--score must name columns of numbers that both sides have "
                f"({', '.join(n for n in both[0] if n in both[1]) or 'none'}); "
                f"got {', '.join(missing)}. Leave out --score to take every score."
            )
        return list(dict.fromkeys(requested))
    names = [n for n in both[0] if n in both[1] and not n.startswith(_NO_SCORES)]
    if not names:
        raise ConfigError(
            "--members and --nonmembers must have a score in common; got columns "
            f"{', '.join(members.frame.columns)} and {', '.join(nonmembers.frame.columns)}. "
            "Score both with the same model and options, or name columns with --score."
        )
    return names


def one_sided(members: Side, nonmembers: Side) -> list[str]:
    """Scores that only one side has."""
    both = [set(_numbers(side.frame)) for side in (members, nonmembers)]
    return sorted(n for n in both[0] ^ both[1] if not n.startswith(_NO_SCORES))


def without_shared(
    members: Side, nonmembers: Side, names: Sequence[str], *, drop_shared: bool
) -> tuple[Side, Side, int]:
    """Both sides without shared texts, and the number of members removed.

    Without texts, rows with the same doc_id and scores count as the same text.

    Raises
    ------
    CorpusError
        If there are shared texts and they are not to be dropped.
    """
    keys = [_keys(side, names) for side in (members, nonmembers)]
    if keys[0] is None or keys[1] is None:
        return members, nonmembers, 0
    shared = shared_texts(keys[0], keys[1])
    if not len(shared):
        return members, nonmembers, 0
    if not drop_shared:
        raise _shared(len(shared), len(members))
    return members.without(shared), nonmembers.without(shared_texts(keys[1], keys[0])), len(shared)


def check_disjoint(members: Sequence[str], nonmembers: Sequence[str]) -> None:
    """Refuse texts on both sides before a model scores any; raises as `without_shared`."""
    if n := len(shared_texts(members, nonmembers)):
        raise _shared(n, len(members))


def _shared(n: int, n_members: int) -> CorpusError:
    return CorpusError(
        f"No text may be both a member and a non-member; got {n:,} of {n_members:,} members among "
        "the non-members. Correct the split, or leave them out of both sides with --drop-shared."
    )


def _keys(side: Side, names: Sequence[str]) -> list[str] | None:
    """Keys that identify the texts."""
    if side.texts is not None:
        return side.texts
    if "doc_id" not in side.frame:
        return None
    rows = side.frame[["doc_id", *names]].itertuples(index=False)
    return [repr(tuple(row)) for row in rows]


def _numbers(frame: pd.DataFrame) -> list[str]:
    kinds = {name: frame[name].dtype for name in frame.columns}
    return [
        str(n)
        for n, kind in kinds.items()
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
    ]


def _read(path: Path, flag: str) -> pd.DataFrame:
    if path.suffix not in _ENDINGS:
        raise ConfigError(
            f"{flag} without --model must be scores, a file that ends in {' or '.join(_ENDINGS)}; "
            f"got {path}. Make them with `auditor score`, or add --model to score texts."
        )
    try:
        if path.suffix == ".parquet":
            # Not by path: pyarrow would read a folder as one data set.
            with path.open("rb") as file:
                table = pq.read_table(file)
                return table.to_pandas()
        return pd.read_csv(path, dtype={"doc_id": str, "text": str})
    except OSError as error:
        if isinstance(error, pa.ArrowException) or not error.strerror:
            raise _unreadable(path, error) from None
        raise CorpusError(
            f"{flag} {path} cannot be read ({error.strerror}). Check the path."
        ) from None
    except (pa.ArrowException, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> CorpusError:
    return CorpusError(
        f"{path} is no table of scores ({in_short(error)}). Make it with `auditor score`."
    )


def _joined(
    frame: pd.DataFrame, specs: Sequence[str | Path], flag: str, text_field: str | None
) -> list[str]:
    """The text of every row, by its id."""
    if "doc_id" not in frame:
        raise ConfigError(
            f"{flag} must have a column doc_id to be joined to texts; "
            f"got {', '.join(map(str, frame.columns))}. Add it, or a column text."
        )
    known: Mapping[str, str] = {
        document.doc_id: document.text for document in read_corpus(specs, text_field=text_field)
    }
    missing = [i for i in frame["doc_id"].astype(str) if i not in known]
    if missing:
        raise CorpusError(
            f"every doc_id of {flag} must be in its texts; got {len(missing):,} of {len(frame):,} "
            f"that are not, {missing[0]!r} first. Give the corpus that was scored."
        )
    return [known[i] for i in frame["doc_id"].astype(str)]
