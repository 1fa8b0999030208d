"""Canaries: create them, insert them into training text, and measure their exposure."""
