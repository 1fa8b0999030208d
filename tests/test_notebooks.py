"""Each notebook runs from top to bottom, and its results are as expected."""

import gc
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(bed, tmp_path_factory):
    """Every notebook by its first digit, executed on the tiny testbed with few samples.

    All share one kernel, reset in between, so that torch is imported once; it is connected through
    a Unix socket.
    """
    from jupyter_client import KernelManager
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "testbed").symlink_to(bed.folder, target_is_directory=True)
    told = {"AUDITOR_NOTEBOOKS": str(folder), "AUDITOR_SAMPLES": "128", "AUDITOR_STEPS": "40"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of nbclient and jupyter_client
        socket = Path(tempfile.mkdtemp(prefix="kernel-")) / "ipc"  # socket paths must be short
        kernel = KernelManager(kernel_name="python3", transport="ipc", ip=str(socket))
        kernel.start_kernel(
            cwd=str(ROOT / "notebooks"), env={**os.environ, "PYTHONPATH": str(ROOT), **told}
        )
        done = {}
        try:
            for path in NOTEBOOKS:
                notebook = nbformat.read(path, as_version=4)
                notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
                client = NotebookClient(notebook, km=kernel, timeout=120)
                client.execute()
                if client.kc is not None:
                    client.kc.stop_channels()
                done[path.name[0]] = notebook
        finally:
            kernel.shutdown_kernel(now=True)
            shutil.rmtree(socket.parent)
        del client
        gc.collect()  # unclosed sockets warn here, not in a later test
    return done


def outputs(notebook):
    """All outputs of a notebook's cells."""
    return [out for cell in notebook.cells for out in cell.get("outputs", ())]


def said(notebook):
    """All outputs of a notebook as text."""
    shown = outputs(notebook)
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in shown)


def n_pictures(notebook):
    return sum("image/png" in out.get("data", {}) for out in outputs(notebook))


def test_the_first_audit_finds_what_was_repeated_and_nothing_that_was_held_out(executed):
    text = said(executed["1"])
    assert "Extracted: 0 of 53 held-out documents and canaries" in text
    assert "95 % Clopper–Pearson interval" in text
    html = [
        o["data"].get("text/html", "")
        for c in executed["1"].cells
        for o in c.get("outputs", ())
        if "data" in o
    ]
    assert any("Memorization audit of" in page for page in html)
    assert n_pictures(executed["1"]) == 2


@pytest.mark.parametrize("name", ["1", "2", "3", "4"])
def test_a_cell_that_takes_long_shows_its_stages(executed, name):
    stage = "fine-tuning" if name == "3" else "sampling"
    assert re.search(rf"\b{stage} \d+:\d\d\b", said(executed[name]))


def test_scores_find_more_together_than_alone_and_are_reported_with_intervals(executed):
    text = said(executed["2"])
    found, distinct = map(int, re.findall(r"(\d+) of (\d+) distinct samples are verbatim", text)[0])
    best, union, drawn = map(
        int, re.findall(r"contains (\d+) verbatim.*together (\d+) of the (\d+)", text)[0]
    )
    assert 0 < best <= union <= drawn == found < distinct <= 128
    assert text.count("control") >= 6  # each score is compared with the control
    assert n_pictures(executed["2"]) == 2


def test_tuning_shows_on_the_text_that_was_tuned_on(executed):
    text = said(executed["3"])
    pattern = r"by (\S+) nats per token\s+more.*interval (\S+) to (\S+)\)"
    rise, low, high = re.findall(pattern, text)[0]
    assert 0 < float(low) < float(rise) < float(high)
    assert n_pictures(executed["3"]) == 2


def test_a_new_release_is_distinguished_and_another_seed_is_not(executed):
    text = said(executed["4"])
    assert re.search(r"Release 2 against 1: \+.*: different\.", text)
    assert re.search(r"Release 2, another seed: .*: no difference detected\.", text)
    assert n_pictures(executed["4"]) == 1


def test_nothing_in_them_warns(executed):
    for notebook in executed.values():
        assert [o["text"] for o in outputs(notebook) if o.get("name") == "stderr"] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []


def test_the_readme_names_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if path.name not in readme] == []
    assert len(NOTEBOOKS) == 4
