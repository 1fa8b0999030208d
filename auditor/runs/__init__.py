"""Runs on disk: write, read, list and check them."""
