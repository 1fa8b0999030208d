"""Presets: names that people know, each tried on a small local copy in the hub's layout."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.corpus.files import list_files
from auditor.corpus.presets import PRESETS, preset_specs
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError

ASKED_FOR = [
    *(f"glue/{task}" for task in ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")),
    *("glue/wnli", "glue/ax", "glue/mnli_matched", "glue/mnli_mismatched"),
    *("code_x_glue_tc_text_to_code", "code_x_glue_ct_code_to_text", "openwebtext", "wikitext"),
    "the_pile",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """The cache of `datasets` is in a temporary folder."""
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache") / "datasets"
    )


def copy_of(folder, preset):
    """A repository with two rows in each of a preset's configs: column 1, column 2, ..."""
    lines = ["---", "configs:"]
    for config in preset.configs or ("default",):
        (folder / config).mkdir(parents=True)
        columns = {
            f"{name}": [f"{config} {name} 1", f"{config} {name} 2"] for name in preset.columns
        }
        pq.write_table(
            pa.table({"label": [0, 1], **columns}), folder / config / "part-00000.parquet"
        )
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - split: {preset.split}", f"    path: {config}/part-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


@pytest.mark.parametrize("name", PRESETS)
def test_a_local_copy_is_read_with_the_presets_configs_split_and_columns(tmp_path, name):
    preset = PRESETS[name]
    folder = tmp_path / "copy"
    copy_of(folder, preset)
    expected = [
        "\n".join(f"{config} {column} {row}" for column in preset.columns)
        for config in preset.configs or ("default",)
        for row in (1, 2)
    ]
    documents = list(read_corpus([f"{name}@{folder}"]))
    assert [d.text for d in documents] == expected
    assert len({d.doc_id for d in documents}) == len(documents)
    assert documents[0].doc_id.startswith(name.partition("/")[0])


def test_the_ones_people_ask_for_first_are_there():
    assert [name for name in ASKED_FOR if name not in PRESETS] == []


def test_a_preset_is_read_from_the_hub_where_no_folder_is_named():
    [spec] = preset_specs("glue/qnli")
    assert (spec.path, spec.config, spec.split) == ("nyu-mll/glue", "qnli", "train")
    assert spec.columns == ("question", "sentence")
    with pytest.raises(CorpusError, match=r"the hub is unreachable .*PRESET@FOLDER"):
        list(read_corpus(["glue/qnli"]))


def test_what_exists_as_a_path_is_that_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wikitext").write_text("mine")
    assert [d.text for d in read_corpus(["wikitext"])] == ["mine"]


def test_the_copy_of_the_pile_as_it_was_given_out_is_read(tmp_path):
    import zstandard

    (tmp_path / "train").mkdir()
    row = zstandard.ZstdCompressor().compress(
        b'{"text": "piled", "meta": {"pile_set_name": "x"}}\n'
    )
    for name in ("train/00.jsonl.zst", "train/01.jsonl.zst", "val.jsonl.zst", "test.jsonl.zst"):
        (tmp_path / name).write_bytes(row)
    assert [d.text for d in read_corpus([f"the_pile@{tmp_path}"])] == ["piled", "piled"]


def test_a_missing_folder_and_a_name_nearly_right_are_reported(tmp_path):
    with pytest.raises(CorpusError, match=r"there is no folder .*nowhere\. Name the folder"):
        read_corpus([f"glue/qnli@{tmp_path}/nowhere"])
    with pytest.raises(CorpusError, match="Did you mean the preset glue/qnli"):
        list_files(["glue/qnl1"])
