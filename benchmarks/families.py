"""Every causal family of transformers: the path that it takes, and the largest error.

    python -m benchmarks.families > docs/families.md

A tiny random network of each family is compared with its own plain forward pass in float64. The
numbers are those that the tests bound.
"""

from __future__ import annotations

import warnings

from tests import families

_HEAD = """# Families of causal models

Written by `python -m benchmarks.families`: a tiny random network of each family in transformers,
compared with a plain forward pass of the same network in float64. Errors are the largest of any
token, in nats: of given texts, alone and in mixed batches, and of the log-probabilities recorded
while sampling. Texts are longer than every window. `auditor doctor --model SPEC` shows the path of
a real model.

| family | logits | sampling | error, texts | error, samples |
| --- | --- | --- | ---: | ---: |"""


def _row(family: str) -> str:
    network = families.tiny_network(family)
    judge, model = families.judge_of(network, family), families.loaded(network, family)
    texts = families.text_error(model, judge)
    context = min(model.context or families.CONTEXT, families.CONTEXT)
    samples = families.sample_error(model, judge, context - 12)
    head, steps = ("plain" if k in model.slow_because else "fast" for k in ("head", "steps"))
    return f"| `{family}` | {head} | {steps} | {_size(texts)} | {_size(samples)} |"


def _size(error: float) -> str:
    """An error rounded up, so that the table does not change with the machine.

    >>> _size(0.0000031), _size(0.0003)
    ('< 0.00001', '< 0.001')
    """
    bound = next(b for b in (0.00001, 0.0001, 0.001, 0.01, 0.1, 1) if error < b)
    return f"< {bound:.5f}".rstrip("0")


def main() -> None:
    """Print the page."""
    warnings.simplefilter("ignore")
    print(_HEAD)
    for family in families.TRIED:
        print(_row(family), flush=True)


if __name__ == "__main__":
    main()
