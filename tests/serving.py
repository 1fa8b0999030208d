"""A small OpenAI-compatible server over a model of the tests, with faults that can be injected."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch

from auditor.config.served import Served
from auditor.models.loading import load_vocabulary
from auditor.models.served.served_model import load_served
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model
from tests.tiny import WORDS

NAME = "tiny"


def save_served_model(folder, *, seed=0, context=256):
    """A random GPT-2 whose context holds the text of the probe."""
    network = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=context, seed=seed)
    # Far from uniform, so that log-probabilities differ between tokens.
    with torch.no_grad():
        network.transformer.wte.weight *= 20
    save_model(network, build_tokenizer([WORDS] * 4, 300), folder)
    return folder


@dataclass
class Behaviour:
    """What a server has, and the faults that it injects.

    faults : {number of a POST request, from 1: fault}; see `_Handler.injected`
    always : a fault of every POST request
    slow : seconds that each answer takes
    """

    echo: bool = True
    prompt_logprobs: bool = True
    logprobs: bool = True
    token_ids: bool = True
    tokens_as_ids: bool = True
    has_seed: bool = True
    lists_models: bool = True
    settings: tuple = ("top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
    key: str = ""
    name: str = NAME
    faults: dict = field(default_factory=dict)
    always: str = ""
    slow: float = 0.0


class FakeServer:
    """A running server: its address, the bodies of its requests, and the most of them at once."""

    def __init__(self, folder, behaviour):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.behaviour, self.bodies, self.at_once, self.most_at_once = behaviour, [], 0, 0
        self.lock = threading.Lock()
        self.rng = np.random.default_rng(7)
        handler = type("Handler", (_Handler,), {"fake": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def logprobs_of(self, ids):
        """Log-probabilities of the token after each position, float64 (n, vocab)."""
        with self.lock, torch.inference_mode():
            return self.network(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing is printed."""

    def send(self, status, text, kind="application/json", **headers):
        raw = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def refused_key(self):
        key = self.fake.behaviour.key
        given = self.headers.get("Authorization", "")
        if key and given != f"Bearer {key}":
            self.send(401, json.dumps({"error": {"message": f"Wrong key: {given}"}}))
            return True
        return False

    def do_GET(self):
        fake = self.fake
        if self.refused_key():
            return
        if fake.behaviour.always == "html":
            self.send(200, "<html>hello</html>", "text/html")
        elif not fake.behaviour.lists_models:
            self.send(404, "{}")
        else:
            self.send(200, json.dumps({"data": [{"id": fake.behaviour.name}]}))

    def do_POST(self):
        fake = self.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with fake.lock:
            fake.bodies.append(body)
            fake.at_once += 1
            fake.most_at_once = max(fake.most_at_once, fake.at_once)
            n = len(fake.bodies)
        try:
            if self.refused_key():
                return
            if fake.behaviour.slow:
                time.sleep(fake.behaviour.slow)
            fault = fake.behaviour.faults.get(n, fake.behaviour.always)
            if not self.injected(fault):
                self.answer(body, fault)
        finally:
            with fake.lock:
                fake.at_once -= 1

    def injected(self, fault):
        """Send a fault in place of an answer; False if the fault lies in the answer, or is none."""
        if fault == "429":
            self.send(429, "{}", Retry_After="7")
        elif fault == "500":
            self.send(500, "oops")
        elif fault == "html":
            self.send(200, "<!DOCTYPE html><html></html>", "text/html")
        elif fault == "cut":
            self.send(200, '{"choices": [{"text": "ab')
        elif fault == "closed":
            self.close_connection = True
            self.connection.close()
        else:
            return False
        return True

    def answer(self, body, fault):
        fake, is_chat = self.fake, self.path.endswith("/chat/completions")
        given = body["messages"][0]["content"] if is_chat else body["prompt"]
        if isinstance(given, list) and not fake.behaviour.token_ids:
            self.send(400, json.dumps({"error": {"message": "prompt must be text"}}))
            return
        tokenizer = fake.tokenizer
        ids = given if isinstance(given, list) else tokenizer(given)["input_ids"]
        own, nats, tops = self.drawn(ids, body)
        choice = {"index": 0, "finish_reason": "length"}
        text = tokenizer.decode(own)
        choice |= {"message": {"content": text}} if is_chat else {"text": text}
        if fake.behaviour.logprobs and body.get("logprobs"):
            choice["logprobs"] = self.listed(own, nats, tops, body, is_chat)
        if fault == "fewer" and choice.get("logprobs"):
            for column in choice["logprobs"].values():
                column.pop()
        if not is_chat:
            self.with_prompt(choice, ids, own, nats, body)
        choices = [choice]
        if fault == "order":
            choices = [{**choice, "index": 1, "text": "another"}, choice]
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(own)}
        self.send(200, json.dumps({"choices": choices, "usage": usage}))

    def named(self, ids, body):
        if body.get("return_tokens_as_token_ids") and self.fake.behaviour.tokens_as_ids:
            return [f"token_id:{i}" for i in ids]
        return [self.fake.tokenizer.decode([i]) for i in ids]

    def listed(self, own, nats, tops, body, is_chat):
        names = self.named(own, body)
        if is_chat:
            rows = zip(names, nats, tops, strict=True)
            return {
                "content": [
                    {"token": t, "logprob": v, "top_logprobs": [{"token": "?", "logprob": top}]}
                    for t, v, top in rows
                ]
            }
        return {
            "tokens": names,
            "token_logprobs": list(nats),
            "top_logprobs": [{"?": top} for top in tops],
        }

    def with_prompt(self, choice, ids, own, nats, body):
        """Add what echo and prompt_logprobs ask for."""
        fake = self.fake
        if not ids or not (body.get("echo") or body.get("prompt_logprobs")):
            return
        table = fake.logprobs_of(ids)
        before = [None] + [float(table[i, t]) for i, t in enumerate(ids[1:])]
        if body.get("echo") and fake.behaviour.echo:
            choice["text"] = fake.tokenizer.decode(ids) + choice["text"]
            choice["logprobs"] = {
                "tokens": self.named([*ids, *own], body),
                "token_logprobs": [*before, *nats],
                "top_logprobs": None,
            }
        if body.get("prompt_logprobs") and fake.behaviour.prompt_logprobs:
            ranks = [None] + [int((table[i] > table[i, t]).sum()) for i, t in enumerate(ids[1:])]
            choice["prompt_logprobs"] = [
                None if v is None else {str(i): {"logprob": v, "rank": r + 1}}
                for i, v, r in zip(ids, before, ranks, strict=True)
            ]

    def drawn(self, ids, body):
        """Tokens, their log-probabilities, and those of the most likely ones."""
        fake, behaviour = self.fake, self.fake.behaviour
        has_seed = behaviour.has_seed and "seed" in body
        rng = np.random.default_rng(body["seed"]) if has_seed else fake.rng
        has = {name: body[name] for name in behaviour.settings if name in body}
        own, nats, tops = [], [], []
        for _ in range(body["max_tokens"]):
            raw = fake.logprobs_of([*ids, *own] or [0])[-1]
            i = draw_from(raw, rng, float(body.get("temperature", 1.0)), has, [*ids, *own])
            own.append(i)
            nats.append(float(raw[i]))
            tops.append(float(raw.max()))
        return own, nats, tops


