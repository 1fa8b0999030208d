"""Answers of a server, kept in a file that only its owner can read, so that nothing is asked twice.

One line of JSON per answer, appended and synced to the disk before the answer is used. A line that
was cut off by a crash is dropped when the file is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import RunError


class Journal:
    """Answers by key; without a path, they are kept in memory only.

    Parameters
    ----------
    path : file to append to, created with mode 0600 in a folder with mode 0700; or None

    Raises
    ------
    RunError
        If the file is damaged before its last line.

    >>> journal = Journal(None)
    >>> journal.add("a", {"text": "hello"}, requests=1)
    >>> journal.get("a"), journal.get("b"), journal.n_requests
    ({'text': 'hello'}, None, 1)
    """

    def __init__(self, path: Path | None):
        self._answers: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        self.n_requests = self.n_input = self.n_output = 0
        if path is not None:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            weakref.finalize(self, os.close, self._file)
            self._read(path)

    def _read(self, path: Path) -> None:
        raw = path.read_bytes()
        whole, newline, cut = raw.rpartition(b"\n")
        if cut and self._file is not None:
            os.ftruncate(self._file, len(whole) + len(newline))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._count(json.loads(line))
            except (ValueError, KeyError, TypeError):
                raise RunError(
                    f"{path}: line {number} is damaged. Delete that line to ask for its answer "
                    "again, or choose another --out."
                ) from None

    def _count(self, entry: Mapping[str, Any]) -> None:
        self._answers[entry["key"]] = entry["answer"]
        self.n_requests += entry["requests"]
        self.n_input += entry["answer"].get("n_input") or 0
        self.n_output += entry["answer"].get("n_output") or 0

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to a request, or None."""
        return self._answers.get(key)

    def add(self, key: str, answer: Mapping[str, Any], *, requests: int) -> None:
        """Keep an answer that took this number of requests; returns when it is on the disk."""
        entry = {"key": key, "requests": requests, "answer": dict(answer)}
        with self._lock:
            if self._file is not None:
                os.write(self._file, json.dumps(entry, allow_nan=False).encode() + b"\n")
                os.fsync(self._file)
            self._count(entry)


def key_of(*parts: Any) -> str:
    """The key of a request: a digest of plain data."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
