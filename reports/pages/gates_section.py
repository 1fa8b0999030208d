"""Gates of a run and the changes since the previous one, for the top of a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ShownGate:
    """One limit.

    name : as the audit file has it
    state : "pass", "warn" or "fail"
    word : the state in a sentence
    sentence : the figure, its interval and what is allowed
    """

    name: str
    state: str
    word: str
    sentence: str


@dataclass(frozen=True)
class ShownOutcome:
    """The gates of a run and the comparison with the one before.

    gates : in the order of the audit file
    since : a sentence on new, gone and unchanged passages; "" = nothing to compare with
    why : why the gates could not be decided; "" if they were
    """

    gates: Sequence[ShownGate] = ()
    since: str = ""
    why: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.gates or self.since or self.why)

    @property
    def is_failure(self) -> bool:
        """Whether a gate failed, or could not be decided."""
        return bool(self.why) or any(gate.state == "fail" for gate in self.gates)

    @property
    def is_trouble(self) -> bool:
        """Whether a gate failed or warns, or could not be decided."""
        return self.is_failure or any(gate.state == "warn" for gate in self.gates)

    @property
    def heading(self) -> str:
        """The result of all gates in a few words; "" without gates.

        >>> held = ShownGate("max_verified", "pass", "holds", "1 of 9; allowed 3.")
        >>> ShownOutcome([held]).heading, ShownOutcome([held] * 2).heading
        ('The gate holds', 'All 2 gates hold')
        >>> ShownOutcome([held, ShownGate("max_precision", "fail", "failed", "")]).heading
        '1 of 2 gates failed'
        >>> ShownOutcome([held, ShownGate("max_precision", "warn", "warns", "")]).heading
        '1 of 2 gates warns'
        """
        if self.why:
            return "No comparison and no gate decision"
        n = len(self.gates)
        n_failed, n_warn = (sum(g.state == state for g in self.gates) for state in ("fail", "warn"))
        if n_failed:
            return "The gate failed" if n == 1 else f"{n_failed} of {n} gates failed"
        if n_warn:
            warn = "warns" if n_warn == 1 else "warn"
            return "The gate warns" if n == 1 else f"{n_warn} of {n} gates {warn}"
        return "" if not n else "The gate holds" if n == 1 else f"All {n} gates hold"

    def hidden(self, hide: Callable[[str], str]) -> "ShownOutcome":
        """The same with its sentences masked."""
        gates = [replace(gate, sentence=hide(gate.sentence)) for gate in self.gates]
        return ShownOutcome(gates, hide(self.since), hide(self.why))
