"""Reading corpora: files, order, ids and reported problems."""

import codecs
import gzip
import hashlib
import json
import os
import re

import pytest

from auditor.corpus import text_files
from auditor.corpus.reading import Document, read_corpus
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


def test_linked_folders_are_read_and_loops_are_cut(tmp_path):
    for name in ("corpus/a", "elsewhere/deep", "corpus/z"):
        (tmp_path / name).mkdir(parents=True)
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    write(corpus / "a", x__txt="x")
    write(corpus / "z", y__txt="y")
    write(elsewhere, b__txt="b")
    write(elsewhere / "deep", c__txt="c")
    (corpus / "linked").symlink_to("../elsewhere")
    # A second link to the same, links to a folder that is read anyway, links up and around.
    (corpus / "second").symlink_to("linked")
    (corpus / "again").symlink_to("z")
    (corpus / "a" / "up").symlink_to(tmp_path)
    (elsewhere / "deep" / "back").symlink_to(elsewhere)
    (elsewhere / "deep" / "over").symlink_to(corpus)
    read = read_corpus([corpus], strict=True)
    assert ids(read) == ["a/x.txt", "linked/b.txt", "linked/deep/c.txt", "z/y.txt"]
    [problem] = read.problems
    assert (problem.kind, problem.n) == ("left-out", 5)
    assert problem.message == (
        f"{corpus}: {corpus}/again is a link to {corpus}/z, which is read under another name. "
        "5 left out."
    )


def test_a_link_to_a_file_that_is_read_is_said_to_be_left_out(tmp_path):
    write(tmp_path, a__txt="text")
    (tmp_path / "link").symlink_to("a.txt")
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert corpus.problem_counts == {"left-out": 1}
    assert "link is the same file as" in corpus.problems[0].message


def test_folders_that_a_glob_finds_without_their_files_are_said_to_be_left_out(tmp_path):
    for name in ("x", "y", "empty"):
        (tmp_path / name).mkdir()
    write(tmp_path, a__txt="a")
    write(tmp_path / "x", d__txt="d")
    write(tmp_path / "y", e__txt="e")
    corpus = read_corpus([str(tmp_path / "*")])
    assert ids(corpus) == ["a.txt"]
    [problem] = corpus.problems
    assert problem.message.startswith(f"{tmp_path}/*: {tmp_path}/x is a folder, whose ")
    assert problem.message.endswith(" 2 left out.")
    whole = read_corpus([str(tmp_path / "**" / "*")])
    assert ids(whole) == ["a.txt", "x/d.txt", "y/e.txt"]
    assert whole.problem_counts == {}


def test_a_folder_that_cannot_be_entered_is_reported(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    write(tmp_path, a__txt="a")
    scan = os.scandir

    def denied(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert corpus.problems[0].message == (
        f"{tmp_path}/closed: the folder cannot be entered (Permission denied). "
        "Skipped; strict stops instead."
    )
    with pytest.raises(CorpusError, match="cannot be entered"):
        list(read_corpus([tmp_path], strict=True))
    with pytest.raises(CorpusError, match="cannot be entered"):
        read_corpus([tmp_path / "closed"])


WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
TEXT = "Žluť 🐎\r\nzwei\n"


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_says_how_text_is_decoded(tmp_path, encoding, packed):
    def write_as(name, text):
        raw = ("\ufeff" + text).encode(encoding)
        path = tmp_path / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(raw) if packed else raw)

    write_as("a.txt", TEXT)
    write_as("b.jsonl", rows({"text": TEXT}, {"text": "two"}))
    write_as("c.csv", f'text\r\n"{TEXT}"\r\ntwo\r\n')
    write_as("d.tsv", "n\ttext\n1\ttwo\n")
    write_as("e.json", json.dumps([{"text": TEXT}, {"text": "two"}], ensure_ascii=False, indent=1))
    write_as("f.odd", TEXT)
    corpus = read_corpus([tmp_path], strict=True)
    expected = [TEXT, TEXT, "two", TEXT, "two", "two", TEXT, "two", TEXT]
    assert [d.text for d in corpus] == expected
    assert corpus.problem_counts == {}
    pieces = [piece.raw for piece in corpus.pieces(5)]
    assert b"".join(pieces).decode() == "".join(expected)


def test_long_text_of_two_bytes_a_character_is_decoded_across_reads(tmp_path):
    text = "x" + "é🐎" * 100_000
    write(tmp_path, a__txt=text.encode("utf-16"))
    assert [d.text for d in read_corpus([tmp_path])] == [text]


def test_what_is_no_utf16_is_replaced_and_located(tmp_path):
    lone = b"\x00\xd8"
    write(
        tmp_path, a__txt=codecs.BOM_UTF16_LE + "a\ufffd".encode("utf-16-le") + lone + b"b\0" + b"c"
    )
    corpus = read_corpus([tmp_path])
    assert [d.text for d in corpus] == ["a\ufffd\ufffdb\ufffd"]
    assert corpus.problem_counts == {"utf16": 2}
    assert "byte 6 is not UTF-16-LE" in corpus.problems[0].message
    with pytest.raises(CorpusError, match="without strict"):
        list(read_corpus([tmp_path], strict=True))


def test_a_picture_that_begins_like_utf16_is_not_text(tmp_path):
    write(tmp_path, a__txt="text", b__odd=codecs.BOM_UTF16_LE + b"\x00\xd8" * 9)
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert corpus.problem_counts == {"binary": 1}


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json", "a.odd"])
def test_utf16_without_a_mark_is_refused_by_name_and_reported_in_a_folder(tmp_path, name, encoding):
    """As UTF-8 it is valid text whose letters lie apart, and nothing in it can be found."""
    (tmp_path / name).write_bytes("text\nAnna kept geese\n".encode(encoding))
    with pytest.raises(
        CorpusError, match=r"the file is UTF-16 without a byte order mark.*Save it as UTF-8"
    ):
        list(read_corpus([tmp_path / name]))
    write(tmp_path, b__txt="text with \0 one NUL")
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["b.txt"]
    assert corpus.problem_counts == {"utf16-unmarked": 1}


# ------------------------------------------------------------------------------- JSON
def test_two_objects_in_the_first_line_are_both_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"text":"a"}{"text":"b"} {"text":"c"}\n{"text":"d"}')
    corpus = read_corpus([path])
    assert [(d.doc_id, d.text) for d in corpus] == [
        (f"a.json:{n}", t) for n, t in enumerate("abcd", 1)
    ]
    assert not corpus.problems
    # What is no second object stays a line that is not JSON.
    path.write_text('{"text":"a"} and more\n{"text":"b"}\n')
    corpus = read_corpus([path])
    assert [d.text for d in corpus] == ["b"]
    assert corpus.problem_counts == {"json": 1}


