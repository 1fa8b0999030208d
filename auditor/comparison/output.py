"""Output of a comparison: headline, tables as Parquet and CSV, and the HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from attacks.statistics.exposure import expected_exposure
from attacks.statistics.intervals import proportion
from auditor.canaries.masking import KnownSecrets, known_secrets, secrets_of_audits
from auditor.comparison.models import Comparison, figure_names
from auditor.comparison.runs import RunComparison
from auditor.comparison.tables import (
    changes_shown,
    differences_shown,
    extraction_shown,
    largest_increases_shown,
    passages_shown,
    with_interval,
)
from auditor.finetuning.checkpoints import MANIFEST
from auditor.models.loading import resolve
from auditor.runs.result_folder import masked, read_json, refuse_other, save, storable
from auditor.runs.run import load_run
from reports.figures.comparison import change_figure, exposure_by_step, training_figure
from reports.number_text import DASH
from reports.pages.comparison_page import ComparisonPage, render_comparison

_MANIFEST = "comparison.json"
SHARE_INTERVALS = "95 % intervals: Clopper–Pearson"
CHANGE_INTERVALS = (
    "95 % intervals from 20 texts: studentized bootstrap, Tango for the share extracted, "
    "Zou–Donner for differences"
)
DIFFERENCE_INTERVALS = (
    "95 % intervals of the difference: Newcombe, with candidates of one passage as one cluster"
)
_THROUGH = (
    "During training: mean exposure of canaries by number of repeats, and how much more likely "
    "members are than held-out text."
)
_DRAWN = {
    "likelihood": "change of log-likelihood, nats per token (right: more likely)",
    "log_p_z": "change of log p_z, nats",
}


def model_headline(found: Comparison) -> list[str]:
    """Summary of a model comparison in sentences."""
    rates = found.extraction.set_index(["group", "model"])
    head = []
    for group, name in (("members", "members"), ("heldout", "held-out texts")):
        if (group, "base") not in rates.index or not rates.loc[(group, "base"), "n_texts"]:
            continue
        before, after = (
            proportion(int(row["n_extracted"]), int(row["n_texts"]))
            for row in (rates.loc[(group, when)] for when in ("base", "tuned"))
        )
        head.append(
            f"Greedy decoding extracts {before.in_words()} of the {name} before fine-tuning and "
            f"{after.in_words()} after."
        )
    row = found.tests.set_index("figure").loc["likelihood"]
    head.append(
        f"Mean log-likelihood of members changed by {with_interval(row, 'members')} nats per token "
        f"(95 % interval: studentized bootstrap; p = {row['p_members']:.2g}, sign-flip test)."
    )
    if row["n_heldout"]:
        head.append(
            f"Of held-out text it changed by {with_interval(row, 'heldout')}; the difference is "
            f"{with_interval(row, 'difference')} (95 % interval: Zou–Donner, from the other two; "
            f"p = {row['p_difference']:.2g}, label permutation test)."
        )
    else:
        head.append(
            "No held-out text was given, so memorization cannot be separated from better modelling "
            "of this kind of text."
        )
    return head


def run_headline(found: RunComparison) -> list[str]:
    """Summary of a comparison of runs in sentences."""
    n = found.counts()
    row = found.differences.iloc[0]
    shares = [f"{int(row[f'n_verbatim_{x}']):,} of {int(row[f'n_{x}']):,}" for x in "ab"]
    difference, low, high = (100 * row[name] for name in ("difference", "low", "high"))
    passages = (
        f"{n['both']:,} passages were extracted in both runs, {n['only A']:,} only in A and "
        f"{n['only B']:,} only in B."
    )
    precision = (
        f"Of all candidates, {shares[0]} are verbatim in A and {shares[1]} in B: B minus A is "
        f"{difference:+.1f} percentage points (95 % Newcombe interval {low:+.1f} to {high:+.1f}, "
        "with candidates of one passage as one cluster)."
    )
    return [passages, precision]


def save_models(
    found: Comparison, out: str | Path, *, canaries: Sequence[str] = (), reveal: bool = False
) -> Path:
    """Save a model comparison; return the page's path.

    In the page and the CSV files, personal data and the secrets of canaries are masked, unless
    `reveal`: of the manifests `canaries`, of the tuned model's fine-tuning, and of the texts.

    Raises
    ------
    ConfigError, RunError
        If `out` is in use, or a manifest in `canaries` cannot be read.
    """
    facts = found.facts
    asked = _finetuning(facts["tuned"]["spec"])
    known = known_secrets(
        canaries,
        recorded=[path for path in (asked.get("canaries"),) if path is not None],
        corpora=[*facts["texts"], *facts["heldout"]],
    )
    rows = found.largest_increases() if reveal else masked(found.largest_increases(), known.finders)
    figures = [(n, _DRAWN[n]) for n in figure_names(found.texts) if n in _DRAWN]
    drawn = [(n, x) for n, x in figures if found.texts[f"{n}_change"].notna().any()]
    pictures = [("Change of each text; the bars are the means.", change_figure(found.texts, drawn))]
    tables = {"texts": found.texts, "tests": found.tests, "extraction": found.extraction}
    shown = [
        (
            f"Extraction before and after ({SHARE_INTERVALS})",
            _told(extraction_shown(found.extraction)),
        ),
        (
            f"Mean changes ({CHANGE_INTERVALS}; two-sided p)",
            _told(changes_shown(found.tests)),
        ),
        (
            "Texts that changed most (log-likelihood, nats per token)",
            largest_increases_shown(rows),
        ),
    ]
    if (probes := found.probes) is not None:
        tables["probes"] = probes
        most = probes["exposure_most"].iloc[-1]  # log2(controls + 1); NaN without canaries
        expected = expected_exposure(round(2**most)) if most == most else most
        pictures.append((_THROUGH, training_figure(probes, expected=expected)))
        if len(exposures := exposure_by_step(probes)):
            tables["exposure_by_step"] = exposures
            shown.insert(2, ("Mean exposure during training by repeats, bits", exposures))
    page = ComparisonPage(
        title="Before and after fine-tuning",
        headline=model_headline(found),
        about=[
            ("Base", facts["base"]["spec"]),
            ("Tuned", facts["tuned"]["spec"]),
            ("Members", f"{int(found.texts['member'].sum()):,} texts"),
            ("Held out", f"{int((~found.texts['member']).sum()):,} texts"),
            ("Prefix, suffix", f"{facts['prefix_tokens']} and {facts['suffix_tokens']} tokens"),
        ],
        tables=shown,
        figures=pictures,
        notices=[*found.notes, *known.notes],
        reveal=reveal,
    )
    return _save(Path(out), facts, tables, page, known)


def _told(shown: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns and rows that hold nothing but dashes, as without held-out text.

    >>> _told(pd.DataFrame({"a": ["x", "y"], "b": ["1", "–"], "c": ["–", "–"]}))
       a  b
    0  x  1
    """
    known = shown != DASH
    kept = shown.loc[:, known.any()]
    return kept[known[kept.columns[1:]].any(axis=1)]


