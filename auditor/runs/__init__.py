"""Runs on disk: written, read, listed and checked."""
