"""Scheduled audits: when they run, their folders, comparison with the last run, gates and hooks."""
