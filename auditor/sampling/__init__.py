"""Sampling: prompts, decoding, random streams and batched generation."""