@pytest.mark.parametrize("name", ["c4.json.gz", "c4.json"])
def test_json_lines_are_read_whatever_their_ending(tmp_path, name):
    raw = rows({"text": "one", "url": "u"}, {"text": "two"}).encode() + b"broken\n"
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    for spec in (tmp_path, tmp_path / name, str(tmp_path / "c4*")):
        corpus = read_corpus([spec])
        assert [(d.doc_id, d.text) for d in corpus] == [(f"{name}:1", "one"), (f"{name}:2", "two")]
        assert corpus.problems[0].message.endswith("1 of 3 lines skipped; strict stops instead.")


OBJECTS = [
    {"id": "x", "text": 'a "quoted\\" [{text}, é'},
    {"text": "", "n": [1, [2, {"k": "}]"}]]},
    {"text": "three"},
]


@pytest.mark.parametrize("form", [{}, {"indent": 2}, {"separators": (",", ":")}])
@pytest.mark.parametrize("part", [8, 13, 1 << 20])
def test_an_array_of_objects_is_read_one_by_one(tmp_path, monkeypatch, form, part):
    monkeypatch.setattr(text_files, "_PART_BYTES", part)
    write(tmp_path, a__json="\ufeff \n" + json.dumps(OBJECTS, ensure_ascii=False, **form) + "\n")
    corpus = read_corpus([tmp_path / "a.json"])
    documents = [(d.doc_id, d.text) for d in corpus]
    assert documents == [("x", OBJECTS[0]["text"]), ("a.json:3", "three")]
    assert corpus.problem_counts == {"empty": 1}
    assert corpus.problems[0].message.endswith("object 2 has empty text. 1 of 3 objects skipped.")


def test_an_object_over_several_lines_is_one_document(tmp_path):
    objects = [json.dumps(one, indent=1) for one in OBJECTS]
    write(tmp_path, a__json=objects[0], b__json="\n".join(objects))
    texts = [OBJECTS[0]["text"], OBJECTS[0]["text"], "three"]
    assert [d.text for d in read_corpus([tmp_path])] == texts


@pytest.mark.parametrize(
    ("content", "texts", "message"),
    [
        (
            '[{"text": "a"}, {"text": }, 3, {"text": "b"}]',
            "ab",
            "object 2 is not JSON (Expecting value, column 11). 2 of 4 objects skipped; strict",
        ),
        (
            '[{"text": "a"}, {"text": "b',
            "a",
            "object 2 is never closed. The objects before it are read",
        ),
        ('[{"text": "a"}] [1]', "a", "there is more text after the array. The array is read"),
        ("[]", "", "the file has no objects"),
    ],
)
def test_what_is_wrong_in_an_array_is_counted_and_located(tmp_path, content, texts, message):
    write(tmp_path, a__json=content, z__txt="z")
    corpus = read_corpus([tmp_path])
    assert [d.text for d in corpus] == [*texts, "z"]
    assert corpus.problems[0].message.startswith(f"{tmp_path}/a.json: {message}")


def test_json_that_holds_no_text_is_reported_in_a_folder_and_an_error_by_name(tmp_path):
    write(
        tmp_path, a__txt="a", package__json='{\n "name": "x",\n "bin": {"y": "z"}\n}', n__json="3\n"
    )
    corpus = read_corpus([tmp_path])
    assert ids(corpus) == ["a.txt"]
    assert corpus.problem_counts == {"json": 1, "field": 1}
    assert "it has name, bin.y. The file is skipped" in corpus.problems[1].message
    with pytest.raises(CorpusError, match=r"it has name, bin\.y\. Set --text-field to the one"):
        list(read_corpus([tmp_path / "package.json"]))


