"""Gates: limits that the figures of a run must keep."""
