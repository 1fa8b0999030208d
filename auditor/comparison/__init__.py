"""Comparison of two models, or of two runs."""
