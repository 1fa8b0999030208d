"""What an audit file says beside the audit: its gates, its hooks, its schedule."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from auditor.config.sampling import STRICT, Positive, cut, no_bool

Count = Annotated[int, BeforeValidator(no_bool), Field(ge=0)]
# The gates that ask about what was found in training text.
_OF_TRAINING_TEXT = ("max_verified", "max_precision", "no_new_passages_since")


class Gates(BaseModel):
    """Limits that a run must keep, the table [gates].

    A gate fails only if the figure's 95 % interval lies past the limit; with `strict`, if the
    figure itself does.

    max_verified : candidates found verbatim
    max_precision : share of a list found verbatim, the most precise list of all
    max_exposure_bits : exposure of a canary, the most exposed of all
    max_personal_data : candidates that hold personal data
    no_new_passages_since : "last" = no passage that the last run of the same audit did not have
    """

    model_config = STRICT

    max_verified: Count | None = None
    max_precision: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=1)] | None = None
    max_exposure_bits: Annotated[float, BeforeValidator(no_bool), Field(ge=0)] | None = None
    max_personal_data: Count | None = None
    no_new_passages_since: Literal["last"] | None = None
    strict: bool = False

    def asked(self) -> dict[str, Any]:
        """The gates that were set, and their limits.

        >>> Gates(max_verified=3, strict=True).asked()
        {'max_verified': 3}
        """
        return self.model_dump(exclude={"strict"}, exclude_none=True)

    def check(self, *, has_text: bool, has_canaries: bool, is_new_seed: bool) -> None:
        """Refuse, before hours of sampling, a gate on a figure that an audit will not have.

        Parameters
        ----------
        has_text, has_canaries : whether the audit has training text, and canaries
        is_new_seed : whether each run of its schedule draws other samples

        Raises
        ------
        ValueError

        >>> Gates(max_verified=3).check(has_text=True, has_canaries=False, is_new_seed=False)
        """
        asked = self.asked()
        of_text = next((name for name in _OF_TRAINING_TEXT if name in asked), None)
        if of_text and not has_text:
            raise ValueError(
                f"gates.{of_text} asks what was found in training text, and this audit has none. "
                "Add corpus (--corpus PATH) or index, or leave that gate out"
            )
        if "max_exposure_bits" in asked and not has_canaries:
            raise ValueError(
                "gates.max_exposure_bits asks for the exposure of canaries, and this audit has "
                "none. Add canaries (--canaries FILE, from `auditor canaries create`), or leave "
                "that gate out"
            )
        if "no_new_passages_since" in asked and is_new_seed:
            raise ValueError(
                "gates.no_new_passages_since needs the same samples in every run, and "
                "schedule.seed is 'new': what is new would be luck. Leave one of the two out"
            )


class Notify(BaseModel):
    """Who is told how a run ended, the table [notify].

    command : a program and its arguments; it gets the summary as JSON on its standard input
    webhook : an address that the summary is posted to, as JSON
    when : "always", or "trouble" = if the run or a gate failed
    attempts : how often each is tried, with longer and longer pauses
    """

    model_config = STRICT

    command: tuple[str, ...] = ()
    webhook: str | None = None
    when: Literal["always", "trouble"] = "always"
    attempts: Annotated[Positive, Field(le=10)] = 3

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """A command as one text is split as a shell would; nothing runs in a shell."""
        if isinstance(given, dict) and isinstance(given.get("command"), str):
            try:
                return {**given, "command": tuple(shlex.split(given["command"]))}
            except ValueError as error:
                raise ValueError(
                    f"notify.command cannot be split into words ({error}); got "
                    f"{cut(given['command'])}. Close the quotes, or give a list of words"
                ) from None
        return given

    @model_validator(mode="after")
    def _sound(self):
        if self.webhook is not None and not self.webhook.startswith(("https://", "http://")):
            raise ValueError(
                "notify.webhook must be an address that begins with https:// or http://; got "
                f"{cut(self.webhook)}. Give the whole address"
            )
        return self

    @property
    def is_asked(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.command) or self.webhook is not None


class Schedule(BaseModel):
    """When an audit runs by itself, the table [schedule]; what flags say wins.

    cron : five fields (minute, hour, day of the month, month, day of the week), or @daily and such
    timezone : an IANA name; by default the machine's
    seed : "same" = every run draws the same samples from the same model, so that what changes is
        the model's or the training text's doing; "new" = every run draws others
    """

    model_config = STRICT

    cron: str | None = None
    timezone: str | None = None
    seed: Literal["same", "new"] = "same"
