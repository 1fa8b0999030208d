"""What a server can do, found out by asking, on a text of known length.

Nothing is taken from documentation: servers ignore what they do not know, and some give empty lists
of log-probabilities, which would add up to 0. What cannot be shown to work is unavailable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditor.errors import ModelError
from auditor.models.served.answers import Answer, check_complete
from auditor.models.served.client import RefusedError, TemporaryError
from auditor.models.tokenizer import Vocabulary
from reports.number_text import count

# A text with tokens of several lengths; its beginning alone is a prompt for samples.
TEXT = "The quick brown fox jumps over the lazy dog, and 17 people of Zürich watched it."
_N_DRAWN = 8
_HOT = 2.0  # the highest temperature that all servers take
# Tolerance in nats: batches of another size change the last bits of 16-bit weights.
_CLOSE = 0.02

# Setting of Decoding -> names that servers have for it, and a value with which a server that has it
# cannot but repeat itself, at any temperature.
SETTINGS: dict[str, tuple[tuple[str, ...], float]] = {
    "top_k": (("top_k",), 1),
    "top_p": (("top_p",), 1e-6),
    "min_p": (("min_p",), 1.0),
    "typical_p": (("typical_p",), 1e-6),
}
PENALTIES = ("repetition_penalty", "repeat_penalty")

# Asks for an answer: (endpoint, body, token ids of the prompt if these are sent).
Ask = Callable[[str, dict[str, Any], Sequence[int] | None], Answer]


@dataclass
class Capabilities:
    """What a server can do; each reason is empty where it can.

    endpoint : "completions" or "chat/completions"
    takes_ids : whether prompts may be token ids
    names : {setting of Decoding: the server's name for it}, of those that have an effect
    takes_seed : whether samples repeat with a seed
    how : how log-probabilities of given text are asked for: "prompt_logprobs", "echo", or ""
    no_drawn : why there are no log-probabilities of generated tokens
    no_given : why there are none of given text
    differs : largest difference in nats between two requests for the same text
    extra : parts of every request that only this server knows
    """

    endpoint: str = "completions"
    takes_ids: bool = False
    names: dict[str, str] = field(default_factory=dict)
    takes_seed: bool = False
    how: str = ""
    no_drawn: str = ""
    no_given: str = ""
    differs: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> dict[str, str]:
        """The capabilities in words, by subject."""

        def told(why: str, how: str = "yes") -> str:
            return f"unavailable: {why}" if why else how

        decoding = ["temperature", *self.names]
        missing = [name for name in (*SETTINGS, "repetition_penalty") if name not in self.names]
        given = f"yes, by {self.how}"
        if self.differs > _CLOSE:
            given += f"; two requests for the same text differ by {self.differs:.2g} nats"
        without = f"; unavailable: {', '.join(missing)}" if missing else ""
        return {
            "endpoint": self.endpoint,
            "prompts": "token ids" if self.takes_ids else "text",
            "log-probabilities of generated tokens": told(self.no_drawn),
            "log-probabilities of given text": told(self.no_given, given),
            "seed": "yes" if self.takes_seed else "unavailable: samples do not repeat",
            "decoding": ", ".join(decoding) + without,
        }


def probe(ask: Ask, vocabulary: Vocabulary, *, chat: bool, extra: dict[str, Any]) -> Capabilities:
    """Find out what a server can do; about 20 short requests.

    Raises
    ------
    ModelError
        If the endpoint does not answer, or the server has another vocabulary than `vocabulary`.
    """
    found = Capabilities("chat/completions" if chat else "completions", extra=extra)
    work = _Probe(ask, vocabulary, found)
    work.endpoint()
    if not chat:
        work.token_ids()
    work.drawn()
    if chat:
        found.no_given = "chat endpoints give none"
    else:
        work.given()
    work.seed()
    work.settings()
    return found


class _Probe:
    """The questions of a probe, in order."""

    def __init__(self, ask: Ask, vocabulary: Vocabulary, found: Capabilities):
        self._ask, self.vocabulary, self.found = ask, vocabulary, found
        self.ids = vocabulary.start + vocabulary.encode(TEXT)

    def body(self, **more: Any) -> dict[str, Any]:
        """A request that continues the text."""
        if self.found.endpoint != "completions":
            prompt: dict[str, Any] = {"messages": [{"role": "user", "content": TEXT}]}
        else:
            prompt = {"prompt": self.ids if self.found.takes_ids else TEXT}
        return {**prompt, "max_tokens": 1, **self.found.extra, **more}

    def ask(self, **more: Any) -> Answer:
        """The answer to `body(**more)`."""
        body = self.body(**more)
        sent = self.ids if isinstance(body.get("prompt"), list) else None
        return self._ask(self.found.endpoint, body, sent)

    def tried(self, **more: Any) -> Answer | str:
        """The answer, or why there is none."""
        try:
            return self.ask(**more)
        except RefusedError as error:
            if error.status == 200:
                return f"the server {error.reason}"
            return f"the server refuses it ({error.reason})"

    def endpoint(self) -> None:
        """Check that the endpoint answers."""
        answer = self.tried()
        if isinstance(answer, str):
            other = "remove --chat" if self.found.endpoint.startswith("chat") else "add --chat"
            raise ModelError(
                f"The endpoint /{self.found.endpoint} cannot be used: {answer}. Check --model and "
                f"--served-model, or {other}."
            )
        n, counted = len(self.vocabulary.encode(TEXT)), answer.n_input
        # The server may add BOS.
        if not self.found.endpoint.startswith("chat") and counted not in (None, n, n + 1):
            raise ModelError(_other(f"it counts {counted:,} tokens in a text of {n:,}"))

    def token_ids(self) -> None:
        """Whether prompts may be token ids, and are read as many tokens as they are."""
        self.found.takes_ids = True
        answer = self.tried()
        self.found.takes_ids = not isinstance(answer, str) and answer.n_input == len(self.ids)

    def drawn(self) -> None:
        """Log-probabilities of generated tokens: one each, whatever the temperature."""
        found = self.found
        if found.endpoint != "completions":
            found.extra |= {"logprobs": True, "top_logprobs": 1}
        else:
            found.extra |= {"logprobs": 1, "return_tokens_as_token_ids": True}
        answer = self.tried(max_tokens=_N_DRAWN)
        if isinstance(answer, str) and found.extra.pop("return_tokens_as_token_ids", None):
            answer = self.tried(max_tokens=_N_DRAWN)
        found.no_drawn = self._why_not_drawn(answer)
        if found.no_drawn and isinstance(answer, str):
            found.extra.pop("logprobs")
            found.extra.pop("top_logprobs", None)

    def _why_not_drawn(self, answer: Answer | str) -> str:
        if isinstance(answer, str):
            return answer
        if answer.tokens is None or not len(answer.tokens):
            return "the server gives none"
        try:
            check_complete(answer)
        except TemporaryError as error:
            return f"the server {error}"
        self._check_pieces(answer)
        if not any(answer.tokens.logprob):
            return "all are 0"
        first = [self._first_nats(temperature) for temperature in (1.0, 0.5)]
        if None not in first and abs(first[0] - first[1]) > _CLOSE:  # type: ignore[operator]
            return "the server gives them after the temperature"
        return ""

    def _first_nats(self, temperature: float) -> float | None:
        """Log-probability of the likeliest first token, as given at a temperature."""
        answer = self.tried(temperature=temperature, top_p=1e-6, top_k=1)
        if isinstance(answer, str):
            answer = self.tried(temperature=temperature, top_p=1e-6)
        if isinstance(answer, str) or not answer.tokens:
            return None
        return answer.tokens.logprob[0]

    def _check_pieces(self, answer: Answer) -> None:
        """Compare the tokens that the server names by id and by text with the vocabulary."""
        tokens = answer.tokens
        table = self.vocabulary.token_bytes
        if tokens is None or tokens.ids is None:
            return
        largest = max(tokens.ids, default=0)
        if largest >= len(table):
            raise ModelError(_other(f"it has a token {largest:,}"))
        own = b"".join(table[i] for i in tokens.ids).decode("utf-8", "replace")
        # A character may be cut off at the end.
        if own.strip("\ufffd \n") != answer.text.strip("\ufffd \n"):
            raise ModelError(_other("the same token ids write another text"))

    def given(self) -> None:
        """Log-probabilities of given text: as many as tokens, none for the first."""
        found = self.found
        reasons = []
        ways: list[tuple[str, dict[str, Any]]] = [("echo", {"echo": True, "logprobs": 1})]
        if found.takes_ids:
            ways.insert(0, ("prompt_logprobs", {"prompt_logprobs": 1}))
        for how, more in ways:
            answer = self.tried(**more)
            why = answer if isinstance(answer, str) else self._why_not_given(answer)
            if not why:
                found.how = how
                again = self.tried(**more, seed=2)
                found.differs = self._difference(answer, again)
                return
            reasons.append(why)
        found.no_given = reasons[-1]

    def _why_not_given(self, answer: Answer) -> str:
        tokens = given_tokens(answer, len(self.ids))
        if tokens is None:
            n = len(answer.tokens or ()) - 1
            if n <= 0:
                return "the server gives none"
            return f"the server gives {n:,} for {count(len(self.ids), 'token')}"
        if tokens.ids is not None and tokens.ids != self.ids:
            raise ModelError(_other("it splits the same text into other tokens"))
        if tokens.logprob[0] is not None:
            return "the server gives one for the first token, which follows nothing"
        if None in tokens.logprob[1:]:
            n = tokens.logprob[1:].count(None)
            return f"the server leaves out {n:,} of {count(len(self.ids), 'token')}"
        return "" if any(tokens.logprob) else "all are 0"

    def _difference(self, one: Answer | str, other: Answer | str) -> float:
        lists = []
        for answer in (one, other):
            tokens = None if isinstance(answer, str) else given_tokens(answer, len(self.ids))
            lists.append([] if tokens is None else tokens.logprob[1:])
        pairs = zip(*lists, strict=False)
        return max((abs((a or 0) - (b or 0)) for a, b in pairs), default=math.inf)

    def _texts(self, seeds: Sequence[int], **more: Any) -> list[str] | None:
        """Hot samples with these seeds; None if one is refused."""
        answers = [
            self.tried(max_tokens=_N_DRAWN, temperature=_HOT, seed=seed, **more) for seed in seeds
        ]
        texts = [answer.text for answer in answers if isinstance(answer, Answer)]
        return texts if len(texts) == len(seeds) else None

    def seed(self) -> None:
        """Whether samples with one seed are equal, and those with others are not."""
        texts = self._texts([11, 11, 12, 13])
        self.found.takes_seed = (
            texts is not None and texts[0] == texts[1] and len(set(texts[1:])) > 1
        )

    def settings(self) -> None:
        """Settings with an effect: the extreme value makes hot samples equal."""
        found = self.found
        seeds = (21, 22, 23)
        plain = self._texts(seeds)
        if plain is None or len(set(plain)) == 1:
            return
        for setting, (names, extreme) in SETTINGS.items():
            for name in names:
                texts = self._texts(seeds, **{name: extreme})
                if texts is not None and len(set(texts)) == 1:
                    found.names[setting] = name
                    break
        greedy = self.greedy()
        if greedy is None:
            return
        same = self.tried(max_tokens=4 * _N_DRAWN, **greedy)
        for name in PENALTIES:
            # Without an effect, the greedy text stays.
            more = self.tried(max_tokens=4 * _N_DRAWN, **greedy, **{name: 5.0})
            if isinstance(same, Answer) and isinstance(more, Answer) and same.text != more.text:
                found.names["repetition_penalty"] = name
                return

    def greedy(self) -> dict[str, Any] | None:
        """Settings for greedy decoding, or None."""
        for setting in ("top_k", "top_p"):
            if name := self.found.names.get(setting):
                return {name: SETTINGS[setting][1], "seed": 1}
        return None


def given_tokens(answer: Answer, n: int) -> Any:
    """The tokens of a prompt of n tokens, with their log-probabilities; None if not all are listed.

    With echo, one token is generated after the prompt.
    """
    if answer.prompt is not None:
        return answer.prompt if len(answer.prompt) == n else None
    if answer.tokens is None or len(answer.tokens) != n + (answer.n_output or 1):
        return None
    return answer.tokens.of(slice(0, n))


def _other(why: str) -> str:
    return (
        f"The served model has another vocabulary than --tokenizer: {why}. Give the tokenizer of "
        "the served model."
    )
