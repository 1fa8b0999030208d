"""A model behind a server: it draws samples and, where the server allows it, scores texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks.scores.score_table import SAMPLES, TEXTS, scores_for
from attacks.scores.token_stats import TokenStats
from auditor.config.audit import Decoding
from auditor.config.served import Served
from auditor.errors import ConfigError, ModelError
from auditor.models.context_windows import cut_to_context
from auditor.models.interfaces import Samples
from auditor.models.served.answers import Answer, check_complete, parse
from auditor.models.served.capabilities import Capabilities, given_tokens, probe
from auditor.models.served.client import Client, RefusedError, TemporaryError
from auditor.models.served.journal import Journal, key_of
from auditor.models.tokenizer import Vocabulary

# Values that leave the distribution as it is. They are always sent: servers have defaults.
_NEUTRAL = {"top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0}
_NO_MOMENTS = "the server gives the probability of a few tokens only."


@dataclass(frozen=True)
class _Question:
    """A request; `label` tells apart those that are asked more than once."""

    body: dict[str, Any]
    sent: tuple[int, ...] | None = None
    label: Hashable = None
    is_scored: bool = False


class ServedModel:
    """A model behind a server with an OpenAI-compatible API; see `load_served`.

    A server reveals neither weights nor ranks, so ranks other than 0 are unknown, and the
    fingerprint identifies the name, what the server tells about the model, and the tokenizer.

    capabilities : {subject: what the server can do}
    without_drawn : scores that the model's own samples lack; `without` names those of other texts
    """

    kind = "served"
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, name: str, vocabulary: Vocabulary, served: Served, client: Client):
        self.name, self.vocabulary, self.served, self.client = name, vocabulary, served, client
        self.notes: list[str] = []
        self.slow_because: dict[str, str] = {}
        self._n_probed = 0
        about = self._described()
        meta = about.get("meta") or {}
        self.n_parameters = int(meta.get("n_params") or 0)
        context = about.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train")
        self.context: int | None = int(context) if context else None
        self._check_size(meta.get("n_vocab"))
        known = {key: meta[key] for key in ("n_params", "size", "n_vocab") if key in meta}
        identity = [served.served_model, served.chat, known, vocabulary.fingerprint]
        self.fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        # llama.cpp: what a cache holds changes the last bits of what follows.
        extra = {"cache_prompt": False} if about.get("owned_by") == "llamacpp" else {}
        try:
            self.can = probe(self._probed, vocabulary, chat=served.chat, extra=extra)
        except ModelError as error:
            told = str(error).replace("--tokenizer:", f"--tokenizer {served.tokenizer}:")
            raise ModelError(f"{name}: {told}") from None
        self.capabilities: dict[str, str] = self.can.lines()
        self.without, self.without_drawn = _without(self.can)
        self.notes += _notes(self)

    @property
    def n_vocab(self) -> int:
        """Vocabulary size of the tokenizer."""
        return len(self.vocabulary.token_bytes)

    def identity(self) -> dict[str, Any]:
        """Plain data that identifies the model: spec, sha256, dtype, bos_id."""
        return {
            "spec": self.name,
            "served_model": self.served.served_model,
            "sha256": self.fingerprint,
            "dtype": "float32",
            "bos_id": self.vocabulary.bos_id,
        }

    # ------------------------------------------------------------------ sampling
    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        ids: Sequence[int],
        *,
        seed: int,
        stream: str,
        decoding: Decoding,
        progress: Callable[[int], None] | None = None,
    ) -> Samples:
        """One continuation of each prompt; see `DrawsSamples.draw`.

        Tokens without a log-probability have NaN and rank -1. Samples end at EOS.

        Raises
        ------
        ConfigError
            If the server does not have a setting of the decoding, or the prompt and the new tokens
            exceed its context.
        ModelError
            If the server cannot be used; see `Client.post`.
        """
        settings = self._settings(decoding)
        self._check_context(prompts, decoding)
        questions = [
            self._question(
                prompt,
                {**settings, "max_tokens": decoding.max_new_tokens, "seed": _seed(seed, stream, i)},
                label=("draw", stream, seed, i),
            )
            for prompt, i in zip(prompts, ids, strict=True)
        ]
        n, width = len(questions), decoding.max_new_tokens
        token_ids = np.full((n, width), -1, np.int32)
        logprob = np.full((n, width), np.nan, np.float32)
        rank = np.full((n, width), -1, np.int32)
        length, ended = np.zeros(n, np.int32), np.zeros(n, bool)

        def done(answer: Answer) -> None:
            if progress is not None:
                progress(answer.n_output or 0)

        for i, answer in enumerate(self._ask_all(questions, done)):
            own, nats, ranks = self._tokens_of(prompts[i], answer)
            k = length[i] = min(len(own), width)
            token_ids[i, :k], logprob[i, :k], rank[i, :k] = own[:k], nats[:k], ranks[:k]
            ended[i] = answer.ended
        return Samples(token_ids, logprob, rank, length, ended)

    def _settings(self, decoding: Decoding) -> dict[str, Any]:
        """A decoding as the server's settings; ConfigError for one that it does not have."""
        names = self.can.names
        wanted = {name: getattr(decoding, name) for name in ("top_k", *_NEUTRAL)}
        settings: dict[str, Any] = {"temperature": decoding.temperature}
        if decoding.top_k == 1 and "top_k" not in names:
            settings["temperature"], wanted["top_k"] = 0.0, None
        neutral = {"top_k": self.n_vocab, **_NEUTRAL}
        missing = [
            name
            for name, v in wanted.items()
            if v not in (None, neutral[name])
            if name not in names
        ]
        missing += ["temperature_start"] if decoding.temperature_start is not None else []
        missing += ["beams"] if decoding.beams > 1 else []
        if missing:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            had = ", ".join(f"--{name.replace('_', '-')}" for name in ("temperature", *names))
            raise ConfigError(
                f"The server of {self.name} has {had}; got {flags}. Leave out {flags}, or use "
                "--strategy pure, which changes nothing."
            )
        for setting, name in names.items():
            value = wanted[setting]
            settings[name] = neutral[setting] if value is None else value
        return settings

    def _check_context(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
        longest = max(map(len, prompts), default=0)
        if self.context is not None and longest + decoding.max_new_tokens > self.context:
            raise ConfigError(
                f"--max-new-tokens must be at most {max(self.context - longest, 0):,} (context "
                f"{self.context:,} minus a prompt of {longest:,}); got "
                f"{decoding.max_new_tokens:,}. Lower --max-new-tokens."
            )

    def _question(
        self, prompt: Sequence[int], more: Mapping[str, Any], label: Hashable
    ) -> _Question:
        """A request to continue a prompt."""
        body, sent = self._prompt(prompt)
        return _Question({**body, **self.can.extra, **more}, sent, label, not self.can.no_drawn)

    def _prompt(self, ids: Sequence[int]) -> tuple[dict[str, Any], tuple[int, ...] | None]:
        """A prompt as the server takes it, and its token ids if these are sent."""
        if self.can.takes_ids:
            return {"prompt": list(ids)}, tuple(ids)
        text = self.vocabulary.decode(self.vocabulary.without_bos(list(ids)))
        if self.served.chat:
            return {"messages": [{"role": "user", "content": text}]}, None
        # An empty prompt is an error for some servers; many read the name of a token.
        start = [self.vocabulary.name_of(i) for i in ids[:1]]
        return {"prompt": text or "".join(start)}, None

    def _tokens_of(
        self, prompt: Sequence[int], answer: Answer
    ) -> tuple[Sequence[int], Sequence[float], Sequence[int]]:
        """Token ids, log-probabilities and ranks of what was generated."""
        tokens = answer.tokens
        if tokens is not None and tokens.ids is not None:
            nats = [np.nan if v is None else v for v in tokens.logprob]
            ranks = [
                -1 if v is None else r for v, r in zip(tokens.logprob, tokens.rank, strict=True)
            ]
            return tokens.ids, nats, ranks
        if answer.ids is not None:
            own = answer.ids
        else:
            before = (
                ""
                if self.served.chat
                else self.vocabulary.decode(self.vocabulary.without_bos(list(prompt)))
            )
            own = self.vocabulary.encode_after([before], [answer.text])[1][0]
        if tokens is not None and self._are_same(own, tokens.pieces):
            return own, [np.nan if v is None else v for v in tokens.logprob], tokens.rank
        if tokens is not None and not self.can.no_drawn:
            self._note(
                "Some samples have no log-probabilities: the server names tokens that the "
                "tokenizer does not find in the text."
            )
        return own, [np.nan] * len(own), [-1] * len(own)

    def _are_same(self, ids: Sequence[int], pieces: Sequence[str] | None) -> bool:
        table = self.vocabulary.token_bytes
        return pieces is not None and [table[i].decode("latin-1") for i in ids] == list(pieces)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    # ------------------------------------------------------------------ scoring
    def token_stats(
        self,
        texts: Sequence[Sequence[int]],
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        moments: bool = False,
        progress: Callable[[int], None] | None = None,
        note: Callable[[str], None] | None = None,
        memo: Any = None,
    ) -> TokenStats:
        """Log-probabilities of given texts; see `LanguageModel.token_stats`.

        NaN and rank -1 for all tokens if the server gives none. Moments are never available.
        """
        start = self.vocabulary.start
        given = [[]] * len(texts) if prefixes is None else prefixes
        # Servers generate at least one token after the text.
        context = None if self.context is None else self.context - 1
        pieces = cut_to_context(texts, [list(p) or start for p in given], context)
        if self.can.no_given:
            found = [_blank(len(p.tokens)) for p in pieces]
        else:
            more = {"echo": True, "logprobs": 1}
            if self.can.how == "prompt_logprobs":
                more = {"prompt_logprobs": 1}
            questions = [
                self._question(p.prefix + p.tokens, {**more, "max_tokens": 1, "seed": 1}, "given")
                for p in pieces
            ]
            questions = [replace(q, is_scored=False) for q in questions]
            answers = self._ask_all(questions, lambda _: None)
            found = [
                self._scored(p.prefix + p.tokens, len(p.tokens), answer)
                for p, answer in zip(pieces, answers, strict=True)
            ]
        if progress is not None:
            progress(len(texts))
        nats = np.concatenate([row[0] for row in found]) if found else np.empty(0)
        ranks = np.concatenate([row[1] for row in found]) if found else np.empty(0, np.int32)
        offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
        ids = np.fromiter((i for t in texts for i in t), np.int32, int(offsets[-1]))
        return TokenStats(offsets, ids, nats.astype(np.float32), ranks.astype(np.int32))

    def _scored(self, ids: list[int], n: int, answer: Answer) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities and ranks of the last n tokens of a given text."""
        tokens = given_tokens(answer, len(ids))
        if tokens is None or None in tokens.logprob[1:]:
            listed = len(answer.tokens or ()) - 1 if tokens is None else len(ids) - 1
            raise ModelError(
                f"{self.name} gave {max(listed, 0):,} log-probabilities for a text of "
                f"{len(ids):,} tokens. Check the server and its limits."
            )
        if tokens.ids is not None and tokens.ids != ids:
            raise ModelError(
                f"{self.name} read other tokens than were sent. Give the tokenizer of the served "
                "model with --tokenizer."
            )
        own = slice(len(ids) - n, None)
        nats = np.array([np.nan if v is None else v for v in tokens.logprob[own]], np.float32)
        return nats, np.where(np.isnan(nats), -1, np.array(tokens.rank[own], np.int32))

    # ------------------------------------------------------------------ requests
    def _ask_all(
        self, questions: Sequence[_Question], done: Callable[[Answer], None]
    ) -> list[Answer]:
        """The answers, in order; a question asked twice is sent once."""
        keys = [self._key(q) for q in questions]
        pool = ThreadPoolExecutor(self.served.concurrency, thread_name_prefix="asking")
        asked: dict[str, Future[Answer]] = {}
        try:
            for key, question in zip(keys, questions, strict=True):
                if key not in asked:
                    asked[key] = pool.submit(self._answer, question)
            open_ = set(asked.values())
            while open_:
                # Short waits, so that an interrupt is noticed.
                finished, open_ = wait(open_, timeout=0.5, return_when=FIRST_EXCEPTION)
                for future in finished:
                    done(future.result())
        except BaseException:
            self.client.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [asked[key].result() for key in keys]

    def _key(self, question: _Question) -> str:
        return key_of(self.served.served_model, self.can.endpoint, question.label, question.body)

    def _answer(self, question: _Question) -> Answer:
        try:
            return self._kept(self._key(question), self.can.endpoint, question)
        except RefusedError as error:
            raise ModelError(
                f"{self.name} refused a request (HTTP {error.status}: {error.reason}). Change the "
                "options that it names, or the server's."
            ) from None

    def _kept(self, key: str, endpoint: str, question: _Question, check: Any = None) -> Answer:
        """An answer from the journal, or from the server into the journal."""
        journal = self.client.journal
        kept = journal.get(key)
        if kept is None:
            body = {"model": self.served.served_model, **question.body}
            check = check or partial(_checked, sent=question.sent, is_scored=question.is_scored)
            answer, n = self.client.post(endpoint, body, check)
            kept = answer.plain()
            journal.add(key, {**self._counted(question, answer), **kept}, requests=n)
            self.client.settle(body, n)
        return Answer.from_plain(kept)

    def _counted(self, question: _Question, answer: Answer) -> dict[str, int]:
        """Our own count of tokens, for a server that gives none."""
        sent = len(question.sent or ())
        text = str(question.body.get("prompt", question.body.get("messages")))
        n_input = sent or len(self.vocabulary.encode(text))
        n_output = len(answer.tokens or self.vocabulary.encode(answer.text))
        return {"n_input": n_input, "n_output": n_output}

    def _probed(self, endpoint: str, body: dict[str, Any], sent: Sequence[int] | None) -> Answer:
        """An answer to a question of the probe; the same question may be asked again."""
        self._n_probed += 1
        key = key_of(self.served.served_model, endpoint, "probe", self._n_probed, body)
        journal = self.client.journal
        refused = journal.get(key) or {}
        if "refused" in refused:
            raise RefusedError(refused["status"], refused["refused"])
        question = _Question(body, None if sent is None else tuple(sent))
        try:
            return self._kept(key, endpoint, question, partial(_probe_parsed, sent=sent))
        except RefusedError as error:
            entry = {"refused": error.reason, "status": error.status}
            journal.add(key, entry, requests=1)
            self.client.settle(body, 1)
            raise

    def _described(self) -> dict[str, Any]:
        """What the server tells about the model; ModelError if it has no such model."""
        try:
            listed = self.client.get("models")
        except RefusedError:  # not all servers list their models
            return {}
        rows = [row for row in listed.get("data") or [] if isinstance(row, dict)]
        name = self.served.served_model
        for row in rows:
            if name in (row.get("id"), *(row.get("aliases") or [])):
                return row
        if not rows:
            return {}
        names = ", ".join(str(row.get("id")) for row in rows[:8])
        raise ModelError(
            f"{self.name} does not serve {name!r}; it serves {names}"
            f"{', ...' if len(rows) > 8 else ''}. Choose one with --served-model."
        )

    def _check_size(self, n_vocab: Any) -> None:
        """Compare the number of tokens: a server's may be padded, but not smaller."""
        n = len(self.vocabulary.token_bytes)
        if isinstance(n_vocab, int) and not n <= n_vocab <= n + 1024:
            raise ModelError(
                f"{self.name} has another vocabulary ({n_vocab:,} tokens) than --tokenizer "
                f"{self.served.tokenizer} ({n:,}). Give the tokenizer of the served model."
            )


def load_served(
    url: str,
    served: Served,
    vocabulary: Vocabulary,
    *,
    answers: Path | None = None,
    pause: Callable[[float], object] | None = None,
) -> ServedModel:
    """A model behind a server, after asking what the server can do.

    Parameters
    ----------
    url : base of an OpenAI-compatible API
    served : Served
    vocabulary : of --tokenizer
    answers : file that keeps the server's answers, or None
    pause : callable(seconds), waits between attempts

    Raises
    ------
    ConfigError
        If the variable of the key is not set.
    ModelError
        If the server cannot be reached, refuses the key, does not serve the model, or has another
        vocabulary than the tokenizer.
    """
    client = Client(url, served, Journal(answers), pause=pause)
    return ServedModel(url, vocabulary, served, client)


def _checked(found: dict[str, Any], *, sent: Sequence[int] | None, is_scored: bool) -> Answer:
    answer = parse(found, sent)
    if is_scored:
        check_complete(answer)
    return answer


def _probe_parsed(found: dict[str, Any], *, sent: Sequence[int] | None) -> Answer:
    """An answer to the probe, for which a fault of form is a result."""
    try:
        return parse(found, sent)
    except TemporaryError as error:
        raise RefusedError(200, str(error)) from None


def _seed(seed: int, stream: str, sample: int) -> int:
    """A server's seed of a sample, 31 bits."""
    digest = hashlib.sha256(f"{seed}/{stream}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def _blank(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, np.nan, np.float32), np.full(n, -1, np.int32)


def _without(can: Capabilities) -> tuple[dict[str, str], dict[str, str]]:
    """Scores that are unavailable, with the reason: of given texts, and of the model's samples."""
    moments = {"min_k_plus_plus": _NO_MOMENTS, "surp": _NO_MOMENTS}
    if not can.no_given:
        return moments, moments if can.no_drawn == "" else {}
    why = "the server gives no log-probabilities of given text."
    given = {score.name: why for score in scores_for(TEXTS)}
    drawn = {"lowercase": why}
    if can.no_drawn:
        drawn = {
            score.name: "the server gives no log-probabilities." for score in scores_for(SAMPLES)
        }
    return given, drawn


def _notes(model: ServedModel) -> list[str]:
    """Remarks for the user."""
    can = model.can
    notes = [
        f"{model.name}: samples end at the end-of-sequence token, because the server stops there."
    ]
    if can.differs > 0.02:
        notes.append(
            f"{model.name}: the log-probabilities of one text differ by {can.differs:.2g} nats "
            "between two requests. Turn prefix caching off on the server."
        )
    if not can.takes_seed:
        notes.append(f"{model.name}: the server has no seed, so new samples would be others.")
    return notes
