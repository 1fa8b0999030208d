"""Load a LanguageModel from a spec. Weights are read from safetensors or GGUF, never pickles."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from auditor.config.served import Served, check_served, is_url
from auditor.errors import ConfigError, ModelError, TooLargeError, in_short
from auditor.models.checks import CannotRunError
from auditor.models.description_checks import check_tokenizer, undescribed
from auditor.models.device import free_memory, native_bfloat16, out_of_memory
from auditor.models.encoder_decoder import EncoderDecoder
from auditor.models.float32 import Float32Layers, restore_buffers
from auditor.models.hub_download import from_hub
from auditor.models.kinds import (
    KINDS,
    check_architecture,
    check_kind,
    check_unused,
    kind_of,
    named,
    quantisation_of,
    refuse_kind,
)
from auditor.models.language_model import LanguageModel
from auditor.models.library_calls import failing_with, quiet, silence_logs
from auditor.models.registry import SHIPPED, model_folder, need_gguf
from auditor.models.safety import check_folder, check_sizes, stored_weights
from auditor.models.tokenizer import Vocabulary

# Below this many parameters, bfloat16 saves too little time to justify its rounding.
_SMALL = 30_000_000
# Classes of transformers by kind of model.
_CLASSES = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BALANCED = "balanced"


def load_model(
    spec: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    bos: str | None = None,
    is_reference: bool = False,
    base: str | None = None,
    by_layers: bool | None = None,
    pll: str = "word-l2r",
    kinds: Collection[str] = KINDS,
    served: Served | None = None,
    answers: Path | None = None,
) -> Any:
    """Load a language model.

    Parameters
    ----------
    spec : str
        A local folder (of a model, or of an adapter that names its base), a `.gguf` file,
        `smollm2` (after `auditor models add smollm2`), `testbed:DIR/target`, or a hub id such as
        `gpt2-xl`; or, with `served`, the address of a server, such as http://localhost:8000/v1.
    dtype : "auto", "float32", "bfloat16" or "float16"
        auto: bfloat16 if the hardware supports it and the model is large enough to benefit, else
        float32.
    device : "auto", "cpu", "cuda", ..., or "balanced"
        balanced: the layers are spread over all GPUs, for a model that one GPU cannot hold.
    bos : str, optional
        Token that starts a text; overrides the tokenizer's BOS.
    is_reference : bool
        For a reference model: use `bos` only if its tokenizer has no BOS.
    base : str, optional
        For an adapter: its base model; overrides the one named in its folder.
    by_layers : bool, optional
        For 16-bit weights with dtype float32: keep them in 16 bits and widen one layer at a time,
        with the same results in half the memory. Default: only if float32 weights do not fit.
    pll : "word-l2r" or "original"
        For a masked model: what is masked with a token; see `MaskedLanguageModel`.
    kinds : collection of str
        Allowed kinds: "causal", "masked", "encoder-decoder". A model of another kind is refused
        before its weights are read.
    served : Served, optional
        The options of a model behind a server.
    answers : Path, optional
        File that keeps the server's answers, so that nothing is asked twice.

    Returns
    -------
    LanguageModel for a causal model; otherwise a model of the same protocols, see
    `auditor.models.interfaces`.

    Raises
    ------
    ModelError
        Unknown model, no weights in safetensors or GGUF, unreadable files, or a device that is
        missing or too small.
    ConfigError
        An unknown dtype, or a `bos` outside the vocabulary.
    """
    if is_url(spec):
        from auditor.models.served.served_model import load_served

        refuse_kind(spec, "served", kinds)
        served = served or Served()
        check_served(spec, served)
        vocabulary = load_vocabulary(str(served.tokenizer), bos=bos)
        return load_served(spec, served, vocabulary, answers=answers)
    path = resolve(spec)
    start = _Start(bos, is_reference, pll)
    found = _base_of_adapter(spec, path, base)
    if found is None:
        return _load(spec, path, dtype, device, start, by_layers, kinds)
    below = _load(*found, dtype, device, by_layers=by_layers)
    with _fitting(spec, below.device, below.dtype):
        return _load_adapter(spec, path, below, start)


@dataclass(frozen=True)
class _Start:
    """Options of `load_model` about how a text begins and is scored."""

    bos: str | None
    is_reference: bool
    pll: str = "word-l2r"

    def vocabulary(self, spec: str, tokenizer, cls: str | None = None) -> Vocabulary:
        """The vocabulary; `cls` is what starts the texts of a masked model."""
        if self.is_reference and (cls or tokenizer.bos_token_id is not None):
            return Vocabulary(tokenizer, cls)
        try:
            return Vocabulary(tokenizer, self.bos or cls)
        except ConfigError as error:
            remedy = " Leave this reference out, because its tokenizer has no BOS token."
            raise ConfigError(f"{spec}: {error}{remedy * self.is_reference}") from None


def _load(
    spec: str,
    path: Path,
    dtype: str,
    device: str,
    start: _Start | None = None,
    by_layers: bool | None = None,
    kinds: Collection[str] = ("causal",),
) -> Any:
    """Load a model that is not an adapter; without `start`, unpacked, as an adapter's base."""
    place = torch.device(usable_device(device))
    config, tokenizer = describe_model(spec, path)
    kind = check_architecture(spec, config, kinds)
    computed = _dtype(dtype, place, config)
    if path.is_dir():
        check_sizes(spec, path, config)
    if kind == "masked":
        return _load_masked(spec, path, computed, place, config, tokenizer, start)
    if kind == "encoder-decoder":
        return _load_encoder_decoder(spec, path, computed, place, config, tokenizer, start)
    spread = _device_map() if device == BALANCED else None
    kept = computed if spread else _kept_dtype(path, computed, place, by_layers)
    network, unused = read_network(spec, path, kept, config, device_map=spread)
    vocabulary = start.vocabulary(spec, tokenizer) if start else Vocabulary(tokenizer)
    digest = fingerprint(path)
    with _fitting(spec, place, computed, kept):
        network = network if spread else network.to(place)
        if kept != computed:
            with quiet():
                restore_buffers(
                    network,
                    lambda: AutoModelForCausalLM.from_config(network.config, dtype=torch.float32),
                )
            Float32Layers(network)
        model = LanguageModel(network, vocabulary, name=spec, fingerprint=digest, dtype=computed)
        model.notes += [unused] if unused else []
        return model.pack() if start and kept == computed and not spread else model


