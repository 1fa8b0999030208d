"""What an audit is asked to do: frozen, checked on entry, from TOML or keywords."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from auditor.config.gates import Gates, Notify, Schedule
from auditor.config.sampling import (
    PRESETS,
    STRICT,
    Decoding,
    Positive,
    Prompts,
    Strategy,
    cut,
    nearest,
    no_bool,
    strategy,
)
from auditor.errors import ConfigError

__all__ = [
    "PRESETS",
    "AuditConfig",
    "Decoding",
    "Prompts",
    "Strategy",
    "changed",
    "make_config",
    "strategy",
]


_USUAL_TOP = 100


class AuditConfig(BaseModel):
    """One audit. Two configs with the same `digest` give the same run.

    Besides its fields it is told `decoding` and `prompts` (settings of every strategy) and
    `strategy` (a table a strategy, for settings of its own and `preset`). `strategies` are names
    of presets or of such tables, or Strategy objects. `top` is 100, or all where there are fewer
    samples. `fdr` is 0.05 where there are `controls`; these are `verified` where there is `fdr` and
    training text. `names` is a spaCy pipeline that looks for people.
    """

    model_config = STRICT

    model: Annotated[str, Field(min_length=1)]
    references: dict[str, str] = Field(default_factory=dict)
    strategies: tuple[Strategy, ...] = ()
    samples: Positive = 1000
    seed: Annotated[int, BeforeValidator(no_bool), Field(ge=0, lt=2**63)] = 0
    corpus: tuple[str, ...] = ()
    index: str | None = None
    text_field: str | None = None
    strict: bool = False
    top: Positive = _USUAL_TOP
    min_match_tokens: Positive = 32
    min_match_chars: Positive = 100
    normalize: tuple[Literal["whitespace", "case"], ...] = ()
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    bos: str | None = None
    truth: str | None = None
    canaries: str | None = None
    controls: tuple[str, ...] = ()
    fdr: Annotated[float, Field(gt=0, lt=1)] | None = None
    names: Annotated[str, Field(min_length=1)] | None = None
    shard_size: Positive = 512
    # How a run is made and what is made of it, not what it is: these leave the digest alone.
    offline: bool = False
    workers: Positive | None = None
    ray: Annotated[str, Field(min_length=1)] | None = None
    batch_size: Positive | None = None
    device: str = "auto"
    out: str | None = None
    gates: Gates = Gates()
    notify: Notify = Notify()
    schedule: Schedule = Schedule()
    # What a report shows, not what was found; asked for anew each time.
    reveal: bool = False
    price_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = {key: _without_paths(value) for key, value in given.items()}
        given["references"] = _named_references(given.get("references"))
        everywhere = {key: _table(given.pop(key, None), key) for key in ("decoding", "prompts")}
        tables = _table(given.pop("strategy", None), "strategy")
        wanted = list(_items(_listed(given.get("strategies")), "strategies") or tables or ["top-n"])
        given["strategies"] = tuple(_spelt(item, everywhere, tables) for item in wanted)
        for name in tables:  # a table that is not wanted this time is checked all the same
            _spelt(name, everywhere, tables)
        given["corpus"] = _listed(given.get("corpus"))
        given["controls"] = _listed(given.get("controls"))
        given = with_usual(given)
        if (folded := _listed(given.get("normalize"))) is not None:
            given["normalize"] = folded
        return {"top": _usual_top(given.get("samples")), **given}

    @model_validator(mode="after")
    def _controlled(self):
        check_rate(self.fdr, self.controls, has_text=self.has_training_text)
        return self

    @model_validator(mode="after")
    def _sound(self):
        names = [s.name for s in self.strategies]
        if len(set(names)) < len(names):
            raise ValueError(
                f"each strategy may stand once; got {', '.join(names)}. Leave out the second, or "
                "give it a name of its own: [strategy.NAME] with preset = ..."
            )
        for name in self.references:
            if not re.fullmatch(r"[A-Za-z0-9._+-]{1,60}", name):
                raise ValueError(
                    "a reference's name holds only letters, digits and . _ + - (it names columns), "
                    f"at most 60 characters; got {cut(name)}. Choose another: NAME=SPEC"
                )
        if "target" in self.references:
            raise ValueError(
                "a reference must not be called 'target', which is the model under audit. Name it "
                "apart: NAME=SPEC"
            )
        if self.index is not None and self.corpus:
            raise ValueError(
                f"training text is given by --corpus or by --index; got both ({self.corpus[0]} and "
                f"{self.index}). Leave one out"
            )
        if self.index is not None and self.normalize:
            raise ValueError(
                "an index holds text as it is, so --normalize cannot be used with --index; got "
                f"{', '.join(self.normalize)}. Give the text itself with --corpus"
            )
        if self.top > self.samples:
            raise ValueError(
                f"--top must be between 1 and the number of samples ({self.samples}); got "
                f"{self.top}. Lower --top or raise --samples"
            )
        for s in self.strategies:
            if s.prompts.kind == "corpus" and not s.prompts.corpus:
                raise ValueError(
                    f"strategy {s.name!r} takes its prefixes from your texts, and none were given. "
                    "Add --prompts FILE (a text file, JSONL or folder)"
                )
        self.gates.check(
            has_text=self.has_training_text,
            has_canaries=self.canaries is not None,
            is_new_seed=self.schedule.seed == "new",
        )
        return self

    @property
    def has_training_text(self) -> bool:
        """Whether there is something to verify in."""
        return bool(self.corpus) or self.index is not None

    @property
    def digest(self) -> str:
        """12 hex digits that stand for everything that decides a run's content."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def identity(self) -> dict[str, Any]:
        """Everything that decides a run's content, as plain data."""
        return self.model_dump(mode="json", exclude=set(_HOW))

    @property
    def series(self) -> str:
        """12 hex digits that runs share which ask the same, whatever their seed."""
        text = json.dumps({**self.identity(), "seed": None}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_HOW = (
    *("offline", "batch_size", "device", "out", "reveal", "gates", "notify", "schedule"),
    *("workers", "ray", "price_per_hour"),
)


def _usual_top(samples: Any) -> int:
    """The length of the lists where none is asked for: 100, or all samples."""
    try:
        n = int(samples)  # a text, or a number of another library, means the same
    except (TypeError, ValueError, OverflowError):
        return _USUAL_TOP
    return min(_USUAL_TOP, n) if n >= 1 else _USUAL_TOP


def _without_paths(value: Any) -> Any:
    """Path objects, at any depth, as text: a notebook has them, a config is plain."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _without_paths(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_without_paths(v) for v in value)
    return value


def _listed(value: Any) -> Any:
    """One text as a list of one."""
    return () if value is None else (value,) if isinstance(value, str) else value


def _table(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} must be a table of settings; got {cut(value)}. Write it as [{name}] with a "
            "setting a line"
        )
    return value


def _spelt(item: Any, everywhere: dict, tables: dict) -> Any:
    """A strategy by name, with the overrides for all and for it; or one that is spelt out."""
    if isinstance(item, Strategy):
        item = item.model_dump()
    if isinstance(item, dict):
        over = {k: {**_table(item.get(k), k), **v} for k, v in everywhere.items() if v}
        return {**item, **over}
    if not isinstance(item, str):
        return item
    own = dict(_table(tables.get(item), f"strategy.{item}"))
    preset = own.pop("preset", None)
    # A table may say `top_k = 10` straight away, or group it under prompts and decoding.
    parts: dict[str, dict] = {}
    for key, model in (("prompts", Prompts), ("decoding", Decoding)):
        flat = {k: own.pop(k) for k in list(own) if k in model.model_fields and k != key}
        parts[key] = {**everywhere[key], **flat, **_table(own.pop(key, None), key)}
    if own:
        known = [*Prompts.model_fields, *Decoding.model_fields, "preset"]
        wrong = next(iter(own))
        raise ValueError(
            f"strategy {item!r} has no setting {wrong!r}.{nearest(wrong, known)} "
            f"Settings there are: {', '.join(known)}"
        )
    return strategy(item, preset=preset, **parts)


def _named_references(given: Any) -> Any:
    """`["gpt2", "mid=gpt2-medium"]` as a mapping of names to specs."""
    if isinstance(given, dict):
        return given
    named: dict[str, str] = {}
    for item in _items(_listed(given), "references"):
        name, eq, spec = str(item).partition("=")
        if not eq or "/" in name:  # /models/lr=0.1/last is a path
            name, spec = _plain_name(str(item)), str(item)
        if not name or not spec:
            raise ValueError(f"a reference must be SPEC or NAME=SPEC; got {str(item)!r}. Give both")
        if name in named:
            raise ValueError(f"two references are called {name!r}. Name them apart: NAME=SPEC")
        named[name] = spec
    return named


def _plain_name(spec: str) -> str:
    """What a model is called that is given without a name: the end of its path, made plain."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", Path(spec).name).strip("-")[:60]


