"""The sha256 that identifies a model folder."""

from __future__ import annotations

import hashlib

from auditor.models.loading import fingerprint
from tests.tiny import save_tiny_model


def test_a_fingerprint_changes_with_any_weight(tmp_path):
    for name in ("one", "same"):
        save_tiny_model(tmp_path / name)
    one = fingerprint(tmp_path / "one")
    assert fingerprint(tmp_path / "same") == one
    path = tmp_path / "same" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert fingerprint(tmp_path / "same") != one


def test_a_fingerprint_is_of_config_and_weights_in_order_of_names(tmp_path):
    (tmp_path / "b.safetensors").write_bytes(b"two")
    (tmp_path / "a.safetensors").write_bytes(b"one")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("of no account")
    each = [hashlib.sha256(raw).digest() for raw in (b"one", b"two", b"{}")]
    assert fingerprint(tmp_path) == hashlib.sha256(b"".join(each)).hexdigest()
