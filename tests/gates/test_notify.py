"""Notifications: contents, retries, and that a failure does not lose the run."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from auditor.config.audit import make_config
from auditor.config.gates import Notify
from auditor.errors import ConfigError
from auditor.gates.notify import call_hooks, filled
from auditor.runs.run import load_run
from auditor.system.offline import offline
from tests.histories import know, small_audit
from tests.tiny import command

SUMMARY = {"state": "finished", "run": "runs/x"}


def python(code, *args):
    return (sys.executable, "-c", code, *map(str, args))


def saves(path):
    """A command that adds its standard input to a file, a line each call."""
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    return python(code, path)


def told(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def server():
    """A webhook on this machine: `answers` are the codes that it gives, `got` what it was told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(self.server.answers.pop(0))
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def posted(server, answers, **settings):
    """Call the webhook that answers so; what was said, and the pauses."""
    server.answers, pauses = list(answers), []
    notify = Notify(webhook=f"http://127.0.0.1:{server.server_port}/secret-path", **settings)
    said = call_hooks(notify, SUMMARY, is_trouble=False, sleep=pauses.append)
    return said, pauses


def test_a_command_gets_the_summary_on_its_standard_input(tmp_path):
    notify = Notify(command=saves(tmp_path / "told"))
    assert call_hooks(notify, SUMMARY, is_trouble=False) == []
    assert told(tmp_path / "told") == [SUMMARY]


def test_a_command_is_no_shell_line(tmp_path):
    assert Notify(command="notify 'a b' $HOME;").command == ("notify", "a b", "$HOME;")


def test_a_webhook_gets_the_summary_as_json(server):
    assert posted(server, [204]) == ([], [])
    assert [json.loads(raw) for raw in server.got] == [SUMMARY]


def test_temporary_failures_are_retried_with_growing_delays(server):
    assert posted(server, [500, 429, 503, 200], attempts=5) == ([], [1, 2, 4])
    assert len(server.got) == 4


def test_after_the_last_attempt_it_is_said_without_the_secret_path(server):
    (said,), pauses = posted(server, [500, 502, 503], attempts=3)
    assert pauses == [1, 2]
    assert said == (
        "The webhook at 127.0.0.1 was not notified: HTTP status 503 (3 attempts). "
        "The run is not affected."
    )


@pytest.mark.parametrize("code", [302, 404, 410])
def test_permanent_failures_are_not_retried(server, code):
    (said,), pauses = posted(server, [code])
    assert (len(server.got), pauses) == (1, [])
    assert f"HTTP status {code} (1 attempt)" in said


def test_a_server_that_is_missing_is_a_one_line_error():
    notify = Notify(webhook="http://127.0.0.1:9/secret", attempts=2)
    (said,) = call_hooks(notify, SUMMARY, is_trouble=False, sleep=lambda s: None)
    assert said.startswith("The webhook at 127.0.0.1 was not notified: no connection (2 attempts)")
    assert "secret" not in said


def test_without_a_network_no_webhook_is_tried_twice():
    pauses = []
    with offline():
        (said,) = call_hooks(
            Notify(webhook="https://hooks.example.org/secret"),
            SUMMARY,
            is_trouble=False,
            sleep=pauses.append,
        )
    assert pauses == []
    assert "--offline blocks the network (1 attempt)" in said


def test_a_command_that_fails_is_tried_again_and_one_that_is_missing_is_not(tmp_path):
    failing = python("open(__import__('sys').argv[1], 'a').write('x'); exit(7)", tmp_path / "n")
    pauses = []
    (said,) = call_hooks(Notify(command=failing), SUMMARY, is_trouble=False, sleep=pauses.append)
    assert "exit code 7 (3 attempts)" in said
    assert ((tmp_path / "n").read_text(), pauses) == ("xxx", [1, 2])
    missing = Notify(command=("no-such-command",))
    (said,) = call_hooks(missing, SUMMARY, is_trouble=False, sleep=pauses.append)
    assert "cannot be started" in said
    assert "(1 attempt)" in said


def test_only_failures_are_sent_if_so_configured(tmp_path):
    notify = Notify(command=saves(tmp_path / "told"), when="trouble")
    assert call_hooks(notify, SUMMARY, is_trouble=False) == []
    assert not (tmp_path / "told").exists()
    call_hooks(notify, SUMMARY, is_trouble=True)
    assert told(tmp_path / "told") == [SUMMARY]


