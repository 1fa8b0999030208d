"""Scores of texts and samples: higher means more likely memorized."""
