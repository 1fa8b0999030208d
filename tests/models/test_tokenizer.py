"""Token ids to text and back, for byte-level BPE and for SentencePiece's way of spelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from auditor.errors import ConfigError, ModelError
from auditor.models.tiny_gpt2 import build_tokenizer
from auditor.models.tokenizer import Vocabulary, check_rows, n_common

few = settings(max_examples=150, deadline=None)
fewer = settings(max_examples=30, deadline=None)
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


def tokenizer_of(model, **parts):
    """A tokenizer with the ends `<s>` and `</s>`, which are special."""
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends)


UNKNOWN = {"unk_token": "<unk>"}


def numbered(*pieces):
    return {piece: i for i, piece in enumerate(["<unk>", "<s>", "</s>", *pieces])}


def llama():
    """`sentence_piece` whose decoder takes away the space that was put first."""
    made = sentence_piece()
    made.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    return made


def word_piece(*, cleanup=True):
    pieces = ["the", "cat", "##s", "##at", "a", ".", "##.", ",", "n't", "日"]
    return tokenizer_of(
        models.WordPiece(numbered(*pieces), **UNKNOWN),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(cleanup=cleanup),
    )


def word_ends():
    """GPT's way before GPT-2: the last piece of a word says so."""
    pieces = ["t", "h", "e", "e</w>", "th", "the</w>", "c", "a", "t</w>", "at</w>", ".</w>"]
    merges = [("t", "h"), ("th", "e</w>"), ("a", "t</w>")]
    return tokenizer_of(
        models.BPE(numbered(*pieces), merges, **UNKNOWN, end_of_word_suffix="</w>"),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.BPEDecoder(),
    )


def words():
    """Words, which no decoder puts together: a space stands between them."""
    return tokenizer_of(
        models.WordLevel(numbered("the", "cat", "sat", "日"), **UNKNOWN),
        pre_tokenizer=pre_tokenizers.Whitespace(),
    )


def metaspace(scheme="always", bar="▁"):
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), (bar, -2.0), (f"{bar}{bar}", -3.0)]
    pieces += [(f"{bar}the", -1.0), ("the", -2.0), ("c", -2.0), ("at", -2.0), ("a", -4.0)]
    return tokenizer_of(
        models.Unigram(pieces, unk_id=0),
        pre_tokenizer=pre_tokenizers.Metaspace(bar, scheme),
        decoder=decoders.Metaspace(bar, scheme),
    )


KINDS = {
    "bytes": byte_level(),
    "pieces": sentence_piece(),
    "no space": sentence_piece(adds_space=False),
    "llama": llama(),
    "wordpiece": word_piece(),
    "wordpiece, no cleanup": word_piece(cleanup=False),
    "word ends": word_ends(),
    "words": words(),
    "metaspace": metaspace(),
    "metaspace, first": metaspace("first"),
    "metaspace, never": metaspace("never"),
    "metaspace, another bar": metaspace(bar="_"),
}
EVERY = pytest.mark.parametrize("kind", KINDS)

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


@EVERY
@fewer
@given(data=st.data())
def test_any_tokens_spell_what_the_tokenizer_s_own_decoder_gives(kind, data):
    """And each ends where the text of all tokens so far does, as far as it stands already."""
    tokenizer = KINDS[kind]
    vocabulary = Vocabulary(tokenizer)
    ids = data.draw(any_tokens(vocabulary))

    def theirs(ids):
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    text, ends = theirs(ids), vocabulary.token_ends(ids)
    assert vocabulary.decode(ids) == text
    if kind == "bytes":
        return
    low = [n_common([theirs(ids[:n]), text]) for n in range(len(ids) + 1)]
    low = np.maximum.accumulate(low)  # what is broken off halfway may differ before its end, too
    # A space between two words may be the first's or the second's.
    for n, end in enumerate(ends):
        cut = text[low[n + 1] : end]
        assert end >= low[n + 1]
        assert cut.strip(" ") == "" or "\ufffd" in text
    assert (np.diff(ends) >= 0).all()
    assert not ids or ends[-1] == len(text)


@EVERY
@fewer
@given(data=st.data())
def test_tokens_after_others_spell_the_rest_of_what_all_spell(kind, data):
    vocabulary = Vocabulary(KINDS[kind])
    plain = [i for i, raw in enumerate(vocabulary.token_bytes) if raw.isascii()]
    some = st.lists(st.sampled_from(plain), max_size=12)
    before, ids = data.draw(some), data.draw(some)
    text = vocabulary.decode(ids, before)
    assert vocabulary.decode(before) + text == vocabulary.decode([*before, *ids])
    ends = vocabulary.token_ends(ids, before).tolist()
    assert ends == sorted(ends)
    assert not ids or ends[-1] == len(text)


