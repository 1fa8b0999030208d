"""Token ids to text and back, for byte-level BPE and for SentencePiece's way of spelling."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from auditor.errors import ConfigError
from auditor.language_models.building import build_tokenizer
from auditor.language_models.vocabulary import Vocabulary

few = settings(max_examples=150, deadline=None)
TEXTS = [
    "the cat sat on the mat, the cat ate the rat",
    "où est le café? déjà vu",
    "日本語 日本 ",
] * 3
# No lone surrogates, which no tokenizer takes, and no names of special tokens, which are tokens.
UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=30)


def byte_level(n_vocab=330, texts=TEXTS):
    return build_tokenizer(texts, n_vocab)


def sentence_piece(*, adds_space=True):
    """Llama's way: a bar for a space, bytes by number where a character has no token."""
    learned = ["▁", "a", "b", "c", "e", "h", "t", "▁t", "▁a", "he", "▁the", "▁▁"]
    special = ["<unk>", "<s>", "</s>"]
    pieces = [*special, *(f"<0x{b:02X}>" for b in range(256)), *learned]
    merges = [("▁", "t"), ("▁", "a"), ("h", "e"), ("▁t", "he"), ("▁", "▁")]
    unknown = {"unk_token": "<unk>"}
    model = models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, merges,
        fuse_unk=True, byte_fallback=True, **unknown,
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    steps = [normalizers.Prepend("▁")] if adds_space else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends, **unknown)


BYTES, PIECES = Vocabulary(byte_level()), Vocabulary(sentence_piece())
BOTH = pytest.mark.parametrize("vocabulary", [BYTES, PIECES], ids=["bytes", "pieces"])


@st.composite
def any_tokens(draw, vocabulary):
    return draw(st.lists(st.integers(0, len(vocabulary.tokenizer) - 1), max_size=20))


# ---------------------------------------------------------------- decode


@few
@given(UNICODE)
def test_byte_level_text_comes_back_as_it_was(text):
    ids = BYTES.encode(text)
    assert BYTES.decode(ids) == text
    assert BYTES.decode(ids) == BYTES.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@few
@given(any_tokens(BYTES))
def test_any_byte_level_tokens_decode_as_the_tokenizer_decodes_them(ids):
    """Broken characters and special tokens included: any tokens are what a model may write."""
    theirs = BYTES.tokenizer.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert BYTES.decode(ids) == theirs


@few
@given(st.text("abc teh\n日é", max_size=20))
def test_sentence_piece_text_comes_back_with_the_space_that_stands_before_it(text):
    ids = PIECES.tokenizer.encode(text, add_special_tokens=False)
    assert PIECES.decode(ids) == (" " + text if text else "")
    assert PIECES.decode(ids) == PIECES.tokenizer.decode(ids)


@BOTH
def test_special_tokens_write_nothing(vocabulary):
    ids = vocabulary.encode(" the cat")
    special = vocabulary.tokenizer.all_special_ids
    mixed = [*special, *ids[:2], *special, *ids[2:]]
    assert vocabulary.decode(mixed) == vocabulary.decode(ids) == " the cat"


def test_added_tokens_write_themselves_and_special_ones_nothing():
    """Added tokens are in no alphabet of bytes: é is é, and two spaces are two spaces."""
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("[é]", normalized=False), AddedToken("  ", normalized=False)])
    tokenizer.add_tokens([AddedToken("<|reserved|>", special=True)], special_tokens=True)
    vocabulary = Vocabulary(tokenizer)
    n = len(tokenizer)
    assert [vocabulary.decode([i]) for i in range(n - 3, n)] == ["[é]", "  ", ""]
    ids = vocabulary.encode("a [é]  b")
    assert {n - 3, n - 2} < set(ids)
    assert vocabulary.decode(ids) == "a [é]  b"


def test_ids_beyond_the_tokenizer_write_nothing():
    """Models pad their vocabulary, so such tokens can be sampled."""
    assert BYTES.decode([*BYTES.encode("cat"), 100_000]) == "cat"
    assert BYTES.token_ends([100_000]).tolist() == [0]


# ---------------------------------------------------------------- encode


@few
@given(st.lists(UNICODE, max_size=4))
def test_encoding_many_is_encoding_each(texts):
    for vocabulary in (BYTES, PIECES):
        assert vocabulary.encode_all(texts) == [vocabulary.encode(text) for text in texts]


