"""Fuzz targets of training text: every kind of file a corpus may be, and saved datasets."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import shutil
from collections.abc import Callable
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from auditor.errors import AuditError
from benchmarks.fuzz_inputs import changed_json, edited
from benchmarks.fuzz_places import TEXTS, Place, Target, jsonl

_ARROW = "data-00000-of-00001.arrow"  # of a dataset that was saved in one piece


def _csv() -> bytes:
    return b'id,text\r\n1,"one ""quoted"", two"\r\n2,"line\r\nbreak"\r\n3,' + "é".encode() + b"\r\n"


def _wet() -> bytes:
    out = b""
    for i, text in enumerate(TEXTS[:3]):
        body = text.encode()
        head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:{i}>\r\n"
        head += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        out += head.encode() + body + b"\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=latin-1\r\n\r\n<p>\xe9</p>"
    head = (
        b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\n"
    )
    return out + head + f"Content-Length: {len(answer)}\r\n\r\n".encode() + answer + b"\r\n\r\n"


def _parquet() -> bytes:
    table = pa.table({"id": [1, 2], "text": ["one", "two"], "words": [["a"], ["b", "c"]]})
    return as_parquet(table)


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _zstd(raw: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(raw)


def _read_corpus(ending: str, field: str | None = None) -> Callable[[Place, bytes], None]:
    def read(place: Place, raw: bytes) -> None:
        from auditor.corpus.reading import read_corpus

        path = place.file(f"in{ending}", raw)
        with suppress(AuditError):
            list(read_corpus([path], strict=True))
        corpus = read_corpus([path], text_field=field)
        corpus.check()
        for document in corpus:
            if not isinstance(document.text, str) or not document.text:
                raise TypeError("a document without text")
        whole = corpus.n_bytes
        if sum(len(piece.raw) for piece in corpus.pieces(7)) != whole:
            raise ValueError("pieces hold other text than documents")
        corpus.fingerprint()

    return read


def corpora() -> list[Target]:
    seeds: dict[str, list[bytes]] = {
        ".txt": ["\n".join(TEXTS).encode(), b"\xef\xbb\xbfmarked", "marked".encode("utf-16")],
        ".jsonl": [jsonl(), b'{"text": "one"}\n{"body": ["a", "b"]}\n', b'\xef\xbb\xbf{"text":1}'],
        ".csv": [_csv(), b"text\n\nx\n", b'"text"\n"open\n"x"\n"more'],
        ".json": [
            b'[{"text": "one"}, {"n": ["}", {}], "text": "tw\\\\o"}]',
            b'{\n"text": "one"\n}',
        ],
        ".tsv": [b"id\ttext\n1\tone\n2\ttwo\n"],
        ".wet": [_wet()],
        ".parquet": [_parquet()],
        ".jsonl.gz": [gzip.compress(jsonl()), gzip.compress(jsonl()) * 2],
        ".csv.xz": [lzma.compress(_csv())],
        ".wet.zst": [_zstd(_wet())],
    }
    shares = {".jsonl": 4, ".csv": 4, ".wet": 4, ".txt": 2}

    def make(ending: str, some: list[bytes]) -> Target:
        return Target(
            ending.lstrip("."),
            shares.get(ending, 1),
            lambda place: edited(*some),
            _read_corpus(ending),
            lambda place: some,
        )

    return [make(ending, some) for ending, some in seeds.items()]


def _read_saved(name: str) -> Callable[[Place, bytes], None]:
    def read(place: Place, raw: bytes) -> None:
        from auditor.corpus.reading import read_corpus

        with place.spoiled(place.saved, {name: raw}) as path:
            corpus = read_corpus([path])
            list(corpus)
            corpus.fingerprint()

    return read


def _saved_json(name: str) -> Callable[[Place], st.SearchStrategy[bytes]]:
    return lambda place: changed_json(json.loads((place.saved / name).read_text(encoding="utf-8")))


def _insert(place: Place, raw: bytes) -> None:
    """Canaries into a saved dataset whose Arrow file is broken."""
    from auditor.canaries.canaries import load_canaries
    from auditor.canaries.insertion import insert_canaries

    out = place.folder / "with-canaries"
    with place.spoiled(place.saved, {_ARROW: raw}) as path:
        try:
            insert_canaries(load_canaries(place.canaries), [path], out)
        finally:
            shutil.rmtree(out, ignore_errors=True)
            for left in place.folder.glob("with-canaries*"):
                left.unlink()


def _read_streamed(place: Place, raw: bytes) -> None:
    """An Arrow file in a folder that is laid out as a hub's dataset."""
    from auditor.corpus.reading import read_corpus

    (place.folder / "hub").mkdir(exist_ok=True)
    place.file("hub/train.arrow", raw)
    list(read_corpus([f"hf:{place.folder / 'hub'}"]))


def saved() -> list[Target]:
    def arrow(place: Place) -> st.SearchStrategy[bytes]:
        return edited((place.saved / _ARROW).read_bytes())

    return [
        *(
            Target(n, 0.5, _saved_json(n), _read_saved(n))
            for n in ("state.json", "dataset_info.json")
        ),
        Target("arrow", 0.5, arrow, _read_saved(_ARROW)),
        Target("arrow-insert", 0.25, arrow, _insert),
        Target("arrow-hub", 0.1, arrow, _read_streamed),
    ]
