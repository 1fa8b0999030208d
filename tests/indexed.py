"""Helpers for tests of the corpus index."""

from auditor.corpus.text_files import Document
from auditor.matching.index.shard import write_shard


def documents(*texts):
    return [Document(f"d{i}", text, "") for i, text in enumerate(texts)]


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def two_files(folder):
    (folder / "one.txt").write_text("one fine day in the middle of the night")
    (folder / "two.txt").write_text("two dead men got up to fight")
    return [folder / "one.txt", folder / "two.txt"]


def count_shards_made(monkeypatch):
    made = []

    def counted(path, draft):
        made.append(path.name)
        return write_shard(path, draft)

    monkeypatch.setattr("auditor.matching.index.build.write_shard", counted)
    return made
