"""The folder for caches follows the environment."""

from pathlib import Path

from auditor.system.cache_folder import cache_folder


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("AUDITOR_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("AUDITOR_CACHE")
    assert cache_folder() == Path("/x/auditor")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path("/h/.cache/auditor")
