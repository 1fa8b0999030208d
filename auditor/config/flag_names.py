"""Settings that are named like their flags, moved to where an audit file keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auditor.config.sampling import Decoding
from auditor.config.served import SERVED
from auditor.errors import ConfigError

FLAGS_OF_PROMPTS = (
    *("template", "examples", "words", "samples_per_prompt", "chat_template", "fill_gap"),
)
# Flag -> table and key. A table of the same name is no flag.
_PLACES: dict[str, tuple[str, str]] = {
    **{name: ("decoding", name) for name in Decoding.model_fields},
    **{name: ("prompts", name) for name in FLAGS_OF_PROMPTS},
    **{name: ("served", name) for name in SERVED},
    "word": ("prompts", "words"),
    "prompts": ("prompts", "corpus"),
    "reference": ("", "references"),
    "strategy": ("", "strategies"),
}


def by_table(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those that are named like a flag in their table, or under their own name.

    Raises
    ------
    ConfigError
        If a setting is given both ways.

    >>> by_table({"top-k": 40, "strategy": "top-n"})
    {'decoding': {'top_k': 40}, 'strategies': 'top-n'}
    """
    settings: dict[str, Any] = {}
    flags: list[tuple[str, Any]] = []
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name in _PLACES and not isinstance(value, dict | None):
            flags.append((name, value))
        else:
            settings[name] = value
    for name, value in flags:
        table, key = _PLACES[name]
        own = dict(settings.get(table) or {}) if table else settings
        if own.get(key) is not None:
            place = f"{key} in the table [{table}]" if table else key
            raise ConfigError(f"{name} and {place} are the same setting; got both. Remove one.")
        own[key] = value
        if table:
            settings[table] = own
    return settings
