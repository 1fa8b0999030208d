"""Gates: limits on the figures of a run."""
