"""An audit of SmolLM2 through llama.cpp's server: killed, resumed, and compared with the weights.

    python -m benchmarks.served SmolLM2-135M-Instruct.Q4_1.gguf

needs the package xllamacpp and `auditor models add smollm2`, whose weights are those of this GGUF,
dequantised. A proxy counts the requests for samples.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np

from auditor.models.loading import load_model
from auditor.runs.run import load_run

KEY = "sk-benchmark-secret"
NAME = "smollm2-gguf"
_SERVER = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.model_alias = sys.argv[1], int(sys.argv[2]), {sys.argv[3]}
p.n_parallel, p.n_ctx, p.warmup = 4, 4096, False
p.api_keys = [sys.argv[4]]
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
while True:
    time.sleep(1)
"""


class CountingProxy:
    """Passes requests on, and counts the bodies of those for samples of n_tokens tokens."""

    def __init__(self, upstream: str, n_tokens: int):
        self.asked: Counter[str] = Counter()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                """Nothing is printed."""

            def do_GET(self):
                self.passed_on(None)

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                if json.loads(raw).get("max_tokens") == n_tokens:
                    proxy.asked[hashlib.sha256(raw).hexdigest()] += 1
                self.passed_on(raw)

            def passed_on(self, raw):
                names = ("Authorization", "Content-Type")
                headers = {n: self.headers[n] for n in names if self.headers[n]}
                request = urllib.request.Request(upstream + self.path, raw, headers)  # noqa: S310
                try:
                    with urllib.request.urlopen(request) as answer:  # noqa: S310
                        status, text = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    status, text = error.code, error.read()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    pass  # the audit was killed

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def main() -> None:
    """Run the audit, kill it, resume it, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--port", type=int, default=18233)
    given = parser.parse_args()
    command = [sys.executable, "-c", _SERVER, given.gguf, str(given.port), NAME, KEY]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        server.stdout.readline()  # its address, once the model is loaded
        with tempfile.TemporaryDirectory() as folder:
            _measure(given, Path(folder))
    finally:
        server.terminate()
        server.wait()


def _measure(given: argparse.Namespace, folder: Path) -> None:
    proxy = CountingProxy(f"http://127.0.0.1:{given.port}", given.tokens)
    (folder / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 20)
    out, answers = folder / "run", folder / "run" / "answers" / "target.jsonl"
    command = [sys.executable, "-m", "auditor", "audit", "--model", proxy.url]
    command += ["--served-model", NAME, "--tokenizer", "smollm2", "--api-key-env", "BENCH_KEY"]
    command += ["--samples", str(given.samples), "--max-new-tokens", str(given.tokens)]
    command += ["--shard-size", "64", "--strategy", "top-n", "--out", str(out)]
    command += ["--corpus", str(folder / "text.txt"), "--reference", "smollm2"]
    environment = {**os.environ, "BENCH_KEY": KEY}
    run = subprocess.Popen(command, env=environment)  # noqa: S603
    while not answers.exists() or sum(proxy.asked.values()) < given.samples // 2:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    kept = _keys(answers)
    time.sleep(5)  # what the server was at
    before = Counter(proxy.asked)
    begun = time.monotonic()
    subprocess.run(command, env=environment, check=True)  # noqa: S603
    seconds = time.monotonic() - begun
    keys = _keys(answers)
    repeated = sum(n - 1 for n in proxy.asked.values() if n > 1)
    files = [path for path in out.rglob("*") if path.is_file()]
    leaks = [path.name for path in files if KEY.encode() in path.read_bytes()]
    print(f"killed after {sum(before.values())} requests for samples; {len(kept)} answers kept")
    print(f"resumed: {sum(proxy.asked.values())} requests in all for {given.samples} samples")
    print(f"asked again: {repeated} (under way when killed: at most 4)")
    is_once = len(keys) == len(set(keys))
    print(f"answers: {len(keys)}, each once: {is_once}; kept: {keys[: len(kept)] == kept}")
    print(f"{len(files)} files in the run, with the key: {leaks or 'none'}")
    print(f"seconds of the resumed run: {seconds:.0f}")
    _compare(out)


def _keys(answers: Path) -> list[str]:
    lines = answers.read_text().splitlines()
    return [json.loads(line)["key"] for line in lines if line.endswith("}")]


def _compare(out: Path) -> None:
    """The log-probabilities that the server gave against the dequantised weights in float32."""
    samples = load_run(out).samples()
    model = load_model("smollm2", dtype="float32")
    here = model.token_stats(samples["token_ids"].tolist(), samples["prompt_token_ids"].tolist())
    given = np.concatenate(samples["logprob"].tolist())
    difference = np.abs(given - here.logprob)
    print(
        f"{len(given)} tokens, |served - local| in nats: median {np.median(difference):.4f}, "
        f"99 % {np.quantile(difference, 0.99):.3f}, largest {difference.max():.3f}; correlation "
        f"{np.corrcoef(given, here.logprob)[0, 1]:.5f}"
    )


if __name__ == "__main__":
    main()
