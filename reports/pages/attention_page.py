"""The frame of a page that shows a model's attention; what is in it is drawn elsewhere."""

from collections.abc import Sequence

from reports.pages.page_shell import render, trusted


def render_attention(
    title: str, views: Sequence[str], code: str, *, n_left_out: int, is_sensitive: bool
) -> str:
    """A page of two views, the heads of one layer and all layers at once.

    views : HTML of the two elements that the script draws into, without generated text
    code : the script of the page; no other may run, and nothing is loaded
    n_left_out : tokens that are not shown
    """
    head, model = views
    return render(
        "attention.html.j2",
        styles=("report.css", "attention.css"),
        code=code,
        title=title,
        head_view=trusted(head),
        model_view=trusted(model),
        n_left_out=n_left_out,
        is_sensitive=is_sensitive,
    )
