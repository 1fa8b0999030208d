"""Membership scores of texts."""
