"""The command line: verbs, exit codes, one-line errors, escaped output."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

import auditor
from auditor.cli.command import VERBS
from auditor.runs.run import load_run
from tests.tiny import WORDS, command, save_tiny_model

HEAVY = {"torch", "transformers", "pandas", "pyarrow", "pydantic", "rich", "numpy", "datasets"}
HOSTILE = set("\x1b\x07\x9b\u202e")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a reference, training text and a finished audit of them."""
    folder = tmp_path_factory.mktemp("cli")
    save_tiny_model(folder / "model")
    save_tiny_model(folder / "small", seed=1)
    (folder / "corpus.txt").write_text(WORDS)
    ended = command("audit", *asked(folder), "--corpus", folder / "corpus.txt")
    assert ended.code == 0, ended.err
    return folder


def asked(folder, out="run", model="model"):
    return [
        *("--model", folder / model, "--reference", folder / "small", "--out", folder / out),
        *("--samples", 6, "--max-new-tokens", 8, "--shard-size", 3, "--top", 3),
    ]


def python(code, *args):
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )


def is_one_sentence(ended, code=1):
    """One line for a person on stderr, nothing on stdout, no traceback."""
    lines = [line for line in ended.err.splitlines() if line]
    told = [line for line in lines if not line.startswith(("Usage:", "Try '"))]
    return (ended.code, ended.out, len(told), "Traceback" in ended.err) == (code, "", 1, False)


# ------------------------------------------------------------------------------ help, start-up
def test_help_lists_all_verbs_with_a_line_each():
    ended = command("--help")
    assert ended.code == 0
    rows = [line.split(None, 1) for line in ended.out.partition("Verbs:\n")[2].splitlines()]
    assert dict(rows) == {name: line for name, (_, line) in VERBS.items()}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    ended = command(verb, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: auditor {verb} ")


@pytest.mark.parametrize("args", [["--help"], ["--version"], []])
def test_help_loads_no_heavy_library(args):
    code = (
        "import sys; from auditor.cli.command import run; run(sys.argv[1:]);"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = python(code, *args)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "auditor" in loaded
    assert loaded & HEAVY == set()


def test_importing_auditor_loads_no_heavy_library_and_all_public_names_exist():
    done = python("import sys, auditor; print(*{n.partition('.')[0] for n in sys.modules})")
    assert set(done.stdout.split()) & HEAVY == set()
    for name in auditor.__all__:
        assert getattr(auditor, name) is not None
    assert dir(auditor) == auditor.__all__
    with pytest.raises(AttributeError, match="no attribute 'run_adit'"):
        auditor.run_adit  # noqa: B018


def test_the_version_is_printed():
    assert command("--version").out == f"auditor, version {auditor.__version__}\n"


def test_no_verb_prints_help():
    ended = command()
    assert ended.code == 2
    assert "Verbs:" in ended.err


def test_an_unknown_verb_is_answered_with_the_nearest():
    ended = command("audt")
    assert is_one_sentence(ended, code=2)
    assert "'audt'" in ended.err
    assert "Did you mean 'audit'?" in ended.err


def test_an_unknown_flag_is_answered_with_the_nearest():
    ended = command("audit", "--sampels", 3)
    assert ended.code == 2
    assert "--samples" in ended.err


# ------------------------------------------------------------------------------- troubles
@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["audit"], 2, "--model"),
        (["sample"], 2, "--model"),
        (["audit", "--model", "m", "--samples", "0"], 2, "samples must be at least 1; got 0"),
        (["audit", "--model", "m", "--samples", "9", "--top", "10"], 2, "number of samples (9)"),
        (["audit", "--model", "m", "--samples", "many"], 2, "'many' is not a valid integer"),
        (["audit", "--model", "m", "--strategy", "internet"], 2, "--prompts"),
        (["audit", "--model", "m", "--strategy", "topn"], 2, "Did you mean 'top-n'?"),
        (["audit", "--model", "m", "--word", "poem"], 2, "--strategy repeat"),
        (["audit", "nowhere.toml"], 2, "nowhere.toml: no such audit file"),
        (["audit", "--model", "./nowhere"], 1, "./nowhere: no such file or folder"),
        (["audit", "--model", "testbed:nowhere/target"], 1, "auditor testbed nowhere"),
        (["audit", "--resume", "nowhere"], 1, "nowhere is not a run folder"),
        (["score", "nowhere"], 1, "nowhere is not a run folder"),
        (["verify", "nowhere"], 1, "nowhere is not a run folder"),
        (["report", "nowhere"], 1, "nowhere is not a run folder"),
        (["runs", "nowhere"], 1, "nowhere: no such folder"),
        (["testbed", "bed", "--size", "huge"], 2, "tiny, small; got 'huge'"),
        (["testbed", "bed", "--seed", "-1"], 2, "-1 is not in the range"),
        (["demo", "bed", "--samples", "0"], 2, "0 is not in the range"),
        (["models", "add", "gpt9"], 1, "The model to add must be one of: smollm2"),
        (["models", "remove", "smollm2"], 1, "smollm2 is not installed"),
    ],
)
def test_an_error_is_one_line_and_leaves_no_files(tmp_path, monkeypatch, args, code, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "cache"))
    ended = command(*args)
    assert is_one_sentence(ended, code), ended
    assert says in ended.err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def no_sampling(*args, **kwargs):
    raise AssertionError("sampled all the same")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--corpus", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--corpus", "empty.txt"], "The corpus has no documents"),
        (["--corpus", "broken.jsonl", "--strict"], "broken.jsonl: line 2 is not JSON"),
        (["--strategy", "internet", "--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--truth", "nowhere.parquet"], "--truth nowhere.parquet: no such file"),
        (["--bos", "<nowhere>"], "'<nowhere>'"),
        (["--max-new-tokens", 64], "between 1 and 63"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
    ],
)
def test_invalid_options_are_reported_before_sampling(place, monkeypatch, flags, says):
    monkeypatch.setattr("auditor.sampling.generate.generate", no_sampling)
    monkeypatch.chdir(place)
    (place / "empty.txt").touch()
    (place / "broken.jsonl").write_text('{"text": "whole"}\n{"text": bro')
    ended = command("audit", *asked(place, out="never"), *flags)
    assert ended.code in (1, 2)
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert not (place / "never").exists()