def _items(value: Any, name: str) -> Any:
    if not isinstance(value, Iterable):
        each = {"references": "SPEC or NAME=SPEC", "strategies": "names"}[name]
        raise ValueError(f"{name} must be a list of {each}; got {cut(value)}. Put it in brackets")
    return value


def make_config(given: dict[str, Any]) -> AuditConfig:
    """The config that these settings mean.

    Parameters
    ----------
    given : what an audit file or keywords say; see AuditConfig

    Returns
    -------
    AuditConfig

    Raises
    ------
    ConfigError
        One sentence about the first thing that is wrong.

    >>> make_config({"model": "gpt2", "samples": 200}).strategies[0].name
    'top-n'
    """
    try:
        return AuditConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def changed(config: AuditConfig, changes: dict[str, Any]) -> AuditConfig:
    """The config with other settings in place of its own.

    `top` and `fdr` are made anew where they were only what is usual for the old settings.

    Parameters
    ----------
    config : AuditConfig
    changes : as `make_config` takes them

    Raises
    ------
    ConfigError
        As `make_config`.

    >>> changed(make_config({"model": "gpt2", "samples": 9}), {"samples": 300}).top
    100
    """
    old = config.model_dump()
    for name, usual in (("top", _usual_top(config.samples)), ("fdr", USUAL_FDR)):
        if old[name] == usual:
            del old[name]
    return make_config({**old, **changes})


