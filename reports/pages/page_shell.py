"""What all pages share: one file each, escaped throughout, that asks nothing of the network.

Everything in a page that a model said, or a user, passes three gates: hidden characters become
visible escapes, the template engine escapes markup, and a security policy allows only the style
sheet and the script, if any, whose hashes it names.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache

import jinja2
import pandas as pd
from markupsafe import Markup

from reports.number_text import cell
from reports.safe_text import visible

_N_ROWS = 100


def render(
    template: str,
    *,
    styles: Sequence[str] = ("report.css",),
    scripts: Sequence[str] = (),
    code: str = "",
    **values: object,
) -> str:
    """A template of `templates/` as one self-contained document.

    The same values give the same text. Save it as UTF-8.

    template : its file; it also receives `css`, `script` and `policy`
    styles, scripts : files of `templates/`, joined in this order; without scripts, none may run
    code : a script that is not a template, in place of `scripts`
    **values : variables of the template; see `trusted`
    """
    css = "".join(map(_source, styles))
    own = "".join(map(_source, scripts))
    if own:  # in a function, so that nothing of it is global; it may await
        code = f'"use strict";\n(async () => {{\n{own}}})();\n'
    return (
        _environment()
        .get_template(template)
        .render(policy=_policy(css, code), css=trusted(css), script=trusted(code), **values)
    )


def render_part(template: str, **values: object) -> str:
    """A template of `templates/` as HTML for another page, without style sheet or script."""
    return _environment().get_template(template).render(**values)


def trusted(text: str) -> Markup:
    """Our own style, script, drawings and JSON, each escaped where it was made."""
    return Markup(text)  # noqa: S704


def rows_of(frame: pd.DataFrame, most: int = _N_ROWS) -> tuple[list[str], list[list[str]], int]:
    """A frame's header, its first rows (by default 100) as text, and how many rows it has.

    >>> rows_of(pd.DataFrame({"a": [1.23456, None]}))
    (['a'], [['1.235'], ['–']], 2)
    """
    rows = [[cell(v) for v in row] for row in frame.head(most).itertuples(index=False)]
    return [str(name) for name in frame.columns], rows, len(frame)


@lru_cache(maxsize=1)
def _templates() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("reports")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=_templates(),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    """Whatever a template prints, hidden characters are shown; no expression can forget to."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value, keep_newlines=True, double_backslash=False)


def _source(name: str) -> str:
    return _templates().get_source(_environment(), name)[0]


def _policy(css: str, code: str) -> Markup:
    allowed = f"default-src 'none'; style-src {_hash(css)}; img-src data:"
    if code:
        allowed += f"; script-src {_hash(code)}"
    return trusted(f"{allowed}; base-uri 'none'; form-action 'none'")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