def save_runs(
    found: RunComparison, out: str | Path, *, canaries: Sequence[str] = (), reveal: bool = False
) -> Path:
    """Save a comparison of runs; return the page's path. Masks and raises as `save_models`."""
    a, b = found.facts["a"], found.facts["b"]
    known = secrets_of_audits(*(load_run(x["run"]).config for x in (a, b)), manifests=canaries)
    passages = found.passages if reveal else masked(found.passages, known.finders)
    page = ComparisonPage(
        title="Two runs compared",
        headline=run_headline(found),
        about=[("A", f"{a['run']} ({a['model']})"), ("B", f"{b['run']} ({b['model']})")],
        tables=[
            (
                f"Precision in A and B ({DIFFERENCE_INTERVALS})",
                differences_shown(found.differences),
            ),
            ("Passages extracted", passages_shown(passages)),
        ],
        notices=[*found.notes, *known.notes],
        reveal=reveal,
    )
    tables = {"passages": found.passages, "differences": found.differences}
    return _save(Path(out), found.facts, tables, page, known)


def _finetuning(spec: str) -> Mapping[str, Any]:
    """The settings of the fine-tuning that made a model; empty if it is not known."""
    found = (read_json(Path(resolve(spec)) / MANIFEST) or {}).get("asked")
    return found if isinstance(found, dict) else {}


def _save(
    out: Path,
    facts: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    page: ComparisonPage,
    known: KnownSecrets,
) -> Path:
    """Write tables, page and manifest; refuse the folder of another comparison."""
    refuse_other(out, _MANIFEST, "a comparison", read_json(out / _MANIFEST), facts)
    files = {"comparison.html": storable(render_comparison(page)).encode()}
    save(out, _MANIFEST, facts, tables=tables, files=files, reveal=page.reveal, more=known.finders)
    return out / "comparison.html"
