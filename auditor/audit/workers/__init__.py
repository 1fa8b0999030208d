"""Sampling and scoring on several processes, GPUs or machines, one shard per task."""