def test_an_unreadable_file_is_a_one_line_error(monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr("auditor.testbed.testbed.build_with_progress", fail)
    ended = command("testbed", "bed")
    assert is_one_sentence(ended)
    assert "some/file: Permission denied" in ended.err


def test_an_interrupt_exits_with_130_and_says_how_to_resume(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("auditor.testbed.testbed.build_with_progress", interrupted)
    ended = command("testbed", "bed")
    assert ended.code == 130
    assert "Run the same command again" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("args", [["--help"], ["runs", "."]])
def test_a_closed_pipe_is_not_an_error(tmp_path, args):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "auditor", *args],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


# --------------------------------------------------------------------------------- whole runs
def test_an_audit_prints_its_findings_and_the_report_path(place):
    ended = command("report", place / "run")
    assert ended.code == 0
    assert ended.out.startswith("Of ")
    assert "Verbatim candidates" in ended.out
    assert ended.out.splitlines()[-1] == f"Report: {place / 'run' / 'report.html'}"
    assert load_run(place / "run").complete


@pytest.mark.parametrize("verb", ["report", "verify"])
def test_json_is_json_and_alone_on_stdout(place, verb):
    ended = command(verb, place / "run", "--json")
    told = json.loads(ended.out)
    assert told["complete"] is True
    assert told["run"] == str(place / "run")
    run = load_run(place / "run")
    assert len(told["summary"]) == (run.summary()["score"] != "random").sum()
    assert sum(told["candidates"].values()) == (~run.candidates()["is_control"]).sum()


def test_an_audit_in_stages_equals_an_audit_in_one_go(place):
    corpus = ["--corpus", place / "corpus.txt"]
    sampled = command("sample", *asked(place, out="staged"), *corpus)
    assert sampled.out == f"{place / 'staged'}\n"
    assert command("score", place / "staged").code == 0
    assert not load_run(place / "staged").complete
    assert command("audit", "--resume", place / "staged").code == 0
    one, two = (place / name / "candidates.csv" for name in ("run", "staged"))
    assert one.read_bytes() == two.read_bytes()


def test_an_interrupted_audit_resumes_to_the_same_bytes(place, monkeypatch):
    from auditor.sampling import generate

    whole, calls = generate.generate, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(generate, "generate", interrupted)
    args = ["audit", *asked(place, out="halved"), "--corpus", place / "corpus.txt"]
    assert command(*args).code == 130
    assert [p.name for p in (place / "halved" / "samples").iterdir()] == ["top-n-00000.parquet"]
    assert command("audit", "--resume", place / "halved").code == 0
    assert len(calls) == 3
    one, two = (place / name / "candidates.csv" for name in ("run", "halved"))
    assert one.read_bytes() == two.read_bytes()


def test_a_resumed_run_refuses_other_options(place):
    ended = command("audit", "--resume", place / "run", "--samples", 7, "--reference", "x")
    assert is_one_sentence(ended, code=2)
    assert "--reference, --samples" in ended.err or "--samples, --reference" in ended.err
    ended = command("audit", "audit.toml", "--resume", place / "run")
    assert ended.code == 2
    assert command("audit", "--resume", place / "run", "--device", "cpu").code == 0


def test_another_audit_into_the_same_folder_reports_the_differences(place):
    ended = command("audit", *asked(place), "--seed", 3)
    assert is_one_sentence(ended)
    assert "seed is 0 stored, 3 requested" in ended.err


def test_an_audit_file_equals_the_same_flags(place, tmp_path):
    file = tmp_path / "audit.toml"
    lines = {
        "model": str(place / "model"),
        "references": [str(place / "small")],
        "samples": 6,
        "shard_size": 3,
        "top": 3,
        "corpus": [str(place / "corpus.txt")],
        "out": str(place / "run"),
    }
    text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in lines.items())
    file.write_text(text + "[strategy.top-n]\nmax_new_tokens = 8\n")
    assert command("audit", file).code == 0  # the run that is there is this one


