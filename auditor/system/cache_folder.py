"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder for models and remote runs: $AUDITOR_CACHE, or the platform's cache folder.

    On Linux, the latter is `auditor` in $XDG_CACHE_HOME or ~/.cache.
    """
    from platformdirs import user_cache_path

    own = os.environ.get("AUDITOR_CACHE")
    return Path(own) if own else user_cache_path("auditor", appauthor=False)
