"""The settings of an audit: frozen, checked on entry, from TOML or keywords."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from auditor.config.fields import (
    BOS,
    DEVICE,
    DTYPE,
    PLL,
    REVEAL,
    STRICT,
    TEXT_FIELD,
    AnyDtypeName,
    Million,
    Pll,
    Positive,
    Seed,
    Thousands,
    as_before,
    cut,
    first_error,
    option,
    place_of,
    setting,
)
from auditor.config.flag_names import by_table
from auditor.config.gates import Gates, Notify, Schedule
from auditor.config.sampling import PRESETS, Decoding, Prompts, Strategy, strategy
from auditor.config.served import HOW_SERVED, Served, check_served, is_url
from auditor.errors import ConfigError

__all__ = [
    "PRESETS",
    "AuditConfig",
    "Decoding",
    "Dtype",
    "Prompts",
    "References",
    "Strategy",
    "changed",
    "make_config",
    "strategy",
]

_USUAL_TOP = 100
_Text = Annotated[str, Field(min_length=1)]
Dtype = Annotated[Literal["auto", "float32", "bfloat16", "float16"], AnyDtypeName]


def _named_references(given: Any) -> Any:
    """`["gpt2", "mid=gpt2-medium"]` as a mapping of names to specs."""
    if isinstance(given, dict):
        return given
    named: dict[str, str] = {}
    for item in _items(_listed(given), "references"):
        name, eq, spec = str(item).partition("=")
        if not eq or "/" in name:  # /models/lr=0.1/last is a path
            # The end of the path, without special characters.
            name = re.sub(r"[^A-Za-z0-9._+-]+", "-", Path(str(item)).name).strip("-")[:60]
            spec = str(item)
        if not name or not spec:
            raise ValueError(f"a reference must be SPEC or NAME=SPEC; got {str(item)!r}. Give both")
        if name in named:
            raise ValueError(f"two references are called {name!r}. Name them apart: NAME=SPEC")
        named[name] = spec
    return named


def _check_references(references: dict[str, str]) -> dict[str, str]:
    for name in references:
        if not re.fullmatch(r"[A-Za-z0-9._+-]{1,60}", name):
            raise ValueError(
                "a reference name may contain only letters, digits and . _ + - (it names columns), "
                f"at most 60 characters; got {cut(name)}. Choose another: NAME=SPEC"
            )
    if "target" in references:
        raise ValueError(
            "a reference must not be called 'target', which is the model under audit. Choose "
            "another name: NAME=SPEC"
        )
    return references


References = Annotated[
    dict[str, str], BeforeValidator(_named_references), AfterValidator(_check_references)
]


class AuditConfig(BaseModel):
    """One audit. Two configs with the same `digest` give the same run.

    Besides its fields it accepts `decoding` and `prompts`, settings for all strategies, and
    `strategy`, a table with the settings and the `preset` of each strategy. `strategies` are names
    of presets or of such tables, or Strategy objects. The names of flags are accepted as well, such
    as `top_k` for decoding.top_k and `reference` for references.
    """

    model_config = STRICT

    model: _Text = option(
        "Model: hub id, folder, .gguf, smollm2, testbed:DIR/target.", metavar="SPEC"
    )
    references: References = option(
        "Reference model; repeatable.", {}, flag="reference", metavar="[NAME=]SPEC"
    )
    strategies: tuple[Strategy, ...] = option(
        f"Sampling strategy: {', '.join(PRESETS)}; repeatable.  [default: top-n]",
        (),
        flag="strategy",
        metavar="NAME",
    )
    samples: Positive = option("Samples per strategy.", 1000)
    seed: Seed = option("Random seed of the samples.", 0)
    corpus: tuple[str, ...] = option(
        "Training text: files, folders, globs, hf:PATH or presets; repeatable.",
        (),
        metavar="SPEC",
    )
    index: str | None = option(
        "An index of the training text, in place of --corpus (see `auditor index build`).",
        None,
        metavar="DIR",
    )
    text_field: str | None = option(TEXT_FIELD, None)
    strict: bool = option(
        "Stop at the first record that cannot be read.", False, flag="strict/--no-strict"
    )
    top: Million = option("Candidates per shortlist; at most --samples.", _USUAL_TOP)
    min_match_tokens: Million = option("Minimum length of a verbatim match, in tokens.", 32)
    min_match_chars: Positive = option(
        "Minimum length in characters, as an alternative; a run of one character counts once.", 100
    )
    normalize: tuple[Literal["whitespace", "case"], ...] = option(
        "Ignore differences of `whitespace` or `case` in matches; repeatable.", (), metavar="WHAT"
    )
    dtype: Dtype = option(DTYPE, "auto")
    bos: str | None = option(BOS, None, metavar="TOKEN")
    pll: Pll = option(PLL, "word-l2r")
    truth: str | None = option("truth.parquet of a testbed.", None, metavar="PATH")
    canaries: str | None = option(
        "Manifest of canaries to measure (see `auditor canaries create`).", None, metavar="FILE"
    )
    controls: tuple[str, ...] = option(
        "Text of the same kind that the model was not trained on, or `verified`: a random half of "
        "each list. Controls keep the lists at --fdr.  [default: verified, with --fdr]",
        (),
        metavar="SPEC",
    )
    fdr: Annotated[float, Field(gt=0, lt=1)] | None = option(
        "False discovery rate of a list.  [default: 0.05, with --controls]", None
    )
    names: _Text | None = option(
        "Also detect names of people, with this spaCy pipeline.", None, metavar="PIPELINE"
    )
    shard_size: Million = option("Samples per file.", 512)
    # From here on, not part of the digest; see HOW.
    offline: bool = setting("Block all network access.", False)
    workers: Thousands | None = option(
        "Worker processes, each with its own GPU or CPU cores.  [default: 1]", None
    )
    ray: _Text | None = option(
        "Workers on a Ray cluster instead: an address, auto or local.", None, metavar="ADDRESS"
    )
    batch_size: Million | None = option("Sequences sampled at once.  [default: by memory]", None)
    device: str = option(DEVICE, "auto")
    out: str | None = option(
        "The run's folder, or a URL (s3://bucket/run).  [default: runs/MODEL-DIGEST]",
        None,
        metavar="DIR",
    )
    yes: bool = option(
        "Start without a question a run that takes more than 24 hours, or more disk than is free.",
        False,
    )
    served: Served = Served()
    gates: Gates = Gates()
    notify: Notify = Notify()
    schedule: Schedule = Schedule()
    # What a report shows; each report needs it again.
    reveal: bool = option(REVEAL, False)
    price_per_hour: Annotated[float, Field(ge=0, le=10**9)] | None = option(
        "Price of the machine, for the cost per find.", None
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = by_table({key: _without_paths(value) for key, value in given.items()})
        everywhere = {key: _table(given.pop(key, None), key) for key in ("decoding", "prompts")}
        given["served"] = _table(given.get("served"), "served")
        tables = _table(given.pop("strategy", None), "strategy")
        wanted = list(_items(_listed(given.get("strategies")), "strategies") or tables or ["top-n"])
        given["strategies"] = tuple(_strategy(item, everywhere, tables) for item in wanted)
        for name in tables:  # tables that no strategy uses are checked as well
            _strategy(name, everywhere, tables)
        for name in ("corpus", "controls", "normalize"):
            given[name] = _listed(given.get(name))
        return {"top": usual_top(given.get("samples")), **with_default_fdr(given)}

    @model_validator(mode="after")
    def _check(self):
        check_rate(self.fdr, self.controls, has_text=self.has_training_text)
        names = [s.name for s in self.strategies]
        if len(set(names)) < len(names):
            raise ValueError(
                f"each strategy may be given once; got {', '.join(names)}. Leave out the second, "
                "or name it differently: [strategy.NAME] with preset = ..."
            )
        if self.index is not None and self.corpus:
            raise ValueError(
                f"training text is given by --corpus or --index; got both ({self.corpus[0]} and "
                f"{self.index}). Remove one"
            )
        if self.index is not None and self.normalize:
            raise ValueError(
                "an index holds the original text, so --normalize cannot be used with --index; got "
                f"{', '.join(self.normalize)}. Give the text with --corpus instead"
            )
        if self.top > self.samples:
            raise ValueError(
                f"--top must be between 1 and the number of samples ({self.samples}); got "
                f"{self.top}. Lower --top or raise --samples"
            )
        for s in self.strategies:
            if s.prompts.kind == "corpus" and not s.prompts.corpus:
                raise ValueError(
                    f"strategy {s.name!r} takes its prefixes from your texts; got none. Add "
                    "--prompts FILE (a text file, JSONL or folder)"
                )
        self._check_served()
        self.gates.check(
            has_text=self.has_training_text,
            has_canaries=self.canaries is not None,
            is_new_seed=self.schedule.seed == "new",
        )
        return self

    def _check_served(self) -> None:
        """Check the options of a server; only the target may be served."""
        check_served(self.model, self.served)
        for name, spec in self.references.items():
            if is_url(spec):
                raise ConfigError(
                    f"--reference {name} must be a model on this machine; got {spec}. Give a "
                    "folder, a .gguf file, or a hub id such as gpt2."
                )
        if is_url(self.model) and ((self.workers or 1) > 1 or self.ray is not None):
            raise ConfigError(
                "--workers and --ray are for models on this machine; got a served model, which "
                "answers several requests at once. Use --concurrency instead."
            )

    @property
    def has_training_text(self) -> bool:
        """Whether there is training text to search."""
        return bool(self.corpus) or self.index is not None

    @property
    def digest(self) -> str:
        """12 hex digits that identify the content of a run."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def identity(self) -> dict[str, Any]:
        """The settings that determine the content of a run, as plain data."""
        plain = self.model_dump(mode="json", exclude=set(HOW))
        for name in HOW_SERVED:
            del plain["served"][name]
        return as_before(plain)

    @property
    def series(self) -> str:
        """12 hex digits shared by runs that differ in the seed alone."""
        text = json.dumps({**self.identity(), "seed": None}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


# How a run is computed and what is done with it: these do not change its content.
HOW = (
    *("offline", "batch_size", "device", "out", "reveal", "gates", "notify", "schedule"),
    *("workers", "ray", "price_per_hour", "yes"),
)


def usual_top(samples: Any) -> int:
    """The default length of the shortlists: 100, or all samples."""
    try:
        n = int(samples)  # may be text, or a number of another library
    except (TypeError, ValueError, OverflowError):
        return _USUAL_TOP
    return min(_USUAL_TOP, n) if n >= 1 else _USUAL_TOP


def _without_paths(value: Any) -> Any:
    """Path objects, at any depth, as text."""
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
            f"{name} must be a table of settings; got {cut(value)}. Write it as [{name}] with one "
            "setting per line"
        )
    return value


