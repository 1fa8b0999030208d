"""Shards are written while the next is sampled, and are registered when complete."""

from threading import Event

import numpy as np
import pytest

from auditor.audit.shard_writer import BackgroundWriter, Shard
from auditor.errors import RunError
from auditor.models.interfaces import Samples


class Folder:
    """A run's folder that says what is done to it; `go` holds a file up."""

    def __init__(self):
        self.done: list[str] = []
        self.go = Event()
        self.go.set()
        self.error: Exception | None = None

    def write_table(self, name, table):
        assert self.go.wait(30)
        if self.error:
            raise self.error
        self.done.append(f"laid {name}")
        return {"rows": len(table)}

    def register(self, files):
        self.done += [f"entered {name}, {facts['rows']} rows" for name, facts in files.items()]


class Letters:
    def decode(self, ids, after=()):
        return "".join("ab\u00e9"[i] for i in ids)


def _shard(rows=((1, 2), (0,)), seconds=1.0):
    n, width = len(rows), max(map(len, rows))
    ids = np.zeros((n, width), np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    drawn = Samples(
        token_ids=ids,
        logprob=-np.arange(n * width, dtype=np.float32).reshape(n, width),
        rank=np.zeros((n, width), np.int32),
        length=np.array([len(row) for row in rows]),
        ended=np.array([False, True][:n]),
    )
    return Shard("top-n", range(7, 7 + n), [[2, 0, 1], [2]][:n], 1, drawn, Letters(), seconds)


@pytest.fixture
def folder():
    return Folder()


@pytest.fixture
def writer(folder):
    with BackgroundWriter(
        folder, lambda shard: folder.done.append(f"counted {shard.seconds:g}")
    ) as writer:
        yield writer


def test_a_shard_contains_the_text_of_its_tokens():
    table = _shard().table()
    assert table["sample_id"].to_pylist() == ["top-n-000007", "top-n-000008"]
    assert table["prompt"].to_pylist() == ["ab", ""]
    assert table["text"].to_pylist() == ["b\u00e9", "a"]
    assert table["n_tokens"].to_pylist() == [2, 1]
    assert table["n_chars"].to_pylist() == [2, 1]
    assert table["n_bytes"].to_pylist() == [3, 1]
    assert table["finish"].to_pylist() == ["length", "eos"]
    assert table["token_ids"].to_pylist() == [[1, 2], [0]]
    assert table["logprob"].to_pylist() == [[0, -1], [-2]]
    assert _shard().n_tokens == 3


def test_writing_a_shard_does_not_block_the_caller(folder, writer):
    folder.go.clear()  # the file cannot be finished before this function says so
    writer.write("one", _shard())
    assert folder.done == []
    folder.go.set()
    writer.finish()
    assert folder.done == ["laid one", "counted 1", "entered one, 2 rows"]


def test_counts_and_files_are_registered_together_and_in_order(folder, writer):
    writer.write("one", _shard())
    writer.write("two", _shard(((0,),), 2.0))
    assert folder.done[:3] == ["laid one", "counted 1", "entered one, 2 rows"]
    writer.finish()
    assert folder.done[3:] == ["laid two", "counted 2", "entered two, 1 rows"]


def _write_then(folder, then):
    with BackgroundWriter(folder, lambda _: folder.done.append("counted")) as writer:
        writer.write("one", _shard())
        then(writer)


def _interrupt(_):
    raise KeyboardInterrupt


def test_a_sampled_shard_is_written_even_if_the_next_is_interrupted(folder):
    with pytest.raises(KeyboardInterrupt):
        _write_then(folder, _interrupt)
    assert folder.done == ["laid one", "counted", "entered one, 2 rows"]


def test_a_failed_write_is_neither_counted_nor_registered(folder):
    folder.error = RunError("the disk is full")
    with pytest.raises(RunError, match="the disk is full"):
        _write_then(folder, lambda writer: writer.write("two", _shard()))
    with pytest.raises(RunError, match="the disk is full"):
        _write_then(folder, lambda _: None)
    assert folder.done == []