HOSTILE = (
    "$(touch owned)",
    "`touch owned`",
    "'; touch owned; '",
    '" && touch owned "',
    "a b\tc\nd",
    "{run} {report} {text}",
    "--option",
    "%s \\1 \\g<0> *",
    "é–\u202e\x1b[31m",
    "",
)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("shape", ["{text}", "a {text} b", "{text}{text}"])
def test_a_placeholder_is_replaced_within_one_argument(tmp_path, monkeypatch, value, shape):
    monkeypatch.chdir(tmp_path)
    code = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))"
    notify = Notify(command=python(code, tmp_path / "got", shape, "{unknown}", "{status}"))
    summary = {"text": value, "state": "gate failed", "run": "RUN"}
    assert call_hooks(notify, summary, is_trouble=False) == []
    expected = shape.replace("{text}", "\0").replace("\0", value)
    assert json.loads((tmp_path / "got").read_text()) == [expected, "{unknown}", "gate failed"]
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", HOSTILE)
def test_a_shell_gets_a_value_as_a_parameter(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    notify = Notify(command=("sh", "-c", 'printf %s "$1" > got', "sh", "{text}"))
    assert call_hooks(notify, {"text": value}, is_trouble=False) == []
    assert (tmp_path / "got").read_bytes() == value.encode()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("shell", ["sh", "/bin/bash"])
@pytest.mark.parametrize("option", ["-c", "-ec"])
def test_a_placeholder_in_the_script_of_a_shell_is_refused(shell, option):
    with pytest.raises(ConfigError, match=r"would run the value as code.*\$1"):
        make_config({"model": "m", "notify": {"command": [shell, option, "echo {text}"]}})


def test_the_program_itself_is_no_placeholder():
    assert filled(("{run}", "{run}"), {"run": "r"}) == ("{run}", "r")


# ------------------------------------------------------------------------ of whole audits
def notifying(command):
    return f"[notify]\ncommand = {json.dumps(list(command))}\nattempts = 1\n"


def test_a_finished_run_tells_counts_once_and_no_text(tmp_path):
    file = small_audit(tmp_path, gates=notifying(saves(tmp_path / "told")))
    assert command("audit", file, "--out", tmp_path / "first").code == 0
    texts = load_run(tmp_path / "first").samples(["text"])["text"].tolist()
    know(tmp_path, texts[:4])
    gates = "[gates]\nmax_verified = 0\n\n"
    small_audit(tmp_path, gates=gates + notifying(saves(tmp_path / "told")))
    for _ in range(2):  # asked for again, it is the same outcome and told once
        assert command("audit", file).code == 3
    first, second = told(tmp_path / "told")
    assert (first["state"], second["state"]) == ("finished", "gate failed")
    assert second["candidates"]["verbatim"] >= 4
    assert second["gates"][0]["gate"] == "max_verified"
    assert second["run"] == str(tmp_path / "runs" / "audit")
    raw = (tmp_path / "told").read_text()
    assert all(line.startswith('{"text": "The audit of ') for line in raw.splitlines())
    n = second["gates"][0]["value"]
    assert f": {n:,.0f} of " in second["text"]
    assert "Gate max_verified failed" in second["text"]
    assert second["text"].endswith(f"Report: {second['report']}")
    assert ": 0 of " in first["text"]
    for text in texts[:4]:
        assert json.dumps(text)[1:-1][:20] not in raw
    assert "texts.txt" not in raw  # nor the names of documents


def test_a_failed_run_tells_its_kind_of_trouble(tmp_path):
    file = small_audit(tmp_path, gates=notifying(saves(tmp_path / "told")))
    (tmp_path / "texts.txt").unlink()
    ended = command("audit", file)
    assert ended.code == 1
    (summary,) = told(tmp_path / "told")
    assert (summary["state"], summary["error"]) == ("failed", "CorpusError")
    assert next(iter(summary)) == "text"
    assert "failed with exit code 1" in summary["text"]
    assert summary["run"] == str(tmp_path / "runs" / "audit")
    assert str(tmp_path / "texts.txt") not in json.dumps(summary)


def test_a_failing_hook_does_not_lose_the_run(tmp_path):
    file = small_audit(tmp_path, gates=notifying(python("exit(9)")))
    ended = command("audit", file)
    assert ended.code == 0
    assert "exit code 9 (1 attempt). The run is not affected." in ended.err
    run = load_run(tmp_path / "runs" / "audit")
    assert run.complete
    assert "exit code 9" in run.manifest.judged.hooks[0]
    # One that failed is not taken for told: asked again, it is tried again.
    small_audit(tmp_path, gates=notifying(saves(tmp_path / "told")))
    assert command("audit", file).code == 0
    assert len(told(tmp_path / "told")) == 1
