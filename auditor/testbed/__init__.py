"""A small model with known training text, and a demo that audits it."""
