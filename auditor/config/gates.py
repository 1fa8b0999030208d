"""The tables [gates], [notify] and [schedule] of an audit file."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from auditor.config.fields import STRICT, Count, Positive, cut, no_bool, option

# Gates that need training text.
_OF_TRAINING_TEXT = ("max_verified", "max_precision", "no_new_passages_since")


class Gates(BaseModel):
    """Limits on the results of a run: the table [gates].

    A gate fails if its figure exceeds the limit. With `decide_by = "interval"`, it fails if the
    whole 95 % confidence interval of the figure exceeds the limit, and warns if only the figure
    does.

    max_verified : verbatim candidates
    max_precision : share of verbatim candidates in the most precise list
    max_exposure_bits : exposure of the most exposed canary
    max_personal_data : candidates that contain personal data
    no_new_passages_since : "last" = no passage that the last run of the same audit did not have
    """

    model_config = STRICT

    max_verified: Count | None = None
    max_precision: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=1)] | None = None
    max_exposure_bits: Annotated[float, BeforeValidator(no_bool), Field(ge=0)] | None = None
    max_personal_data: Count | None = None
    no_new_passages_since: Literal["last"] | None = None
    decide_by: Literal["figure", "interval"] = "figure"

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        """Accept `strict` of earlier versions: true = the figure decides, false = its interval."""
        if not isinstance(given, dict) or "strict" not in given:
            return given
        if not isinstance(given["strict"], bool):
            raise ValueError(
                f"gates.strict must be true or false; got {cut(given['strict'])}. Better, set "
                'decide_by to "figure" or "interval"'
            )
        rest = {name: value for name, value in given.items() if name != "strict"}
        return {"decide_by": "figure" if given["strict"] else "interval", **rest}

    def limits(self) -> dict[str, Any]:
        """The limits that are set, by gate.

        >>> Gates(max_verified=3, decide_by="interval").limits()
        {'max_verified': 3}
        """
        return self.model_dump(exclude={"decide_by"}, exclude_none=True)

    def check(self, *, has_text: bool, has_canaries: bool, is_new_seed: bool) -> None:
        """Raises ValueError for a gate on a figure that the audit will not have.

        `is_new_seed`: each run of the schedule draws new samples.
        """
        limits = self.limits()
        of_text = next((name for name in _OF_TRAINING_TEXT if name in limits), None)
        if of_text and not has_text:
            raise ValueError(
                f"gates.{of_text} needs training text; this audit has none. Add corpus (--corpus "
                "PATH) or index, or remove the gate"
            )
        if "max_exposure_bits" in limits and not has_canaries:
            raise ValueError(
                "gates.max_exposure_bits needs canaries; this audit has none. Add canaries "
                "(--canaries FILE, from `auditor canaries create`), or remove the gate"
            )
        if "no_new_passages_since" in limits and is_new_seed:
            raise ValueError(
                "gates.no_new_passages_since needs the same samples in every run, and "
                "schedule.seed is 'new': new passages would be due to chance. Remove one of them"
            )


class Notify(BaseModel):
    """Notifications at the end of a run: the table [notify].

    command : a program and its arguments; it reads the summary as JSON from standard input
    webhook : a URL to which the summary is posted as JSON
    when : "always", or "trouble" = if the run or a gate failed, or a gate warns
    attempts : tries of each, with growing pauses
    """

    model_config = STRICT

    command: tuple[str, ...] = ()
    webhook: str | None = None
    when: Literal["always", "trouble"] = "always"
    attempts: Annotated[Positive, Field(le=10)] = 3

    @model_validator(mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        """Split a command given as one text as a shell would; no shell is used."""
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
                "notify.webhook must be a URL that begins with https:// or http://; got "
                f"{cut(self.webhook)}. Give the full URL"
            )
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a command or a webhook."""
        return bool(self.command) or self.webhook is not None


class Schedule(BaseModel):
    """When an audit runs: the table [schedule]; flags override it.

    With the seed "same", every run of the same model draws the same samples, so that a change comes
    from the model or the training text.
    """

    model_config = STRICT

    cron: str | None = option(
        'Cron line with five fields, such as "0 3 * * 1", or @daily.', None, metavar="LINE"
    )
    timezone: str | None = option(
        "Time zone of the cron line.  [default: this machine's]", None, metavar="NAME"
    )
    seed: Literal["same", "new"] = option(
        "Whether each run draws the same or new samples: same or new.", "same"
    )
