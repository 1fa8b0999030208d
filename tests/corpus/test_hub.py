"""Datasets saved to disk, and in the layout of the hub."""

import hashlib
import json
import logging

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.corpus import hub
from auditor.corpus.hub_names import HubSpec, parse_hub
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError
from tests.broken_arrow import saved_with_offsets

CARD = """---
configs:
- config_name: qa
  data_files:
  - split: train
    path: qa/train-*
  - split: test
    path: qa/test-*
- config_name: story
  data_files: story/*.parquet
---
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """The cache of `datasets` is in a temporary folder."""
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache") / "datasets"
    )


@pytest.fixture
def repository(tmp_path):
    """A folder as a hub's repository has it."""
    folder = tmp_path / "quiz"
    (folder / "qa").mkdir(parents=True)
    (folder / "story").mkdir()
    (folder / "README.md").write_text(CARD)
    train = pa.table({"id": [0, 1], "question": ["Who?", "Why?"], "answer": ["Ada", None]})
    test = pa.table({"id": [0], "question": ["Where?"], "answer": ["Here"]})
    pq.write_table(train, folder / "qa" / "train-00000-of-00001.parquet")
    pq.write_table(test, folder / "qa" / "test-00000-of-00001.parquet")
    story = pa.table({"n": [1, 2], "tale": ["once", "upon"]})
    pq.write_table(story, folder / "story" / "a.parquet", row_group_size=1, compression="none")
    return folder


def read(spec, **options):
    return [(d.doc_id, d.text) for d in read_corpus([spec], **options)]


def test_config_split_and_columns_choose_what_is_read(repository):
    spec = f"hf:{repository}:qa:train:question+answer"
    assert read(spec) == [("0", "Who?\nAda"), ("1", "Why?")]
    assert read(f"hf:{repository}:qa:test:answer") == [("0", "Here")]
    assert read(f"hf:{repository}:qa:test", text_field="answer+question") == [("0", "Here\nWhere?")]


def test_all_splits_are_read_where_none_is_named_and_their_ids_stay_apart(repository):
    assert read(f"hf:{repository}:qa::question") == [
        ("quiz/qa/train#0", "Who?"),
        ("quiz/qa/train#1", "Why?"),
        ("quiz/qa/test#0", "Where?"),
    ]


def test_the_only_column_of_text_is_the_text(repository):
    assert read(f"hf:{repository}:story") == [
        ("quiz/story/train:1", "once"),
        ("quiz/story/train:2", "upon"),
    ]


def test_a_wrong_column_is_an_error_that_lists_those_there_are(repository):
    for spec in (f"hf:{repository}:qa:train", f"hf:{repository}:qa:train:tale"):
        with pytest.raises(CorpusError, match=r"column.*; it has id, question, answer"):
            read(spec)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "Config name is missing.*'qa', 'story'"),
        (":novel", "BuilderConfig 'novel' not found.*'qa', 'story'"),
        (":qa:dev", r"Bad split: dev\..*'train', 'test'"),
    ],
)
def test_a_wrong_config_or_split_is_an_error_that_lists_those_there_are(repository, rest, message):
    with pytest.raises(CorpusError, match=f"cannot be read .{message}.*Check path, config and"):
        read(f"hf:{repository}{rest}")


