"""One score, many readings: the variants that papers and public code print, on the same inputs.

`python -m benchmarks.conformance > docs/conformance.md` makes a page of them. Every number on it is
computed when the page is made: the readings that we follow by the scores themselves, the others by
their formulas. So a reader can find which reading gave a number that is printed elsewhere.
"""
