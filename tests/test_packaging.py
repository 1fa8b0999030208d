"""Contents and metadata of the wheel."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import auditor

pytest.importorskip("build", reason="NOT TESTED: pip install build hatchling")
pytest.importorskip("hatchling", reason="NOT TESTED: pip install build hatchling")

ROOT = Path(__file__).parents[1]
# Generated files that are not part of the source: anywhere, and in the root of the checkout.
MADE = (".git", ".venv", ".make", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info")
MADE_IN_ROOT = ("build", "dist", "runs", "demo", "testbeds", "shared")


def made(folder, names):
    """The names in a folder that a clean copy leaves out."""
    patterns = (*MADE, *(MADE_IN_ROOT if Path(folder) == ROOT else ()))
    return shutil.ignore_patterns(*patterns)(folder, names)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a clean copy of the source, without network access."""
    copy = tmp_path_factory.mktemp("packaging") / "source"
    shutil.copytree(ROOT, copy, ignore=made)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_three_packages_and_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    info = f"memorization_auditor-{auditor.__version__}.dist-info"
    assert tops == {"auditor", "attacks", "reports", info}


def test_every_file_of_the_packages_is_in_and_none_is_a_leftover(wheel):
    there = {n for n in wheel.namelist() if n.startswith(("auditor/", "attacks/", "reports/"))}
    source = {
        path.relative_to(ROOT).as_posix()
        for package in ("auditor", "attacks", "reports")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    data = {f"auditor/{p.relative_to(ROOT).as_posix()}" for p in shipped()}
    assert there == source | data


def shipped():
    return [path for path in (ROOT / "data").rglob("*") if path.is_file()]


def test_what_ships_is_byte_for_byte_what_data_holds(wheel):
    assert shipped()
    for path in shipped():
        assert wheel.read(f"auditor/{path.relative_to(ROOT).as_posix()}") == path.read_bytes()


def test_the_pages_parts_are_in(wheel):
    parts = {path.name for path in (ROOT / "reports" / "templates").iterdir() if path.is_file()}
    assert {"report.html.j2", "report.css", "browser.js"} <= parts
    assert {f"reports/templates/{name}" for name in parts} <= {*wheel.namelist()}


def test_the_licence_is_in_and_named(wheel, metadata):
    (name,) = (n for n in wheel.namelist() if n.endswith("licenses/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_command_is_declared(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    lines = wheel.read(name).decode().split("\n")
    assert lines[:2] == ["[console_scripts]", "auditor = auditor.__main__:main"]


def test_the_version_is_one(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == auditor.__version__ == project["version"]


def test_the_base_needs_all_that_an_audit_needs(metadata):
    base = {
        re.match(r"[\w-]+", line).group()
        for line in metadata.get_all("Requires-Dist")
        if "extra ==" not in line
    }
    assert base >= {
        *("torch", "transformers", "datasets", "numpy", "pandas", "pyarrow", "scikit-learn"),
        *("scipy", "click", "rich", "pydantic", "jinja2", "matplotlib", "safetensors"),
    }


def test_the_page_of_the_project_is_its_readme(metadata):
    page = metadata.get_payload(decode=True).decode()
    assert page.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
