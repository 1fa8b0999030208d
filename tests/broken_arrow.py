"""A saved dataset whose Arrow file says that its texts lie where they do not."""

import struct
from pathlib import Path

import datasets


def saved_with_offsets(folder: Path, offsets: tuple[int, int, int]) -> Path:
    """The texts "one" and "three", saved; their offsets are 0, 3 and 8 in a file that is whole."""
    datasets.Dataset.from_dict({"text": ["one", "three"]}).save_to_disk(folder)
    (path,) = folder.glob("*.arrow")
    raw, whole = path.read_bytes(), struct.pack("<3i", 0, 3, 8)
    assert raw.count(whole) == 1
    path.write_bytes(raw.replace(whole, struct.pack("<3i", *offsets)))
    return folder