def _load_masked(spec: str, path: Path, dtype, place, config, tokenizer, start: _Start | None):
    """A masked model; CLS, which starts its texts, is the BOS token unless `bos` names another."""
    from auditor.models.masked_language_model import MaskedLanguageModel

    if path.is_file():
        raise ModelError(f"{spec} is a file; a masked model must be a folder. Give its folder.")
    network, unused = read_network(spec, path, dtype, config, kind="masked")
    with _fitting(spec, place, dtype):
        model = MaskedLanguageModel(
            network.to(place),
            (start or _Start(None, False)).vocabulary(spec, tokenizer, tokenizer.cls_token),
            name=spec,
            fingerprint=fingerprint(path),
            dtype=dtype,
            pll=start.pll if start else "word-l2r",
        )
    model.notes += [unused] if unused else []
    return model


def _load_encoder_decoder(spec: str, path: Path, dtype, place, config, tokenizer, start):
    """An encoder-decoder."""
    network, unused = read_network(spec, path, dtype, config, kind="encoder-decoder")
    with _fitting(spec, place, dtype):
        model = EncoderDecoder(
            network.to(place),
            start.vocabulary(spec, tokenizer) if start else Vocabulary(tokenizer),
            name=spec,
            fingerprint=fingerprint(path),
            dtype=dtype,
        )
    model.notes += [unused] if unused else []
    return model


def _device_map() -> Any:
    """How the layers are spread over GPUs, as `from_pretrained` takes it."""
    return "balanced"


def _kept_dtype(
    path: Path, computed: torch.dtype, place: torch.device, by_layers: bool | None
) -> torch.dtype:
    """The dtype in which weights are kept while a model computes in `computed`."""
    stored = stored_weights(path) if computed == torch.float32 else None
    if stored is None or stored.dtype == torch.float32:
        return computed
    if by_layers is None:
        by_layers = not stored.fits(torch.float32, free_memory(place))
    return stored.dtype if by_layers else computed


