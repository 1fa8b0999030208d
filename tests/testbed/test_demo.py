"""The demo: what comes out grows with the repeats, and the scores find it."""

import pytest

from auditor.testbed.demo import run_demo


@pytest.fixture(scope="module")
def demo(bed, tmp_path_factory):
    """The demo of the tiny testbed."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "testbed").symlink_to(bed.folder, target_is_directory=True)
    return run_demo(folder, size="tiny")


def test_print(demo):
    print(demo.summary().to_string())
    print(demo.known_truth().to_string() if hasattr(demo, "known_truth") else dir(demo))
    print(demo.manifest.stages if hasattr(demo.manifest, "stages") else "")