def draw_from(raw, rng, temperature, has, before):
    """A token from raw log-probabilities, one setting after the other, as written in textbooks."""
    logits = raw.copy()
    penalty = has.get("repetition_penalty", 1.0)
    for i in set(before):
        logits[i] = logits[i] * penalty  # log-probabilities are negative
    if temperature == 0:
        return int(logits.argmax())
    p = np.exp(logits / temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    kept = np.ones(len(p), bool)
    if has.get("top_k"):
        kept[order[int(has["top_k"]) :]] = False
    if has.get("top_p", 1.0) < 1:
        before_it = np.cumsum(p[order]) - p[order]
        kept[order[before_it >= has["top_p"]]] = False
    if has.get("min_p"):
        kept &= p >= has["min_p"] * p.max()
    if has.get("typical_p", 1.0) < 1:
        entropy = -(p * np.log(p)).sum()
        nearest = np.argsort(np.abs(-np.log(p) - entropy), kind="stable")
        before_it = np.cumsum(p[nearest]) - p[nearest]
        kept[nearest[before_it >= has["typical_p"]]] = False
    p = np.where(kept, p, 0.0)
    return int(rng.choice(len(p), p=p / p.sum()))


@contextmanager
def serving(folder, **behaviour):
    """A running FakeServer."""
    fake = FakeServer(folder, Behaviour(**behaviour))
    thread = threading.Thread(target=fake.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.http.shutdown()
        fake.http.server_close()
        thread.join()


def connected(fake, folder, *, pauses=None, answers=None, **options):
    """The model of a FakeServer; waits go to the list `pauses` instead."""
    served = Served(**{"served_model": NAME, "tokenizer": str(folder), **options})
    noted = [] if pauses is None else pauses
    vocabulary = load_vocabulary(str(folder))
    return load_served(fake.url, served, vocabulary, answers=answers, pause=noted.append)
