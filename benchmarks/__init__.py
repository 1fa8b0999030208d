"""Speed and memory, measured by hand; no test depends on them."""
