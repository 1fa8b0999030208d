"""`attack_benchmark`: extract the suffixes of lm-extraction-benchmark from a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attacks.statistics.extraction import recall_at_errors
from attacks.statistics.intervals import proportion
from auditor.config.audit import Decoding
from auditor.config.extraction import ExtractionConfig
from auditor.errors import CorpusError
from auditor.extraction.benchmark_files import Examples, Guess, read_examples, write_guesses
from auditor.extraction.output import refuse_other_extraction, save_extraction
from auditor.extraction.tables import example_rows, headline, summarize
from auditor.extraction.windows import Windows
from auditor.models.language_model import LanguageModel
from auditor.models.loading import loaded
from auditor.runs.result_folder import storable
from auditor.sampling.generate import generate
from auditor.scoring.suffixes import measure_suffixes
from auditor.system.progress import NullProgress, progress_display

# Vocabulary size of GPT-2 and GPT-Neo, which the benchmark's arrays use. Arrays without a tokenizer
# file whose largest id is between _LARGE and this size are assumed to use it.
_BENCHMARK_TOKENS, _LARGE = 50_257, 40_000
_SLOTS = 64


@dataclass(frozen=True, eq=False)
class BenchmarkAttack:
    """Guesses for a split of the benchmark, scored where its suffixes are known.

    guesses : list of Guess, most likely first
    scores : DataFrame
        One row: n_examples, n_guesses, n_correct, precision, recall (with intervals) and
        recall_at_100_errors; NaN if the suffixes are unknown.
    examples, summary : DataFrame
        As in `Extraction`, for the true suffixes; empty if these are unknown.
    notices : list of str
    settings, model : dict
    """

    guesses: list[Guess]
    scores: pd.DataFrame
    examples: pd.DataFrame
    summary: pd.DataFrame
    notices: list[str]
    settings: dict[str, Any]
    model: dict[str, Any]

    @property
    def headline(self) -> list[str]:
        """The result in sentences."""
        row = self.scores.iloc[0]
        if np.isnan(row["recall"]):
            return [
                f"{len(self.guesses):,} guesses; the folder has no suffixes to check them against."
            ]
        share = proportion(int(row["n_correct"]), int(row["n_examples"]))
        recall = (
            f"Recall {share.in_words()}, at 100 errors {100 * row['recall_at_100_errors']:.1f} %."
        )
        return [recall, *headline(self.examples)]

    def save(self, out: str | Path) -> None:
        """Write guess.csv and the tables to a folder. Raises RunError if the folder is in use."""
        out = Path(out)
        tables = {"scores": self.scores}
        if len(self.examples):
            tables |= {"examples": self.examples, "summary": self.summary}
        facts = {"model": self.model, "headline": self.headline, "notices": self.notices}
        save_extraction(out, self.settings, tables=tables, facts=facts, reveal=False)
        write_guesses(out / "guess.csv", self.guesses)


def attack_benchmark(
    model: LanguageModel | str,
    folder: str | Path,
    *,
    split: str = "train",
    suffix_tokens: int = 50,
    use_preprefix: bool = False,
    decoding: Decoding | None = None,
    p: Sequence[float] = (0.5,),
    device: str = "auto",
    out: str | Path | None = None,
    progress: NullProgress | bool | None = True,
) -> BenchmarkAttack:
    """Decode every suffix greedily, order the guesses by likelihood, and score them.

    Parameters
    ----------
    model : model spec (loaded in float32), or a LanguageModel
    folder : path, read by `benchmark_files.read_examples`
    split : "train", "val" or "test"
    suffix_tokens : int
        Length of the guesses if the folder has no suffixes; otherwise theirs is used.
    use_preprefix : bool
        Prepend the 100 tokens that precede the prefix.
    decoding, p, device, out, progress
        As `auditor.extraction.extract`; the guesses themselves are greedy.

    Returns
    -------
    BenchmarkAttack

    Raises
    ------
    CorpusError
        If a file is missing or damaged, an id exceeds the model's vocabulary, or the arrays were
        made with a tokenizer other than the model's.
    ConfigError, ModelError, RunError
        As `extract`.

    Source
    ------
    google-research/lm-extraction-benchmark, README.
    """
    arrays = read_examples(folder, split=split)
    shown = _shown(arrays, use_preprefix, folder, split)
    m = suffix_tokens if arrays.suffix is None else arrays.suffix.shape[1]
    config = ExtractionConfig(
        prefix_tokens=(shown.shape[1],),
        suffix_tokens=m,
        p=tuple(p),
        decoding=decoding or Decoding(),
        from_start=False,
    )
    settings = {
        **config.identity(),
        "model": model if isinstance(model, str) else model.name,
        "benchmark": str(folder),
        "split": split,
        "use_preprefix": use_preprefix,
    }
    if out is not None:
        refuse_other_extraction(Path(out), settings)
    used = loaded(model, device)
    config.check(used)
    work = progress_display(progress)
    notices = _check_tokens(used, arrays, folder, split)
    for sentence in notices:
        work.note(sentence)
    guesses = _guesses(used, shown.astype(np.int64), m, work)
    examples = summary = pd.DataFrame()
    if arrays.suffix is not None:
        examples = _examples(used, shown, arrays.suffix, config, work)
        summary = summarize(examples)
    facts = {"name": used.name, "sha256": used.fingerprint, "parameters": used.n_parameters}
    scores = score_guesses(guesses, arrays.suffix, len(arrays))
    result = BenchmarkAttack(guesses, scores, examples, summary, notices, settings, facts)
    if out is not None:
        result.save(out)
    return result


def score_guesses(
    guesses: Sequence[Guess], suffixes: NDArray[np.integer] | None, n_examples: int
) -> pd.DataFrame:
    """Precision, recall and recall at 100 errors of ordered guesses, as one row.

    Parameters
    ----------
    guesses : sequence of Guess, most likely first
    suffixes : int array (n_examples, m), or None if unknown
    n_examples : int

    Returns
    -------
    DataFrame with n_examples, n_guesses, n_correct (examples with a correct guess), precision
    (share of guesses that are correct), recall, their Clopper-Pearson intervals, and
    recall_at_100_errors.

    Raises
    ------
    CorpusError
        If a guess names an example that does not exist, or has the wrong length.

    Source
    ------
    google-research/lm-extraction-benchmark, README, "Evaluation Metric".
    """
    row: dict[str, Any] = {"n_examples": n_examples, "n_guesses": len(guesses)}
    if suffixes is None:
        nothing = ("precision", "recall", "recall_at_100_errors")
        return pd.DataFrame([{**row, **dict.fromkeys(nothing, np.nan)}])
    for guess in guesses:
        if guess.example_id >= n_examples or len(guess.suffix) != suffixes.shape[1]:
            raise CorpusError(
                f"A guess must be for one of the examples 0 to {n_examples - 1:,} and hold "
                f"{suffixes.shape[1]} tokens; got example {guess.example_id:,} with "
                f"{len(guess.suffix)} tokens. Check that guesses and arrays belong together."
            )
    ids = np.array([guess.example_id for guess in guesses], dtype=np.int64)
    right = np.array([suffixes[g.example_id].tolist() == list(g.suffix) for g in guesses], bool)
    n_correct = len(np.unique(ids[right]))
    precision = proportion(int(right.sum()), len(right))
    recall = proportion(n_correct, n_examples)
    row |= {
        "n_correct": n_correct,
        "precision": precision.value,
        "precision_low": precision.low,
        "precision_high": precision.high,
        "recall": recall.value,
        "recall_low": recall.low,
        "recall_high": recall.high,
        "recall_at_100_errors": recall_at_errors(right, ids, n_examples),
    }
    return pd.DataFrame([row])


def _shown(arrays: Examples, use_preprefix: bool, folder, split: str) -> NDArray[np.integer]:
    if not use_preprefix:
        return arrays.prefix
    if arrays.preprefix is None:
        raise CorpusError(
            f"{folder} has no {split}_preprefix.npy. Remove --preprefix, or create the file with "
            "the benchmark's load_dataset.py."
        )
    return np.concatenate([arrays.preprefix, arrays.prefix], axis=1)


def _check_tokens(model: LanguageModel, arrays: Examples, folder, split: str) -> list[str]:
    """Refuse arrays of another tokenizer; return a notice if their tokenizer is unknown."""
    n = len(model.vocabulary.token_bytes)
    parts = (arrays.prefix, arrays.suffix, arrays.preprefix)
    largest = max(int(part.max()) for part in parts if part is not None)
    if largest >= n:
        raise CorpusError(
            f"Token ids in {folder} must be below {n:,}, the size of {model.name}'s vocabulary; "
            f"got {largest:,}. Use a model with the arrays' tokenizer (the benchmark's is GPT-2's)."
        )
    made_with = arrays.vocabulary_sha256
    if made_with is not None and made_with != model.vocabulary.fingerprint:
        raise CorpusError(
            f"The arrays in {folder} need the tokenizer that made them (sha256 {made_with[:12]}, "
            f"by {split}_tokenizer.txt); {model.name} has another "
            f"({model.vocabulary.fingerprint[:12]}). Use a model with that tokenizer."
        )
    if made_with is not None or _is_gpt2(model.vocabulary.token_bytes):
        return []
    if _LARGE <= largest < _BENCHMARK_TOKENS:
        raise CorpusError(
            f"The arrays in {folder} need the tokenizer that made them: by their ids (up to "
            f"{largest:,}) that of GPT-2; {model.name} has another. Use GPT-2, GPT-Neo or another "
            f"model with it. If it is not GPT-2's, put the sha256 of the tokenizer into "
            f"{split}_tokenizer.txt ({model.name}'s is {model.vocabulary.fingerprint})."
        )
    assumed = f"The arrays do not say which tokenizer made them; {model.name}'s is assumed."
    return [f"{assumed} The benchmark's own are GPT-2's."]


def _is_gpt2(token_bytes: list[bytes]) -> bool:
    """Identify GPT-2's vocabulary by its size and some of its tokens."""
    known = {198: b"\n", 220: b" ", 262: b" the", 464: b"The"}
    return len(token_bytes) >= _BENCHMARK_TOKENS and all(
        token_bytes[i] == token for i, token in known.items()
    )


