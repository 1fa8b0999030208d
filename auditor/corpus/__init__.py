"""Read training corpora."""
