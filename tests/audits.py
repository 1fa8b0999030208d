"""A complete audit that takes seconds: its settings, a copy, and a slow search of its samples."""

import shutil


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


def copied(run, tmp_path):
    """A copy of the run's folder, to be verified again."""
    return shutil.copytree(run.path, tmp_path / "copy")


def long_spans(vocabulary, row):
    """The shortest spans of a sample of 32 tokens, or of 100 characters, that count.

    A token counts if it writes something and is no more than the going on of one character; a
    character counts if it differs from the one before.
    """
    ends = vocabulary.token_ends(row.token_ids).tolist()
    tokens = [(a, b) for a, b in zip([0, *ends], ends, strict=False) if b > a]
    spans = []
    for first, (start, _) in enumerate(tokens):
        n = 0
        for a, b in tokens[first:]:
            n += any(i == start or row.text[i] != row.text[i - 1] for i in range(a, b))
            if n == 32:
                spans.append((start, b))
                break
    new = [i for i, char in enumerate(row.text) if row.text[i - 1 : i] != char]
    return spans + [(a, b + 1) for a, b in zip(new, new[99:], strict=False)]
