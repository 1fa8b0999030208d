"""Prompts: the same for the same sample, in any batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.config.audit import strategy
from auditor.errors import ConfigError, CorpusError, ModelError
from auditor.models.tiny_gpt2 import build_tokenizer
from auditor.models.tokenizer import Vocabulary
from auditor.sampling import prompts as prompts_module
from auditor.sampling.few_shot import read_text
from auditor.sampling.prompts import PromptSource
from auditor.system.package_data import data_folder, prompt_file, shipped

LINES = [f"line {i} of a small corpus, with words and the number {i * 37}." for i in range(50)]
VOCABULARY = Vocabulary(build_tokenizer(LINES, 300))
BOS = VOCABULARY.bos_id


def source(
    name="internet",
    *,
    vocabulary=VOCABULARY,
    seed=0,
    context=None,
    decoding=None,
    audit=None,
    **more,
):
    made = strategy(name, prompts=more, decoding=decoding)
    settings = {"seed": seed, "context": context, "model_name": "m", **(audit or {})}
    return PromptSource(made, vocabulary, **settings)


def without_bos():
    tokenizer = build_tokenizer(LINES, 300)
    tokenizer.bos_token = None
    return Vocabulary(tokenizer)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    return str(path)


# ---------------------------------------------------------------- BOS


def test_bos_alone_is_the_prompt():
    assert source("top-n").prompts(range(3)) == [[BOS]] * 3


def test_without_bos_the_remedies_are_named():
    with pytest.raises(ModelError) as told:
        source("top-n", vocabulary=without_bos())
    assert str(told.value) == (
        "Strategy 'top-n' needs a BOS token, and m's tokenizer has none. Set one with --bos "
        "TOKEN, or use --strategy internet with your own prefixes."
    )


# ---------------------------------------------------------------- prefixes from a corpus


def test_prefixes_are_5_to_10_tokens_of_the_corpus_word_for_word(corpus):
    texts = VOCABULARY.encode_all(LINES)
    lengths = set()
    for first, *prefix in source(corpus=[corpus]).prompts(range(200)):
        assert first == BOS
        lengths.add(len(prefix))
        assert any(prefix == text[i : i + len(prefix)] for text in texts for i in range(len(text)))
    assert lengths == {5, 6, 7, 8, 9, 10}


def test_a_sample_has_the_same_prompt_in_any_batch(corpus):
    whole = source(corpus=[corpus]).prompts(range(50))
    again = source(corpus=[corpus])
    some = [49, 3, 17]
    assert again.prompts(some) == [whole[i] for i in some]
    assert len({tuple(p) for p in whole}) > 40


def test_seed_and_strategy_change_the_prompts(corpus):
    whole = source(corpus=[corpus]).prompts(range(20))
    assert source(corpus=[corpus], seed=1).prompts(range(20)) != whole
    named = strategy("other", preset="internet", prompts={"corpus": (corpus,)})
    other = PromptSource(named, VOCABULARY, seed=0, context=None)
    assert other.prompts(range(20)) != whole


def test_samples_share_a_prompt_where_asked_to(corpus):
    alone = source(corpus=[corpus]).prompts(range(5))
    shared = source(corpus=[corpus], samples_per_prompt=4).prompts(range(20))
    assert shared == [alone[i // 4] for i in range(20)]


def test_without_bos_a_prefix_stands_alone(corpus):
    with_bos = source(corpus=[corpus]).prompts(range(5))
    assert source(corpus=[corpus], vocabulary=without_bos()).prompts(range(5)) == [
        p[1:] for p in with_bos
    ]


def test_texts_without_enough_tokens_are_passed_over(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a b")
    with pytest.raises(CorpusError) as told:
        source(corpus=[str(path)])
    assert str(told.value) == (
        f"--prompts: at least one text in {path} must have 5 tokens or more; got none. Give longer "
        "texts, or lower min_tokens."
    )


def test_the_field_that_holds_the_text_is_the_strategys_own_else_the_audits(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"text": "no " * 9, "body": line, "other": "x " * 9} for line in LINES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    audit = {"text_field": "body"}
    found = source(corpus=[str(path)], audit=audit).pool
    assert [VOCABULARY.decode(ids) for ids in found] == LINES
    found = source(corpus=[str(path)], audit=audit, text_field="other").pool
    assert {VOCABULARY.decode(ids) for ids in found} == {"x " * 9}


def test_broken_lines_of_own_texts_stop_a_strict_audit_only(corpus):
    with open(corpus, "a") as sink:
        sink.write("{broken\n")
    found = source(corpus=[corpus])
    assert len(found.pool) == len(LINES)
    (told,) = found.problems
    assert "line 51 is not JSON" in told
    assert "1 of 51 lines skipped; strict stops instead." in told
    with pytest.raises(CorpusError, match="line 51 is not JSON"):
        source(corpus=[corpus], audit={"strict": True})


def test_prefixes_of_other_texts_have_another_fingerprint(corpus, tmp_path):
    whole = source(corpus=[corpus])
    assert whole.fingerprint == source(corpus=[corpus], samples_per_prompt=4).fingerprint
    path = tmp_path / "other.jsonl"
    path.write_text(Path(corpus).read_text().replace("37.", "38."))
    assert source(corpus=[str(path)]).fingerprint != whole.fingerprint


def test_all_of_a_long_file_can_be_a_prefix(tmp_path):
    """It is cut into pieces to choose from, and these are the whole of it."""
    path = tmp_path / "long.txt"
    path.write_text("\n".join(LINES))
    pieces = [VOCABULARY.decode(ids) for ids in source(corpus=[str(path)]).pool]
    assert len(pieces) > 4
    assert "".join(pieces) == path.read_text()


def test_a_large_corpus_is_thinned_evenly(corpus, monkeypatch):
    """By hand, with room for three: of 50 texts, the 4th kept halves them, five times over."""
    monkeypatch.setattr(prompts_module, "_KEPT_TEXTS", 2)
    texts = VOCABULARY.encode_all(LINES)
    found = [texts.index(ids.tolist()) for ids in source(corpus=[corpus]).pool]
    assert found == [0, 32]


# ---------------------------------------------------------------- shipped sets


def test_a_shipped_set_can_be_named_for_prefixes():
    """Its lines are short: one of fewer than 5 tokens is used whole, a longer one in part."""
    lines = shipped("prompts/openings.txt").read_text().splitlines()
    found = {tuple(p[1:]) for p in source(corpus=["openings"], max_tokens=60).prompts(range(999))}
    texts = [VOCABULARY.encode(line) for line in lines]
    for text in texts:
        if len(text) <= 5:
            assert tuple(text) in found
    for prefix in found:
        assert any(list(prefix) == t[i : i + len(prefix)] for t in texts for i in range(len(t)))


def test_short_lines_of_a_shipped_set_are_used_whole():
    wide = source(corpus=["openings"], min_tokens=60, max_tokens=60)
    lines = shipped("prompts/openings.txt").read_text().splitlines()
    assert {VOCABULARY.decode(p) for p in wide.prompts(range(400))} == set(lines)


def test_a_shipped_set_and_own_texts_go_together(corpus):
    pool = source(corpus=["openings", corpus]).pool
    assert len(pool) == len(shipped("prompts/openings.txt").read_text().splitlines()) + 50


def test_a_file_of_the_user_takes_precedence_over_a_shipped_set_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prompt_file("openings", ".txt") == shipped("prompts/openings.txt")
    (tmp_path / "openings").write_text("my own words " * 20)
    assert prompt_file("openings", ".txt") is None
    pool = source(corpus=["openings"]).pool
    assert VOCABULARY.decode(pool[0]) == "my own words " * 20


@pytest.mark.parametrize("given", ["nothing", "../prompts/openings", "openings.txt", ""])
def test_what_is_no_bare_name_of_a_shipped_set_is_a_path(given):
    assert prompt_file(given, ".txt") is None


def test_every_shipped_prompt_file_is_of_a_set_that_can_be_used():
    for path in sorted((data_folder() / "prompts").iterdir()):
        if path.suffix == ".csv":
            assert source("few-shot", examples=path.stem).prompts([0])
        elif path.with_suffix(".csv").exists():
            assert source("few-shot", template=path.stem).prompts([0])
        else:
            assert source(corpus=[path.stem]).prompts([0])


def test_an_unknown_shipped_file_names_those_there_are():
    with pytest.raises(ConfigError, match=r"x.txt is not one of .* Choose one of: contacts.csv, "):
        shipped("prompts/x.txt")


# ---------------------------------------------------------------- few-shot


@pytest.fixture
def few_shot(tmp_path):
    """A template and a table of three rows, by hand; a function that reads them as prompts."""
    template, table = tmp_path / "t.txt", tmp_path / "t.csv"
    template.write_text("{{q}} Q: {q}\nA: {a}\n")
    table.write_text('q,a\none?,1\n"two, too?",2\n"three\nlines?",3\n')

    def texts(template_text=None, table_text=None, **more):
        if template_text is not None:
            template.write_text(template_text)
        if table_text is not None:
            table.write_text(table_text)
        made = source("few-shot", template=str(template), examples=str(table), **more)
        return [VOCABULARY.decode(ids) for ids in made.pool]

    return texts


def test_few_shot_prompts_by_hand(few_shot):
    """Every rotation of the rows, each ended by the template up to its first column."""
    one, two = "{q} Q: one?\nA: 1\n", "{q} Q: two, too?\nA: 2\n"
    three = "{q} Q: three\nlines?\nA: 3\n"
    assert few_shot(shots=2) == [
        one + two + "{q} Q:",
        two + three + "{q} Q:",
        three + one + "{q} Q:",
    ]
    # More shots than rows: each row once.
    assert few_shot(shots=9)[1] == two + three + one + "{q} Q:"


def test_a_byte_order_mark_is_no_part_of_a_column_name(few_shot):
    assert few_shot("{q}!", "\ufeffq\nx\n") == ["x!"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_small_file_is_decoded_by_its_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("Žluť\n".encode(encoding))
    assert read_text(path) == "Žluť\n"


def test_every_rotation_is_drawn(few_shot):
    few_shot()
    made = source("few-shot", template="questions")
    assert len({tuple(p) for p in made.prompts(range(100))}) == len(made.pool) == 3


def test_shipped_few_shot_sets_go_by_their_bare_name():
    default = source("few-shot").pool
    assert [p.tolist() for p in source("few-shot", template="contacts").pool] == [
        p.tolist() for p in default
    ]
    by_either = [
        [p.tolist() for p in source("few-shot", **given).pool]
        for given in (
            {"template": "questions"},
            {"examples": "questions"},
            {"template": "questions", "examples": "questions"},
        )
    ]
    assert by_either[0] == by_either[1] == by_either[2]
    assert VOCABULARY.decode(by_either[0][0]).startswith("Q: How does the licence text begin?\nA: ")
    assert VOCABULARY.decode(default[0]).endswith("\nName:")


@pytest.mark.parametrize(
    ("template", "table", "told"),
    [
        ("Hi {name}", "q,a\n1,2\n", "{name} is not a column. Columns of t.csv: q, a."),
        ("Hi {q.real}", "q,a\n1,2\n", "{q.real} is not a column."),
        ("Hi {}", "q,a\n1,2\n", "{} is not a column."),
        ("Hi", "q,a\n1,2\n", r"it has no {column}."),
        (
            "Hi {q",
            "q,a\n1,2\n",
            "it is not a valid template (expected '}' before end of string;",
        ),
        ("Hi {q:d}", "q,a\n1,2\n", "it is not a valid template (Unknown format code 'd'"),
        ("{q}", "q,a\n", "t.csv must have a header and at least one row; got no rows. Add"),
        ("{q}", "", "t.csv must have a header and at least one row"),
        ("{q}", "q,a\n1,2\n3\n", "row 2 must have 2 cells, like the header; got fewer."),
        ("{q}", "q,a\n1,2,3\n", "row 1 must have 2 cells, like the header; got more."),
    ],
)
def test_a_template_and_a_table_that_do_not_fit_end_in_a_sentence(few_shot, template, table, told):
    with pytest.raises(ConfigError) as error:
        few_shot(template, table)
    assert told in str(error.value)


def test_a_missing_template_is_a_one_line_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no-such cannot be read as UTF-8 text \(No such file"):
        source("few-shot", template=str(tmp_path / "no-such"))
    (tmp_path / "bytes").write_bytes(b"Q\xff")
    with pytest.raises(ConfigError, match=r"\(not UTF-8, byte 1\)"):
        source("few-shot", template=str(tmp_path / "bytes"))


# ---------------------------------------------------------------- a repeated word


def test_a_word_is_repeated_as_often_as_asked():
    made = source("repeat", words=("number",), repeats=3)
    assert [VOCABULARY.decode(p) for p in made.prompts([0])] == ["number number number"]


def test_the_shipped_words_are_all_used():
    words = shipped("prompts/words.txt").read_text().split()
    found = {VOCABULARY.decode(p) for p in source("repeat", repeats=2).prompts(range(500))}
    assert found == {f"{word} {word}" for word in words}


def test_an_empty_word_is_a_one_line_error():
    with pytest.raises(ConfigError, match="--word must not be blank; got ''"):
        source("repeat", words=("ok", ""))


# ---------------------------------------------------------------- room in the context


def test_the_most_new_tokens_that_fit_are_named(corpus):
    for name, more, longest in (
        ("top-n", {}, 1),
        ("internet", {"corpus": [corpus]}, 11),
        ("internet", {"corpus": [corpus], "max_tokens": 9}, 10),
    ):
        room = 64 - longest
        source(name, context=64, decoding={"max_new_tokens": room}, **more)
        with pytest.raises(ModelError) as told:
            source(name, context=64, decoding={"max_new_tokens": room + 1}, **more)
        assert str(told.value).startswith(
            f"--max-new-tokens must be between 1 and {room} (m's context 64 minus {longest} for "
            f"the longest prompt of {name!r}); got {room + 1}. Lower --max-new-tokens"
        )


def test_prompts_that_fill_the_context_end_in_a_sentence():
    with pytest.raises(ModelError, match="must be shorter than m's context of 20 tokens; got"):
        source("repeat", words=("number",), repeats=50, context=20)
