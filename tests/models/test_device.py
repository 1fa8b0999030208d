"""Devices: memory within a container's limit, and batches that fit into it."""

from __future__ import annotations

import pytest
import torch

from auditor.errors import ModelError
from auditor.matching.index import build
from auditor.models.device import free_memory, native_bfloat16, retry_with_smaller_batch
from auditor.system import memory

CPU = torch.device("cpu")


def limited(folder, limit, used, stat="inactive_file 0"):
    for name, text in (("max", limit), ("current", used), ("stat", stat)):
        (folder / f"memory.{name}").write_text(f"{text}\n")
    return memory._left_to_container(folder)


def test_free_memory_is_the_container_limit_minus_usage(tmp_path):
    assert limited(tmp_path, 1000, 400) == 600
    # Files in memory make room when it is needed.
    assert limited(tmp_path, 1000, 400, "anon 300\ninactive_file 100") == 700
    assert limited(tmp_path, 1000, 1200) == 0


def test_without_a_limit_the_machine_is_the_limit(tmp_path):
    assert memory._left_to_container(tmp_path) is None
    assert limited(tmp_path, "max", 400) is None


def test_free_memory_is_never_more_than_the_container_leaves(monkeypatch):
    monkeypatch.setattr(memory, "_left_to_container", lambda folder: None)
    alone = free_memory(CPU)
    assert alone > 0
    monkeypatch.setattr(memory, "_left_to_container", lambda folder: 12_345)
    assert free_memory(CPU) == 12_345


def test_an_index_is_built_in_shards_that_the_container_has_memory_for(monkeypatch):
    """Six bytes for each byte of a shard, of half of the memory."""
    monkeypatch.setattr(memory, "_left_to_container", lambda folder: 120_000_000)
    assert build._default_bytes() == 10_000_000


def test_bfloat16_is_asked_of_cpus_and_gpus_alone():
    assert native_bfloat16(torch.device("meta")) is False
    assert native_bfloat16(CPU) in (True, False)


def room_for(most, tried):
    """Work that squares its items, with memory for `most` at once."""

    def work(batch):
        tried.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError
        return [i * i for i in batch]

    return work


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_keeps_its_order():
    tried, notes = [], []
    found = retry_with_smaller_batch(
        room_for(2, tried), list(range(7)), too_large="", note=notes.append
    )
    assert found == [0, 1, 4, 9, 16, 25, 36]
    assert tried == [7, 3, 1, 2, 4, 2, 2]
    assert notes[0] == "Out of memory with 7 texts per batch; continuing with 3."


def test_one_item_that_does_not_fit_is_said():
    with pytest.raises(ModelError, match="too long, buy more"):
        retry_with_smaller_batch(room_for(0, []), [1, 2], too_large="too long, buy more")


def test_other_errors_are_not_taken_for_out_of_memory():
    def work(batch):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        retry_with_smaller_batch(work, [1, 2], too_large="")
