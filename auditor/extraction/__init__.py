"""Discoverable extraction: whether a model completes training text from its prefix."""
