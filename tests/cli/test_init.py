"""`auditor init`: it writes an audit file that runs, and does not replace one unasked."""

import tomllib

from tests.tiny import command


def test_a_new_file_runs_once_the_model_is_filled_in(base, texts, tmp_path):
    file = tmp_path / "my audit.toml"
    ended = command("init", file, "--corpus", texts, "--samples", 4)
    assert ended.code == 0
    assert "fill in the model" in ended.out
    assert "model must be not empty" in command("audit", file).err
    text = file.read_text(encoding="utf-8").replace('model = ""', f'model = "{base}"')
    file.write_text(text.replace("#max_new_tokens = 256", "max_new_tokens = 4"), encoding="utf-8")
    first, again = tmp_path / "first", tmp_path / "again"
    assert command("audit", file, "--out", first).code == 0
    # The run keeps its settings, ready to run again.
    assert command("audit", first / "audit.toml", "--out", again).code == 0
    assert (first / "audit.toml").read_bytes() == (again / "audit.toml").read_bytes()
    candidates = [(run / "candidates.csv").read_bytes() for run in (first, again)]
    assert candidates[0] == candidates[1]
    assert candidates[0].count(b"\n") > 1


def test_options_are_written_into_the_file(tmp_path):
    file = tmp_path / "audit.toml"
    options = ("--model", "gpt2", "--reference", "small=distilgpt2", "--strategy", "internet")
    assert command("init", file, *options).code == 0
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    assert found["model"] == "gpt2"
    assert found["references"] == ["small=distilgpt2"]
    assert found["strategies"] == ["internet"]


def test_an_invalid_option_writes_nothing(tmp_path):
    file = tmp_path / "audit.toml"
    ended = command("init", file, "--strategy", "top-k")
    assert ended.code == 2
    assert "Did you mean 'top-n'?" in ended.err
    assert not file.exists()


def test_an_existing_file_is_kept_unless_overwrite_is_given(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_text("mine")
    ended = command("init", file)
    assert ended.code == 1
    assert "--overwrite" in ended.err
    assert file.read_text() == "mine"
    assert command("init", file, "--overwrite").code == 0
    assert tomllib.loads(file.read_text(encoding="utf-8"))["samples"] == 1000
