"""Sampling: prompts, decoding, randomness and the batched loop."""
