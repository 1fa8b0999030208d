"""Tables: one document per row, the text column, and broken rows."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.corpus import tables
from auditor.corpus.reading import read_corpus
from auditor.errors import CorpusError


def read(path, **options):
    corpus = read_corpus([path], **options)
    return [(d.doc_id, d.text) for d in corpus], corpus


def test_csv_follows_rfc_4180(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfid,text\r\nx,"a ""b"", c\r\nd"\r\n,plain\r\n\r\ny,z\r\n')
    documents, _ = read(path)
    assert documents == [("x", 'a "b", c\r\nd'), ("a.csv:4", "plain"), ("y", "z")]


def test_tsv_takes_quotes_as_they_stand(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"Open he said\t1\nnext\t0\n')
    assert [text for _, text in read(path)[0]] == ['"Open he said', "next"]


def test_a_field_of_a_megabyte_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f'text,n\n"{"x" * (1 << 20)}",1\n')
    assert len(read(path)[0][0][1]) == 1 << 20


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("b\n", "line 3 has 1 field; the first row has 2. 1 of 4 lines skipped; "),
        ("b,c,d\n", "line 3 has 3 fields; the first row has 2. 1 of 4 lines skipped; "),
        (
            "b\rc,d\n",
            "line 3 is not valid CSV (a CR in a field). 1 of 4 lines skipped; ",
        ),
        ('"b"c,d\n', "line 3 is not valid CSV (',' expected after '\"'). 1 of 4 lines"),
    ],
)
def test_a_broken_row_is_skipped_counted_and_located(tmp_path, broken, message):
    path = tmp_path / "a.csv"
    path.write_bytes(f"text,n\na,1\n{broken}z,2\n".encode())
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["a", "z"]
    [problem] = corpus.problems
    assert problem.n == 1
    assert problem.message.startswith(f"{path}: {message}")
    with pytest.raises(CorpusError, match=r"line 3 .* or read without strict"):
        read(path, strict=True)


def test_of_a_quote_that_is_never_closed_one_line_is_lost(tmp_path):
    path = tmp_path / "a.csv"
    good = [f"{n},text {n}" for n in range(200)]
    lines = ["n,text", *good[:100], '100,"open', *good[100:]]
    path.write_text("\n".join(lines) + "\n")
    documents, corpus = read(path)
    assert [text for _, text in documents] == [f"text {n}" for n in range(200)]
    # Line numbers go on as they stand in the file.
    assert [own for own, _ in documents][99:101] == ["a.csv:101", "a.csv:103"]
    [problem] = corpus.problems
    assert "line 102 is not valid CSV" in problem.message
    assert problem.message.endswith("1 of 202 lines skipped; strict stops instead.")


def test_an_open_quote_takes_no_more_lines_where_a_later_row_has_quotes(tmp_path):
    """The next quote seems to close the field; what follows it says that it does not."""
    path = tmp_path / "a.csv"
    path.write_text('n,text\n1,"open\n2,b\n3,"c\nd"\n4,e\n5,"open too\n6,"f"\n')
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["b", "c\nd", "e", "f"]
    assert corpus.problem_counts == {"csv": 2}
    assert corpus.problems[0].message.endswith("2 of 8 lines skipped; strict stops instead.")


def test_lines_that_each_open_a_quote_are_not_read_over_and_over(tmp_path):
    """Each leaves a quote open by itself, and none closes another's: a hostile file."""
    path = tmp_path / "a.csv"
    n = 3000
    path.write_text("text,n\n" + 'a","b\n' * n + "good,1\n")
    taken = []
    corpus = read_corpus([path])
    lines = tables._Lines.__next__

    def counted(self):
        taken.append(1)
        return lines(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables._Lines, "__next__", counted)
        assert [d.text for d in corpus] == ["good"]
    assert corpus.problem_counts == {"csv": n}
    assert len(taken) < 30 * n


