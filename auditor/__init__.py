"""Audit language models for memorized training data.

Example::

    import auditor                                  # loads nothing heavy

    run = auditor.run_audit(model="gpt2", samples=1000)
    run.candidates().head()
"""

from importlib import import_module
from typing import TYPE_CHECKING

from auditor.errors import AuditError, ConfigError, CorpusError, GateError, ModelError, RunError

if TYPE_CHECKING:
    from auditor.audit import run_audit
    from auditor.config import AuditConfig, Decoding, Strategy
    from auditor.language_models.loading import load_model
    from auditor.run_collection import Runs, load_runs
    from auditor.scheduling.judged import audit_and_judge
    from auditor.store import Run, load_run
    from auditor.testbed import build_testbed

__version__ = "0.1.0"

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
    "AuditConfig": "auditor.config",
    "Decoding": "auditor.config",
    "Strategy": "auditor.config",
    "Run": "auditor.store",
    "audit_and_judge": "auditor.scheduling.judged",
    "Runs": "auditor.run_collection",
    "build_testbed": "auditor.testbed",
    "load_model": "auditor.language_models.loading",
    "load_run": "auditor.store",
    "load_runs": "auditor.run_collection",
    "run_audit": "auditor.audit",
}


def __getattr__(name: str) -> object:
    # Lazy, so that `import auditor` (and `auditor --help`) does not wait for torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
