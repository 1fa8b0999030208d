"""The tables [gates], [notify] and [schedule] of an audit file."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from auditor.config.fields import STRICT, Count, Whole, cut, no_bool, option, setting

# Placeholders in the arguments of a notification command -> what they stand for.
PLACEHOLDERS = {
    "text": "the result in one sentence",
    "status": '"finished", "gate failed", "gate warning" or "failed"',
    "model": "the model",
    "run": "the folder of the run",
    "report": "the report page; empty if the run failed",
}
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh", "fish")

# Gates that need training text.
_OF_TRAINING_TEXT = ("max_verified", "max_precision", "no_new_passages_since")


class Gates(BaseModel):
    """Limits on the results of a run: the table [gates].

    A gate fails if its figure exceeds the limit. With `decide_by = "interval"`, it fails if the
    whole 95 % confidence interval of the figure exceeds the limit, and warns if only the figure
    does.
    """

    model_config = STRICT

    max_verified: Count | None = setting("Verbatim candidates.", None)
    max_precision: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=1)] | None = setting(
        "Share of verbatim candidates in the most precise list.", None
    )
    max_exposure_bits: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=10**6)] | None = (
        setting("Exposure of the most exposed canary, in bits.", None)
    )
    max_personal_data: Count | None = setting("Candidates that contain personal data.", None)
    no_new_passages_since: Literal["last"] | None = setting(
        '"last": no passage that the last run of the same audit did not have.', None
    )
    decide_by: Literal["figure", "interval"] = setting(
        'What must exceed a limit for its gate to fail: the "figure", or its whole 95 % confidence '
        '"interval"; then the gate warns if only the figure does.',
        "figure",
    )

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
    """Notifications at the end of a run: the table [notify]."""

    model_config = STRICT

    command: tuple[str, ...] = setting(
        "A program and its arguments, with the placeholders {text}, {status}, {model}, {run} and "
        "{report}; it reads the summary as JSON from standard input.",
        (),
    )
    webhook: str | None = setting("A URL to which the summary is posted as JSON.", None)
    when: Literal["always", "trouble"] = setting(
        'When to notify: "always", or "trouble" if the run or a gate failed, or a gate warns.',
        "always",
    )
    attempts: Annotated[Whole, Field(ge=1, le=10)] = setting(
        "Number of attempts, with growing pauses.", 3
    )

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
        self._check_script()
        return self

    def _check_script(self) -> None:
        """Refuse placeholders in the script of a shell, which would run their values as code."""
        if not self.command or PurePath(self.command[0]).name not in _SHELLS:
            return
        for switch, script in itertools.pairwise(self.command):
            named = [name for name in PLACEHOLDERS if f"{{{name}}}" in script]
            if re.fullmatch(r"-[a-z]*c", switch) and named:
                raise ValueError(
                    "notify.command must not have placeholders in the script of a shell, which "
                    f"would run the value as code; got {{{named[0]}}} in {cut(script)}. Use $1 in "
                    f'the script, and give two more words: "sh", "{{{named[0]}}}"'
                )

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
