"""A tiny model that is made in milliseconds, and a runner for the command."""

import base64
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from auditor.cli.command import run

WORDS = "the quick brown fox jumps over the lazy dog and runs away from all of them"


def save_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """A random GPT-2 of one layer with a byte-level vocabulary of 300 tokens and context 64."""
    from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

    network = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=64, seed=seed)
    save_model(network, build_tokenizer([WORDS] * 4, 300), folder)
    return folder


def save_texts(path: Path, texts: Sequence[str]) -> str:
    """Write a JSON Lines corpus, one text per line; return its spec."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a command, with escape sequences."""

    code: int
    out: str
    err: str


def command(*args: object, encoding: str = "utf-8") -> Ended:
    """Run `auditor ARGS` in this process, as if on a colour terminal of this encoding."""
    with CliRunner(charset=encoding).isolation(color=True) as streams:
        code = run([str(arg) for arg in args])
        out, err = (stream.getvalue().decode(encoding) for stream in streams[:2])
    return Ended(code, out, err)


def failing(code):
    """A system call that fails with this errno."""

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code), "somewhere")

    return fail


def candidates_in(page: str) -> dict:
    """The candidates embedded in a report page."""
    packed = page.split('id="candidates-data">')[1].split("</script>")[0]
    return json.loads(gzip.decompress(base64.b64decode(packed)))