def float32_options(specs: Sequence[str], device: str) -> list[bool]:
    """Values of `by_layers` with which all models fit into memory in float32, fastest first."""
    place = torch.device(usable_device(device))
    found = [(spec, resolve(spec)) for spec in specs if not is_url(spec)]
    paths = [(_base_of_adapter(*pair) or pair)[1] for pair in found]
    stored = [weights for path in paths if (weights := stored_weights(path)) is not None]
    room = 0.9 * free_memory(place)
    whole = sum(weights.n_bytes(torch.float32) for weights in stored)
    by_layers = sum(weights.n_bytes(weights.dtype) for weights in stored)
    return [way for way, n_bytes in ((False, whole), (True, by_layers)) if n_bytes <= room]


@contextlib.contextmanager
def _fitting(
    spec: str, place: object, dtype: torch.dtype, kept: torch.dtype | None = None
) -> Iterator[None]:
    """Raise a lack of memory as TooLargeError; `kept` is the weights' dtype if not `dtype`."""
    is_by_layers = kept not in (None, dtype)
    try:
        yield
    except (MemoryError, RuntimeError, CannotRunError) as error:
        # A layer may read the dtype of another layer's weights, which must then be float32.
        if not (out_of_memory(error) or (is_by_layers and isinstance(error, CannotRunError))):
            raise
        remedy = "Use a smaller model, or a machine with more memory."
        if dtype == torch.float32 and not is_by_layers:
            remedy = (
                "Save its weights in bfloat16, which takes half the memory, or use a smaller model "
                "or a machine with more memory."
            )
        kind = str(dtype).removeprefix("torch.")
        raise TooLargeError(
            f"{spec} does not fit into the memory of {place} in {kind}. {remedy}"
        ) from None


def _base_of_adapter(spec: str, path: Path, base: str | None = None) -> tuple[str, Path] | None:
    """Spec and path of an adapter's base; None if the folder is not an adapter."""
    from auditor.models.adapters import CONFIG, is_adapter, tuned_from

    if not is_adapter(path):
        return None
    made_for = base or tuned_from(path).get("spec")
    if not made_for:
        raise ModelError(
            f"{spec} is an adapter, and its {CONFIG} does not name a base. Add "
            "base_model_name_or_path to that file, or merge the adapter into its base."
        )
    try:
        found = resolve(made_for)
    except ModelError as error:
        if base:
            raise
        raise ModelError(
            f"{spec} is an adapter whose base cannot be loaded: {error} If the base has moved, "
            f"set base_model_name_or_path in {path / CONFIG}."
        ) from None
    if is_adapter(found):
        raise ModelError(
            f"{spec} is an adapter for {made_for}, which is an adapter itself. Merge {made_for} "
            "into its own base first."
        )
    return made_for, found


def _load_adapter(spec: str, path: Path, base: LanguageModel, start: _Start) -> LanguageModel:
    """A base with an adapter, and the adapter's tokenizer if it has one."""
    from auditor.models.adapters import adapter_fingerprint, load_adapter

    load_adapter(base.network, path, base_fingerprint=base.fingerprint)
    own = _tokenizer_of_adapter(spec, path, base.network.config)
    rows = base.network.get_input_embeddings().weight.shape[0]
    if own is not None and (last := max(own.get_vocab().values())) >= rows:
        raise ModelError(
            f"{spec}: the adapter's tokenizer has a token with id {last:,}, but the model has only "
            f"{rows:,} embeddings. Restore the tokenizer used in training, or delete the tokenizer "
            "files from the adapter's folder to use the base's."
        )
    vocabulary = start.vocabulary(spec, own or base.vocabulary.tokenizer)
    # Layers were replaced in place, so the base's network includes the adapter.
    both = hashlib.sha256((base.fingerprint + adapter_fingerprint(path)).encode()).hexdigest()
    model = LanguageModel(base.network, vocabulary, name=spec, fingerprint=both, dtype=base.dtype)
    model.notes += base.notes
    return model


