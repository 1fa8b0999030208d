"""Tables: a document a row, the column that holds the text, and rows that are broken."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.corpora.reading import read_corpus
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
        ("b\n", "line 3 has 1 field(s) where the first row has 2. 1 of 4 lines skipped; "),
        ("b,c,d\n", "line 3 has 3 field(s) where the first row has 2. 1 of 4 lines skipped; "),
        (
            "b\rc,d\n",
            "line 3 is not CSV that can be read (a CR in a field). 1 of 4 lines skipped; ",
        ),
        ('"b"c,d\n', "line 3 is not CSV that can be read (',' expected after '\"'). 1 of 4 lines"),
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


def test_a_quote_that_is_never_closed_is_no_document(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('n,text\n1,a\n2,"open\n3,b\n')
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["a"]
    assert "line 3 is not CSV" in corpus.problems[0].message


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


def test_a_column_of_numbers_is_no_text(tmp_path):
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
    with pytest.raises(CorpusError, match="rows 3 to 4"):
        read(path, strict=True)


def test_what_is_no_parquet_is_refused_by_name(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(CorpusError, match=r"is not Parquet that can be read \(.*\)\. Mend it"):
        read(path)


def test_text_in_parquet_that_is_not_utf8_is_replaced_and_located(tmp_path):
    path = tmp_path / "a.parquet"
    binary = pa.array([b"good", b"caf\xe9"], pa.binary())
    pq.write_table(pa.table({"text": binary.view(pa.string())}), path)
    documents, corpus = read(path)
    assert [text for _, text in documents] == ["good", "caf\ufffd"]
    assert "row 2, text: byte 3 is not UTF-8" in corpus.problems[0].message
