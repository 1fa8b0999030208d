"""The log-probability of secrets after a prefix, and whether a model gives one back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.config.audit import Decoding
from auditor.errors import ConfigError
from auditor.models.interfaces import JudgesTexts
from auditor.models.language_model import LanguageModel
from auditor.models.tokenizer import Vocabulary, n_common
from auditor.sampling.generate import generate

# Greedy decoding may write a secret in other, shorter tokens than the tokenizer would.
_SPARE = 8


@dataclass(frozen=True)
class Encoded:
    """Secrets of one prefix as tokens: what all share, and what is each secret's own.

    Parameters
    ----------
    prompt : list of int
        BOS, where the model has one, and the prefix's tokens that all texts begin with.
    rests : list of list of int
        Each secret's tokens, and any before them that not all texts share.
    """

    prompt: list[int]
    rests: list[list[int]]


@dataclass(frozen=True)
class SecretScores:
    """Total log-probability of each secret given the prefix, nats float64, and its tokens."""

    logprob: NDArray[np.float64]
    n_tokens: NDArray[np.int64]


def encode_secrets(vocabulary: Vocabulary, prefix: str, secrets: Sequence[str]) -> Encoded:
    """Tokens of secrets after a prefix, cut at one place for all.

    Tokens are those of the whole text, as in training: a space before a secret is mostly part of
    the secret's first token. All texts are cut where the last token ends that lies before the
    secret and is the same in each, so that the same string is judged given the same tokens.
    """
    before, own = vocabulary.encode_after([prefix] * len(secrets), secrets)
    shared = before[0][: n_common(before)] if before else []
    start = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    rests = [b[len(shared) :] + ids for b, ids in zip(before, own, strict=True)]
    return Encoded(start + shared, rests)


def score_secrets(
    model: JudgesTexts, encoded: Encoded, name: str, *, progress=None, note=None
) -> SecretScores:
    """Score every secret under the model; `name` is what an error calls them.

    Raises
    ------
    ConfigError
        If a text is longer than the model's context, or its first token has nothing before it.
    """
    longest = len(encoded.prompt) + max(map(len, encoded.rests), default=0)
    context = model.context
    if context is not None and longest > context:
        raise ConfigError(
            f"{name}: prefix and secret must fit into the context of {model.name}, {context} "
            f"tokens; got {longest}. Shorten the template."
        )
    if not encoded.prompt:
        raise ConfigError(
            f"{name} must have text before its secret, as {model.name} has no BOS token; got none. "
            "Add words to the template, or name a BOS token with --bos."
        )
    prompts = [encoded.prompt] * len(encoded.rests)
    stats = model.token_stats(encoded.rests, prompts, progress=progress, note=note)
    return SecretScores(-stats.total_nll(), stats.n_tokens())


def gives_back(
    model: LanguageModel, encoded: Encoded, *, beams: int = 1, note=None
) -> NDArray[np.bool_]:
    """Whether the model goes on with each secret from its prefix: bool (n_secrets,).

    Greedily, or by beam search where `beams` is above 1. The text counts, not the tokens.
    """
    found = np.zeros(len(encoded.rests), bool)
    decode = model.vocabulary.decode
    context = model.context
    # From one prompt there is one answer: as long as the longest secret asks for.
    lengths = sorted({len(rest) for rest in encoded.rests})
    steps = lengths if beams > 1 else lengths[-1:]
    for n in steps:
        room = n + _SPARE if context is None else min(n + _SPARE, context - len(encoded.prompt))
        decoding = Decoding(max_new_tokens=n if beams > 1 else room, top_k=1, beams=beams)
        said = decode(_continued(model, encoded.prompt, decoding, note), encoded.prompt)
        for i, rest in enumerate(encoded.rests):
            if beams == 1 or len(rest) == n:
                found[i] = said.startswith(decode(rest, encoded.prompt))
    return found


def _continued(model: LanguageModel, prompt: list[int], decoding: Decoding, note) -> list[int]:
    if decoding.beams > 1:
        from auditor.sampling.beam_search import beam_search

        drawn = beam_search(model, [prompt], decoding, note=note)
    else:
        drawn, _ = generate(
            model, [prompt], [0], seed=0, stream="canaries", decoding=decoding, n_slots=1, note=note
        )
    return drawn.token_ids[0, : drawn.length[0]].tolist()
