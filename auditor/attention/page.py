"""What bertviz draws of a candidate's attention, in one file that asks nothing of the network.

bertviz writes for notebooks: it loads d3, jQuery and require.js from elsewhere. Here the first two
come out of installed packages (mpld3, XStatic-jQuery), and two lines stand in for the third.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from auditor.attention.weights import Weights
from auditor.errors import ConfigError
from reports.attention_page import render_attention

_NEEDED = ("bertviz", "mpld3", "xstatic.pkg.jquery")
_STAND_IN = (
    "window.require = {config() {}};\n"
    "window.requirejs = (names, ready) => ready(window.jQuery, window.d3);\n"
)
_OPENS = '<script type="text/javascript">'
_LOADED = re.compile(r"<script[^>]*></script>")
_STYLE = re.compile(r"\sstyle=(\"[^\"]*\"|'[^']*')")


def check_installed() -> None:
    """Refuse before a model is loaded.

    Raises
    ------
    ConfigError
        If the extra `attention` is not installed.
    """
    for name in _NEEDED:
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            raise ConfigError(
                f"auditor attention needs the extra 'attention' ({name} is not installed). Install "
                "it with: pip install 'memorization-auditor[attention]'."
            )


def attention_page(weights: Weights, *, title: str, is_sensitive: bool) -> str:
    """The head view and the model view of bertviz as one HTML document.

    Parameters
    ----------
    weights : Weights
    title : str
    is_sensitive : bool
        Personal data is shown.

    Source
    ------
    Vig 2019, "A Multiscale Visualization of Attention in the Transformer Model".
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
        # In a string of JavaScript "<\\/" is "</"; so no token can end the element.
        "\n;".join(code).replace("</", "<\\/").replace("<!--", "<\\!--"),
        n_left_out=weights.n_left_out,
        is_sensitive=is_sensitive,
    )


def _elements(page: str) -> str:
    """What stands before the script, which alone holds tokens, without styles and loading."""
    return _STYLE.sub("", _LOADED.sub("", page[: page.index(_OPENS)]))


def _own_script(page: str) -> str:
    # To the very end: a token may spell a closing tag.
    return page[page.index(_OPENS) + len(_OPENS) : page.rindex("</script>")]


def _beside(package: str, file: str) -> str:
    """A script that an installed package carries, licence notice and all."""
    spec = find_spec(package)
    origin = spec.origin if spec is not None else None  # `check_installed` has seen to it
    return (Path(str(origin)).parent / file).read_text(encoding="utf-8")
