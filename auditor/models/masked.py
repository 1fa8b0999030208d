"""Masked language models (such as BERT), used to propose replacements of words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import AutoModelForMaskedLM

from auditor.errors import ModelError
from auditor.models.loading import (
    describe_model,
    fingerprint,
    read_weights,
    resolve,
    usable_device,
)

_BATCH_TOKENS = 4096  # tokens per batch; bounds the memory
_CANDIDATES = 6  # replacements considered per token, including the token itself


@dataclass(frozen=True)
class Replacement:
    """Characters `start:end` of a text become `text`; `suitability` is higher for a better fit."""

    start: int
    end: int
    text: str
    suitability: float


class MaskedModel:
    """A masked language model with its tokenizer, created by `load_masked_model`."""

    def __init__(self, network, tokenizer, *, name: str, fingerprint: str):
        self.network, self.tokenizer = network.eval(), tokenizer
        self.name, self.fingerprint = name, fingerprint
        self.device = next(network.parameters()).device
        limit = getattr(network.config, "max_position_embeddings", None) or 512
        # RoBERTa numbers positions from 2, so its limit exceeds the usable length by 2.
        self.context = min(limit, tokenizer.model_max_length, 512)

    @torch.inference_mode()
    def replacements(
        self, text: str, n: int, *, rng: np.random.Generator, dropout: float = 0.7
    ) -> list[Replacement]:
        """The n most suitable replacements of a single token of the text, best first.

        The token is not masked: dropout is applied to its embedding, so that the proposals stay
        close in meaning. The text is truncated to the model's context.

        Source
        ------
        Mattern et al. 2023, "Membership Inference Attacks against Language Models via
        Neighbourhood Comparison", §2: suitability is p(other) / (1 - p(own)), dropout is 0.7.
        """
        # Lone surrogates are not valid UTF-8: replace each by one character, which keeps offsets.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        coded = self.tokenizer(
            clean,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            truncation=True,
            max_length=self.context,
        )
        ids = torch.tensor(coded["input_ids"], device=self.device)
        spans = coded["offset_mapping"]
        special = coded["special_tokens_mask"]
        places = [i for i, (a, b) in enumerate(spans) if b > a and not special[i]]
        embedded = self.network.get_input_embeddings()(ids)  # (time, width)
        found: list[Replacement] = []
        step = max(1, _BATCH_TOKENS // max(1, len(ids)))
        for at in range(0, len(places), step):
            some = places[at : at + step]
            batch = embedded.repeat(len(some), 1, 1)  # (places, time, width)
            kept = rng.random((len(some), embedded.shape[-1])) >= dropout
            scale = torch.as_tensor(kept / (1 - dropout), dtype=batch.dtype, device=self.device)
            rows = torch.arange(len(some), device=self.device)
            own_place = torch.tensor(some, device=self.device)
            batch[rows, own_place] *= scale
            logits = self.network(inputs_embeds=batch).logits[rows, own_place]
            own = ids[own_place]
            found += self._suitable(text, [spans[i] for i in some], logits.double(), own)
        found.sort(key=lambda r: (-r.suitability, r.start, r.text))
        return found[:n]

    def _suitable(self, text, spans, logits, own) -> list[Replacement]:
        probabilities = logits.softmax(-1)
        p_own = probabilities.gather(1, own[:, None])[:, 0]
        likely, candidates = probabilities.topk(min(_CANDIDATES, logits.shape[1]), dim=1)
        # In float64, 1 - p is 0 only if the model is certain.
        suitability = (likely / (1 - p_own).clamp_min(1e-12)[:, None]).cpu().numpy()
        out = []
        for place, (start, end) in enumerate(spans):
            for token, score in zip(candidates[place].tolist(), suitability[place], strict=True):
                if token in self.tokenizer.all_special_ids:
                    continue
                written = self.tokenizer.decode([token]).removeprefix("##").strip()
                if written and written.casefold() != text[start:end].casefold():
                    out.append(Replacement(start, end, written, float(score)))
        return out


def load_masked_model(spec: str, *, device: str = "auto") -> MaskedModel:
    """Load a masked language model: a local folder or a hub id such as bert-base-cased."""
    place = torch.device(usable_device(device))
    path = resolve(spec)
    if path.is_file():
        raise ModelError(
            f"--masked-model must be a folder or a hub id; got the file {spec}. Give a folder."
        )
    config, tokenizer = describe_model(spec, path)
    if not tokenizer.is_fast:
        raise ModelError(
            f"--masked-model {spec} has a slow tokenizer, which gives no character offsets. Use a "
            "model with a tokenizer.json."
        )
    network, _ = read_weights(
        AutoModelForMaskedLM,
        path,
        lambda why: (
            f"--masked-model {spec} cannot be read as a masked language model ({why}). Use BERT, "
            "RoBERTa or a similar model."
        ),
        f"--masked-model {spec}: its weight files lack {{}}. Use a model trained to fill masks.",
        config=config,
        use_safetensors=True,
    )
    return MaskedModel(network.to(place), tokenizer, name=spec, fingerprint=fingerprint(path))
