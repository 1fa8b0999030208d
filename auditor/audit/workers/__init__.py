"""Sampling and scoring on several processes, GPUs or machines: a shard is the unit of work."""
