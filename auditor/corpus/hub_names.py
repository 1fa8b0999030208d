"""Parse names of hub datasets: "hf:PATH:CONFIG:SPLIT:COLUMN+COLUMN"."""

from dataclasses import dataclass, replace
from pathlib import Path

from auditor.errors import CorpusError

PREFIX = "hf:"
_FORM = "hf:PATH[:CONFIG][:SPLIT][:COLUMN[+COLUMN]]"


@dataclass(frozen=True)
class HubSpec:
    """A hub dataset, with the config, split and columns to read.

    Attributes
    ----------
    path : str
        An id such as "nyu-mll/glue", or a folder in the same layout.
    config, split : str, optional
        By default the only config, and all splits.
    columns : tuple of str
        Paths of the text columns, joined by newlines; if empty, the column is chosen by name.
    name : str
        Prefix of the ids of documents that have none.
    """

    path: str
    config: str | None = None
    split: str | None = None
    columns: tuple[str, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        parts = [self.path, self.config or "", self.split or "", "+".join(self.columns)]
        return PREFIX + ":".join(parts).rstrip(":")

    @property
    def is_local(self) -> bool:
        """Whether the path is a local folder."""
        return Path(self.path).expanduser().is_dir()

    @property
    def location(self) -> str:
        """The local folder, or the id on the hub."""
        return str(Path(self.path).expanduser()) if self.is_local else self.path

    def named(self, base: str) -> "HubSpec":
        """The spec with a name composed of `base`, config and split."""
        return replace(self, name="/".join(filter(None, (base, self.config, self.split))))


def parse_hub(text: str) -> HubSpec:
    """Parse a name of the form hf:PATH[:CONFIG][:SPLIT][:COLUMN[+COLUMN]].

    Parts may be empty: "hf:imdb::train" is the split train of the only config. An existing local
    path may contain colons. Raises CorpusError for another form and for a missing local folder.

    >>> parse_hub("hf:nyu-mll/glue:qnli:train:question+sentence").columns
    ('question', 'sentence')
    >>> parse_hub("hf:imdb::train").name
    'imdb/train'
    """
    parts = text.removeprefix(PREFIX).split(":")
    for n in range(len(parts), 1, -1):
        path = ":".join(parts[:n])
        if Path(path).expanduser().is_dir():
            parts = [path, *parts[n:]]
            break
    path, *rest = parts
    if not path or len(rest) > 3:
        raise CorpusError(f"A hub dataset must have the form {_FORM}; got {text}.")
    config, split, columns = [*rest, "", "", ""][:3]
    spec = HubSpec(path, config or None, split or None, tuple(filter(None, columns.split("+"))))
    if path[0] in "./~" and not spec.is_local:
        raise CorpusError(f"{text}: there is no folder {path}. Check the path.")
    return spec.named(Path(spec.location).resolve().name if spec.is_local else path)
