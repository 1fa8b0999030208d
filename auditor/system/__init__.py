"""Files, memory, network access, progress and compiled loops."""