def test_a_tokenizer_that_puts_a_space_first_does_not_put_two():
    """What a model wrote begins with its space; read again it must not begin with two."""
    plain = Vocabulary(sentence_piece(adds_space=False))
    for text in (" the the", " a", " b the", "  the"):
        ids = plain.encode(text)
        assert PIECES.encode(text) == ids
        assert PIECES.decode(ids) == text
    # Where a text has no space there, the tokenizer has its way.
    assert PIECES.decode(PIECES.encode("the")) == " the"


def test_lone_surrogates_are_replaced_and_not_fatal():
    assert BYTES.decode(BYTES.encode("a\ud800b")) == "a?b"


def test_the_name_of_a_special_token_in_a_text_is_that_token():
    """So that a prompt can hold a chat's marks."""
    assert BYTES.encode("<|endoftext|>cat") == [BYTES.eos_id, *BYTES.encode("cat")]


def test_nothing_is_put_before_or_after_a_text():
    for vocabulary in (BYTES, PIECES):
        assert not set(vocabulary.encode("the cat")) & set(vocabulary.tokenizer.all_special_ids)
        assert vocabulary.encode("") == []


# ---------------------------------------------------------------- places of tokens


def slow_ends(vocabulary, ids):
    """A token ends where the text of all tokens so far ends, without what is not complete yet."""
    text, ends = vocabulary.decode(ids), []
    for n in range(1, len(ids) + 1):
        raw = b"".join(vocabulary.token_bytes[i] for i in ids[:n])
        best = 0
        for end in range(len(text) + 1):
            # U+FFFD stands for bytes that are no character; these tests have none of them.
            if len(text[:end].encode()) <= len(raw):
                best = end
        ends.append(best)
    return ends


@few
@given(UNICODE)
def test_tokens_end_where_their_characters_are_complete(text):
    for vocabulary in (BYTES, PIECES):
        ids = vocabulary.encode(text)
        assert vocabulary.token_ends(ids).tolist() == slow_ends(vocabulary, ids)


@few
@given(st.data())
def test_places_cover_the_text_of_any_tokens_in_order(data):
    for vocabulary in (BYTES, PIECES):
        ids = data.draw(any_tokens(vocabulary))
        text, ends = vocabulary.decode(ids), vocabulary.token_ends(ids).tolist()
        starts = [0, *ends][: len(ends)]
        assert ends == sorted(ends)
        assert "".join(text[a:b] for a, b in zip(starts, ends, strict=True)) == text


def test_a_character_of_three_tokens_belongs_to_the_last():
    """日 is E6 97 A5; a byte-level tokenizer that never learned it spells it byte by byte."""
    vocabulary = Vocabulary(byte_level(257, ["abc"]))
    ids = vocabulary.encode("a日b")
    assert len(ids) == 5
    assert vocabulary.token_ends(ids).tolist() == [1, 1, 1, 2, 3]
    # Broken off, what is there becomes one replacement character at the end.
    assert vocabulary.decode(ids[:3]) == "a\ufffd"
    assert vocabulary.token_ends(ids[:3]).tolist() == [1, 1, 2]


# ---------------------------------------------------------------- BOS and fingerprint


def test_bos_is_the_tokenizer_own_or_the_one_that_was_named():
    assert BYTES.bos_id == BYTES.eos_id == BYTES.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    bare = byte_level()
    bare.bos_token = None
    assert Vocabulary(bare).bos_id is None
    assert Vocabulary(bare, "<|endoftext|>").bos_id == BYTES.bos_id


def test_an_unknown_bos_is_refused_and_the_special_tokens_are_named():
    with pytest.raises(ConfigError) as told:
        Vocabulary(byte_level(), "<start>")
    assert str(told.value) == (
        "--bos must be a token of the model's vocabulary; got '<start>'. Special tokens there "
        "are: <|endoftext|>."
    )


def test_fingerprints_are_equal_for_equal_vocabularies_alone():
    one = Vocabulary(byte_level()).fingerprint
    assert Vocabulary(byte_level()).fingerprint == one
    others = [
        Vocabulary(byte_level(280)),
        Vocabulary(byte_level(330, ["another text with other words"] * 3)),
        PIECES,
    ]
    assert len({one, *(v.fingerprint for v in others)}) == 4


def test_fingerprints_tell_the_same_pieces_with_other_merges_apart():
    """a + bc and ab + c both make abc, but read `abc` and `abbc` in different ways."""
    pieces = {piece: i for i, piece in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    found = []
    for merges in ([("a", "b"), ("b", "c"), ("ab", "c")], [("b", "c"), ("a", "b"), ("a", "bc")]):
        tokenizer = Tokenizer(models.BPE(pieces, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "removed")
        found.append(Vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer)))
    assert found[0].token_bytes == found[1].token_bytes
    assert found[0].fingerprint != found[1].fingerprint
