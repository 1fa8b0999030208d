"""Log-probability of secrets after a prefix, and extraction of secrets by decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.config.audit import Decoding
from auditor.errors import ConfigError
from auditor.models.interfaces import ScoresTexts
from auditor.models.language_model import LanguageModel
from auditor.models.tokenizer import Vocabulary, n_common
from auditor.sampling.generate import generate

# Extra tokens, as greedy decoding may write a secret in more tokens than the tokenizer does.
_SPARE = 8


@dataclass(frozen=True)
class Encoded:
    """Token ids of secrets after one prefix.

    Parameters
    ----------
    prompt : list of int
        BOS (if the model has one) and the prefix tokens that all texts share.
    rests : list of list of int
        For each secret, its tokens and any prefix tokens that not all texts share.
    """

    prompt: list[int]
    rests: list[list[int]]


@dataclass(frozen=True)
class SecretScores:
    """Total log-probability (nats) and number of tokens of each secret given the prefix."""

    logprob: NDArray[np.float64]
    n_tokens: NDArray[np.int64]


def encode_secrets(vocabulary: Vocabulary, prefix: str, secrets: Sequence[str]) -> Encoded:
    """Tokenize secrets after a prefix, and split all texts at the same position.

    The whole text is tokenized, as in training: a space before a secret is usually part of its
    first token. The split is after the last token before the secret that all texts share, so that
    all secrets are scored given the same tokens.
    """
    before, own = vocabulary.encode_after([prefix] * len(secrets), secrets)
    shared = before[0][: n_common(before)] if before else []
    start = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    rests = [b[len(shared) :] + ids for b, ids in zip(before, own, strict=True)]
    return Encoded(start + shared, rests)


def score_secrets(
    model: ScoresTexts, encoded: Encoded, name: str, *, progress=None, note=None
) -> SecretScores:
    """Score every secret under the model; `name` identifies them in errors.

    Raises
    ------
    ConfigError
        If a text exceeds the model's context, or there is no token before the secret.
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


def extracts(
    model: LanguageModel, encoded: Encoded, *, beams: int = 1, note=None
) -> NDArray[np.bool_]:
    """Whether the model completes the prefix with each secret: bool (n_secrets,).

    Decoding is greedy, or beam search if `beams` is above 1. Texts are compared, not tokens.
    """
    found = np.zeros(len(encoded.rests), bool)
    decode = model.vocabulary.decode
    context = model.context
    # Greedy decoding has one continuation per prompt; make it as long as the longest secret.
    lengths = sorted({len(rest) for rest in encoded.rests})
    steps = lengths if beams > 1 else lengths[-1:]
    for n in steps:
        room = n + _SPARE if context is None else min(n + _SPARE, context - len(encoded.prompt))
        decoding = Decoding(max_new_tokens=n if beams > 1 else room, top_k=1, beams=beams)
        text = decode(_continued(model, encoded.prompt, decoding, note), encoded.prompt)
        for i, rest in enumerate(encoded.rests):
            if beams == 1 or len(rest) == n:
                found[i] = text.startswith(decode(rest, encoded.prompt))
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
