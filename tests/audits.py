"""Settings of a complete audit that takes seconds."""


def settings(bed, out, **changes):
    """A small audit of a testbed."""
    given = {
        "model": bed.target,
        "references": bed.references,
        "strategies": ["top-n", "temperature", "internet"],
        "prompts": {"corpus": [str(bed.heldout)]},
        "decoding": {"max_new_tokens": 96},
        "samples": 96,
        "top": 24,
        "shard_size": 40,
        "corpus": [str(bed.corpus)],
        "truth": str(bed.truth_file),
        "out": str(out),
    }
    return {**given, **changes}
