"""Attention weights of every layer and head over one candidate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from auditor.audit.context import name_finders
from auditor.audit.shortlist import SAMPLES
from auditor.canaries.masking import secrets_of_audits
from auditor.errors import ModelError, RunError
from auditor.models.loading import load_model
from auditor.runs.run import Run
from reports.pages.attention_page import render_attention
from reports.privacy import find_personal
from reports.privacy.finding import Finder
from reports.safe_text import visible


@dataclass(frozen=True, eq=False)
class Weights:
    """Attention weights over one text.

    tokens : list of str, n
        For display: hidden characters are escaped, personal data is masked unless revealed.
    layers : list of float32 tensor (1, heads, n, n)
        Row = query token, column = key token; rows sum to 1.
    n_left_out : int
        Tokens of the candidate beyond `n_tokens`.
    """

    tokens: list[str]
    layers: list[torch.Tensor]
    n_left_out: int


def attention_of(run: Run, sample_id: str, *, n_tokens: int, reveal: bool = False) -> Weights:
    """The attention of a run's model over a candidate and its prompt, up to `n_tokens` in all."""
    if not run.has(SAMPLES):
        raise RunError(
            f"{run.path} has no shortlists yet. Finish the run with: auditor audit --resume "
            f"{run.path}."
        )
    table = run.read(SAMPLES, ["sample_id", "prompt_token_ids", "token_ids"])
    ids = table["sample_id"].to_pylist()
    if sample_id not in ids:
        raise RunError(
            f"--sample must be a candidate of {run.path}; got {sample_id!r}. Choose one from "
            f"candidates.csv: {', '.join(ids[:3])}, ..."
        )
    row = table.slice(ids.index(sample_id), 1).to_pylist()[0]
    all_ids = [*row["prompt_token_ids"], *row["token_ids"]]
    model = load_model(
        run.config.model,
        dtype="float32",
        device="cpu",
        bos=run.config.bos,
        kinds=("causal",),
    )
    taken = all_ids[:n_tokens]
    with torch.no_grad():
        model.network.set_attn_implementation("eager")
        answer = model.network(torch.tensor([taken]), output_attentions=True, use_cache=False)
    if not answer.attentions or any(layer is None for layer in answer.attentions):
        raise ModelError(
            f"{run.config.model} does not return attention weights. Choose a model that does."
        )
    more = (*name_finders(run.config), *secrets_of_audits(run.config).finders)
    shown = _shown(model.vocabulary, taken, reveal=reveal, more=more)
    return Weights(shown, list(answer.attentions), len(all_ids) - len(taken))


def _shown(
    vocabulary, token_ids: list[int], *, reveal: bool, more: Sequence[Finder] = ()
) -> list[str]:
    """Each token as text; tokens that overlap personal data are masked."""
    text = vocabulary.decode(token_ids)
    ends = vocabulary.token_ends(token_ids).tolist()
    items = [] if reveal else find_personal(text, more=more)
    shown = []
    for start, end in zip([0, *ends], ends, strict=False):
        hidden = any(item.start < end and start < item.end for item in items)
        piece = visible(text[start:end], double_backslash=False)
        shown.append("•••" if hidden else piece or "∅")
    return shown


_STAND_IN = (
    "window.require = {config() {}};\n"
    "window.requirejs = (names, ready) => ready(window.jQuery, window.d3);\n"
)
_OPENS = '<script type="text/javascript">'
_LOADED = re.compile(r"<script[^>]*></script>")
_STYLE = re.compile(r"\sstyle=(\"[^\"]*\"|'[^']*')")


def attention_page(weights: Weights, *, title: str, is_sensitive: bool) -> str:
    """bertviz's head view and model view as one HTML document.

    Source: Vig 2019, "A Multiscale Visualization of Attention in the Transformer Model".
    """
    from bertviz import head_view, model_view

    drawn = [
        view(weights.layers, weights.tokens, html_action="return", **settings).data
        for view, settings in ((head_view, {}), (model_view, {"display_mode": "light"}))
    ]
    d3 = _beside("mpld3", "js/d3.v5.min.js")
    code = [d3, _beside("xstatic.pkg.jquery", "data/jquery.min.js"), _STAND_IN]
    code += [_own_script(page) for page in drawn]
    return render_attention(
        title,
        [_elements(page) for page in drawn],
        # In a JavaScript string "<\\/" equals "</", so no token can close the script element.
        "\n;".join(code).replace("</", "<\\/").replace("<!--", "<\\!--"),
        n_left_out=weights.n_left_out,
        is_sensitive=is_sensitive,
    )


def _elements(page: str) -> str:
    """The markup before bertviz's script, without inline styles and external scripts."""
    return _STYLE.sub("", _LOADED.sub("", page[: page.index(_OPENS)]))


def _own_script(page: str) -> str:
    # rindex: a token may contain a closing tag.
    return page[page.index(_OPENS) + len(_OPENS) : page.rindex("</script>")]


def _beside(package: str, file: str) -> str:
    """A script file from an installed package, including its licence notice."""
    spec = find_spec(package)
    origin = spec.origin if spec is not None else None  # never None after `require_extra`
    return (Path(str(origin)).parent / file).read_text(encoding="utf-8")