def test_a_dataset_of_json_lines_needs_no_card(tmp_path):
    rows = [{"id": "x", "text": "a"}, {"id": "y", "text": "b"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(f"hf:{tmp_path}::train") == [("x", "a"), ("y", "b")]


def test_a_dataset_that_breaks_is_read_up_to_there(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' * 10)
    (tmp_path / "b.jsonl").write_text("[broken\n")
    corpus = read_corpus([f"hf:{tmp_path}::train"])
    assert [d.text for d in corpus] == ["good"] * 10
    assert corpus.problem_counts == {"dataset": 1}
    assert "the rows after row 10 of split train cannot be read (" in corpus.problems[0].message
    with pytest.raises(CorpusError, match=r"after row 10 .*without strict"):
        list(read_corpus([f"hf:{tmp_path}::train"], strict=True))


def test_a_broken_file_is_reported_once(tmp_path, caplog, monkeypatch):
    """`datasets` has a line of its own to log, here and whenever it is asked without us."""
    (tmp_path / "a.csv").write_bytes(b"text\ngood\n\xff\xfe\n")
    library = logging.getLogger("datasets")
    monkeypatch.setattr(library, "handlers", [*library.handlers, caplog.handler])
    with pytest.raises(
        CorpusError, match=r"the rows after row 0 of split train cannot be read .*0xff"
    ):
        read(f"hf:{tmp_path}::train")
    assert caplog.messages == []
    with pytest.raises(UnicodeDecodeError):
        list(datasets.load_dataset(str(tmp_path), split="train", streaming=True))
    assert "Failed to read file" in caplog.text


@pytest.mark.parametrize(
    "feature",
    [{"_type": "Value"}, {"_type": "List"}, 3, [[]]],
)
def test_an_arrow_file_with_an_invalid_schema_is_a_one_line_error(tmp_path, feature):
    said = {"info": {"features": {"text": feature}}}
    table = pa.table({"text": ["a", "b"]}).replace_schema_metadata(
        {"huggingface": json.dumps(said)}
    )
    with pa.ipc.new_stream(str(tmp_path / "train.arrow"), table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(CorpusError, match=r"cannot be read"):
        read(f"hf:{tmp_path}")


def test_the_hub_offline_is_a_one_line_error_with_the_remedy():
    message = r"^hf:nyu-mll/glue:qnli: the hub is unreachable \(.*\)\. Go online .*hf:FOLDER"
    with pytest.raises(CorpusError, match=message):
        read("hf:nyu-mll/glue:qnli")


def test_a_check_finds_what_cannot_be_opened_before_anything_is_read(repository):
    read_corpus([f"hf:{repository}:qa"]).check()
    for spec in ("hf:nyu-mll/glue:qnli", f"hf:{repository}:novel"):
        with pytest.raises(CorpusError):
            read_corpus([spec]).check()


def test_a_network_that_is_missing_is_noticed_before_the_hub_is_asked(monkeypatch):
    def unreachable(address, timeout):
        assert address == ("huggingface.co", 443)
        assert timeout <= 10
        raise OSError("no route")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "https://huggingface.co")
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub.socket, "create_connection", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", None)
    with pytest.raises(CorpusError, match=r"unreachable \(no route\)"):
        read("hf:nyu-mll/glue:qnli")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("hf:a/b", HubSpec("a/b", name="a/b")),
        ("hf:a/b:c", HubSpec("a/b", "c", name="a/b/c")),
        ("hf:a/b::s:x", HubSpec("a/b", None, "s", ("x",), "a/b/s")),
        ("hf:a/b:c:s:x+y", HubSpec("a/b", "c", "s", ("x", "y"), "a/b/c/s")),
    ],
)
def test_the_parts_of_a_name(text, spec):
    assert parse_hub(text) == spec
    assert str(spec) == text


def test_a_local_path_may_hold_colons(tmp_path):
    (tmp_path / "a:b").mkdir()
    spec = parse_hub(f"hf:{tmp_path}/a:b:c")
    assert (spec.path, spec.config) == (f"{tmp_path}/a:b", "c")


@pytest.mark.parametrize("text", ["hf:", "hf::c", "hf:a:b:c:d:e", "hf:./nowhere"])
def test_names_that_are_none_are_refused_at_once(text):
    with pytest.raises(CorpusError):
        read_corpus([text])


# ------------------------------------------------------------------------------- saved to disk
def test_a_saved_dataset_is_read_by_its_folder(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "", "c"]}).save_to_disk(tmp_path / "saved")
    corpus = read_corpus([tmp_path / "saved"])
    assert [(d.doc_id, d.text) for d in corpus] == [("saved:1", "a"), ("saved:3", "c")]
    assert corpus.problem_counts == {"empty": 1}


@pytest.fixture
def saved(tmp_path):
    """A folder with text, and in it a saved DatasetDict."""
    folder = tmp_path / "mixed"
    splits = {"train": {"id": [1, 2], "text": ["a", "b"]}, "test": {"id": [1], "text": ["c"]}}
    made = datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in splits.items()})
    made.save_to_disk(folder / "saved")
    (folder / "z.txt").write_text("z")
    return folder


def test_all_splits_of_a_saved_dataset_are_read_or_the_one_whose_folder_is_named(saved):
    assert read(saved / "saved") == [
        ("saved/train#1", "a"),
        ("saved/train#2", "b"),
        ("saved/test#1", "c"),
    ]
    assert read(saved / "saved" / "train") == [("1", "a"), ("2", "b")]


def test_a_split_without_rows_is_said_and_the_others_are_read(tmp_path):
    """`datasets` writes such a folder and cannot load it."""
    train = datasets.Dataset.from_dict({"text": ["a", "b"]})
    empty = datasets.Dataset.from_dict({"text": []}, features=train.features)
    whole = datasets.DatasetDict(validation=empty, train=train, test=train)
    whole.save_to_disk(tmp_path / "saved")
    for spec in (tmp_path / "saved", f"hf:{tmp_path / 'saved'}", tmp_path):
        corpus = read_corpus([spec], strict=True)
        assert [d.text for d in corpus] == ["a", "b", "a", "b"]
        assert corpus.problem_counts == {"empty-split": 1}
        assert "split validation has no rows" in corpus.problems[0].message
    for spec in (tmp_path / "saved" / "validation", f"hf:{tmp_path / 'saved'}::validation"):
        with pytest.raises(CorpusError, match=r"has no documents: .* has no rows"):
            read(spec)


