"""Presets: short names for the training text of well-known hub datasets.

A preset uses the split train where there is one. Source: the hub's dataset cards.
"""

from dataclasses import dataclass
from pathlib import Path

from auditor.corpus.hub_names import HubSpec
from auditor.errors import CorpusError


@dataclass(frozen=True)
class Preset:
    """A dataset: its path on the hub, text columns, configs and split."""

    path: str
    columns: tuple[str, ...]
    configs: tuple[str, ...] = ()
    split: str = "train"


_ONE, _TWO = ("sentence",), ("sentence1", "sentence2")
_NLI = ("premise", "hypothesis")
_GLUE = {
    "cola": (_ONE, "train"),
    "sst2": (_ONE, "train"),
    "mrpc": (_TWO, "train"),
    "qqp": (("question1", "question2"), "train"),
    "stsb": (_TWO, "train"),
    "mnli": (_NLI, "train"),
    "mnli_matched": (_NLI, "validation"),
    "mnli_mismatched": (_NLI, "validation"),
    "qnli": (("question", "sentence"), "train"),
    "rte": (_TWO, "train"),
    "wnli": (_TWO, "train"),
    "ax": (_NLI, "test"),
}

_LANGUAGES = ("go", "java", "javascript", "php", "python", "ruby")
_TOKENS = ("nl_tokens", "pl_tokens")
# CodeXGLUE: name after "code_x_glue_" -> columns, configs.
_CODE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cc_clone_detection_big_clone_bench": (("func1", "func2"), ()),
    "cc_clone_detection_poj104": (("code",), ()),
    "cc_cloze_testing_all": (_TOKENS, _LANGUAGES),
    "cc_cloze_testing_maxmin": (_TOKENS, _LANGUAGES),
    "cc_code_completion_line": (("input", "gt"), ("java", "python")),
    "cc_code_completion_token": (("code",), ("java", "python")),
    "cc_code_refinement": (("buggy", "fixed"), ("medium", "small")),
    "cc_code_to_code_trans": (("java", "cs"), ()),
    "cc_defect_detection": (("func",), ()),
    "ct_code_to_text": (("docstring", "code"), _LANGUAGES),
    "tc_nl_code_search_adv": (("docstring", "code"), ()),
    "tc_text_to_code": (("nl", "code"), ()),
    "tt_text_to_text": (("source", "target"), ("da_en", "lv_en", "no_en", "zh_en")),
}
_WIKITEXT = ("wikitext-103-raw-v1", "wikitext-103-v1", "wikitext-2-raw-v1", "wikitext-2-v1")

PRESETS: dict[str, Preset] = {
    **{f"glue/{c}": Preset("nyu-mll/glue", f, (c,), s) for c, (f, s) in _GLUE.items()},
    **{f"code_x_glue_{n}": Preset(f"google/code_x_glue_{n}", *p) for n, p in _CODE.items()},
    **{
        f"code_x_glue_{n}/{config}": Preset(f"google/code_x_glue_{n}", columns, (config,))
        for n, (columns, configs) in _CODE.items()
        for config in configs
    },
    "openwebtext": Preset("Skylion007/openwebtext", ("text",)),
    "wikitext": Preset("Salesforce/wikitext", ("text",), _WIKITEXT[:1]),
    **{f"wikitext/{c}": Preset("Salesforce/wikitext", ("text",), (c,)) for c in _WIKITEXT},
    # The Pile is no longer distributed; this is the Pile without copyrighted parts, in the
    # original layout, so the_pile@FOLDER reads a copy of either.
    "the_pile": Preset("monology/pile-uncopyrighted", ("text",)),
}


def preset_specs(text: str) -> list[HubSpec] | None:
    """One spec for each config of a preset; None if the text names no preset.

    `text` is PRESET, or PRESET@FOLDER for a local copy in the layout of the hub's repository.
    Raises CorpusError if the folder is missing.

    >>> [str(spec) for spec in preset_specs("glue/qnli")]
    ['hf:nyu-mll/glue:qnli:train:question+sentence']
    """
    name, at, folder = text.partition("@")
    preset = PRESETS.get(name)
    if preset is None:
        return None
    if at and not Path(folder).expanduser().is_dir():
        raise CorpusError(
            f"{text}: there is no folder {folder or '(empty)'}. Name the folder of a local copy "
            f"of {preset.path}, or leave out @ to read it from the hub."
        )
    path, base = folder if at else preset.path, name.partition("/")[0]
    return [
        HubSpec(path, config, preset.split, preset.columns).named(base)
        for config in preset.configs or (None,)
    ]