def _tokenizer_of_adapter(spec: str, path: Path, config):
    """The tokenizer in an adapter's folder, or None."""
    from auditor.models.adapters import has_tokenizer

    if not has_tokenizer(path):
        return None
    with (
        quiet(),
        failing_with(
            lambda why: (
                f"{spec}: the adapter's tokenizer cannot be read ({why}). Save it again, or delete "
                "its files to use the base's."
            )
        ),
    ):
        tokenizer = AutoTokenizer.from_pretrained(path, config=config, trust_remote_code=False)
        tokenizer("a", add_special_tokens=False)
    check_tokenizer(spec, tokenizer)
    return tokenizer


def load_vocabulary(
    spec: str,
    *,
    bos: str | None = None,
    is_reference: bool = False,
    base: str | None = None,
    served: Served | None = None,
) -> Vocabulary:
    """A model's vocabulary, without reading its weights; parameters as in `load_model`."""
    if is_url(spec) and served is not None:
        check_served(spec, served)
        return load_vocabulary(str(served.tokenizer), bos=bos)
    path = resolve(spec)
    start = _Start(bos, is_reference)
    if found := _base_of_adapter(spec, path, base):
        config, tokenizer = describe_model(*found)
        return start.vocabulary(spec, _tokenizer_of_adapter(spec, path, config) or tokenizer)
    config, tokenizer = describe_model(spec, path)
    cls = tokenizer.cls_token if kind_of(config) == "masked" else None
    return start.vocabulary(spec, tokenizer, cls)


def resolve(spec: str) -> Path:
    """The folder or GGUF file of a model, downloaded from the hub if it is not local."""
    # Every load begins here, and downloads show progress bars too.
    silence_logs()
    if spec.startswith("testbed:"):
        folder = Path(spec.removeprefix("testbed:"))
        if not folder.is_dir():
            raise ModelError(
                f"{spec}: no such testbed model. Build one with `auditor testbed {folder.parent}`, "
                "then give testbed:DIR/target, testbed:DIR/small or testbed:DIR/medium."
            )
        return folder
    if spec in SHIPPED:
        folder = model_folder(spec)
        if not (folder / "config.json").exists():
            raise ModelError(
                f"{spec} is not installed. Install it with `auditor models add {spec}`."
            )
        return folder
    if is_url(spec):
        raise ModelError(
            f"{spec} is the address of a server; here a model on this machine is needed. Give a "
            "folder, a .gguf file, or a hub id such as gpt2."
        )
    path = Path(spec).expanduser()
    if path.is_dir() or path.is_file():
        return path
    if spec.endswith(".gguf") or spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise ModelError(
            f"{spec}: no such file or folder. Give an existing path, or a hub id such as gpt2."
        )
    return from_hub(spec)


def describe_model(spec: str, path: Path):
    """Config and tokenizer of a model, without its weights; `path` comes from `resolve`.

    Raises ModelError for pickles, custom code, and files that are missing or unreadable.
    """
    gguf = {"gguf_file": path.name} if path.is_file() else {}
    folder = path.parent if path.is_file() else path
    if path.is_file() and path.suffix != ".gguf":
        raise ModelError(
            f"{spec} is a file, but not a .gguf file. Give a .gguf file or a model folder."
        )
    if path.is_dir():
        check_folder(spec, path)
    else:
        need_gguf()
    with quiet(), failing_with(lambda why: undescribed(spec, folder, why)):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **gguf)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **gguf)
        tokenizer("a", add_special_tokens=False)  # some settings are validated only in use
    check_tokenizer(spec, tokenizer)
    return config, tokenizer