def test_a_run_resumed_without_its_file_keeps_the_files_gates(place, tmp_path):
    file = tmp_path / "audit.toml"
    lines = {"model": str(place / "model"), "samples": 6, "out": str(tmp_path / "run")}
    text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in lines.items())
    (tmp_path / "seen.txt").write_text("ab" * 40)
    text += f'corpus = ["{tmp_path / "seen.txt"}"]\nmin_match_chars = 1\n'
    text += "[strategy.top-n]\nmax_new_tokens = 8\n[gates]\nmax_precision = 0.0\nstrict = true\n"
    file.write_text(text)
    assert command("sample", file).code == 0
    ended = command("audit", "--resume", tmp_path / "run")
    assert "max_precision" in ended.err
    assert ended.code == 3
    assert command("audit", file).code == 3


def test_other_training_text_replaces_the_matches(place):
    assert command("sample", *asked(place, out="twice")).code == 0
    assert command("audit", "--resume", place / "twice").code == 0
    assert "No training text was given" in command("report", place / "twice").out
    ended = command("verify", place / "twice", "--corpus", place / "corpus.txt")
    assert ended.code == 0
    assert ended.out.startswith("Of ")
    assert load_run(place / "twice").config.corpus == (str(place / "corpus.txt"),)


def test_empty_training_text_does_not_delete_matches(place, tmp_path):
    assert command("audit", *asked(place, "kept"), "--corpus", place / "corpus.txt").code == 0
    before = load_run(place / "kept").candidates()
    (tmp_path / "empty.txt").touch()
    ended = command("verify", place / "kept", "--corpus", tmp_path / "empty.txt")
    assert is_one_sentence(ended)
    pd.testing.assert_frame_equal(load_run(place / "kept").candidates(), before)


