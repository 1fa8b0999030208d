"""Reference models trained on halves of a pool, and what their matrix says about a target."""
