"""Training text: reading it, and finding in it what a model said."""
