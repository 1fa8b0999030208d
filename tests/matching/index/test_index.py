"""The corpus index against a slow and obvious search, and what it refuses."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.corpus.reading import read_corpus
from auditor.corpus.text_files import Document
from auditor.errors import AuditError, ConfigError, CorpusError
from auditor.matching.index import build_index, find_matches_in_index, open_index
from auditor.matching.index.format import new_plan, open_folder, write_plan
from auditor.matching.index.shard import Draft, Shard, write_shard
from auditor.matching.verbatim import Query, find_matches
from tests.indexed import documents

few = settings(max_examples=50, deadline=None)


pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def places(query, corpus):
    return [
        (d.doc_id, i)
        for d in corpus
        for i in range(len(d.text) - len(query) + 1)
        if d.text.startswith(query, i)
    ]


def held(text, corpus):
    """For each character, the longest piece from there on that stands in some document."""
    return [
        max(
            (n for n in range(len(text) - i + 1) if any(text[i : i + n] in d.text for d in corpus)),
            default=0,
        )
        for i in range(len(text))
    ]


letters = st.sampled_from(["ab", "aaaaaab", "abc", "aé", "éè漢🙂", "a\0", "漢\ud800", "a "])
a_text = letters.flatmap(lambda alphabet: st.text(alphabet, max_size=40))
repetitive = st.tuples(st.text("ab-é", min_size=1, max_size=4), st.integers(1, 15)).map(
    lambda pair: (pair[0] * pair[1])[:50]
)
any_text = st.one_of(a_text, repetitive)
shard_sizes = st.integers(1, 70)


@st.composite
def corpora(draw):
    texts = draw(st.lists(any_text, min_size=1, max_size=6))
    ids = draw(st.lists(st.sampled_from("pqré\ud801"), min_size=len(texts), max_size=len(texts)))
    return [Document(i, text, "") for i, text in zip(ids, texts, strict=True)]


@st.composite
def questions(draw):
    """A corpus and a text that is often in it, or nearly."""
    corpus = draw(corpora())
    text = draw(st.sampled_from(corpus)).text
    begin = draw(st.integers(0, len(text)))
    piece = text[begin : draw(st.integers(begin, len(text)))]
    return corpus, piece + draw(st.one_of(st.just(""), any_text))


# ------------------------------------------------------------------------------------- answers
@few
@given(questions(), shard_sizes)
def test_queries_equal_brute_force_in_shards_of_any_size(question, shard_bytes):
    corpus, text = question
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(corpus, folder, shard_bytes=shard_bytes)
        assert index.longest(text).tolist() == held(text, corpus)
        if text:
            there = places(text, corpus)
            assert index.count(text) == len(there)
            assert index.count_documents(text) == len({doc_id for doc_id, _ in there})
            assert index.find(text, limit=None) == there
            assert index.find(text, 2) == there[:2]


@few
@given(corpora(), shard_sizes, st.integers(1, 20))
def test_the_documents_come_back_as_they_were(corpus, shard_bytes, size):
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(corpus, folder, shard_bytes=shard_bytes)
        assert [(d.doc_id, d.text) for d in index] == [(d.doc_id, d.text) for d in corpus]
        raws = [b""] * len(corpus)
        for piece in index.pieces(size):
            assert piece.is_first == (raws[piece.ordinal] == b"")
            assert piece.doc_id == corpus[piece.ordinal].doc_id
            piece.raw.decode("utf-8", "surrogatepass")
            raws[piece.ordinal] += piece.raw
            whole = corpus[piece.ordinal].text.encode("utf-8", "surrogatepass")
            assert piece.is_last == (raws[piece.ordinal] == whole)
        assert index.n_documents == len(corpus)
        assert index.n_bytes == sum(map(len, raws))


@st.composite
def queries_and_corpus(draw):
    corpus = draw(corpora())
    queries = []
    for i in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from(corpus)).text
        text = draw(any_text) + source[draw(st.integers(0, len(source))) :] + draw(any_text)
        ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=30)))
        queries.append(Query(f"s{i}", text, ends))
    return [*queries, queries[0]], corpus


@few
@given(queries_and_corpus(), shard_sizes, st.integers(1, 30), st.integers(1, 30))
def test_matches_equal_those_of_a_pass_over_the_corpus(problem, shard_bytes, tokens, chars):
    queries, corpus = problem
    wanted = find_matches(queries, corpus, min_tokens=tokens, min_chars=chars)
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(corpus, folder, shard_bytes=shard_bytes)
        got = find_matches_in_index(queries, index, min_tokens=tokens, min_chars=chars)
    assert got == wanted


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    """Lines of a small vocabulary, as one file of 300 kB, and its index of a few shards."""
    folder = tmp_path_factory.mktemp("prose")
    rng = np.random.default_rng(0)
    words = np.array(["the", "quick", "brown", "fox", "über", "漢字", "jumped", "lazily", "3.14"])
    lines = [" ".join(rng.choice(words, 9)) for _ in range(6000)]
    (folder / "prose.txt").write_text("\n".join(lines), encoding="utf-8")
    index = build_index(read_corpus([folder / "prose.txt"]), folder / "index", shard_bytes=99_991)
    return folder / "prose.txt", index


def test_counts_equal_those_of_a_regular_expression(prose):
    file, index = prose
    text = file.read_text(encoding="utf-8")
    assert len(index.shards) > 2
    for query in ["the", "fox über", "漢字\n", " ", "e", "fox fox fox", "lazily 3.14 jumped", "#"]:
        at = [m.start() for m in re.finditer(f"(?={re.escape(query)})", text)]
        assert index.count(query) == len(at)
        assert index.find(query, 7) == [("prose.txt", i) for i in at[:7]]


def test_counts_equal_those_of_grep(prose):
    file, index = prose
    # None of these can overlap itself, which grep would not count twice.
    for query in ["the", "fox über", "漢字", "lazily 3.14 jumped", "nowhere"]:
        command = ["grep", "-o", "-F", "-e", query, file]
        ended = subprocess.run(
            command, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
        assert index.count(query) == ended.stdout.count(b"\n")


def test_long_queries_are_found_across_many_shards(tmp_path):
    text = "".join(np.random.default_rng(3).choice(list("abcdefgh"), 2000))
    index = build_index(documents(text, text[100:]), tmp_path / "i", shard_bytes=37)
    assert index.count(text) == 1
    assert index.find(text[100:]) == [("d0", 100), ("d1", 0)]
    assert index.count(text + "x") == 0
    assert index.longest(text[:1500] + "#").tolist() == [*range(1500, 0, -1), 0]


def test_a_longer_text_than_any_document_is_not_found(tmp_path):
    index = build_index(documents("abc", "abc"), tmp_path / "i")
    assert (index.count("abcabc"), index.count("abc"), index.find("abcd" * 999)) == (0, 2, [])


@pytest.mark.parametrize("text", ["a\0b", "\udfff", "\0", "é"])
def test_odd_characters_are_counted(text, tmp_path):
    corpus = documents(text, "x" + text + text)
    index = build_index(corpus, tmp_path / "i", shard_bytes=3)
    assert (index.count(text), index.find(text, 1)) == (3, [("d0", 0)])


def test_an_unpaired_surrogate_does_not_match_half_a_character(tmp_path):
    index = build_index(documents("🙂"), tmp_path / "i")
    assert index.count("\ud83d") == 0


def test_characters_that_share_some_bytes_are_not_the_same(tmp_path):
    # é is C3 A9, è is C3 A8, ĩ is C4 A9.
    index = build_index(documents("aéb", "b"), tmp_path / "i")
    assert index.longest("aèb").tolist() == [1, 0, 1]
    assert index.longest("aĩb").tolist() == [1, 0, 1]
    assert index.longest("éa").tolist() == [1, 1]
    for text, spans in [("aèb", [(0, 1), (2, 3)]), ("aĩb", [(0, 1), (2, 3)]), ("ĩéb", [(1, 3)])]:
        query = Query("s", text, [1, 2, 3])
        found = find_matches_in_index([query], index, min_tokens=1, min_chars=1)
        assert [(m.start, m.end) for m in found] == spans
        assert all(
            m.n_occurrences == {"a": 1, "b": 2, "éb": 1}[text[m.start : m.end]] for m in found
        )


def test_occurrences_across_cuts_of_a_document_are_found(tmp_path):
    text = "".join(np.random.default_rng(4).choice(list("abcdefghé"), 400))
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    index = build_index(read_corpus([tmp_path / "t.txt"]), tmp_path / "i", shard_bytes=16)
    assert len(index.shards) > 20
    for size in (1, 2, 5, 40):
        for i in range(len(text) - size + 1):
            query = text[i : i + size]
            assert index.find(query, None) == places(query, [Document("t.txt", text, "")])


def test_empty_documents_are_counted_and_never_match(tmp_path):
    index = build_index(documents("", "a", ""), tmp_path / "i", shard_bytes=1)
    assert (index.n_documents, index.count("a"), index.find("a")) == (3, 1, [("d1", 0)])


def test_a_text_is_not_compared_past_its_shards_end(tmp_path):
    # The suffix "a" of the first shard comes before "a\x01...", whatever follows it in the file:
    # here its own place, 7.
    index = build_index(documents("a\x01bcdefa" + "zzzz"), tmp_path / "i", shard_bytes=8)
    assert index.find("a\x01") == [("d0", 0)]


def test_documents_that_fit_are_not_cut(tmp_path):
    index = build_index(documents("abcd", "efgh", "ijkl"), tmp_path / "i", shard_bytes=7)
    assert [s.facts["is_cut"] for s in index.shards] == [False, False, False]


# ---------------------------------------------------------------------------- what cannot be done
def test_an_empty_query_is_refused(tmp_path):
    index = build_index(documents("a"), tmp_path / "i")
    for ask in (index.count, index.count_documents, index.find):
        with pytest.raises(ConfigError, match="at least one character"):
            ask("")
    assert index.longest("").tolist() == []
    with pytest.raises(ConfigError, match="limit must be 1 or more"):
        index.find("a", 0)
    with pytest.raises(AuditError, match="min_chars must be 1 or more"):
        find_matches_in_index([], index, min_chars=0)


@pytest.mark.parametrize("size", [0, -1, 2**31])
def test_shards_of_impossible_size_are_refused(size, tmp_path):
    with pytest.raises(ConfigError, match="between 1 and"):
        build_index(documents("a"), tmp_path / "i", shard_bytes=size)


def test_an_empty_corpus_leaves_nothing(tmp_path):
    with pytest.raises(CorpusError, match="no documents"):
        build_index([], tmp_path / "i")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(CorpusError, match="no documents"):
        build_index(read_corpus([tmp_path / "empty.txt"]), tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="does not exist"):
        open_index(tmp_path / "missing")
    with pytest.raises(CorpusError, match=r"no index\.json"):
        open_index(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CorpusError, match="is no index"):
        build_index(documents("a"), tmp_path)
    with pytest.raises(CorpusError, match="is no index"):
        build_index(documents("a"), tmp_path / "mine.txt")
    (tmp_path / "index.json").write_text('{"format": "else"}')
    with pytest.raises(CorpusError, match="not of an index"):
        open_index(tmp_path)


def test_an_index_of_another_version_is_refused(tmp_path):
    build_index(documents("a"), tmp_path / "i")
    plan = json.loads((tmp_path / "i/index.json").read_text())
    (tmp_path / "i/index.json").write_text(json.dumps({**plan, "version": 99}))
    for use in (open_index, lambda path: build_index(documents("a"), path)):
        with pytest.raises(CorpusError, match="version 99; this auditor reads version 1"):
            use(tmp_path / "i")


@pytest.mark.parametrize("name", ["text", "suffixes", "starts", "chars", "id_ends", "ids"])
@pytest.mark.parametrize("moved", [-8, -3, 8])
def test_a_shard_whose_sections_are_said_to_lie_elsewhere_is_refused(tmp_path, name, moved):
    """Read as positions, text leads anywhere."""
    build_index(documents("some text " * 9, "more of it"), tmp_path)
    plan = json.loads((tmp_path / "index.json").read_text())
    del plan["seal"]
    plan["shards"][0]["sections"][name][0] += moved
    write_plan(tmp_path, plan)
    with pytest.raises(CorpusError, match=f"has its {name} in another place"):
        open_index(tmp_path)


def test_the_folder_is_readable_by_its_owner_only(tmp_path):
    build_index(documents("a"), tmp_path / "i")
    assert (tmp_path / "i").stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "i").iterdir()} == {0o600}


def test_two_builds_at_once_are_refused(tmp_path):
    with open_folder(tmp_path / "i"):
        write_plan(tmp_path / "i", new_plan(9, {"files": [], "text_field": None}))
        with pytest.raises(CorpusError, match="being written by another process"):
            build_index(documents("a"), tmp_path / "i")


def test_without_the_sorter_the_remedy_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydivsufsort", None)
    with pytest.raises(CorpusError, match=r"needs pydivsufsort.*'\.\[index\]'"):
        build_index(documents("a"), tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_a_shards_suffixes_are_sorted_and_each_is_there_once(tmp_path):
    rng = np.random.default_rng(2)
    text = rng.choice(list(b"ab\xff"), 500).astype(np.uint8).tobytes()
    draft = Draft(bytearray(text))
    draft.begin("d")
    facts = write_shard(tmp_path / "s", draft)
    (tmp_path / ".s.part").rename(tmp_path / "s")
    assert hashlib.sha256((tmp_path / "s").read_bytes()).hexdigest() == facts["sha256"]
    shard = Shard(Path(tmp_path), facts)
    assert shard.places(0, 500).tolist() == sorted(range(500), key=lambda i: text[i:])
