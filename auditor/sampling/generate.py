"""Sample from a model with the engine for its device; halve the batch when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from auditor.config.audit import Decoding
from auditor.errors import ModelError
from auditor.models.device import empty_cuda_cache, out_of_memory
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.interfaces import DrawsSamples, Samples
from auditor.models.language_model import LanguageModel
from auditor.models.masked_language_model import MaskedLanguageModel
from auditor.sampling.cuda_engine import CudaGeneration
from auditor.sampling.engine import Generation, check_prompts
from auditor.sampling.infilling import write_answers
from auditor.sampling.masked_chains import draw_masked


def engine_for(model: LanguageModel) -> type[Generation]:
    """The engine for a model's device."""
    return CudaGeneration if model.queues_steps else Generation


def generate(
    model: LanguageModel | MaskedLanguageModel | EncoderDecoder | DrawsSamples,
    prompts: Sequence[Sequence[int]],
    sample_ids: Sequence[int],
    *,
    seed: int,
    stream: str,
    decoding: Decoding,
    n_slots: int,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    state: Mapping[str, np.ndarray] | None = None,
) -> tuple[Samples, int]:
    """Continue every prompt; when memory runs out, halve the number of concurrent sequences.

    Finished sequences are kept and the others restart, so samples do not depend on when memory ran
    out. Seed, stream and a sample's id determine the sample. `progress` gets the number of tokens
    just drawn, negative when tokens are discarded.

    Once `stop()` is true, a PausedError is raised between two steps. Given its `state`, with the
    same arguments otherwise, the call continues to the same samples, bit by bit.

    Returns the samples, and the number of slots that fitted into memory. Raises ModelError if
    log-probabilities are not finite, a prompt is empty, too long for the model's context or
    contains unknown tokens, or a single sequence does not fit into memory.
    """
    given: dict[str, Any] = {"seed": seed, "stream": stream, "decoding": decoding}
    given["progress"] = progress
    if isinstance(model, DrawsSamples):
        return model.draw(prompts, sample_ids, **given), n_slots
    if isinstance(model, MaskedLanguageModel):
        return draw_masked(model, prompts, sample_ids, **given), n_slots
    if isinstance(model, EncoderDecoder):
        return write_answers(model, prompts, sample_ids, note=note, **given), n_slots
    check_prompts(model, prompts, decoding)
    model.check_capacity(max(map(len, prompts), default=0) + decoding.max_new_tokens)
    kind = engine_for(model)
    work = kind(model, prompts, sample_ids, seed=seed, stream=stream, decoding=decoding)
    while True:
        try:
            if state is not None:
                return work.resume(state, progress, stop), n_slots
            return work.run(n_slots, progress, stop), n_slots
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if n_slots == 1:
                raise ModelError(
                    f"{model.name}: one sequence of {decoding.max_new_tokens} new tokens does not "
                    "fit into memory. Lower --max-new-tokens, or use a machine with more memory."
                ) from None
        state = None
        # There are never more slots than prompts.
        n_slots = max(1, min(n_slots, len(prompts)) // 2)
        work.release()
        empty_cuda_cache()
        if note is not None:
            note(f"Out of memory; continuing with {n_slots} concurrent sequences.")
