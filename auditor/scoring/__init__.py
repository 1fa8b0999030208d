"""From a text to its scores."""