_BOUNDS = {
    "greater_than_equal": ("at least", "ge", "Raise"),
    "greater_than": ("above", "gt", "Raise"),
    "less_than_equal": ("at most", "le", "Lower"),
    "less_than": ("below", "lt", "Lower"),
}
# By how pydantic's error types begin.
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string_unicode": "valid Unicode (a file's name, say, that is not UTF-8)",
    "string_too": "not empty",
    "string": "text",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table, or the name of a strategy",
}


def _sentence(error: ValidationError) -> str:
    """The first complaint of pydantic in the house's form: what, allowed, got, remedy."""
    first = error.errors()[0]
    kind, path = first["type"], [str(p) for p in first["loc"] if not isinstance(p, int)]
    where = ".".join(path) or "an audit"
    if kind == "value_error":
        text = str(first["ctx"]["error"])
        return text if text.endswith((".", "?")) else text + "."
    if kind == "missing":
        example = (
            "Name it with --model SPEC, as in: --model gpt2." if where == "model" else "Add it."
        )
        return f"{where} is missing. {example}"
    if kind == "extra_forbidden":
        return _unknown_setting(path)
    got = cut(first.get("input"))
    if kind in _BOUNDS:
        word, key, remedy = _BOUNDS[kind]
        return f"{where} must be {word} {first['ctx'][key]}; got {got}. {remedy} {where}."
    if kind == "literal_error":
        return f"{where} must be {first['ctx']['expected']}; got {got}. Choose one of these."
    allowed = next((text for start, text in _KINDS.items() if kind.startswith(start)), None)
    return f"{where} must be {allowed or first['msg']}; got {got}. Change {where}."


def _unknown_setting(path: list[str]) -> str:
    """The sentence for a setting that does not exist, with what exists there."""
    models: dict[str, type[BaseModel]]
    models = {"decoding": Decoding, "prompts": Prompts, "strategies": Strategy}
    models |= {"gates": Gates, "notify": Notify, "schedule": Schedule}
    *parents, word = path
    parent = parents[-1] if parents else ""
    known = list(models.get(parent, AuditConfig).model_fields)
    if parent not in models:
        known += ["strategy", "decoding", "prompts"]
    what = {"": "An audit", "strategies": "A strategy"}.get(parent, parent)
    return f"{what} has no setting {word!r}.{nearest(word, known)} Known: {', '.join(known)}."


VERIFIED = ("verified",)  # controls that are the checked half of the run's own short lists
USUAL_FDR = 0.05


def with_usual(given: dict[str, Any]) -> dict[str, Any]:
    """Settings with the rate that controls have, and the controls that a rate has, by default."""
    has_text = bool(given.get("corpus")) or given.get("index") is not None
    if given.get("fdr") is not None and not given["controls"] and has_text:
        return {**given, "controls": VERIFIED}
    if given["controls"] and given.get("fdr") is None:
        return {**given, "fdr": USUAL_FDR}
    return given


def check_rate(fdr: float | None, controls: Sequence[str], *, has_text: bool) -> None:
    """Refuse a rate that nothing holds, and controls that nothing makes.

    Raises
    ------
    ValueError
        In one sentence.
    """
    if fdr is not None and not controls:
        raise ValueError(
            f"--fdr {fdr:g} needs controls to hold it; got none. Add --corpus PATH with training "
            "text, in which half of each list is checked, or --controls PATH with text of the "
            "same kind that the model was not trained on"
        )
    if VERIFIED[0] not in controls:
        return
    if len(controls) > 1:
        raise ValueError(
            f"--controls is held-out text or `verified`; got both ({', '.join(controls)}). Leave "
            "one out; a file of that name is ./verified"
        )
    if not has_text:
        raise ValueError(
            "--controls verified checks half of each list in the training text; got none. Add "
            "--corpus PATH or --index DIR"
        )
