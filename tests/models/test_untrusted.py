"""Untrusted folders: paths stay inside, and contents are validated."""

import hashlib
import json

import datasets
import pytest

from auditor.canaries.canaries import load_canaries, make_canaries
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError, RunError
from auditor.matching.index import build_index, open_index
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from auditor.system.atomic_files import write_atomically
from tests.histories import TABLE, asked


def names(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


def refused(path):
    with pytest.raises(RunError) as caught, open_for_writing(path, asked()):
        pass
    return str(caught.value)


def changed(made, change):
    manifest = json.loads((made / "manifest.json").read_text())
    change(manifest)
    (made / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.parquet",
        "samples/../../outside.parquet",
        "/etc/passwd",
        "samples/top-n-00000.parquet\0",
        "samples/other-00000.parquet",
        "samples/top-n-1.parquet",
        "scores/top-n-00000.csv",
        "",
    ],
)
def test_a_manifest_names_only_files_of_its_run(made, name):
    changed(made, lambda m: m["shards"].update({name: m["shards"]["samples/top-n-00000.parquet"]}))
    with pytest.raises(
        RunError, match=r"lists a (file outside|shard that the run cannot).*damaged"
    ):
        load_run(made)
    assert "damaged" in refused(made)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("config", {"model": "gpt2", "samples": -1}, "samples must be at least 1"),
        ("config", {}, "model is missing"),
        ("config", {"model": "gpt2", "strategies": 3}, "strategies"),
        ("shards", {"x": {"sha256": 1, "bytes": 2}}, r"shards\.x\.sha256 is 1"),
        ("shards", {"x": {"sha256": "a"}}, r"shards\.x\.bytes is missing"),
        ("stages", {"sample": 3}, r"stages\.sample is 3"),
        ("notes", ["text"], r"notes\[0\] is 'text'"),
        ("models", {"target": None}, r"models\.target is None"),
        ("corpus", {"documents": True}, r"corpus\.documents is True"),
        ("batch_size", {"top-n": "x"}, r"batch_size\.top-n is 'x'"),
        ("command", 5, "command is 5"),
        ("price_per_hour", "x", "price_per_hour is 'x'"),
        ("revealed", 1, "revealed is 1"),
        (
            "stages",
            {"sample": {"seconds": 1.0, "strategies": {"top-n": 3}}},
            r"stages\.sample\.strategies\.top-n is 3",
        ),
        ("shards", {"x": {"sha256": "a", "bytes": 1, "looked_up": 3}}, r"x\.looked_up is 3"),
    ],
)
def test_a_manifest_of_another_form_says_where(made, key, value, says):
    changed(made, lambda m: m.update({key: value}))
    with pytest.raises(RunError, match=rf"{says}.*damaged: use another --out\.$"):
        load_run(made)


def test_a_link_that_leads_out_is_neither_read_nor_written_through(made, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    shard = made / "samples" / "top-n-00000.parquet"
    shard.rename(outside / "top-n-00000.parquet")
    shard.symlink_to(outside / "top-n-00000.parquet")
    with pytest.raises(RunError, match="links out of the run's folder, to"):
        load_run(made).samples()
    shard.unlink()
    (made / "samples").rmdir()
    (made / "samples").symlink_to(outside)
    with open_for_writing(made, asked()) as run, pytest.raises(RunError, match="links out of"):
        run.write("samples/top-n-00001.parquet", TABLE)
    assert names(outside) == ["top-n-00000.parquet"]


def test_a_link_in_a_circle_is_a_one_line_error(made):
    shard = made / "samples" / "top-n-00000.parquet"
    shard.unlink()
    shard.symlink_to(shard)
    with pytest.raises(RunError, match=r"links out of|cannot be read"):
        load_run(made).samples()


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"no parquet at all"])
def test_a_shard_that_is_no_parquet_is_named_whatever_its_sha256(made, raw):
    name = "samples/top-n-00000.parquet"
    (made / name).write_bytes(raw)
    facts = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    changed(made, lambda m: m["shards"][name].update(facts))
    with pytest.raises(RunError, match=r"00000\.parquet is not valid Parquet"):
        load_run(made).samples()


@pytest.mark.parametrize("name", [".file.part", ".lock"])
def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path, name):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    folder.mkdir()
    (folder / name).symlink_to(victim)
    if name == ".lock":
        with pytest.raises(RunError, match="cannot be written"), open_for_writing(folder, asked()):
            pass
    else:
        write_atomically(folder / "file", b"new")
        assert (folder / "file").read_bytes() == b"new"
    assert victim.read_text() == "precious"


