"""Audit files (TOML): read, and written from a config, so that a run can be repeated."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from auditor.config.audit import HOW, AuditConfig, usual_top
from auditor.config.sampling import PRESETS, Strategy, strategy
from auditor.config.served import HOW_SERVED
from auditor.errors import ConfigError


def load_toml(path: str | Path) -> dict[str, Any]:
    """The settings of an audit file (TOML), unchecked.

    Raises
    ------
    ConfigError
        If it is missing, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such audit file. Give the path of a TOML file; a model is named with "
            "--model."
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder. Give the path of a TOML file.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 ({error.reason}, byte {error.start}). Save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}). Check the path.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}. Correct that place.") from None


def to_toml(config: AuditConfig) -> str:
    """The config as an audit file: what differs from the defaults and the presets.

    Parameters
    ----------
    config : AuditConfig

    Returns
    -------
    str
        The settings that determine the results, and the gates:
        `make_config(tomllib.loads(to_toml(config)))` has the same digest. The machine's settings
        are left out, and so are notifications, whose addresses and commands may be secret.

    >>> from auditor.config.audit import make_config
    >>> print(to_toml(make_config({"model": "gpt2", "decoding": {"top_k": 10}})), end="")
    model = "gpt2"
    strategies = [
        "top-n",
    ]
    <BLANKLINE>
    [strategy.top-n]
    top_k = 10
    """
    left_out = {*HOW, "strategies"} - {"gates"}
    plain = config.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    for name in HOW_SERVED:
        plain.get("served", {}).pop(name, None)
    if not plain.get("served"):
        plain.pop("served", None)
    if config.top == usual_top(config.samples):
        plain.pop("top", None)
    tables = {s.name: settings for s in config.strategies if (settings := _own(s))}
    plain["strategies"] = [s.name for s in config.strategies]
    return tomli_w.dumps(plain | ({"strategy": tables} if tables else {}))


def _own(s: Strategy) -> dict[str, Any]:
    """The table of a strategy, from which its name restores it."""
    preset = s.name if s.name in PRESETS else "pure"
    settings = _beyond(s, preset)
    if None in settings.values():  # TOML cannot unset what the preset sets
        preset, settings = "pure", _beyond(s, "pure")
    return settings if preset == s.name else {"preset": preset, **settings}


def _beyond(s: Strategy, preset: str) -> dict[str, Any]:
    """The settings in which a strategy differs from a preset."""
    base = strategy(s.name, preset=preset)
    out: dict[str, Any] = {}
    for mine, its in ((s.prompts, base.prompts), (s.decoding, base.decoding)):
        known = its.model_dump(mode="json")
        out |= {k: v for k, v in mine.model_dump(mode="json").items() if v != known.get(k)}
    return out
