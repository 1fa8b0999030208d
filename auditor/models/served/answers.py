"""What a server's answer contains, in one form for all servers.

vLLM and OpenAI list tokens and log-probabilities side by side (`tokens`, `token_logprobs`);
llama.cpp, and chat endpoints in general, list one record per token (`content`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attacks.scores.token_stats import LOGPROB_ROUNDING, RANK_UNKNOWN
from auditor.models.served.client import TemporaryError

_TOKEN_ID = re.compile(r"token_id:(\d+)")
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")


@dataclass(frozen=True)
class Tokens:
    """Tokens of a text as a server lists them; each list has one entry per token.

    ids : their ids, or None if the server gives none
    pieces : the bytes of each token as Latin-1 text, or None
    logprob : nats, None where there is none
    rank : from 0 = the most likely token; RANK_UNKNOWN where the server does not tell
    """

    ids: list[int] | None
    pieces: list[str] | None
    logprob: list[float | None]
    rank: list[int]

    def __len__(self) -> int:
        return len(self.logprob)

    def of(self, which: slice) -> Tokens:
        """Some of the tokens."""
        return Tokens(
            None if self.ids is None else self.ids[which],
            None if self.pieces is None else self.pieces[which],
            self.logprob[which],
            self.rank[which],
        )


@dataclass(frozen=True)
class Answer:
    """One answer.

    text : what was generated; with echo, after the prompt
    ended : whether the model ended the text
    tokens : of the generated text and, with echo, of the prompt before it; None if not listed
    ids : of the generated tokens, where listed without log-probabilities
    prompt : tokens of the prompt, where listed apart
    n_input, n_output : tokens by the server's count; None if it gives none
    """

    text: str
    ended: bool = False
    tokens: Tokens | None = None
    ids: list[int] | None = None
    prompt: Tokens | None = None
    n_input: int | None = None
    n_output: int | None = None

    def plain(self) -> dict[str, Any]:
        """The answer as plain data, for a journal."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Answer:
        """The answer that `plain` wrote.

        >>> answer = Answer("hi", tokens=Tokens([5], None, [-0.5], [0]))
        >>> Answer.from_plain(answer.plain()) == answer
        True
        """
        given = dict(plain)
        for name in ("tokens", "prompt"):
            if name in given:
                given[name] = Tokens(**given[name])
        return cls(**given)


def parse(found: dict[str, Any], sent: Sequence[int] | None = None) -> Answer:
    """The first choice of an answer; TemporaryError if it has none or is not in a known form.

    `sent` are the token ids of the prompt, if these were sent.

    >>> parse({"choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}]}).ended
    True
    """
    try:
        return _parsed(found, sent)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise TemporaryError("answered in an unknown form") from None


def _parsed(found: dict[str, Any], sent: Sequence[int] | None) -> Answer:
    # With several choices, their order does not matter.
    choices = {one.get("index", i): one for i, one in enumerate(found["choices"])}
    choice: dict[str, Any] = choices[0]
    usage = found.get("usage") or {}
    text = choice["text"] if "text" in choice else choice["message"].get("content")
    own = choice.get("token_ids")
    given = choice.get("prompt_logprobs")
    return Answer(
        text=str(text or ""),
        ended=choice.get("finish_reason") == "stop",
        tokens=_tokens(choice.get("logprobs")),
        ids=None if own is None else [int(i) for i in own],
        prompt=None if given is None or sent is None else _prompt(given, sent),
        n_input=_count(usage.get("prompt_tokens")),
        n_output=_count(usage.get("completion_tokens")),
    )


def _tokens(given: Any) -> Tokens | None:
    if given is None:
        return None
    if given.get("content") is not None:
        return _records(given["content"])
    names, logprob = given.get("tokens"), given.get("token_logprobs")
    if names is None or logprob is None:
        return None
    if len(names) != len(logprob):
        raise TemporaryError(f"gave {len(logprob):,} log-probabilities for {len(names):,} tokens")
    tops = given.get("top_logprobs") or [None] * len(names)
    ranks = [
        _rank_among(n, list((top or {}).values())) for n, top in zip(logprob, tops, strict=True)
    ]
    matches = [_TOKEN_ID.fullmatch(name) for name in names]
    ids = [int(m[1]) for m in matches if m]
    whole = len(ids) == len(names)
    return Tokens(
        ids if whole else None,
        None if whole else [_piece(name) for name in names],
        [_nats(n) for n in logprob],
        ranks,
    )


def _records(content: Sequence[dict[str, Any]]) -> Tokens:
    """Tokens as one record each."""
    ids = [int(one["id"]) for one in content if "id" in one]
    pieces = [
        bytes(one["bytes"]).decode("latin-1") if one.get("bytes") else _piece(one["token"])
        for one in content
    ]
    tops = [[top["logprob"] for top in one.get("top_logprobs") or []] for one in content]
    logprob = [one["logprob"] for one in content]
    return Tokens(
        ids if len(ids) == len(content) else None,
        pieces,
        [_nats(n) for n in logprob],
        [_rank_among(n, top) for n, top in zip(logprob, tops, strict=True)],
    )


def _prompt(given: Sequence[dict[str, Any] | None], sent: Sequence[int]) -> Tokens:
    """vLLM's `prompt_logprobs`: for each token a table by id, None for the first."""
    if len(given) != len(sent):
        raise TemporaryError(f"gave {len(given):,} log-probabilities for {len(sent):,} tokens")
    records = [(table or {}).get(str(i)) for i, table in zip(sent, given, strict=True)]
    # From 1 = the most likely.
    ranks = [record and record.get("rank") for record in records]
    return Tokens(
        list(sent),
        None,
        [record and _nats(record["logprob"]) for record in records],
        [RANK_UNKNOWN if rank is None else int(rank) - 1 for rank in ranks],
    )


def _nats(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not math.isfinite(given) or given > LOGPROB_ROUNDING:
        raise TemporaryError(f"gave {given!r} as a log-probability")
    return float(given)


def _rank_among(own: float | None, top: Sequence[float]) -> int:
    """0 for the most likely token, else unknown: servers list a few of the most likely ones."""
    return 0 if own is not None and top and own >= max(top) else RANK_UNKNOWN


def _piece(name: str) -> str:
    """The bytes of a token by its name, as Latin-1 text."""
    if match := _BYTES.fullmatch(name):
        return bytes.fromhex(match[1].replace("\\x", "")).decode("latin-1")
    return name.encode("utf-8", "replace").decode("latin-1")


def _count(given: Any) -> int | None:
    return int(given) if isinstance(given, int) and given >= 0 else None


def check_complete(answer: Answer) -> None:
    """Raise TemporaryError unless every generated token has a log-probability."""
    tokens, n = answer.tokens, answer.n_output
    if tokens is None or None in tokens.logprob:
        if answer.text or n:
            raise TemporaryError("gave no log-probabilities of the tokens that it generated")
        return
    # The end of the text may be counted and not listed.
    allowed = (n, n - answer.ended) if n is not None else (len(tokens),)
    if len(tokens) not in allowed:
        raise TemporaryError(f"gave {len(tokens):,} log-probabilities for {n:,} tokens")
