"""Reading corpora: what is read, in which order, under which ids, and what is said of the rest."""

import hashlib
import json
import os

import pytest

from auditor.corpora.reading import Document, read_corpus
from auditor.errors import CorpusError


def write(folder, **files):
    """Write files given as name=content; `__` in a name stands for a dot."""
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("__", ".")).write_bytes(raw)


def rows(*objects):
    return "".join(json.dumps(one) + "\n" for one in objects)


def ids(corpus):
    return [document.doc_id for document in corpus]


def test_a_folder_is_read_in_sorted_order_with_paths_as_ids(tmp_path):
    write(tmp_path, b__txt="b", GPL="no ending", a__py="a", z__odd="odd ending")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", z__md="z", __hidden="not read")
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["GPL", "a/z.md", "a.py", "b.txt", "z.odd"]
    assert next(iter(corpus)) == Document("GPL", "no ending", str(tmp_path / "GPL"))


def test_every_iteration_reads_anew_and_counts_anew(tmp_path):
    write(tmp_path, a__txt="aé", b__txt="", c__jsonl=rows({"text": "x"}) + "broken\n")
    corpus = read_corpus([tmp_path])
    assert list(corpus) == list(corpus)
    assert (corpus.n_documents, corpus.n_bytes) == (2, 4)
    assert corpus.problem_counts == {"empty": 1, "json": 1}
    assert len(corpus.problems) == 2
    write(tmp_path, a__txt="changed")
    assert next(iter(corpus)).text == "changed"


def test_files_named_twice_or_linked_are_read_once(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, a__txt="text")
    (tmp_path / "link").symlink_to("a.txt")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert ids(read_corpus([tmp_path, tmp_path / "a.txt"])) == ["a.txt"]


def test_a_link_to_a_file_elsewhere_is_followed(tmp_path):
    (tmp_path / "corpus").mkdir()
    write(tmp_path, GPL__3="licence")
    (tmp_path / "corpus" / "GPL").symlink_to("../GPL.3")
    assert [(d.doc_id, d.text) for d in read_corpus([tmp_path / "corpus"])] == [("GPL", "licence")]


def test_a_glob_is_read_sorted_and_named_below_its_fixed_part(tmp_path):
    (tmp_path / "x").mkdir()
    write(tmp_path, b__txt="b", a__txt="a", c__md="c")
    write(tmp_path / "x", d__txt="d")
    assert ids(read_corpus([str(tmp_path / "*.txt")])) == ["a.txt", "b.txt"]
    assert ids(read_corpus([str(tmp_path / "**" / "*.txt")])) == ["a.txt", "b.txt", "x/d.txt"]


def test_files_that_share_a_name_are_named_by_their_path(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, a__txt=name, **{f"{name}__txt": "own"})
    one, two = tmp_path / "one", tmp_path / "two"
    expected = [f"{one}/a.txt", "one.txt", f"{two}/a.txt", "two.txt"]
    assert ids(read_corpus([one, two])) == expected


def test_newlines_are_kept_and_a_byte_order_mark_is_dropped(tmp_path):
    write(tmp_path, a__txt="\ufeffone\r\ntwo\rthree\n", b__jsonl="\ufeff" + rows({"text": "x\r\n"}))
    assert [document.text for document in read_corpus([tmp_path])] == [
        "one\r\ntwo\rthree\n",
        "x\r\n",
    ]


def test_json_lines_take_their_own_id_or_name_and_line(tmp_path):
    write(
        tmp_path,
        a__jsonl=rows({"id": "x", "text": "1"}, {"doc_id": 7, "content": "2"})
        + "\n"
        + rows({"body": "3"}, {"id": None, "document": "4"}, {"id": "x", "text": "5"}),
    )
    corpus = read_corpus([tmp_path / "a.jsonl"])
    assert ids(corpus) == ["x", "7", "a.jsonl:4", "a.jsonl:5", "x"]
    assert [document.text for document in corpus] == ["1", "2", "3", "4", "5"]


