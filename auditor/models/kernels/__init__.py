"""Faster implementations of single network operations."""
