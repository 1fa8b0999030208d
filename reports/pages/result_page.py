"""What the pages of comparisons, extractions and membership audits share: the top of the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

Page = TypeVar("Page", bound="ResultPage")


@dataclass(frozen=True, eq=False)
class ResultPage:
    """The top of a page.

    title : str
    headline : list of str
        Sentences; the first in large letters.
    about : list of (label, value)
    notices : list of str
        What was left out, or went wrong.
    reveal : bool
        Show personal data, and mark the page as sensitive. Otherwise it is masked everywhere.
    """

    title: str
    headline: list[str]
    about: list[tuple[str, str]]
    notices: Sequence[str] = field(default=(), kw_only=True)
    reveal: bool = field(default=False, kw_only=True)


def with_top_masked(page: Page, hide: Callable[[str], str]) -> Page:
    """The page with the texts at its top masked by `hide`, unless it has `reveal`."""
    if page.reveal:
        return page
    return replace(
        page,
        title=hide(page.title),
        headline=[hide(sentence) for sentence in page.headline],
        about=[(label, hide(value)) for label, value in page.about],
        notices=[hide(sentence) for sentence in page.notices],
    )
