"""Audits that run by themselves: when, where each goes, what changed, pass or fail, who is told."""