def test_json_ids_of_several_files_stay_apart(tmp_path):
    write(tmp_path, a__jsonl=rows({"id": 0, "text": "a"}), b__ndjson=rows({"id": 0, "text": "b"}))
    assert ids(read_corpus([tmp_path])) == ["a.jsonl#0", "b.ndjson#0"]


def test_text_field_chooses_the_field(tmp_path):
    write(tmp_path, a__jsonl=rows({"text": "no", "story": "yes"}))
    [document] = read_corpus([tmp_path], text_field="story")
    assert document.text == "yes"


def test_lone_surrogates_of_json_are_read_and_counted_in_bytes(tmp_path):
    write(tmp_path, a__jsonl='{"text": "\\ud800x"}\n')
    corpus = read_corpus([tmp_path])
    assert [document.text for document in corpus] == ["\ud800x"]
    assert corpus.n_bytes == 4


def test_the_fingerprint_is_path_size_and_sha256(tmp_path):
    write(tmp_path, a__txt="text")
    digest = hashlib.sha256(b"text").hexdigest()
    assert read_corpus([tmp_path]).fingerprint() == [(str(tmp_path / "a.txt"), 4, digest)]


GOOD = rows({"text": "good"})


LINES = "lines skipped; strict stops instead."
REPLACED = "place(s) replaced by U+FFFD; strict stops instead."
WRONG = [
    (
        *("a.jsonl", GOOD + '{"text": "x" "id": 1}\n' + GOOD, "json"),
        f"line 2 is not JSON (Expecting ',' delimiter, column 14). 1 of 3 {LINES}",
    ),
    (
        *("a.jsonl", GOOD + "[1]\n3\n", "json"),
        f"line 2 is not a JSON object but list. 2 of 3 {LINES}",
    ),
    (
        *("a.jsonl", GOOD + rows({"url": "u", "n": 1}), "field"),
        (
            "line 2 has none of text, content, body, document as a field; it has url, n. "
            f"1 of 2 {LINES}"
        ),
    ),
    (
        *("a.jsonl", GOOD + rows({"text": None}), "field"),
        f"line 2: text is not text but NoneType. 1 of 2 {LINES}",
    ),
    (
        *("a.txt", b"caf\xe9, \xef\xbf\xbd, \xff\xff", "utf8"),
        f"byte 3 is not UTF-8 (0xe9, invalid continuation byte). 3 {REPLACED}",
    ),
    (
        *("a.jsonl", GOOD.encode() + b'{"text": "\xe9"}\n', "utf8"),
        f"byte 27 is not UTF-8 (0xe9, invalid continuation byte). 1 {REPLACED}",
    ),
    (
        *("a.bin", b"\x00\xff", "binary"),
        "is not UTF-8 text (byte 1). Skipped; strict stops instead.",
    ),
]


