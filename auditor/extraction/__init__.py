"""Discoverable extraction: what a model gives back of a text when shown what comes before it."""