def test_a_report_needs_no_training_text_again(place, tmp_path):
    text = tmp_path / "gone.txt"
    text.write_text(WORDS)
    assert command("audit", *asked(place, "alone"), "--corpus", text).code == 0
    text.unlink()
    assert command("report", place / "alone").code == 0


def test_verify_without_training_text_is_an_error(place):
    assert command("audit", *asked(place, out="bare")).code == 0
    ended = command("verify", place / "bare")
    assert is_one_sentence(ended, code=2)
    assert "--corpus PATH" in ended.err


def test_runs_are_listed_one_per_line_including_damaged_ones(place, tmp_path):
    (tmp_path / "good").symlink_to(place / "run")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    ended = command("runs", tmp_path)
    cells = [[c.strip() for c in line.split("│")] for line in ended.out.splitlines() if "│" in line]
    bad, good = ([c for c in row if c] for row in cells)
    assert bad[:2] == ["bad", "unreadable"]
    assert good[0] == "good"
    assert good[2:5] == ["complete", str(place / "model"), "top-n"]
    rows = json.loads(command("runs", tmp_path, "--json").out)
    assert [row["state"] for row in rows] == ["unreadable", "complete"]


def test_models_and_doctor_tell_what_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path))
    assert "smollm2" in command("models").out
    assert "auditor models add smollm2" in command("models").out
    told = command("doctor").out
    for word in ("auditor", "torch", "device", "bfloat16", "GGUF", "models"):
        assert f"\n{word}" in f"\n{told}"


def test_doctor_tells_the_path_that_a_model_takes_and_why(place, tmp_path):
    told = command("doctor", "--model", place / "model").out
    assert f"model         {place / 'model'}: causal, " in told
    assert "logits        fast: " in told
    assert "sampling      fast: " in told
    told = command("doctor", "--model", save_capped_model(tmp_path / "capped")).out
    assert "logits        plain: by the network itself, because its logits are more than a" in told
    ended = command("doctor", "--dtype", "float32")
    assert is_one_sentence(ended, code=2)
    assert "--dtype" in ended.err


def save_capped_model(folder):
    """A random Gemma 2 with one layer, which caps its logits."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from auditor.models.tiny_gpt2 import build_tokenizer

    config = Gemma2Config(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=1.0,
    )
    Gemma2ForCausalLM(config).save_pretrained(folder)
    build_tokenizer([WORDS] * 4, 300).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------- terminal
def test_no_control_character_of_a_name_reaches_the_terminal(place, tmp_path):
    evil = "evil\x1b[31m\u202e\x9b"
    save_tiny_model(tmp_path / evil)
    (tmp_path / f"{evil}.jsonl").write_text('{"text": "a text"}\n{broken\n')
    args = [
        *("--model", tmp_path / evil, "--out", tmp_path / f"{evil}-run"),
        *("--samples", 2, "--max-new-tokens", 4, "--corpus", tmp_path / f"{evil}.jsonl"),
    ]
    said = [
        command("sample", *args),
        command("score", tmp_path / f"{evil}-run"),
        command("audit", *args),
        command("audit", *args, "--json"),
        command("audit", *args, "--seed", "5"),
        command("runs", tmp_path),
        command("runs", tmp_path, "--json"),
        command("audit", "--model", f"./{evil}"),
        command("audit", f"{evil}.toml"),
        command(evil),
        command("audit", f"--{evil}"),
        command("models", "add", evil),
    ]
    assert [ended.code for ended in said] == [0, 0, 0, 0, 1, 0, 0, 1, 2, 2, 2, 1]
    for ended in said:
        assert HOSTILE & set(ended.out + ended.err) == set()
    assert "evil\\x1b[31m\\u202e\\x9b" in said[2].out + said[2].err
