"""Canaries: made, inserted into training text, and measured by their exposure."""
