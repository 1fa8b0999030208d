"""Folded text and its original positions, against a character-by-character implementation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.matching.normalization import Folder, Folding, fold_text

few = settings(max_examples=200, deadline=None)
characters = st.one_of(st.sampled_from("aA \n\t\u2003\x1cΣσςİiẞ\ud800\U00010400"), st.characters())
texts = st.lists(characters, max_size=30).map("".join)
changes = st.builds(Folding, whitespace=st.booleans(), case=st.booleans())


def walk(text, change):
    """Each folded character and its place, and the end."""
    folded, origins = [], []
    for i, c in enumerate(text):
        if change.case and len(c.lower()) == 1:
            c = "σ" if c in "Σς" else c.lower()
        if change.whitespace and c.isspace():
            c = " "
            if folded and folded[-1] == " ":
                continue
        folded.append(c)
        origins.append(i)
    return "".join(folded), [*origins, len(text)]


@few
@given(texts, changes)
def test_a_text_is_folded_character_by_character(text, change):
    folded, drops = fold_text(text, change)
    expected, origins = walk(text, change)
    assert folded == expected
    assert drops.origin(np.arange(len(folded) + 1)).tolist() == origins


@few
@given(st.lists(texts, max_size=5), changes, st.integers(0, 20))
def test_pieces_fold_as_their_document_does(pieces, change, begin):
    folder = Folder(change)
    folded = b"".join(folder.fold(piece.encode("utf-8", "surrogatepass")) for piece in pieces)
    expected, origins = walk("".join(pieces), change)
    assert folded.decode("utf-8", "surrogatepass") == expected
    begin = min(begin, len(expected))
    folder.forget(begin)
    # Of what was forgotten nothing is told; of the rest all.
    after = np.arange(begin, len(expected) + 1)
    assert folder.drops(begin).origin(after).tolist() == origins[begin:]


def test_a_new_document_resets_the_folding():
    folder = Folder(Folding(whitespace=True))
    folder.fold(b"a  b ")
    folder.restart()
    assert folder.fold(b" c") == b" c"
    assert folder.drops(0).origin(np.arange(3)).tolist() == [0, 1, 2]
