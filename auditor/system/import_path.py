"""Keep the working directory out of the import path."""

import os
import sys


def forget_folder(folder: str) -> None:
    """Remove a folder from the import path, unless the auditor itself was imported from it.

    A working directory may contain packages named `reports`, `attacks` or like a library. A folder
    that is not in `sys.path` is ignored.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if folder in sys.path and os.path.realpath(folder) != os.path.realpath(root):
        sys.path.remove(folder)
