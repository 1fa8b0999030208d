"""What all tests share: few threads, no network, quiet libraries."""

from __future__ import annotations

import os

# Before anything imports torch or transformers: they read these once. Idle threads spin briefly.
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
    """Any connection to another machine fails the test that tries it."""
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
    """For tests that write much: none can cut the power, so nothing waits for the disk."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda file: None)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def bed(tmp_path_factory):
    """The tiny testbed, trained once a session."""
    from auditor.testbed.testbed import build_testbed

    return build_testbed(tmp_path_factory.mktemp("bed") / "tiny", size="tiny")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a tiny model, to be tuned."""
    from tests.tiny import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """The spec of twenty different texts, to tune it on."""
    from tests.tiny import WORDS, save_texts

    lines = [f"{WORDS} for the {i}th time, {i * i} days on" for i in range(20)]
    return save_texts(tmp_path_factory.mktemp("text") / "a.jsonl", lines)


@pytest.fixture
def made(tmp_path):
    """A run's folder with one shard in it."""
    from auditor.runs.writer import open_for_writing
    from tests.histories import TABLE, asked

    path = tmp_path / "run"
    with open_for_writing(path, asked()) as run:
        run.write("samples/top-n-00000.parquet", TABLE)
    return path