def test_an_open_quote_holds_no_more_than_a_row_may_have(tmp_path, monkeypatch):
    """No later row has quotes at its begin: without a bound, the rest would be held in memory."""
    monkeypatch.setattr(tables, "_ROW_CHARS", 1000)
    path, held = tmp_path / "a.csv", []
    good = [f"{n},text {n}" for n in range(2000)]
    good[1000:1000] = ['x,"two\nlines"']
    path.write_text("\n".join(["n,text", *good[:50], '100,"open', *good[50:]]) + "\n")
    lines = tables._Lines.__next__

    def counted(self):
        held.append(len(self._row) + len(self._again))
        return lines(self)

    monkeypatch.setattr(tables._Lines, "__next__", counted)
    documents, corpus = read(path)
    texts = [f"text {n}" for n in range(2000)]
    assert [text for _, text in documents] == [*texts[:1000], "two\nlines", *texts[1000:]]
    [problem] = corpus.problems
    assert "line 52 is not valid CSV (a quote is open for more than 1,000" in (problem.message)
    assert problem.message.endswith("1 of 2,004 lines skipped; strict stops instead.")
    assert max(held) < 1000 / 8 + 3  # a line here has 8 characters and more


def test_rows_that_are_each_too_long_are_not_read_over_and_over(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_ROW_CHARS", 1000)
    path, taken, n = tmp_path / "a.csv", [], 3000
    path.write_text("text,n\n" + 'a","b\n' * n + "good,1\n")
    lines = tables._Lines.__next__

    def counted(self):
        taken.append(1)
        return lines(self)

    monkeypatch.setattr(tables._Lines, "__next__", counted)
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["good"]
    assert corpus.problem_counts == {"csv": n}
    assert len(taken) < 4 * n


def test_a_long_row_of_one_line_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_ROW_CHARS", 1000)
    path = tmp_path / "a.csv"
    path.write_text("text,n\n" + f'"{"x" * 3000}",1\nb,2\n')
    documents, corpus = read(path)
    assert [len(text) for _, text in documents] == [3000, 1]
    assert not corpus.problems


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_samples_keep_their_tokens_in_every_format(tmp_path, kind):
    rows = [
        {"sample_id": "x-1", "text": "hello", "prompt_token_ids": [0], "token_ids": [5, 6]},
        {"sample_id": "x-2", "text": "there", "prompt_token_ids": [], "token_ids": [7]},
    ]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if kind == "jsonl" else f"[{','.join(lines)}]")
    found = [(d.doc_id, d.text, d.tokens) for d in read_corpus([path])]
    assert found == [("x-1", "hello", ((0,), (5, 6))), ("x-2", "there", ((), (7,)))]


@pytest.mark.parametrize("ids", ["[" + "9" * 5000 + "]", "[1 " + "9" * 19 + "]", "[\u0663]"])
def test_numbers_that_are_no_token_ids_are_none(tmp_path, ids):
    path = tmp_path / "a.csv"
    path.write_text(f"text,prompt_token_ids,token_ids\nhello,[],{ids}\n")
    assert [(d.text, d.tokens) for d in read_corpus([path])] == [("hello", None)]


def test_a_row_over_several_lines_that_is_lost_counts_all_of_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"a\nb\nc"\n"","d\ne"\nf,1\n')
    documents, corpus = read(path)
    assert documents == [("a.csv:7", "f")]
    assert corpus.problem_counts == {"fields": 3, "empty": 2}
    assert "line 2 has 1 field" in corpus.problems[0].message
    assert corpus.problems[0].message.endswith("3 of 7 lines skipped; strict stops instead.")


def test_a_header_alone_is_said_to_have_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("text,n\n")
    with pytest.raises(CorpusError, match=r"has no documents: .* the file has no rows"):
        read(tmp_path / "a.csv")


def test_bytes_that_are_not_utf8_are_replaced_and_located_in_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\ncaf\xe9\n")
    documents, corpus = read(path)
    assert documents == [("a.csv:2", "caf\ufffd")]
    assert "byte 8 is not UTF-8" in corpus.problems[0].message


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table(
        {"q": ["é", "b", None, "d"], "a": ["1", "", None, "4"], "w": [["x", "y"], [], ["z"], None]}
    )
    pq.write_table(table, path, row_group_size=1)
    return path


