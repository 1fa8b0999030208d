"""Download a model from the hub."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import ModelError
from auditor.system.offline import is_offline

# HTTP packages of the hub's client, over its versions.
_TRANSPORTS = ("httpx", "httpcore", "requests", "urllib3")


def from_hub(spec: str) -> Path:
    """The folder of a hub id in the hub's cache; ModelError if it cannot be downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    files = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(spec, allow_patterns=files, ignore_patterns=["*/*"]))
    except HFValidationError:
        raise ModelError(
            f"{spec!r} is not a valid model. Give a folder, a .gguf file, smollm2, "
            "testbed:DIR/target, or a hub id such as gpt2 or openai-community/gpt2-xl."
        ) from None
    except Exception as error:
        # Without a network, the hub's client also raises errors of its HTTP library.
        is_unreachable = type(error).__module__.startswith(_TRANSPORTS)
        if not (is_unreachable or isinstance(error, OSError | ValueError)):
            raise
        is_gated = "Gated" in type(error).__name__
        fault = "the hub restricts access to it" if is_gated else "the hub does not provide it"
        remedy = "Check the spelling and the network"
        if is_offline():
            fault = "it is not in the hub's cache (--offline blocks downloads)"
            remedy = "Leave out --offline"
        elif is_unreachable:
            fault, remedy = "the hub cannot be reached", "Check the network"
        raise ModelError(
            f"{spec} is not a local folder, and {fault}. {remedy}, or give a local folder."
        ) from None
