"""Prompts in a chat template, against the tokenizer's own rendering."""

import json

import pytest

from auditor.config.audit import make_config, strategy
from auditor.config.extraction import CorpusExtractionConfig
from auditor.errors import ConfigError, ModelError
from auditor.extraction.extract import extract
from auditor.models.loading import load_model
from auditor.models.tokenizer import Vocabulary
from auditor.runs.run import load_run
from auditor.sampling.prompts import PromptSource
from tests.tiny import WORDS, command, save_texts, save_tiny_model

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def with_template(folder, template):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A model with a chat template."""
    return with_template(save_tiny_model(tmp_path_factory.mktemp("chat") / "model"), TEMPLATE)


@pytest.fixture(scope="module")
def vocabulary(chat):
    return load_model(chat).vocabulary


def rendered(vocabulary, message):
    """The token ids of a user's message by the tokenizer itself."""
    text = vocabulary.tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    return vocabulary.encode(text)


def test_a_turn_is_what_the_tokenizer_renders(vocabulary):
    turn = vocabulary.chat_turn("m")
    message = "the quick brown fox"
    assert [*turn.before, *vocabulary.encode(message), *turn.after] == rendered(vocabulary, message)


def test_prompts_of_every_kind_are_in_the_template(vocabulary, tmp_path):
    corpus = save_texts(tmp_path / "a.jsonl", [WORDS] * 3)
    turn = vocabulary.chat_turn("m")
    for name, prompts in (("top-n", {}), ("internet", {"corpus": corpus}), ("repeat", {})):
        makes = [
            PromptSource(
                strategy(name, prompts={**prompts, "repeats": 3, "chat_template": on}),
                vocabulary,
                seed=0,
                context=None,
            )
            for on in (False, True)
        ]
        bare, wrapped = (source.prompts(range(4)) for source in makes)
        # The template has no BOS, so there is none.
        assert wrapped == [[*turn.before, *p[1:], *turn.after] for p in bare]
        assert [source.bos for source in makes] == [vocabulary.start, []]


def test_a_bos_of_the_template_is_not_put_twice(vocabulary, tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    own = load_model(with_template(folder, "{{ bos_token }}" + TEMPLATE)).vocabulary
    source = PromptSource(
        strategy("top-n", prompts={"chat_template": True}), own, seed=0, context=None
    )
    (prompt,) = source.prompts([0])
    assert prompt == rendered(own, "")
    assert prompt.count(own.bos_id) == 1
    assert source.bos == [own.bos_id]


def test_the_template_counts_towards_the_context(vocabulary):
    made = strategy("top-n", prompts={"chat_template": True}, decoding={"max_new_tokens": 64})
    room = 64 - len(rendered(vocabulary, ""))
    with pytest.raises(ModelError, match=f"must be between 1 and {room} "):
        PromptSource(made, vocabulary, seed=0, context=64)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "model whose tokenizer has a chat template"),
        ("{{ raise_exception('two roles are needed') }}", "two roles are needed"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "once, unchanged"),
    ],
)
def test_a_template_that_is_missing_or_unusable_is_one_sentence(tmp_path, template, why):
    folder = save_tiny_model(tmp_path / "model")
    if template:
        with_template(folder, template)
    ended = command(
        *("audit", "--model", folder, "--chat-template", "--samples", 2),
        *("--max-new-tokens", 4, "--out", tmp_path / "run"),
    )
    assert ended.code == 1
    assert why in ended.err
    assert "Traceback" not in ended.err


def test_an_audit_in_the_template_says_so(chat, tmp_path):
    ended = command(
        *("audit", "--model", chat, "--chat-template", "--samples", 4, "--top", 2),
        *("--max-new-tokens", 4, "--out", tmp_path / "run"),
    )
    assert ended.code == 0, ended.err
    run = load_run(tmp_path / "run")
    told = f"The prompts of 'top-n' are in the chat template of {chat}."
    assert told in [note.sentence for note in run.manifest.notes]
    prompts = run.samples()["prompt_token_ids"]
    assert {tuple(p) for p in prompts} == {tuple(rendered(run_vocabulary(chat), ""))}


def run_vocabulary(spec) -> Vocabulary:
    return load_model(spec).vocabulary


def test_an_extraction_asks_in_the_template(chat, vocabulary, tmp_path):
    corpus = save_texts(tmp_path / "a.jsonl", [WORDS])
    options = {"prefix_tokens": 5, "suffix_tokens": 4, "progress": False}
    found = extract(chat, [corpus], chat_template=True, **options)
    assert f"The prefixes are in the chat template of {chat}." in found.notices
    model, turn = load_model(chat, dtype="float32"), vocabulary.chat_turn("m")
    ids = vocabulary.encode(WORDS)
    prefix = [*turn.before, *ids[:5], *turn.after]
    stats = model.token_stats([ids[5:9]], [prefix])
    assert found.examples["log_p_z"].tolist() == pytest.approx([float(stats.logprob.sum())])
    plain = extract(chat, [corpus], **options)
    assert found.examples["log_p_z"][0] != pytest.approx(plain.examples["log_p_z"][0], abs=1e-3)


def test_the_template_decides_on_bos():
    with pytest.raises(ConfigError, match="--chat-template puts its own tokens"):
        CorpusExtractionConfig(chat_template=True, with_bos=True)


def test_identities_from_before_the_option_stay():
    config = make_config({"model": "gpt2"})
    assert "chat_template" not in json.dumps(config.identity())
    assert "chat_template" not in json.dumps(CorpusExtractionConfig().identity())
    asked = make_config({"model": "gpt2", "chat_template": True})
    assert asked.digest != config.digest
