"""The attention of every layer and head over one candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from auditor.errors import ModelError, RunError
from auditor.language_models.loading import load_model
from auditor.personal_names import finders
from auditor.stages.shortlisting import SAMPLES
from auditor.store import Run
from reports.escaping import visible
from reports.privacy import find_personal
from reports.privacy.finding import Finder


@dataclass(frozen=True, eq=False)
class Weights:
    """What a model attends to over one text.

    tokens : list of str, n
        As shown: hidden characters are escapes, personal data is dots unless it is revealed.
    layers : list of float32 tensor (1, heads, n, n)
        Row = the token that looks, column = the token it looks at; rows sum to 1.
    n_left_out : int
        Tokens of the candidate that were not taken.
    """

    tokens: list[str]
    layers: list[torch.Tensor]
    n_left_out: int


def attention_of(run: Run, sample_id: str, *, n_tokens: int, reveal: bool = False) -> Weights:
    """The attention of a run's model over a candidate, its prompt before it.

    Parameters
    ----------
    run : Run
    sample_id : str
        A candidate: a sample of the short lists.
    n_tokens : int
        Tokens to take, the prompt's among them; the page grows with their square.
    reveal : bool
        Show personal data.

    Raises
    ------
    RunError
        If the run has no such candidate, or no short lists yet.
    ModelError
        If the model cannot be loaded, or does not say what it attends to.
    """
    if not run.has(SAMPLES):
        raise RunError(
            f"{run.path} has no short lists yet. Finish it with: auditor audit --resume {run.path}."
        )
    table = run.read(SAMPLES, ["sample_id", "prompt_token_ids", "token_ids"])
    ids = table["sample_id"].to_pylist()
    if sample_id not in ids:
        raise RunError(
            f"--sample must be a candidate of {run.path}; got {sample_id!r}. Its candidates are "
            f"in candidates.csv: {', '.join(ids[:3])}, ..."
        )
    row = table.slice(ids.index(sample_id), 1).to_pylist()[0]
    whole = [*row["prompt_token_ids"], *row["token_ids"]]
    model = load_model(run.config.model, dtype="float32", device="cpu", bos=run.config.bos)
    taken = whole[:n_tokens]
    with torch.no_grad():
        model.network.set_attn_implementation("eager")
        answer = model.network(torch.tensor([taken]), output_attentions=True, use_cache=False)
    if not answer.attentions or any(layer is None for layer in answer.attentions):
        raise ModelError(
            f"{run.config.model} does not say what it attends to, so there is no attention to show."
        )
    more = finders(run.config)
    shown = _shown(model.vocabulary, taken, reveal=reveal, more=more)
    return Weights(shown, list(answer.attentions), len(whole) - len(taken))


def _shown(
    vocabulary, token_ids: list[int], *, reveal: bool, more: Sequence[Finder] = ()
) -> list[str]:
    """Each token as text; those that touch personal data as dots."""
    text = vocabulary.decode(token_ids)
    ends = vocabulary.token_ends(token_ids).tolist()
    items = [] if reveal else find_personal(text, more=more)
    shown = []
    for start, end in zip([0, *ends], ends, strict=False):
        hidden = any(item.start < end and start < item.end for item in items)
        piece = visible(text[start:end], double_backslash=False)
        shown.append("•••" if hidden else piece or "∅")
    return shown