@pytest.mark.parametrize(("name", "content", "kind", "message"), WRONG)
def test_what_is_wrong_in_a_file_is_counted_and_located(tmp_path, name, content, kind, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    write(tmp_path, good__txt="good")
    corpus = read_corpus([tmp_path])
    assert "good.txt" in ids(corpus)
    [problem] = corpus.problems
    assert (problem.path, problem.kind) == (str(tmp_path / name), kind)
    assert problem.message == f"{tmp_path / name}: {message}"
    assert corpus.problem_counts == {kind: problem.n}
    with pytest.raises(CorpusError, match="or read without strict"):
        list(read_corpus([tmp_path], strict=True))


def test_undecodable_bytes_become_replacement_characters(tmp_path):
    write(tmp_path, a__txt=b"caf\xe9!")
    assert [document.text for document in read_corpus([tmp_path])] == ["caf\ufffd!"]


def test_a_character_cut_by_the_reader_is_no_sign_of_a_binary_file(tmp_path):
    write(tmp_path, a__odd="x" + "é" * (1 << 19) + "é", b__odd=b"x" * (1 << 20) + b"\xc3")
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.odd"]
    assert corpus.problems[0].message.startswith(f"{tmp_path}/b.odd: is not UTF-8 text (byte 1,048")


def test_json_nested_or_numbered_beyond_reading_is_skipped(tmp_path):
    write(tmp_path, a__jsonl=GOOD + "[" * 200_000 + "\n" + '{"text": ' + "9" * 5000 + "}\n")
    corpus = read_corpus([tmp_path])
    assert len(list(corpus)) == 1
    assert corpus.problem_counts == {"json": 2}


def test_empty_files_are_skipped_and_counted_but_stop_nothing(tmp_path):
    write(tmp_path, a__txt="", b__jsonl="", c__txt="text", d__jsonl=GOOD + rows({"text": ""}))
    corpus = read_corpus([tmp_path], strict=True)
    assert len(list(corpus)) == 2
    assert corpus.problem_counts == {"empty": 3}
    assert corpus.problems[-1].message.endswith("line 2 has empty text. 1 of 2 lines skipped.")


def test_formats_not_read_are_reported_within_a_folder_and_refused_by_name(tmp_path):
    write(tmp_path, a__txt="text", b__zip=b"PK", c__arrow="x")
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert corpus.problem_counts == {"unsupported": 2}
    with pytest.raises(CorpusError, match=r"\.zip is not read; .*\.jsonl.* Convert it"):
        read_corpus([tmp_path / "b.zip"])


def test_a_folder_of_mixed_formats_is_read_in_one_order(tmp_path):
    write(
        tmp_path, a__jsonl=GOOD, b__csv="text\ngood\n", c__txt="good", d__tsv="id\ttext\n7\tgood\n"
    )
    assert ids(read_corpus([tmp_path])) == ["a.jsonl:1", "b.csv:2", "c.txt", "d.tsv#7"]


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_name_with_control_characters_stays_text(tmp_path):
    write(tmp_path, **{"a\x1b[31m\n__txt": "text"})
    assert ids(read_corpus([tmp_path])) == ["a\x1b[31m\n.txt"]


def test_a_link_to_nothing_is_reported(tmp_path):
    write(tmp_path, a__txt="text")
    (tmp_path / "gone").symlink_to("nowhere")
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert corpus.problem_counts == {"unreadable": 1}


def test_only_the_first_twenty_problems_are_kept_but_all_are_counted(tmp_path):
    write(tmp_path, a__txt="text", **{f"e{i}__txt": "" for i in range(30)})
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert len(corpus.problems) == 20
    assert corpus.problem_counts["empty"] == 30


def test_a_wrong_field_stops_at_once_and_lists_the_columns(tmp_path):
    write(tmp_path, a__jsonl=rows({"url": "u", "story": "s"}))
    message = r"line 1 has none .*; it has url, story\. Name the one .* --text-field"
    with pytest.raises(CorpusError, match=message):
        list(read_corpus([tmp_path]))
    with pytest.raises(CorpusError, match="no field 'tale'; it has url, story"):
        list(read_corpus([tmp_path], text_field="tale"))


def test_a_corpus_without_documents_is_an_error(tmp_path):
    write(tmp_path, a__txt="")
    message = r"has no documents: \S+a\.txt holds no text\. .*the file is empty"
    with pytest.raises(CorpusError, match=message):
        list(read_corpus([tmp_path]))
    write(tmp_path, b__txt="")
    message = r"has no documents: 2 files, the first \S+a\.txt, hold no text\. "
    with pytest.raises(CorpusError, match=message):
        list(read_corpus([tmp_path]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.txt", r"missing\.txt does not exist; .* Check the path"),
        ("*.missing", r"\*\.missing matches no file\. Check the pattern"),
        ("empty", "empty is a folder without files"),
        ("x" * 300, "cannot be looked up .*Check the path"),
    ],
)
def test_specs_that_mean_nothing_are_refused_at_once(tmp_path, spec, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=message):
        read_corpus([str(tmp_path / spec)])


def test_no_spec_at_all_is_refused():
    with pytest.raises(CorpusError, match="at least one file, folder or glob; got none"):
        read_corpus([])