CHAT = [{"role": "user", "content": "Why?"}, {"role": "bot", "content": "So."}]


def test_a_path_leads_to_nested_columns_of_datasets(tmp_path):
    rows = {"id": ["x"], "messages": [CHAT], "translation": [{"en": "one", "de": "eins"}]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "hub" / "train.parquet")
    for spec in (f"hf:{tmp_path / 'hub'}::train", f"hf:{tmp_path / 'saved'}::train"):
        assert read(f"{spec}:messages[].content") == [("x", "Why?\nSo.")]
        assert read(f"{spec}:translation.de+messages.content") == [("x", "eins\nWhy?\nSo.")]
        there = r"it has id, messages\[\]\.role, messages\[\]\.content, translation\.en, "
        with pytest.raises(CorpusError, match=there):
            read(spec)
    saved = tmp_path / "saved"
    assert read(saved, text_field="translation.en") == [("x", "one")]


def test_a_path_leads_into_values_that_datasets_keeps_as_json(tmp_path):
    """So it keeps what has one type here and another there."""
    call = {"role": "bot", "content": None, "tools": [{"name": "x"}]}
    rows = [
        {"id": "x", "messages": [*CHAT, call]},
        {"id": "y", "messages": [{"role": "user", "content": [{"text": "in"}, {"text": "parts"}]}]},
        {"id": "z", "messages": [{"role": "user"}]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = f"hf:{tmp_path}::train"
    corpus = read_corpus([f"{spec}:messages[].content"])
    assert [d.text for d in corpus] == ["Why?\nSo."]
    assert corpus.problem_counts == {"field": 2}
    assert "row 2: messages[].content is not text but list; it has" in corpus.problems[0].message
    assert read(f"{spec}:messages[].content[].text") == [("y", "in\nparts")]


def test_a_saved_dataset_within_a_folder_is_one_of_its_sources(saved):
    assert [text for _, text in read(saved)] == ["a", "b", "c", "z"]


def test_a_saved_dataset_that_is_damaged_is_refused_in_one_sentence(saved):
    for path in (saved / "saved").rglob("*.arrow"):
        path.write_bytes(b"")
    with pytest.raises(CorpusError, match=r"is not a valid dataset \(.*\)\. Correct it"):
        read(saved / "saved")


@pytest.mark.parametrize("broken", [(0, 2**30, 8), (-(2**30), 3, 8)])
def test_offsets_that_lead_out_of_the_file_are_refused_not_followed(tmp_path, broken):
    """Pyarrow follows them, which ends the process."""
    with pytest.raises(CorpusError, match=r"cannot be read|is not a dataset"):
        list(read_corpus([saved_with_offsets(tmp_path / "saved", broken)]))


@pytest.mark.parametrize(("broken", "text"), [((0, 3, 2**30), "one"), ((0, 8, 3), "onethree")])
def test_what_stands_before_offsets_that_lead_nowhere_is_read(tmp_path, broken, text):
    corpus = read_corpus([saved_with_offsets(tmp_path / "saved", broken)])
    assert [d.text for d in corpus] == [text]
    assert "the rows after row 1 cannot be read" in corpus.problems[0].message
    assert corpus.problems[0].message.endswith("1 of 2 rows skipped; strict stops instead.")


def test_a_local_copy_may_be_one_that_was_saved(saved):
    assert read(f"hf:{saved / 'saved'}::train:text") == [("1", "a"), ("2", "b")]
    assert read(f"wikitext@{saved / 'saved'}") == [("1", "a"), ("2", "b")]
    assert [text for _, text in read(f"hf:{saved / 'saved'}")] == ["a", "b", "c"]
    with pytest.raises(CorpusError, match=r"Bad split: dev\. Available splits: \['train', 'test'"):
        read(f"hf:{saved / 'saved'}::dev")


# ------------------------------------------------------------------------------- fingerprints
def test_the_fingerprint_of_local_datasets_is_that_of_their_data_files(repository, saved):
    train = repository / "qa" / "train-00000-of-00001.parquet"
    arrow = sorted((saved / "saved" / "train").glob("*.arrow"))
    rows = read_corpus([f"hf:{repository}:qa:train", saved / "saved" / "train"]).fingerprint()
    assert rows == [
        (str(path), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in [train, *arrow]
    ]


def test_the_fingerprint_of_a_hub_dataset_is_its_commit(monkeypatch):
    class Builder:
        hash = "0123abcd"
        config = datasets.BuilderConfig(name="qnli")

    monkeypatch.setattr(hub, "_reach_hub", lambda spec: None)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda path, config: Builder)
    [(name, size, told)] = read_corpus(["hf:nyu-mll/glue:qnli:train"]).fingerprint()
    assert (name, size) == ("hf:nyu-mll/glue:qnli:train", 0)
    assert json.loads(told) == {"revision": "0123abcd", "config": "qnli"}