def test_an_ordinary_token_that_is_padding_by_name_is_written(tmp_path):
    """tokenizer.json does not mark it; the settings beside it call it so."""
    tokenizer = byte_level()
    tokenizer.pad_token = "!"  # noqa: S105
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    vocabulary = Vocabulary(loaded)
    ids = vocabulary.encode("hi! the cat!")
    assert loaded.pad_token_id in ids
    assert vocabulary.decode(ids) == "hi! the cat!"
    assert vocabulary.decode([vocabulary.eos_id]) == ""
    assert vocabulary.token_bytes[loaded.pad_token_id] == b"!"


@BOTH
def test_special_tokens_write_nothing(vocabulary):
    ids = vocabulary.encode("the cat")
    special = vocabulary.tokenizer.all_special_ids
    mixed = [*special, *ids[:2], *special, *ids[2:]]
    assert vocabulary.decode(mixed) == vocabulary.decode(ids)
    assert vocabulary.decode(ids).strip() == "the cat"


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


def test_a_document_is_encoded_as_the_tokenizer_does_it():
    """A space at its beginning is its own, besides the one that the tokenizer puts there."""
    for kind, tokenizer in KINDS.items():
        for text in (" the cat", "the cat", "  the", "\nthe", ""):
            found = Vocabulary(tokenizer).encode(text)
            assert found == tokenizer(text, add_special_tokens=False)["input_ids"], kind


def test_what_tokens_spelt_is_read_without_a_second_space():
    """Where a decoder leaves the space that the tokenizer put there, a sample begins with it."""
    plain = Vocabulary(sentence_piece(adds_space=False))
    for text in (" the the", " a", " b the", "  the"):
        assert PIECES.encode_after([""], [text]) == ([[]], [plain.encode(text)])


@few
@given(st.text("abc teh\n日é", max_size=12), st.text("abc teh\n日é", max_size=12))
def test_a_continuation_is_encoded_with_what_it_goes_on_with(prompt, text):
    """Cut by the place of each character: every letter is a token here, so there is one way."""
    for tokenizer in (byte_level(257, ["abc"]), llama()):
        vocabulary = Vocabulary(tokenizer)
        whole = vocabulary.encode(prompt + text)
        [before], [own] = vocabulary.encode_after([prompt], [text])
        assert before + own == whole
        until = [e for _, e in tokenizer(prompt + text, return_offsets_mapping=True,
                                         add_special_tokens=False)["offset_mapping"]]  # fmt: skip
        assert not prompt or all(end <= len(prompt) for end in until[: len(before)])
        assert not own or not prompt or until[len(before)] > len(prompt)
        if not prompt:
            assert before == []


def test_a_token_across_the_cut_is_the_text_s():
    """`he` reaches from the prompt into the text."""
    [before], [own] = Vocabulary(llama()).encode_after(["a h"], ["e a"])
    names = llama().convert_ids_to_tokens
    assert (names(before), names(own)) == (["▁a", "▁"], ["he", "▁a"])


def test_parts_are_cut_at_tokens_that_write_nothing_and_put_together_again():
    for kind, tokenizer in KINDS.items():
        vocabulary = Vocabulary(tokenizer)
        eos = vocabulary.eos_id
        one, other = (vocabulary.encode(text) for text in ("the cat", "cat the the"))
        prompt, ids = [vocabulary.bos_id, *one], [*other, eos, *one, eos, eos, *other]
        parts = vocabulary.parts(ids, prompt)
        spelt = [vocabulary.decode(one), vocabulary.decode(other)]
        first = vocabulary.decode(other, prompt)
        assert parts == [first, eos, spelt[0], eos, eos, spelt[1]], kind
        again = vocabulary.encode_parts([vocabulary.parts(prompt)], [parts])
        if kind == "pieces":
            continue  # its decoder leaves the space that the tokenizer puts first
        whole = vocabulary.encode(vocabulary.decode(one) + first)
        assert [*again[0][0], *again[1][0]] == [
            vocabulary.bos_id, *whole, eos, *one, eos, eos, *other
        ], kind  # fmt: skip


