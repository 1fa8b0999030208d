"""Audit language models for memorized training data.

Example::

    import auditor                                  # loads nothing heavy

    run = auditor.run_audit(model="gpt2", samples=1000)
    run.candidates().head()
"""

# ruff: noqa: F401 - the imports below are for type checkers; `__getattr__` makes them at run time.
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING

from auditor.version import __version__

if TYPE_CHECKING:
    from attacks.statistics.exposure import expected_exposure
    from attacks.statistics.intervals import clopper_pearson
    from attacks.statistics.resampling import newcombe
    from attacks.statistics.roc import auc, tpr_at_fpr
    from auditor.audit.pipeline import run_audit
    from auditor.canaries.canaries import Canaries, load_canaries, make_canaries
    from auditor.canaries.exposure import exposure_by_repeats, measure_canaries
    from auditor.canaries.insertion import insert_canaries
    from auditor.comparison.models import compare_models
    from auditor.comparison.runs import compare_runs
    from auditor.config.audit import AuditConfig, Decoding, Strategy
    from auditor.config.extraction import ExtractionConfig
    from auditor.config.finetuning import FinetuneConfig
    from auditor.config.gates import Gates
    from auditor.corpus.reading import read_corpus
    from auditor.errors import (
        AuditError,
        ConfigError,
        CorpusError,
        GateError,
        ModelError,
        RunError,
    )
    from auditor.extraction.benchmark import attack_benchmark
    from auditor.extraction.document_scan import scan_document
    from auditor.extraction.extract import extract
    from auditor.extraction.masked_spans import recover_spans
    from auditor.finetuning.callback import MemorizationCallback, ProbeLog, read_probes
    from auditor.finetuning.finetune import finetune
    from auditor.finetuning.probes import MemorizationProbe
    from auditor.finetuning.rows import Rows, encode_rows, pad
    from auditor.gates.gated_audit import run_gated_audit
    from auditor.matching.index.build import build_index
    from auditor.matching.index.query import open_index
    from auditor.matching.verbatim import find_matches
    from auditor.membership.membership_audit import audit_members
    from auditor.models.adapters import with_lora
    from auditor.models.loading import load_model
    from auditor.references.matrix import audit_by_references
    from auditor.references.training import train_references
    from auditor.runs.collection import Runs, load_runs
    from auditor.runs.run import Run, load_run
    from auditor.scoring.score_texts import score_texts
    from auditor.testbed.testbed import build_testbed
    from reports.analysis.schema import score_names
    from reports.analysis.score_comparisons import compare_scores
    from reports.analysis.summary import table2
    from reports.figures.audit_figures import figure3, precision_figure
    from reports.figures.comparison import change_figure, training_figure
    from reports.figures.precision_at_rank import precision_at_rank

# Module -> its public names.
_MODULES = {
    "attacks.statistics.exposure": "expected_exposure",
    "attacks.statistics.intervals": "clopper_pearson",
    "attacks.statistics.resampling": "newcombe",
    "attacks.statistics.roc": "auc tpr_at_fpr",
    "auditor.audit.pipeline": "run_audit",
    "auditor.canaries.canaries": "Canaries load_canaries make_canaries",
    "auditor.canaries.exposure": "exposure_by_repeats measure_canaries",
    "auditor.canaries.insertion": "insert_canaries",
    "auditor.comparison.models": "compare_models",
    "auditor.comparison.runs": "compare_runs",
    "auditor.config.audit": "AuditConfig Decoding Strategy",
    "auditor.config.extraction": "ExtractionConfig",
    "auditor.config.finetuning": "FinetuneConfig",
    "auditor.config.gates": "Gates",
    "auditor.corpus.reading": "read_corpus",
    "auditor.errors": "AuditError ConfigError CorpusError GateError ModelError RunError",
    "auditor.extraction.benchmark": "attack_benchmark",
    "auditor.extraction.document_scan": "scan_document",
    "auditor.extraction.extract": "extract",
    "auditor.extraction.masked_spans": "recover_spans",
    "auditor.finetuning.callback": "MemorizationCallback ProbeLog read_probes",
    "auditor.finetuning.finetune": "finetune",
    "auditor.finetuning.probes": "MemorizationProbe",
    "auditor.finetuning.rows": "Rows encode_rows pad",
    "auditor.gates.gated_audit": "run_gated_audit",
    "auditor.matching.index.build": "build_index",
    "auditor.matching.index.query": "open_index",
    "auditor.matching.verbatim": "find_matches",
    "auditor.membership.membership_audit": "audit_members",
    "auditor.models.adapters": "with_lora",
    "auditor.models.loading": "load_model",
    "auditor.references.matrix": "audit_by_references",
    "auditor.references.training": "train_references",
    "auditor.runs.collection": "Runs load_runs",
    "auditor.runs.run": "Run load_run",
    "auditor.scoring.score_texts": "score_texts",
    "auditor.testbed.testbed": "build_testbed",
    "reports.analysis.schema": "score_names",
    "reports.analysis.score_comparisons": "compare_scores",
    "reports.analysis.summary": "table2",
    "reports.figures.audit_figures": "figure3 precision_figure",
    "reports.figures.comparison": "change_figure training_figure",
    "reports.figures.precision_at_rank": "precision_at_rank",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> object:
    # Lazy, so that `import auditor` (and `auditor --help`) does not wait for torch.
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        if isinstance(found, FunctionType) and _HOMES[name].startswith("auditor."):
            from auditor.config.keywords import with_python_errors

            found = with_python_errors(found)
        return globals().setdefault(name, found)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