def read_network(
    spec: str,
    path: Path,
    dtype: torch.dtype,
    config,
    *,
    device_map: Any = None,
    kind: str = "causal",
):
    """The network of a model of a kind, and a note about unused tensors or None.

    The network is on the CPU, or where `device_map` puts its layers.

    `path` and `config` are as in `describe_model`. Raises ModelError if the weights cannot be read,
    tensors are missing, whole layers are unused, or the model is of another kind.
    """
    check_architecture(spec, config, (kind,))
    gguf = {"gguf_file": path.name} if path.is_file() else {}
    folder = path.parent if path.is_file() else path
    # The GGUF reader ignores the setting that disables progress bars.
    no_bars = contextlib.redirect_stderr(io.StringIO()) if gguf else contextlib.nullcontext()

    def unreadable(why: str) -> str:
        method = quantisation_of(config)
        if method == "bitsandbytes" and not torch.cuda.is_available():
            return (
                f"{spec} is quantised with bitsandbytes, which needs a GPU; this machine has none. "
                "Use a machine with a GPU, or the unquantised weights."
            )
        if method:
            return (
                f"{spec} is quantised with {method} and cannot be read ({why}). Install the "
                f"packages that {method} needs, or use the unquantised weights."
            )
        return (
            f"{spec}: its weights cannot be read as {named(kind)} ({why}). Download or "
            "save the model again."
        )

    is_masked = kind == "masked"
    remedy = "Use a model trained to fill masks." if is_masked else "Download or save it again."
    with no_bars, _fitting(spec, "this machine", dtype):
        network, unused = read_weights(
            _CLASSES[kind],
            folder,
            unreadable,
            f"{spec}: its weight files lack {{}}. {remedy}",
            config=None if gguf else config,
            dtype=dtype,
            use_safetensors=None if gguf else True,
            **({"device_map": device_map} if device_map else {}),
            **gguf,
        )
    return network, check_unused(spec, network.state_dict(), unused)


def read_weights(
    kind: Any, folder: Path, unreadable: Callable[[str], str], incomplete: str, **options: Any
) -> tuple[Any, set[str]]:
    """A network of a transformers Auto class, and the names of the unused tensors in its files.

    Errors are those of `failing_with(unreadable)`, and the sentence `incomplete` with the missing
    tensors at {}.
    """
    with quiet(), failing_with(unreadable):
        network, found = kind.from_pretrained(
            folder, trust_remote_code=False, output_loading_info=True, **options
        )
    # transformers initialises missing tensors at random and only logs it.
    if missing := sorted(found["missing_keys"]):
        named = f"{len(missing)} of the model's tensors ({', '.join(missing[:3])})"
        raise ModelError(incomplete.replace("{}", named))
    return network, found["unexpected_keys"]


def fingerprint(path: Path) -> str:
    """sha256 over the sha256 of a model's config.json and weight files, ordered by name.

    The config is included, because the same weights with other settings are another model.
    """
    if path.is_file():
        files = [path]
    else:
        files = sorted([path / "config.json", *path.glob("*.safetensors")])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def usable_device(name: str) -> str:
    """The device for a name ("auto": cuda if available); ModelError if it cannot be used."""
    if name == BALANCED:
        if not torch.cuda.is_available():
            raise ModelError(
                "--device balanced spreads a model over GPUs; this machine has none. Use auto or "
                "cpu."
            )
        return "cuda"
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"--device {name} cannot be used here ({in_short(error)}). Use auto or cpu."
        ) from None
    return name


def _dtype(name: str, device: torch.device, config) -> torch.dtype:
    if name in _DTYPES:
        return _DTYPES[name]
    if name != "auto":
        raise ConfigError(
            f"--dtype must be auto, {', '.join(list(_DTYPES)[:-1])} or {list(_DTYPES)[-1]}; got "
            f"{name!r}. Use auto if unsure."
        )
    text = config.get_text_config()
    layers = getattr(text, "num_hidden_layers", 0) or 0
    width = getattr(text, "hidden_size", 0) or 0
    size = 12 * layers * width**2 + (getattr(text, "vocab_size", 0) or 0) * width
    return torch.bfloat16 if size > _SMALL and native_bfloat16(device) else torch.float32


def loaded(
    model: LanguageModel | str,
    device: str,
    bos: str | None = None,
    *,
    kinds: Collection[str] = ("causal",),
    served: Served | None = None,
) -> Any:
    """Load a spec in float32, as reported numbers require; return a loaded model unchanged."""
    if isinstance(model, str):
        return load_model(
            model, dtype="float32", device=device, bos=bos, kinds=kinds, served=served
        )
    check_kind(model, kinds)
    if bos is not None:
        raise ConfigError(
            f"bos has no effect on a loaded model ({model.name}); got {bos!r}. Pass bos to "
            "load_model instead."
        )
    return model
