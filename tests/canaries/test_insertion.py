"""Insertion: every copy is there, nothing else has changed, and the record says where."""

from __future__ import annotations

import hashlib
import json
import stat

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.canaries.canaries import make_canaries
from auditor.canaries.insertion import insert_canaries
from auditor.canaries.placement import place
from auditor.corpus.reading import read_corpus
from auditor.errors import ConfigError, CorpusError, RunError
from tests.broken_arrow import saved_with_offsets
from tests.tiny import save_tiny_model

CANARIES = make_canaries(
    "The PIN of {n} is {pin}.", count=4, repeats=[1, 2, 4, 8], controls=4, seed=1
)
LINES = [f"Line {i} of many." for i in range(40)]


def prints(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def recount(text: str) -> None:
    """Each canary stands there exactly as often as it should, and no control at all."""
    for canary in CANARIES.canaries:
        assert text.count(canary.text) == canary.repeats
    for control in CANARIES.controls:
        assert control.secret not in text


def without(units: list, made) -> list:
    """The new corpus less what the record says was put in."""
    for position, name in zip(
        made.placements["position"], made.placements["canary_id"], strict=True
    ):
        canary = next(c for c in CANARIES.canaries if c.canary_id == name)
        assert canary.text in str(units[position])
    taken = set(made.placements["position"])
    return [unit for i, unit in enumerate(units) if i not in taken]


# --------------------------------------------------------------------------------------- text
@pytest.mark.parametrize("source", ["\n".join(LINES), "\n".join(LINES) + "\n", "one", "\r\n\n\xe9"])
def test_a_text_file_gets_canary_lines_and_keeps_its_own(tmp_path, source):
    path, out = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(source.encode())
    made = insert_canaries(CANARIES, [path], out)
    assert path.read_bytes() == source.encode()
    text = out.read_bytes().decode()
    recount(text)
    rest = without(text.split("\n")[:-1] if text.endswith("\n") else text.split("\n"), made)
    assert "\n".join(rest) == source.removesuffix("\n")


def test_invalid_utf8_is_kept_and_a_byte_order_mark_is_dropped(tmp_path):
    path, out = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xe9\nend")
    insert_canaries(CANARIES, [path], out)
    lines = out.read_bytes().split(b"\n")
    assert b"caf\xe9" in lines
    assert b"end" in lines
    assert b"\xef\xbb\xbf" not in out.read_bytes()


def test_the_record_equals_hand_counts(tmp_path):
    path, out = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("0123456789\n" * 100)
    made = insert_canaries(CANARIES, [path], out)
    # 15 copies of "The PIN of N is dddd." (21 characters); 100 lines of 11 with their ends.
    assert (made.n_canaries, made.n_source, made.measure) == (15 * 21, 1100, "characters")
    assert made.share == pytest.approx(315 / 1415)
    record = json.loads(made.record.read_text())
    assert record["manifest_sha256"] == CANARIES.digest
    assert record["source"] == [[str(path), 1100, hashlib.sha256(path.read_bytes()).hexdigest()]]
    assert record["placements"] == made.placements.to_dict("records")
    assert [stat.S_IMODE(p.stat().st_mode) for p in (out, made.record)] == [0o600] * 2


def test_above_one_percent_there_is_a_notice_and_below_none(tmp_path):
    path = tmp_path / "a.txt"
    for n_lines, n_notices in ((100, 1), (3000, 0)):
        path.write_text("0123456789\n" * n_lines)
        made = insert_canaries(CANARIES, [path], tmp_path / f"{n_lines}.txt")
        assert len(made.notices) == n_notices
    assert made.share < 0.01


def test_with_a_model_tokens_are_counted(tmp_path):
    from auditor.models.loading import load_vocabulary

    model = str(save_tiny_model(tmp_path / "model"))
    path = tmp_path / "a.txt"
    path.write_text("the quick brown fox\n" * 300)
    made = insert_canaries(CANARIES, [path], tmp_path / "b.txt", model=model)
    encode = load_vocabulary(model).encode
    assert made.measure == "tokens"
    assert made.n_source == 300 * len(encode("the quick brown fox\n"))
    assert made.n_canaries == sum(c.repeats * len(encode(c.text)) for c in CANARIES.canaries)


# --------------------------------------------------------------------------------- JSON lines
def test_json_lines_keep_every_byte_and_get_objects(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    rows = [{"id": i, "text": line, "label": i % 3} for i, line in enumerate(LINES)]
    raw = [json.dumps(row, indent=None, separators=(" ,", ": ")).encode() for row in rows]
    raw[3:3] = [b"", b"no json", b"[1]"]
    path.write_bytes(b"\n".join(raw))
    made = insert_canaries(CANARIES, [path], out)
    recount(out.read_text())
    assert without(out.read_bytes().split(b"\n")[: len(raw) + 15], made) == raw
    documents = {d.doc_id: d.text for d in read_corpus([out])}
    canary = CANARIES.canaries[2]
    assert [documents[f"{canary.canary_id}.{n:02}"] for n in range(4)] == [canary.text] * 4


def test_the_named_field_holds_the_canary(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text('{"q": "why", "a": "so"}\n')
    made = insert_canaries(CANARIES, [path], out, text_field="q+a")
    assert made.n_source == len("why\nso")
    recount("\n".join(document.text for document in read_corpus([out], text_field="q+a")))
    with pytest.raises(CorpusError, match="has no field 'b'"):
        insert_canaries(CANARIES, [path], tmp_path / "c.jsonl", text_field="b")


# ------------------------------------------------------------------------------ anything else
@pytest.mark.parametrize("form", ["folder", "csv", "two", "gz"])
def test_anything_else_becomes_json_lines_of_its_documents(tmp_path, form):
    source = tmp_path / "source"
    source.mkdir()
    if form == "csv":
        (source / "a.csv").write_text("text\n" + "\n".join(LINES))
        specs = [source / "a.csv"]
    elif form == "gz":
        import gzip

        (source / "a.txt.gz").write_bytes(gzip.compress(b"Line\nand line"))
        specs = [source / "a.txt.gz"]
    else:
        for i in range(2):
            (source / f"{i}.txt").write_text(f"Text {i}\n\tand more")
        specs = [source] if form == "folder" else sorted(source.iterdir())
    before = prints(source)
    out = tmp_path / "b.jsonl"
    made = insert_canaries(CANARIES, specs, out)
    assert prints(source) == before
    assert made.unit == "document"
    recount(out.read_text())
    rest = without([json.loads(line) for line in out.read_text().splitlines()], made)
    assert [(row["id"], row["text"]) for row in rest] == [
        (document.doc_id, document.text) for document in read_corpus(specs)
    ]


# ---------------------------------------------------------------------------- saved datasets
@pytest.mark.parametrize("is_dict", [False, True])
def test_a_saved_dataset_becomes_another_with_its_columns_and_splits(tmp_path, is_dict):
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "spans": datasets.List(datasets.Value("int32")),
        }
    )
    rows = datasets.Dataset.from_dict(
        {
            "id": [str(i) for i in range(40)],
            "text": LINES,
            "label": [i % 2 for i in range(40)],
            "spans": [[i] for i in range(40)],
        },
        features=features,
    )
    source, out = tmp_path / "source", tmp_path / "out"
    whole = datasets.DatasetDict({"test": rows, "train": rows}) if is_dict else rows
    whole.save_to_disk(str(source))
    before = prints(source)
    made = insert_canaries(CANARIES, [source], out)
    assert prints(source) == before
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    found = datasets.load_from_disk(str(out))
    if is_dict:
        assert found["test"].to_list() == rows.to_list()
        found = found["train"]
    assert found.features == rows.features
    recount("\n".join(found["text"]))
    assert without(found.to_list(), made) == rows.to_list()
    assert found[int(made.placements["position"][0])]["label"] is None
    assert made.n_source == sum(map(len, LINES))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


CHAT = {
    "id": "q",
    "messages": [{"role": "user", "content": "Why?"}, {"role": "bot", "content": "So."}],
    "translation": {"en": "one", "de": "eins"},
}
PATHS = ["messages[].content", "messages.content", "translation.de+translation.en"]


@pytest.mark.parametrize("text_field", PATHS)
@pytest.mark.parametrize("is_saved", [False, True])
def test_a_canary_is_inserted_at_a_nested_path(tmp_path, text_field, is_saved):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    if is_saved:
        source, out = tmp_path / "saved", tmp_path / "more"
        datasets.Dataset.from_list([CHAT] * 9).save_to_disk(source)
    else:
        source.write_text((json.dumps(CHAT) + "\n") * 9)
    made = insert_canaries(CANARIES, [source], out, text_field=text_field)
    corpus = read_corpus([out], text_field=text_field, strict=True)
    texts = [document.text for document in corpus]
    assert len(texts) == 9 + 15
    recount("\n".join(texts))
    [own] = {d.text for d in read_corpus([source], text_field=text_field)}
    assert without(texts, made) == [own] * 9
    assert made.n_source == 9 * len(own)


def test_a_split_without_rows_stays_one(tmp_path):
    train = datasets.Dataset.from_dict({"text": ["a", "b"]})
    empty = datasets.Dataset.from_dict({"text": []}, features=train.features)
    datasets.DatasetDict(train=train, test=empty).save_to_disk(tmp_path / "saved")
    insert_canaries(CANARIES, [tmp_path / "saved"], tmp_path / "more")
    corpus = read_corpus([tmp_path / "more"])
    assert len(list(corpus)) == 2 + 15
    assert corpus.problem_counts == {"empty-split": 1}


def test_text_of_two_bytes_a_character_becomes_utf8(tmp_path):
    path, out = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes("Žluť\nkůň\n".encode("utf-16"))
    made = insert_canaries(CANARIES, [path], out)
    assert without(out.read_text("utf-8").splitlines(), made) == ["Žluť", "kůň"]
    path.write_bytes("kun\n".encode("utf-16-le"))
    with pytest.raises(CorpusError, match="UTF-16 without a byte order mark"):
        insert_canaries(CANARIES, [path], tmp_path / "c.txt")


def test_an_array_of_json_becomes_json_lines(tmp_path):
    path, out = tmp_path / "a.json", tmp_path / "b.jsonl"
    path.write_text(json.dumps([{"text": "a"}, {"text": "b"}]))
    made = insert_canaries(CANARIES, [path], out)
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert without(texts, made) == ["a", "b"]


def test_a_dataset_without_such_a_column_or_row_is_refused(tmp_path):
    numbers = datasets.Dataset.from_dict({"n": [1, 2], "m": [3, 4]})
    numbers.save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(CorpusError, match="has no text"):
        insert_canaries(CANARIES, [tmp_path / "numbers"], tmp_path / "out")
    with pytest.raises(CorpusError, match="has no column of text 'n'"):
        insert_canaries(CANARIES, [tmp_path / "numbers"], tmp_path / "out", text_field="n")
    empty = datasets.Dataset.from_dict({"text": []})
    empty.save_to_disk(str(tmp_path / "empty"))
    with pytest.raises(CorpusError, match="is empty"):
        insert_canaries(CANARIES, [tmp_path / "empty"], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "numbers"]


# -------------------------------------------------------------------------------- bad corpora
@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "", "is empty"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "no json\n", "is empty"),
        ("a.jsonl", '{"n": 1}\n', "has no text"),
        ("a.csv", "text\n", "no documents"),
    ],
)
def test_a_corpus_without_text_is_refused_and_leaves_nothing(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    out = tmp_path / ("b.txt" if name == "a.txt" else "b.jsonl")
    with pytest.raises(CorpusError, match=sentence):
        insert_canaries(CANARIES, [tmp_path / name], out)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_existing_files_are_not_overwritten(tmp_path):
    path, out = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("text")
    for taken in (out, tmp_path / "b.txt.insertions.json"):
        taken.write_text("mine")
        with pytest.raises(RunError, match="exists already"):
            insert_canaries(CANARIES, [path], out)
        assert taken.read_text() == "mine"
        taken.unlink()
    with pytest.raises(RunError, match="exists already"):
        insert_canaries(CANARIES, [path], path)


def test_a_suffix_of_another_format_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.jsonl").write_text('{"text": "text"}')
    for source, out in (("a.txt", "b.jsonl"), ("a.txt", "b.txt.gz"), ("a.jsonl", "b.txt")):
        with pytest.raises(ConfigError, match="--out must end"):
            insert_canaries(CANARIES, [tmp_path / source], tmp_path / out)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("text")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises((OSError, RunError)):
        insert_canaries(CANARIES, [path], tmp_path / "b.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# ------------------------------------------------------------------------------------- places
@given(st.integers(0, 200), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_copies_are_spread_evenly_over_the_corpus(n_units, seed):
    placements = place(CANARIES, n_units, seed=seed)
    assert [p.position for p in placements] == sorted({p.position for p in placements})
    for before, p in enumerate(placements):
        assert 0 <= p.source_position <= n_units
        assert p.position == p.source_position + before
    for canary in CANARIES.canaries:
        own = [p for p in placements if p.canary is canary]
        assert sorted(p.copy for p in own) == list(range(canary.repeats))
        for p in own:
            share = (n_units + 1) / canary.repeats
            assert int(p.copy * share) <= p.source_position <= (p.copy + 1) * share


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(LINES))
    written = []
    for name, seed in (("b", 5), ("c", 5), ("d", 6)):
        insert_canaries(CANARIES, [path], tmp_path / f"{name}.txt", seed=seed)
        written.append((tmp_path / f"{name}.txt").read_bytes())
    assert written[0] == written[1] != written[2]


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.5])
def test_an_invalid_seed_is_refused_before_anything_is_read(tmp_path, seed):
    with pytest.raises(ConfigError, match="--seed must be"):
        insert_canaries(CANARIES, [tmp_path / "missing.txt"], tmp_path / "out.txt", seed=seed)


def test_a_saved_dataset_with_invalid_offsets_is_refused(tmp_path):
    source = saved_with_offsets(tmp_path / "saved", (0, 2**30, 8))
    with pytest.raises(CorpusError, match="is not a readable dataset"):
        insert_canaries(CANARIES, [source], tmp_path / "out")
    assert not (tmp_path / "out").exists()