# ---------------------------------------------------------------- training text
@pytest.mark.parametrize("how", ["named", "hub"])
def test_a_saved_dataset_reads_only_its_own_files(tmp_path, how):
    for name, text in (("one", "mine"), ("other", "a secret of the reader's")):
        datasets.Dataset.from_dict({"text": [text]}).save_to_disk(str(tmp_path / name))
    assert [d.text for d in read_corpus([tmp_path / "one"])] == ["mine"]
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../other/data-00000-of-00001.arrow"}]
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    spec = tmp_path / "one" if how == "named" else f"hf:{tmp_path / 'one'}"
    with pytest.raises(CorpusError, match="names a file outside its folder"):
        list(read_corpus([spec]))


@pytest.mark.parametrize("where", ["../secret.jsonl", "https://example.org/x.jsonl"])
def test_a_folder_in_a_hubs_layout_reads_only_its_own_files(tmp_path, where):
    folder = tmp_path / "dataset"
    folder.mkdir()
    (tmp_path / "secret.jsonl").write_text('{"text": "a secret of the reader\'s"}\n')
    (folder / "own.jsonl").write_text('{"text": "mine"}\n')
    said = "---\nconfigs:\n- config_name: default\n  data_files: %s\n---\n"
    (folder / "README.md").write_text(said % "own.jsonl")
    assert [d.text for d in read_corpus([f"hf:{folder}"])] == ["mine"]
    (folder / "README.md").write_text(said % f'"{where}"')
    with pytest.raises(CorpusError):
        list(read_corpus([f"hf:{folder}"]))


# ---------------------------------------------------------------- indexes and canaries
def resealed(path, change):
    """index.json with a change, and its own checksum right again."""
    plan = json.loads(path.read_text())
    del plan["seal"]
    change(plan)
    whole = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**plan, "seal": whole}))


def _without_starts(sections):
    """No document begins in the shard, and what is after the starts lies that much before."""
    freed = 8 * sections["starts"][1]
    sections["starts"][1] = 0
    for name in ("chars", "id_ends", "ids"):
        sections[name][0] -= freed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p["shards"][0].update(file="../../x"), "'../../x' is no file of its folder"),
        (lambda p: p["repeats"].update(file="/etc/passwd"), "'/etc/passwd' is no file"),
        (lambda p: p["shards"][0]["sections"].update(text=[0, 10**9]), "no room for its text"),
        (lambda p: p["shards"][0]["sections"].update(ids=[-8, 4]), "ids in another place"),
        (lambda p: p["shards"][0]["sections"]["ids"].__setitem__(1, 10**9), "no room for its ids"),
        (lambda p: _without_starts(p["shards"][0]["sections"]), "number of ids"),
        (lambda p: p["shards"][0].pop("file"), r"shards\[0\]\.file is missing"),
        (lambda p: p.update(corpus=3), "corpus is 3"),
        (lambda p: p.pop("repeats"), "repeats is missing"),
    ],
)
def test_an_index_is_checked_before_it_is_mapped(tmp_path, change, says):
    (tmp_path / "text.txt").write_text("to be or not to be")
    index = build_index(read_corpus([tmp_path / "text.txt"]), tmp_path / "index")
    assert index.count("be") == 2
    resealed(tmp_path / "index" / "index.json", change)
    with pytest.raises(CorpusError, match=f"is damaged .*{says}"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["canaries"][0].pop("secret"), r"canaries\[0\]\.secret is missing"),
        (lambda m: m["controls"][0].update(repeats="x"), r"controls\[0\]\.repeats is 'x'"),
        (lambda m: m.update(space_size="-3"), "space_size is '-3'"),
        (lambda m: m.update(more=1), "more is 1"),
        (lambda m: m.pop("model"), "model is missing"),
    ],
)
def test_a_manifest_of_canaries_has_its_form_or_is_refused(tmp_path, change, says):
    path = make_canaries("The PIN of {n} is {pin}.", count=1, controls=1).save(tmp_path / "c")
    whole = json.loads(path.read_text())
    del whole["sha256"], whole["space_bits"]
    change(whole)
    raw = json.dumps(whole, sort_keys=True, ensure_ascii=True).encode()
    path.write_text(json.dumps({**whole, "sha256": hashlib.sha256(raw).hexdigest()}))
    with pytest.raises(RunError, match=says):
        load_canaries(path)