def test_the_names_of_special_tokens_cut_a_text():
    eos = BYTES.eos_id
    assert BYTES.text_parts("A b<|endoftext|>C<|endoftext|>") == ["A b", eos, "C", eos]
    assert BYTES.text_parts("a b") == ["a b"]
    assert BYTES.text_parts("") == [""]


def test_a_boundary_has_its_counterpart_in_another_tokenizer():
    """By name, else the end of a text for an end or a beginning; nothing else has one."""
    other = byte_level()
    other.add_special_tokens({"pad_token": "<pad>"})
    theirs = Vocabulary(other)
    assert PIECES.counterpart(PIECES.eos_id, theirs) == [theirs.eos_id]
    assert PIECES.counterpart(PIECES.bos_id, theirs) == [theirs.eos_id]
    assert theirs.counterpart(other.pad_token_id, PIECES) == []
    assert theirs.counterpart(len(other) + 5, PIECES) == []
    assert BYTES.counterpart(BYTES.eos_id, theirs) == [theirs.eos_id]


def test_a_token_without_a_row_is_named_with_what_holds_it():
    tokenizer = byte_level()
    n = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    vocabulary = Vocabulary(tokenizer)
    check_rows("m", vocabulary, n, vocabulary.encode("the cat"), "text 1")
    with pytest.raises(ModelError) as told:
        check_rows("m", vocabulary, n, vocabulary.encode("a [PAD]"), "text 7")
    assert str(told.value) == (
        "m: its tokenizer has 1 token more than its weights, and text 7 contains one of them "
        f"([PAD], id {n}). Remove it from the text, or resize the model's embeddings."
    )


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


@pytest.mark.parametrize("kind", ["pieces", "llama", "no space"])
def test_tokens_that_complete_a_character_of_the_prompt_end_where_its_bytes_do(kind):
    """Cut anywhere, within 😀 (4 bytes) and é (2) too: places are those of the bytes so far."""
    vocabulary = Vocabulary(KINDS[kind])
    ids = vocabulary.encode("the 😀 é the日")
    whole, raw = vocabulary.decode(ids), [len(vocabulary.token_bytes[i]) for i in ids]
    extra = sum(raw) - len(whole.encode())  # the space that the decoder takes away
    done = [max(0, sum(raw[:n]) - extra) for n in range(len(ids) + 1)]
    chars = [len(whole.encode()[:n].decode("utf-8", "ignore")) for n in done]
    for cut in range(len(ids)):
        assert vocabulary.decode(ids[cut:], ids[:cut]) == whole[chars[cut] :]
        ends = vocabulary.token_ends(ids[cut:], ids[:cut])
        assert ends.tolist() == [n - chars[cut] for n in chars[cut + 1 :]]


def test_after_half_a_character_the_decoder_is_not_asked_token_by_token():
    asked = []

    class Counting(Vocabulary):
        def _decode_pieces(self, pieces):
            asked.append(len(pieces))
            return super()._decode_pieces(pieces)

    vocabulary = Counting(llama())
    smile = vocabulary.encode("😀")
    for n_words in (10, 100):
        ids = smile[-2:] + vocabulary.encode("the the" * n_words)
        vocabulary.token_ends(ids, smile[:-2])  # each piece's own text is known after this
        asked.clear()
        vocabulary.token_ends(ids, smile[:-2])
        assert len(asked) < 6


# ---------------------------------------------------------------- BOS and fingerprint


def test_a_bos_that_is_an_ordinary_token_is_not_text_before_a_sample():
    """Llama's decoder takes the first space of a text: " the" after BOS is "the", of 3 characters.

    After another token the space is written, and the text has 4.
    """
    vocabulary = Vocabulary(llama(), "c")
    the, bos = vocabulary.encode("the"), vocabulary.bos_id
    assert vocabulary.name_of(bos) == "c"
    assert len(the) == 1
    assert vocabulary.decode(the) == "the"
    assert vocabulary.ends_in("the", the, [bos]).tolist() == [3]
    assert vocabulary.ends_in("the", the, np.array([bos])).tolist() == [3]
    assert vocabulary.ends_in(" the", the, [bos, bos]).tolist() == [4]
    two = vocabulary.encode("the the")
    assert vocabulary.ends_in("the the", two, [bos]).tolist() == [3, 7]


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
        "--bos must be a token of the model's vocabulary; got '<start>'. Choose one of its "
        "special tokens: <|endoftext|>."
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