def _strategy(item: Any, everywhere: dict, tables: dict) -> Any:
    """A strategy by name or in full, with the settings for all strategies and its own."""
    if isinstance(item, Strategy):
        item = item.model_dump()
    if isinstance(item, dict):
        over = {k: {**_table(item.get(k), k), **v} for k, v in everywhere.items() if v}
        return {**item, **over}
    if not isinstance(item, str):
        return item
    own = dict(_table(tables.get(item), f"strategy.{item}"))
    preset = own.pop("preset", None)
    # A table may contain `top_k = 10` directly, or grouped under prompts and decoding.
    parts: dict[str, dict] = {}
    for key, model in (("prompts", Prompts), ("decoding", Decoding)):
        flat = {k: own.pop(k) for k in list(own) if k in model.model_fields and k != key}
        parts[key] = {**everywhere[key], **flat, **_table(own.pop(key, None), key)}
    if own:
        known = [*Prompts.model_fields, *Decoding.model_fields, "preset"]
        wrong = next(iter(own))
        place = place_of(wrong, "strategy", {**SETTINGS, "strategy": known})
        raise ValueError(f"strategy {item!r} has no setting {wrong!r}.{place}")
    return strategy(item, preset=preset, **parts)


def _items(value: Any, name: str) -> Any:
    if not isinstance(value, Iterable):
        each = {"references": "SPEC or NAME=SPEC", "strategies": "names"}[name]
        raise ValueError(f"{name} must be a list of {each}; got {cut(value)}. Put it in brackets")
    return value


