"""Almost valid files are read or refused with a one-line error."""

import json
import os
import signal

import pytest
from hypothesis import strategies as st

from auditor.errors import AuditError, CorpusError
from benchmarks.fuzz import Outcome, by_hypothesis, by_hypothesis_apart, shares, try_input
from benchmarks.fuzz_inputs import _changed
from benchmarks.fuzz_places import Place, Target
from benchmarks.fuzz_targets import targets

# Twenty times as many are tried by hand: python -m benchmarks.fuzz --inputs 100000.
N_INPUTS = 5000
TARGETS = targets()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", TARGETS)
def test_fuzzed_inputs_raise_only_one_line_errors(place, name):
    wanted = shares(list(TARGETS.values()), N_INPUTS)[name]
    found = by_hypothesis(TARGETS[name], place, wanted, seed=7)
    assert found.n_inputs >= wanted
    assert found.n_refused > 0 or name in ("few-shot", "other", "index-shard", "run-shard")
    assert {where: told for where, (_, told) in found.faults.items()} == {}


def test_the_targets_cover_five_thousand_inputs():
    assert sum(shares(list(TARGETS.values()), N_INPUTS).values()) >= 0.99 * N_INPUTS
    assert {"toml", "jsonl", "csv", "wet", "npy", "run", "config.json", "safetensors"} <= {*TARGETS}


def test_valid_files_are_read(place):
    """Else the targets would fuzz a reader that refuses everything."""
    valid = {n: t.seeds(place)[0] for n, t in TARGETS.items() if t.seeds and n != "npy"}
    valid |= {
        name: (place.model / name).read_bytes()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
    }
    valid["safetensors"] = (place.model / "model.safetensors").read_bytes()
    valid["run"] = valid["run-report"] = (place.run / "manifest.json").read_bytes()
    valid["index"] = (place.index / "index.json").read_bytes()
    valid["canaries"] = place.canaries.read_bytes()
    refused = {}
    for name, raw in valid.items():
        try:
            TARGETS[name].read(place, raw)
        except AuditError as error:
            refused[name] = str(error)
    assert refused == {}


def test_a_fault_would_be_detected(tmp_path):
    def read(place, raw):
        if raw == b"refused":
            raise CorpusError("not this one. Give another.")
        json.loads(raw)

    target, found = Target("faulty", 1, lambda place: None, read), Outcome()
    for raw in (b"1", b"refused", b"{", b"{{"):
        try_input(target, Place(tmp_path), raw, found)
    assert (found.n_inputs, found.n_refused) == (4, 1)
    assert [raw for raw, _ in found.faults.values()] == [b"{"]
    (where,) = found.faults
    assert where.startswith("JSONDecodeError at ")


def test_a_place_in_a_list_that_became_a_table_is_left_alone():
    changes = [(("rows",), "replace", {"a": 1}, ""), (("rows", 0), "replace", 2, "")]
    assert _changed({"rows": [7, 8]}, changes) == {"rows": {"a": 1}}
    assert _changed({"rows": [7, 8]}, changes[1:]) == {"rows": [2, 8]}


def _die(place, raw):
    if len(raw) > 2:
        os.kill(os.getpid(), signal.SIGSEGV)


def _deadly():
    return Target("deadly", 1, lambda place: st.binary(), _die)


def test_an_input_that_ends_the_process_would_be_detected():
    found = by_hypothesis_apart(_deadly, 500, seed=3)
    ((fault, (raw, _)),) = found.faults.items()
    assert fault == "the process ended"
    assert len(raw) > 2
    assert 1 <= found.n_inputs <= 500
