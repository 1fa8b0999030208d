"""Fields that are options of a command too: help, flag and metavar are declared with the field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import PydanticUndefined

from auditor.config.sampling import STRICT
from auditor.errors import ConfigError

TEXT_FIELD = (
    "The field that holds the text: NAME, NAME+NAME, or the path of a nested one, such as "
    "translation.en or messages[].content (the text of each element of the list, joined by "
    "newlines)."
)


def option(text: str, default: Any = PydanticUndefined, **shown: str) -> Any:
    """A field with its help text; `flag` and `metavar` where the command line has others."""
    return Field(default, description=text, json_schema_extra=dict(shown))


class Options(BaseModel):
    """Options of a verb; what is wrong is a ConfigError that names the flag."""

    model_config = STRICT

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigError(self._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        first = error.errors()[0]
        name, kind, got = str(first["loc"][0]), first["type"], first["input"]
        if kind == "extra_forbidden":
            return f"{name} is no option; there are {', '.join(cls.model_fields)}."
        extra = cls.model_fields[name].json_schema_extra
        own = extra.get("flag") if isinstance(extra, dict) else None
        flag = f"--{own or name}".replace("_", "-")
        if kind == "missing":
            return f"{flag} is missing. Add it."
        if kind == "greater_than_equal":
            remedy = " Raise it." if first["ctx"]["ge"] else ""
            return f"{flag} must be {first['ctx']['ge']} or more; got {got}.{remedy}"
        if kind in ("greater_than", "finite_number"):
            return f"{flag} must be above 0; got {got}. Raise it."
        if kind == "literal_error":
            allowed = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
            return f"{flag} must be one of {allowed}; got {got!r}."
        return f"{flag}: {first['msg']}; got {got!r}. Change {flag}."
