"""Keep the working directory out of the import path."""

import os
import sys


def forget_folder(folder: str) -> None:
    """Import nothing more from a folder, unless the auditor itself was imported from it.

    A working directory may have packages of its own named `reports`, `attacks` or like a library.

    Parameters
    ----------
    folder : str
        An entry of `sys.path`; another is ignored.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if folder in sys.path and os.path.realpath(folder) != os.path.realpath(root):
        sys.path.remove(folder)
