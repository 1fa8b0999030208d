"""No network unless it was asked for; with --offline none at all."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from auditor.audit.pipeline import run_audit
from auditor.cli.command import VERBS, cli
from auditor.errors import CorpusError, ModelError
from auditor.models.loading import load_model
from auditor.system.offline import is_offline, offline
from tests.tiny import WORDS, command, save_tiny_model

# Of the block that is set aside for documentation: nobody's.
NOBODY = ("192.0.2.1", 9)


def send_to(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"", address)


def connect_to(address):
    with socket.socket() as one:
        one.connect_ex(address)


@pytest.mark.parametrize(
    "reach",
    [
        lambda: send_to(NOBODY),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
        lambda: connect_to(NOBODY),
    ],
)
def test_offline_refuses_every_way_out(reach):
    with offline(), pytest.raises(OSError, match="--offline blocks network access"):
        reach()


def test_loopback_connections_work_offline():
    with offline():
        send_to(("127.0.0.1", 9))
        assert socket.getaddrinfo("127.0.0.1", 80)
        one, other = socket.socketpair()
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()


def test_offline_ends_where_it_ends(monkeypatch):
    import datasets
    import huggingface_hub

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with offline():
        assert is_offline()
        assert huggingface_hub.is_offline_mode()
        assert datasets.config.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_OFFLINE"] == "1"  # for processes that are started within
        with offline():
            pass
        assert is_offline()
    assert not is_offline()
    assert not huggingface_hub.is_offline_mode()
    assert not datasets.config.HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" not in os.environ
    send_to(("127.0.0.1", 9))


def verbs(group, prefix=()):
    """Every verb's words and command, down to those that do something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from verbs(found, (*prefix, name))
        else:
            yield (*prefix, name), found


def test_every_verb_can_be_told_to_stay_offline():
    found = dict(verbs(cli))
    assert {words[0] for words in found} == set(VERBS)
    without = [w for w, c in found.items() if "--offline" not in str([p.opts for p in c.params])]
    assert without == []


def test_missing_local_models_are_reported_offline(tmp_path):
    told = command("audit", "--offline", "--model", "no-one/no-model", "--out", tmp_path / "run")
    assert (told.code, told.out) == (1, "")
    assert told.err == (
        "auditor: no-one/no-model is not a local folder, and it is not in the hub's cache "
        "(--offline blocks downloads). Leave out --offline, or give a local folder.\n"
    )
    assert not is_offline()


def test_missing_hub_datasets_are_reported_offline(tmp_path):
    from auditor.corpus.reading import read_corpus

    with offline(), pytest.raises(CorpusError, match=r"hf:no/such.*--offline"):
        list(read_corpus(["hf:no/such"]))


def test_models_are_not_added_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path))
    told = command("models", "add", "smollm2", "--offline")
    assert told.code == 1
    assert "--offline blocks downloads. Leave out --offline." in told.err


@pytest.mark.parametrize("asked", [False, True])
def test_an_audit_file_can_say_so(tmp_path, monkeypatch, asked):
    seen = []
    monkeypatch.setattr("auditor.audit.pipeline._stages", lambda *a, **k: seen.append(is_offline()))
    run_audit(model="gpt2", samples=1, offline=asked, out=str(tmp_path / "run"))
    assert seen == [asked]
    assert not is_offline()


def test_a_run_is_the_same_run_offline(tmp_path):
    from auditor.config.audit import make_config

    one, other = (make_config({"model": "gpt2", "offline": how}) for how in (True, False))
    assert one.digest == other.digest


def test_a_model_in_the_hubs_cache_is_read_offline(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--some-one--tiny"
    save_tiny_model(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    with offline():
        assert load_model("some-one/tiny").name == "some-one/tiny"
        with pytest.raises(ModelError, match="--offline blocks downloads"):
            load_model("some-one/other")


# What has no business in the network, in a process whose every call for it is noted.
_NOTING = """
import json, socket, sys

asked = []

def note(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        asked.append([event, str(args[0])])
    elif event in ("socket.connect", "socket.sendto") and args[0].family != socket.AF_UNIX:
        asked.append([event, str(args[1])])

sys.addaudithook(note)
from auditor.cli.command import run

codes = [run(words) for words in json.loads(sys.argv[1])]
print("NOTED", json.dumps({"codes": codes, "asked": asked}))
"""


def test_nothing_is_fetched_where_all_is_local(tmp_path):
    model, corpus = save_tiny_model(tmp_path / "model"), tmp_path / "corpus.jsonl"
    lines = [json.dumps({"text": f"{WORDS} {n} {WORDS}"}) for n in range(8)]
    corpus.write_text("\n".join(lines))
    small = ["--model", str(model), "--corpus", str(corpus)]
    sizes = ["--prefix-tokens", "8", "--suffix-tokens", "8"]
    verbs = [
        ["audit", *small, "--samples", "4", "--max-new-tokens", "8", "--out", "run"],
        ["extract", *small, *sizes, "--out", "extraction"],
        ["finetune", *small, "--lora", "--epochs", "1", "--out", "tuned"],
        ["score", str(corpus), "--model", "tuned", "--out", "scores.csv"],
    ]
    online = {k: v for k, v in os.environ.items() if "OFFLINE" not in k}
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _NOTING, json.dumps(verbs)],
        cwd=tmp_path,
        env={**online, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    noted = [line for line in done.stdout.splitlines() if line.startswith("NOTED ")]
    assert noted, done.stderr
    found = json.loads(noted[0].removeprefix("NOTED "))
    assert found == {"codes": [0, 0, 0, 0], "asked": []}, done.stderr