# ------------------------------------------------------------------------------- nested fields
CHAT = {
    "messages": [{"role": "user", "content": "Why?"}, {"role": "bot"}, {"content": "So."}],
    "translation": {"en": "one", "de": "eins"},
    "a.b": "dotted",
    "a": {"b": "nested", "c.d": "deep"},
    "turns": [["p", "q"], ["r"]],
}


@pytest.mark.parametrize(
    ("text_field", "text"),
    [
        ("messages[].content", "Why?\nSo."),
        ("messages.content", "Why?\nSo."),
        ("translation.en", "one"),
        ("translation.de+translation.en", "eins\none"),
        ("a.b", "dotted"),
        ("a.c.d", "deep"),
        ("turns[]", "p q\nr"),
        ("turns[][]", "p\nq\nr"),
    ],
)
def test_a_path_leads_to_nested_fields(tmp_path, text_field, text):
    write(tmp_path, a__jsonl=rows(CHAT))
    assert [d.text for d in read_corpus([tmp_path], text_field=text_field)] == [text]


@pytest.mark.parametrize(
    "text_field",
    [None, "messages[].text", "messages[]content", "messages.", ".messages", "translation[].en"],
)
def test_a_wrong_path_is_an_error_that_lists_the_nested_fields(tmp_path, text_field):
    write(tmp_path, a__jsonl=rows(CHAT))
    there = "it has messages[].role, messages[].content, translation.en, translation.de, a.b, "
    with pytest.raises(CorpusError, match=re.escape(there)):
        list(read_corpus([tmp_path], text_field=text_field))


def test_rows_without_what_a_path_leads_to_are_counted(tmp_path):
    write(
        tmp_path,
        a__jsonl=rows(CHAT, {"messages": []}, {"messages": None}, {"messages": "x"}, {"url": "u"}),
    )
    corpus = read_corpus([tmp_path], text_field="messages[].content")
    assert [d.text for d in corpus] == ["Why?\nSo."]
    assert corpus.problem_counts == {"empty": 2, "field": 2}


def test_a_field_that_holds_others_is_not_text_and_names_them(tmp_path):
    write(tmp_path, a__jsonl=rows({"messages": CHAT["messages"]}))
    there = r"messages is not text but list; it has messages\[\]\.role, messages\[\]\.content\. "
    with pytest.raises(CorpusError, match=there):
        list(read_corpus([tmp_path], text_field="messages"))


def test_an_error_lists_no_more_names_than_one_can_read(tmp_path):
    write(tmp_path, a__jsonl=rows({f"f{i}": i for i in range(100)}))
    with pytest.raises(CorpusError, match="f39 and 60 more"):
        list(read_corpus([tmp_path]))


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
NOT_UTF8 = "the file is not text: byte 1 is not UTF-8 (0xff, invalid start byte)"
REPLACED = "replaced by U+FFFD; strict stops instead."
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
            "line 2 has no text field (text, content, body, document); it has url, n. "
            f"1 of 2 {LINES}"
        ),
    ),
    (
        *("a.jsonl", GOOD + rows({"text": None}), "field"),
        f"line 2: text is not text but NoneType. 1 of 2 {LINES}",
    ),
    (
        *("a.txt", b"caf\xe9, \xef\xbf\xbd, \xff\xff", "utf8"),
        f"byte 3 is not UTF-8 (0xe9, invalid continuation byte). 3 places {REPLACED}",
    ),
    (
        *("a.jsonl", GOOD.encode() + b'{"text": "\xe9"}\n', "utf8"),
        f"byte 27 is not UTF-8 (0xe9, invalid continuation byte). 1 place {REPLACED}",
    ),
    (
        *("a.bin", b"\x00\xff", "binary"),
        f"{NOT_UTF8}. Skipped; strict stops instead.",
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
    assert corpus.problems[0].message.startswith(
        f"{tmp_path}/b.odd: the file is not text: byte 1,048"
    )


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
    with pytest.raises(
        CorpusError, match=r"\.zip is not supported; .*\.jsonl.*\.zst or \.xz\. Unpack it"
    ):
        read_corpus([tmp_path / "b.zip"])
    with pytest.raises(CorpusError, match=r"\.arrow is not supported; .* Convert it to JSONL"):
        read_corpus([tmp_path / "c.arrow"])


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
    message = r"line 1 has no text .*; it has url, story\. Set --text-field to the one"
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
        ("x" * 300, "cannot be found .*Check the path"),
    ],
)
def test_specs_that_mean_nothing_are_refused_at_once(tmp_path, spec, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=message):
        read_corpus([str(tmp_path / spec)])


def test_no_spec_at_all_is_refused():
    with pytest.raises(CorpusError, match="at least one file, folder or glob; got none"):
        read_corpus([])
