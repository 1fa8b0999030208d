"""What a notebook shows of a run: a small card without colours of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.pages.page_shell import render_part


@dataclass(frozen=True)
class Card:
    """A run in a few lines.

    title : what was audited
    state : "complete", or what is missing
    facts : label and value, a line each
    verdict : sentences, with their intervals
    links : label and address of each file to open
    """

    title: str
    state: str
    facts: Sequence[tuple[str, str]] = ()
    verdict: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = field(default=())


def render_card(card: Card) -> str:
    """The card as HTML that fits into any page, light or dark; all text in it is escaped.

    >>> "<b>" in render_card(Card("<b>", "complete"))
    False
    """
    return render_part("card.html.j2", card=card)
