"""Discoverable extraction: what a model gives back of a text when shown what comes before it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditor.extraction.benchmark import attack_benchmark
    from auditor.extraction.document_scan import scan_document
    from auditor.extraction.extract import extract

__all__ = ["attack_benchmark", "extract", "scan_document"]

_HOMES = {
    "attack_benchmark": "auditor.extraction.benchmark",
    "extract": "auditor.extraction.extract",
    "scan_document": "auditor.extraction.document_scan",
}


def __getattr__(name: str) -> object:
    # Lazy, so that a verb's --help does not wait for torch.
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found  # the import of a module of the same name has set that module
        return found
    raise AttributeError(f"module 'auditor.extraction' has no attribute {name!r}")
