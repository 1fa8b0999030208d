"""Prompts: BOS alone, prefixes from a corpus, few-shot, a repeated word.

The prompt of a sample, like its tokens, depends only on (seed, strategy, sample id).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from auditor.config.audit import Prompts, Strategy
from auditor.corpus.reading import Corpus, read_corpus
from auditor.errors import ConfigError, CorpusError, ModelError
from auditor.models.chat_template import ChatTurn
from auditor.models.tokenizer import Vocabulary
from auditor.sampling.few_shot import few_shot_texts, read_text
from auditor.sampling.random_streams import uniforms
from auditor.system.package_data import prompt_file, shipped

# Texts kept as prefix sources; bounds the memory for large corpora.
_KEPT_TEXTS = 20_000
# Characters kept of a text: long enough for a prefix at any position.
_LEAST_CHARS = 500
_CHARS_PER_TOKEN = 10
# Texts encoded at a time: lists of integers take ten times an array's memory.
_ENCODED_AT_ONCE = 1_000
_DRAWS = 4


class PromptSource:
    """Token ids of the prompt of any sample of one strategy.

    Prompts of kind `corpus` take files, folders, globs, or the name of a shipped prompt set
    (`openings`); a local file of that name takes precedence. Each line of a shipped set is one
    text; lines shorter than min_tokens are used whole. `text_field` and `strict` set how a corpus
    is read; the strategy's `text_field` takes precedence. `gap` are the tokens that end each
    prompt: the gap that an encoder-decoder fills.

    Raises ModelError if there is nothing before a sample (neither BOS nor gap), or prompt and new
    tokens exceed `context`; CorpusError or ConfigError if there are no prompts. `problems` are
    sentences about texts that could not be read.
    """

    def __init__(
        self,
        strategy: Strategy,
        vocabulary: Vocabulary,
        *,
        seed: int,
        context: int | None,
        text_field: str | None = None,
        strict: bool = False,
        model_name: str = "The model",
        gap: Sequence[int] = (),
    ):
        self.strategy, self.vocabulary, self.seed = strategy, vocabulary, seed
        self.name = model_name
        kind = strategy.prompts.kind
        self.turn = ChatTurn(vocabulary.start, [])
        if strategy.prompts.chat_template:
            self.turn = vocabulary.chat_turn(model_name)
        self.bos = [] if vocabulary.start != self.turn.before[:1] else vocabulary.start
        self.gap = list(gap)
        if kind == "bos" and not (self.turn.before or self.gap):
            raise ModelError(
                f"Strategy {strategy.name!r} needs a BOS token, and {model_name}'s tokenizer has "
                "none. Set one with --bos TOKEN, or use --strategy internet with your own prefixes."
            )
        self.pool: list[np.ndarray] = []
        self.problems: list[str] = []
        if kind == "corpus":
            field = strategy.prompts.text_field or text_field
            self.pool, self.problems = _prefix_pool(strategy.prompts, vocabulary, field, strict)
        elif kind == "few-shot":
            self.pool = _encoded(few_shot_texts(strategy.prompts), vocabulary)
        elif kind == "repeat":
            self.pool = _encoded(_repeated(strategy.prompts), vocabulary)
        self._check_context(context)

    @property
    def fingerprint(self) -> str:
        """sha256 of the texts that prompts are taken from."""
        digest = hashlib.sha256()
        for ids in self.pool:
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
        return digest.hexdigest()

    def _check_context(self, context: int | None) -> None:
        if context is None:
            return
        new = self.strategy.decoding.max_new_tokens
        longest = len(self.turn) + self._longest() + len(self.gap)
        if longest >= context:
            raise ModelError(
                f"The prompts of {self.strategy.name!r} must be shorter than {self.name}'s context "
                f"of {context} tokens; got {longest}. Shorten the prompts."
            )
        if longest + new > context:
            raise ModelError(
                f"--max-new-tokens must be between 1 and {context - longest} "
                f"({self.name}'s context {context} minus {longest} for the longest prompt of "
                f"{self.strategy.name!r}); got {new}. Lower --max-new-tokens"
                + (" or shorten the prompts." if longest > 1 else ".")
            )

    def _longest(self) -> int:
        longest = max(map(len, self.pool), default=0)
        if self.strategy.prompts.kind == "corpus":
            return min(longest, self.strategy.prompts.max_tokens)
        return longest

    def prompts(self, sample_ids: Sequence[int]) -> list[list[int]]:
        """The prompt of each sample: BOS if the model has one, or in the chat template; the gap."""
        turn = self.turn
        return [[*turn.before, *ids, *turn.after, *self.gap] for ids in self._bare(sample_ids)]

    def _bare(self, sample_ids: Sequence[int]) -> list[list[int]]:
        kind = self.strategy.prompts.kind
        if kind == "bos":
            return [[] for _ in sample_ids]
        group = np.asarray(sample_ids, dtype=np.int64) // self.strategy.prompts.samples_per_prompt
        stream = f"prompt:{self.strategy.name}"
        u = uniforms(self.seed, stream, group, np.arange(_DRAWS))
        chosen = (u[:, 0] * len(self.pool)).astype(int)
        if kind != "corpus":
            return [self.pool[i].tolist() for i in chosen]
        low, high = self.strategy.prompts.min_tokens, self.strategy.prompts.max_tokens
        out = []
        for i, (_, where, length, _) in zip(chosen, u, strict=True):
            text = self.pool[i]
            n = min(low + int(length * (high - low + 1)), len(text))
            start = int(where * (len(text) - n + 1))
            out.append(text[start : start + n].tolist())
        return out


def _prefix_pool(
    prompts: Prompts, vocabulary: Vocabulary, text_field: str | None, strict: bool
) -> tuple[list[np.ndarray], list[str]]:
    """Tokens of all texts of shipped sets and of long enough corpus texts; problems in reading."""
    sets = [path for given in prompts.corpus if (path := prompt_file(given, ".txt"))]
    lines = [line for path in sets for line in read_text(path).splitlines() if line.strip()]
    pool, problems = _encoded(lines, vocabulary), []
    own = [given for given in prompts.corpus if not prompt_file(given, ".txt")]
    if own:
        corpus = read_corpus(own, text_field=text_field, strict=strict)
        texts = _encoded(_spread(corpus, prompts.max_tokens), vocabulary)
        pool += [ids for ids in texts if len(ids) >= prompts.min_tokens]
        problems = [problem.message for problem in corpus.problems]
    if not pool:
        raise CorpusError(
            f"--prompts: at least one text in {', '.join(prompts.corpus)} must have "
            f"{prompts.min_tokens} tokens or more; got none. Give longer texts, or lower "
            "min_tokens."
        )
    return pool, problems


def _spread(corpus: Corpus, max_tokens: int) -> list[str]:
    """Pieces of text of limited length, evenly spread over the corpus."""
    n_chars = max(_LEAST_CHARS, _CHARS_PER_TOKEN * max_tokens)
    kept: list[str] = []
    stride, n = 1, 0
    for document in corpus:
        # Split documents, so that a long file gives more than one text.
        for at in range(0, len(document.text), n_chars):
            if n % stride == 0:
                kept.append(document.text[at : at + n_chars])
            n += 1
            if len(kept) >= 2 * _KEPT_TEXTS:
                kept, stride = kept[::2], stride * 2
    return kept


def _repeated(prompts: Prompts) -> Iterator[str]:
    """A repeated word: the divergence attack (Nasr et al. 2023, section 5)."""
    words = list(prompts.words) or read_text(shipped("prompts/words.txt")).split()
    for word in words:
        if not word.strip():
            raise ConfigError("--word must not be blank; got ''. Give a word.")
        yield " ".join([word] * prompts.repeats)


def _encoded(texts: Sequence[str] | Iterator[str], vocabulary: Vocabulary) -> list[np.ndarray]:
    """Token ids (int32) of each text."""
    texts = list(texts)
    pool = []
    for at in range(0, len(texts), _ENCODED_AT_ONCE):
        found = vocabulary.encode_all(texts[at : at + _ENCODED_AT_ONCE])
        pool += [np.asarray(ids, dtype=np.int32) for ids in found]
    return pool
