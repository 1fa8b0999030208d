"""Prints docs/conformance.md."""

from benchmarks.conformance.page import page

if __name__ == "__main__":
    print(page(), end="")
