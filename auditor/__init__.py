"""Audit language models for memorized training data.

Example::

    import auditor                                  # loads nothing heavy

    run = auditor.run_audit(model="gpt2", samples=1000)
    run.candidates().head()
"""

from importlib import import_module
from typing import TYPE_CHECKING

from auditor.errors import AuditError, ConfigError, CorpusError, GateError, ModelError, RunError
from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.audit.pipeline import run_audit
    from auditor.config.audit import AuditConfig, Decoding, Strategy
    from auditor.gates.gated_audit import audit_and_judge
    from auditor.models.loading import load_model
    from auditor.runs.collection import Runs, load_runs
    from auditor.runs.run import Run, load_run
    from auditor.testbed.testbed import build_testbed

__all__ = [
    "AuditConfig",
    "AuditError",
    "ConfigError",
    "CorpusError",
    "Decoding",
    "GateError",
    "ModelError",
    "Run",
    "RunError",
    "Runs",
    "Strategy",
    "__version__",
    "audit_and_judge",
    "build_testbed",
    "load_model",
    "load_run",
    "load_runs",
    "run_audit",
]

_HOMES = {
    "AuditConfig": "auditor.config.audit",
    "Decoding": "auditor.config.audit",
    "Strategy": "auditor.config.audit",
    "Run": "auditor.runs.run",
    "audit_and_judge": "auditor.gates.gated_audit",
    "Runs": "auditor.runs.collection",
    "build_testbed": "auditor.testbed.testbed",
    "load_model": "auditor.models.loading",
    "load_run": "auditor.runs.run",
    "load_runs": "auditor.runs.collection",
    "run_audit": "auditor.audit.pipeline",
}


def __getattr__(name: str) -> object:
    # Lazy, so that `import auditor` (and `auditor --help`) does not wait for torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
