"""The audit that several test files share."""

import pytest

from auditor.audit.pipeline import run_audit
from tests.audits import settings


@pytest.fixture(scope="session")
def run(bed, tmp_path_factory):
    """A complete run of a small audit of the tiny testbed; tests leave its figures as they are."""
    return run_audit(**settings(bed, tmp_path_factory.mktemp("runs") / "run"))
