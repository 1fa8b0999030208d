"""A saved dataset whose Arrow file has wrong text offsets."""

import struct
from pathlib import Path

import datasets


def saved_with_offsets(folder: Path, offsets: tuple[int, int, int]) -> Path:
    """Save the texts "one" and "three", whose correct offsets are 0, 3 and 8."""
    datasets.Dataset.from_dict({"text": ["one", "three"]}).save_to_disk(folder)
    (path,) = folder.glob("*.arrow")
    raw, whole = path.read_bytes(), struct.pack("<3i", 0, 3, 8)
    assert raw.count(whole) == 1
    path.write_bytes(raw.replace(whole, struct.pack("<3i", *offsets)))
    return folder
