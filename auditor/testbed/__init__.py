"""A small model with known training text, and the demo that audits it."""
