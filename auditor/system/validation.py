"""Validate untrusted JSON against a type."""

from typing import Any

from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError

# Neither True nor "3" is a number.
STRICT = ConfigDict(strict=True)
# pydantic refuses lone surrogates in a `str`, but file names may contain them.
Text = InstanceOf[str]


def fault(form: type[BaseModel], value: Any) -> str | None:
    """The first place where data does not match its type, in words; None if it matches.

    >>> class Numbers(BaseModel, strict=True):
    ...     a: list[int]
    >>> fault(Numbers, {"a": [1, 2]})
    >>> fault(Numbers, {"a": [1, "2"]})
    "a[1] is '2'"
    >>> fault(Numbers, {})
    'a is missing'
    """
    try:
        form.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    else:
        return None
    place = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"])
    place = place.removeprefix(".") or "it"
    if first["type"] == "missing":
        return f"{place} is missing"
    shown = repr(first["input"])
    return f"{place} is {shown if len(shown) <= 40 else shown[:39] + '…'}"
