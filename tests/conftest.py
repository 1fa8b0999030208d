"""Settings and fixtures of all tests: few threads, no network, quiet libraries."""

from __future__ import annotations

import os

# Set before torch and transformers are imported, which read these once. GOMP_SPINCOUNT limits the
# busy waiting of idle threads.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import socket

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Fail any test that connects to another machine."""
    connect = socket.socket.connect

    def refuse(self, address):
        is_here = address[0] in ("127.0.0.1", "::1")
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_here:
            raise AssertionError(f"a test must not use the network; it tried {address}")
        return connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", refuse)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def no_waiting_for_the_disk():
    """Disable fsync, for tests that write many files."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda file: None)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def bed(tmp_path_factory):
    """The tiny testbed, trained once per session."""
    from auditor.testbed.testbed import build_testbed

    return build_testbed(tmp_path_factory.mktemp("bed") / "tiny", size="tiny")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a tiny model to fine-tune."""
    from tests.tiny import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """The spec of a corpus of twenty texts for fine-tuning."""
    from tests.tiny import WORDS, save_texts

    lines = [f"{WORDS} for the {i}th time, {i * i} days on" for i in range(20)]
    return save_texts(tmp_path_factory.mktemp("text") / "a.jsonl", lines)


@pytest.fixture
def made(tmp_path):
    """A run folder with one shard."""
    from auditor.runs.writer import open_for_writing
    from tests.histories import TABLE, asked

    path = tmp_path / "run"
    with open_for_writing(path, asked()) as run:
        run.write("samples/top-n-00000.parquet", TABLE)
    return path