def _guesses(
    model: LanguageModel, prefixes: NDArray[np.int64], m: int, progress: NullProgress
) -> list[Guess]:
    """Greedy continuations, most likely first; ties keep the order of the examples."""
    with progress.stage("guess", len(prefixes) * m, "tokens") as bar:
        drawn, _ = generate(
            model,
            prefixes.tolist(),
            range(len(prefixes)),
            seed=0,
            stream="benchmark",
            decoding=Decoding(max_new_tokens=m, top_k=1),
            n_slots=_SLOTS,
            progress=bar.advance,
        )
    nats = drawn.logprob.astype(np.float64).sum(axis=1)
    order = np.argsort(-nats, kind="stable").tolist()
    return [Guess(i, tuple(drawn.token_ids[i].tolist())) for i in order]


def _examples(
    model: LanguageModel, shown, suffixes, config: ExtractionConfig, progress: NullProgress
) -> pd.DataFrame:
    """Rows as `extract` makes them, without character positions, as there is no text."""
    n, width = len(shown), shown.shape[1] + suffixes.shape[1]
    with progress.stage("extract", n, "windows") as bar:
        measured = measure_suffixes(
            model, shown, suffixes, decoding=config.decoding, progress=bar.advance
        )
    windows = Windows(
        doc_id=[str(i) for i in range(n)],
        token_ids=np.concatenate([shown, suffixes], axis=1).astype(np.int32),
        char_ends=np.zeros((n, width + 1), np.int64),
        text=[None] * n,
        n_suffix=suffixes.shape[1],
        n_documents=n,
        n_short=0,
    )
    frame = example_rows(windows, measured, n_prefix=shown.shape[1], p=config.p)
    frame = frame.drop(columns=["prefix_start", "suffix_start", "suffix_end"])
    frame.insert(3, "repeats", pd.array([None] * n, dtype="Int64"))
    frame.insert(0, "n_parameters", model.n_parameters)
    frame.insert(0, "model", pd.Series([storable(model.name)] * n, dtype="str"))
    return frame
