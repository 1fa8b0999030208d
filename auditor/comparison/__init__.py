"""Two models, or two runs, compared."""