def test_columns_are_joined_by_newlines_and_lists_by_spaces(parquet):
    documents, corpus = read(parquet, text_field="q+a+w")
    texts = {"a.parquet:1": "é\n1\nx y", "a.parquet:2": "b", "a.parquet:3": "z"}
    assert dict(documents) == {**texts, "a.parquet:4": "d\n4"}
    assert corpus.problem_counts == {}


def test_nothing_in_a_column_is_empty_text_and_stops_no_strict_reading(parquet):
    documents, corpus = read(parquet, text_field="q", strict=True)
    assert [text for _, text in documents] == ["é", "b", "d"]
    assert corpus.problem_counts == {"empty": 1}


@pytest.mark.parametrize("text_field", [None, "story", "q+story"])
def test_a_wrong_column_is_an_error_that_lists_those_there_are(parquet, tmp_path, text_field):
    table = tmp_path / "b.csv"
    table.write_text("q,a\nx,y\n")
    for path in (parquet, table):
        with pytest.raises(CorpusError, match=r"column.*; it has q, a.*--text-field"):
            read(path, text_field=text_field)


def test_the_only_column_of_text_is_the_text(tmp_path):
    table = pa.table({"n": [1, 2], "story": pa.array(["a", "b"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("story\nc\n")
    assert [d.text for d in read_corpus([tmp_path])] == ["a", "b", "c"]


KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_only_column_of_text_is_found_whatever_way_arrow_keeps_it(tmp_path, kind):
    story = pa.array(["a", None, "é" * 20]).cast(kind)
    pq.write_table(pa.table({"n": [1, 2, 3], "story": story}), tmp_path / "a.parquet")
    documents, corpus = read(tmp_path / "a.parquet")
    assert documents == [("a.parquet:1", "a"), ("a.parquet:3", "é" * 20)]
    assert corpus.problem_counts == {"empty": 1}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_are_text_where_they_are_named(tmp_path, kind):
    table = pa.table({"n": [1], "story": pa.array([b"caf\xc3\xa9"], kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text_field="story")[0] == [("a.parquet:1", "café")]


def test_text_in_views_that_is_not_utf8_is_replaced_and_located(tmp_path):
    path = tmp_path / "a.parquet"
    binary = pa.array([b"good", b"caf\xe9", b"x" * 40 + b"\xff"], pa.binary_view())
    pq.write_table(pa.table({"text": binary.view(pa.string_view())}), path)
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["good", "caf\ufffd", "x" * 40 + "\ufffd"]
    assert corpus.problem_counts == {"utf8": 2}


CHAT = [
    {
        "id": "x",
        "messages": [{"role": "user", "content": "Why?"}, {"role": "bot", "content": "Só."}],
        "translation": {"en": "one", "de": "eins"},
        "tags": ["p", "q"],
    },
    {"id": "y", "messages": [], "translation": None, "tags": None},
    {
        "id": "z",
        "messages": [{"role": "user", "content": None}, {"role": "bot", "content": "End"}],
        "translation": {"en": None, "de": "drei"},
        "tags": [],
    },
]
NESTED = [
    ("messages[].content", {"x": "Why?\nSó.", "z": "End"}),
    ("messages.content", {"x": "Why?\nSó.", "z": "End"}),
    ("messages[].role+translation.de", {"x": "user\nbot\neins", "z": "user\nbot\ndrei"}),
    ("translation.en", {"x": "one"}),
    ("tags", {"x": "p q"}),
    ("tags[]", {"x": "p\nq"}),
]
OTHER_KINDS = {
    "messages": pa.large_list(
        pa.struct({"role": pa.dictionary(pa.int32(), pa.string()), "content": pa.large_string()})
    ),
    "translation": pa.struct({"en": pa.large_string(), "de": pa.string()}),
}


@pytest.mark.parametrize(("text_field", "texts"), NESTED)
@pytest.mark.parametrize("kinds", [{}, OTHER_KINDS], ids=["plain", "other"])
def test_a_path_leads_to_nested_columns(tmp_path, text_field, texts, kinds):
    table = pa.Table.from_pylist(CHAT)
    for name, kind in kinds.items():
        values = pa.array([row[name] for row in CHAT], kind)
        table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table, tmp_path / "a.parquet")
    documents, corpus = read(tmp_path / "a.parquet", text_field=text_field)
    assert dict(documents) == texts
    assert corpus.problem_counts == {"empty": 3 - len(texts)}


def test_a_wrong_path_is_an_error_that_lists_the_nested_columns(tmp_path):
    pq.write_table(pa.Table.from_pylist(CHAT), tmp_path / "a.parquet")
    there = (
        r"; it has id, messages\[\]\.role, messages\[\]\.content, translation\.en, "
        r"translation\.de, tags\. Set --text-field"
    )
    for text_field in ("messages[].text", "translation[].en", "messages[]content", "id.x", None):
        with pytest.raises(CorpusError, match=there):
            read(tmp_path / "a.parquet", text_field=text_field)


def test_a_column_whose_name_holds_a_dot_goes_first(tmp_path):
    table = pa.table({"a.b": ["dotted"], "a": [{"b": "nested", "c": "deep"}]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("a.b\ncell\n")
    assert [d.text for d in read_corpus([tmp_path], text_field="a.b")] == ["dotted", "cell"]
    assert [t for _, t in read(tmp_path / "a.parquet", text_field="a.c")[0]] == ["deep"]


def test_nested_text_that_is_not_utf8_is_replaced_and_located(tmp_path):
    texts = pa.array([b"caf\xe9", b"so"], pa.binary()).view(pa.string())
    messages = pa.ListArray.from_arrays([0, 2], pa.StructArray.from_arrays([texts], ["content"]))
    pq.write_table(pa.table({"messages": messages}), tmp_path / "a.parquet")
    documents, corpus = read(tmp_path / "a.parquet", text_field="messages[].content")
    assert documents == [("a.parquet:1", "caf\ufffd\nso")]
    assert "row 1, messages[].content: byte 3 is not UTF-8" in corpus.problems[0].message


def test_a_column_of_numbers_is_not_text(tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="row 1: text is not text but int"):
        read(tmp_path / "a.parquet")


def test_rows_keep_their_own_id_or_their_number(tmp_path):
    pq.write_table(pa.table({"id": [7, 8], "text": ["a", "b"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == [("7", "a"), ("8", "b")]
    pq.write_table(pa.table({"id": [7], "text": ["c"]}), tmp_path / "b.parquet")
    ids = [d.doc_id for d in read_corpus([tmp_path])]
    assert ids == ["a.parquet#7", "a.parquet#8", "b.parquet#7"]


def test_packed_parquet_is_read(parquet):
    packed = parquet.with_suffix(".parquet.gz")
    packed.write_bytes(gzip.compress(parquet.read_bytes()))
    assert [t for _, t in read(packed, text_field="q")[0]] == ["é", "b", "d"]


def test_a_broken_row_group_is_skipped_and_the_others_keep_their_ids(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"text {i} " * 40 for i in range(6)]
    pq.write_table(
        pa.table({"text": texts}), path, row_group_size=2, use_dictionary=False, compression="gzip"
    )
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    raw = bytearray(path.read_bytes())
    begin = column.data_page_offset
    raw[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(raw)
    documents, corpus = read(path)
    expected = [(f"a.parquet:{i + 1}", texts[i]) for i in (0, 1, 4, 5)]
    assert documents == expected
    assert corpus.problem_counts == {"parquet": 2}
    assert "rows 3 to 4 cannot be read" in corpus.problems[0].message
    assert corpus.problems[0].message.endswith("2 of 6 rows skipped; strict stops instead.")
    with pytest.raises(CorpusError, match="rows 3 to 4"):
        read(path, strict=True)


def test_what_is_no_parquet_is_refused_by_name(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(CorpusError, match=r"is not valid Parquet \(.*\)\. Correct it"):
        read(path)


def test_text_in_parquet_that_is_not_utf8_is_replaced_and_located(tmp_path):
    path = tmp_path / "a.parquet"
    binary = pa.array([b"good", b"caf\xe9"], pa.binary())
    pq.write_table(pa.table({"text": binary.view(pa.string())}), path)
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["good", "caf\ufffd"]
    assert "row 2, text: byte 3 is not UTF-8" in corpus.problems[0].message