SETTINGS: dict[str, Iterable[str]] = {
    "": [*AuditConfig.model_fields, "strategy", "decoding", "prompts"],
    "decoding": Decoding.model_fields,
    "prompts": Prompts.model_fields,
    "strategies": Strategy.model_fields,
    "served": Served.model_fields,
    "gates": Gates.model_fields,
    "notify": Notify.model_fields,
    "schedule": Schedule.model_fields,
}


def _label(path: list[str]) -> str:
    return ".".join(path) or "an audit"


def make_config(given: dict[str, Any]) -> AuditConfig:
    """The config of an audit file's settings, or of keywords; see AuditConfig.

    Raises
    ------
    ConfigError
        For the first invalid setting.

    >>> make_config({"model": "gpt2", "samples": 200}).strategies[0].name
    'top-n'
    """
    try:
        return AuditConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError(first_error(error, _label, SETTINGS)) from None


def changed(config: AuditConfig, changes: dict[str, Any]) -> AuditConfig:
    """The config with some settings changed; raises as `make_config`.

    `top` and `fdr` are set again if they were the defaults of the old settings.

    >>> changed(make_config({"model": "gpt2", "samples": 9}), {"samples": 300}).top
    100
    """
    old = config.model_dump()
    for name, usual in (("top", usual_top(config.samples)), ("fdr", USUAL_FDR)):
        if old[name] == usual:
            del old[name]
    return make_config({**old, **changes})


VERIFIED = ("verified",)  # the controls are the checked half of the run's own shortlists
USUAL_FDR = 0.05


def with_default_fdr(given: dict[str, Any]) -> dict[str, Any]:
    """Settings with the default `fdr` of controls, and the default controls of an `fdr`."""
    has_text = bool(given.get("corpus")) or given.get("index") is not None
    if given.get("fdr") is not None and not given["controls"] and has_text:
        return {**given, "controls": VERIFIED}
    if given["controls"] and given.get("fdr") is None:
        return {**given, "fdr": USUAL_FDR}
    return given


def check_rate(fdr: float | None, controls: Sequence[str], *, has_text: bool) -> None:
    """Raises ValueError if a rate lacks controls, or controls cannot be made."""
    if fdr is not None and not controls:
        raise ValueError(
            f"--fdr {fdr:g} needs controls; got none. Add --corpus PATH with training text, in "
            "which half of each list is checked, or --controls PATH with text of the same kind "
            "that the model was not trained on"
        )
    if VERIFIED[0] not in controls:
        return
    if len(controls) > 1:
        raise ValueError(
            f"--controls is held-out text or `verified`; got both ({', '.join(controls)}). Remove "
            "one; a file of that name is ./verified"
        )
    if not has_text:
        raise ValueError(
            "--controls verified checks half of each list in the training text; got none. Add "
            "--corpus PATH or --index DIR"
        )
