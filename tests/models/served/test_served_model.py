"""Served models: what they give is what the same weights give here, and faults are survived."""

import json

import numpy as np
import pytest

from auditor.config.audit import Decoding
from auditor.errors import ConfigError, ModelError, RunError
from auditor.models.loading import load_model
from tests.serving import connected, save_served_model, serving

TEXTS = ["the quick brown fox", "runs away from all of them and the lazy dog", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_served_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def local(folder):
    return load_model(str(folder), dtype="float32")


def refusal(call, kind=ModelError):
    with pytest.raises(kind) as told:
        call()
    return str(told.value)


@pytest.mark.parametrize(
    "behaviour",
    [{}, {"prompt_logprobs": False}, {"prompt_logprobs": False, "tokens_as_ids": False}],
    ids=["prompt_logprobs", "echo", "echo without ids"],
)
def test_served_log_probabilities_equal_local_ones(folder, local, behaviour):
    texts = [local.vocabulary.encode(text) for text in TEXTS]
    prefixes = [[0], local.vocabulary.encode("and"), [0, 5]]
    with serving(folder, **behaviour) as fake:
        served = connected(fake, folder).token_stats(texts, prefixes)
    here = local.token_stats(texts, prefixes)
    np.testing.assert_array_equal(served.token_ids, here.token_ids)
    np.testing.assert_allclose(served.logprob, here.logprob, atol=1e-5)
    known = served.rank >= 0
    np.testing.assert_array_equal(served.rank[known], here.rank[known])
    assert known.all() == (not behaviour)


def test_a_text_without_a_prefix_starts_with_bos(folder, local):
    texts = [local.vocabulary.encode(TEXTS[0])]
    with serving(folder) as fake:
        served = connected(fake, folder).token_stats(texts)
    np.testing.assert_allclose(served.logprob, local.token_stats(texts).logprob, atol=1e-5)


@pytest.mark.parametrize("tokens_as_ids", [True, False])
def test_drawn_tokens_have_the_log_probabilities_of_a_local_pass(folder, local, tokens_as_ids):
    prompts = [[0], [0, *local.vocabulary.encode("the quick")], [0]]
    with serving(folder, tokens_as_ids=tokens_as_ids) as fake:
        model = connected(fake, folder)
        drawn = model.draw(
            prompts, [4, 7, 9], seed=3, stream="s", decoding=Decoding(max_new_tokens=6, top_k=5)
        )
    own = [row[:n].tolist() for row, n in zip(drawn.token_ids, drawn.length, strict=True)]
    here = local.token_stats(own, prompts)
    nats = np.concatenate([r[:n] for r, n in zip(drawn.logprob, drawn.length, strict=True)])
    given = ~np.isnan(nats)
    assert given.any()
    assert given.all() or not tokens_as_ids
    np.testing.assert_allclose(nats[given], here.logprob[given], atol=1e-5)
    assert here.rank[given].max() < 5  # of the 5 most likely
    assert own[0] != own[2]


def test_a_sample_is_determined_by_seed_stream_and_number(folder):
    with serving(folder) as fake:
        model = connected(fake, folder)
        rows = [
            model.draw([[0]], [i], seed=s, stream=t, decoding=Decoding(max_new_tokens=8)).token_ids[
                0
            ]
            for i, s, t in ((1, 1, "a"), (1, 1, "a"), (2, 1, "a"), (1, 2, "a"), (1, 1, "b"))
        ]
    assert (rows[0] == rows[1]).all()
    assert all((rows[0] != other).any() for other in rows[2:])


def test_every_setting_is_sent_and_a_missing_one_refused(folder):
    with serving(folder, settings=("top_p", "min_p")) as fake:
        model = connected(fake, folder)
        assert model.capabilities["decoding"] == (
            "temperature, top_p, min_p; unavailable: top_k, typical_p, repetition_penalty"
        )

        def draw(**decoding):
            decoding = Decoding(max_new_tokens=2, **decoding)
            model.draw([[0]], [0], seed=0, stream="s", decoding=decoding)

        draw(temperature=0.7, top_p=0.9)
        body = fake.bodies[-1]
        assert (body["temperature"], body["top_p"], body["min_p"]) == (0.7, 0.9, 0.0)
        assert "top_k" not in body
        draw(top_k=1)  # greedy decoding needs no top_k
        assert fake.bodies[-1]["temperature"] == 0
        told = refusal(lambda: draw(top_k=40, temperature_start=5.0), ConfigError)
    assert told == (
        f"The server of {fake.url} has --temperature, --top-p, --min-p; got --top-k, "
        "--temperature-start. Leave out --top-k, --temperature-start, or use --strategy pure, "
        "which changes nothing."
    )


def test_what_a_server_does_not_have_is_unavailable_and_not_0(folder):
    off = {"echo": False, "prompt_logprobs": False, "logprobs": False, "has_seed": False}
    with serving(folder, **off, token_ids=False, settings=()) as fake:
        model = connected(fake, folder)
        assert model.capabilities == {
            "endpoint": "completions",
            "prompts": "text",
            "log-probabilities of generated tokens": "unavailable: the server gives none",
            "log-probabilities of given text": "unavailable: the server gives none",
            "seed": "unavailable: samples do not repeat",
            "decoding": "temperature; unavailable: top_k, top_p, min_p, typical_p, "
            "repetition_penalty",
        }
        stats = model.token_stats([[5, 6]], [[0]])
        drawn = model.draw([[0, 5]], [0], seed=0, stream="s", decoding=Decoding(max_new_tokens=4))
    assert np.isnan([*stats.logprob, *stats.nll()]).all()
    assert (stats.rank == -1).all()
    assert np.isnan(drawn.logprob).all()
    assert drawn.length[0] > 0
    assert {"likelihood", "zlib", "lowercase", "window"} <= set(model.without_drawn)


def test_faults_that_pass_are_survived(folder, local):
    ids = list(range(6))
    with serving(folder) as fake:
        calm = connected(fake, folder)
        n = len(fake.bodies)
        wanted = calm.draw([[0]] * 6, ids, seed=1, stream="s", decoding=Decoding(max_new_tokens=4))
    faults = {n + 1: "429", n + 2: "500", n + 3: "cut", n + 5: "fewer", n + 6: "order"}
    pauses = []
    with serving(folder, faults={**faults, n + 7: "closed"}) as fake:
        model = connected(fake, folder, pauses=pauses, concurrency=1)
        drawn = model.draw([[0]] * 6, ids, seed=1, stream="s", decoding=Decoding(max_new_tokens=4))
        assert len(fake.bodies) == n + 6 + 5
    np.testing.assert_array_equal(drawn.token_ids, wanted.token_ids)
    np.testing.assert_allclose(drawn.logprob, wanted.logprob, atol=1e-6)
    assert pauses[0] == 7  # what Retry-After asks for
    assert len(pauses) == 5


def test_concurrent_requests_are_bounded_and_answers_keep_their_order(folder):
    with serving(folder, slow=0.01) as fake:
        model = connected(fake, folder, concurrency=3)
        ids = range(12)
        many = model.draw([[0]] * 12, ids, seed=1, stream="s", decoding=Decoding(max_new_tokens=3))
        assert 2 <= fake.most_at_once <= 3
        for i in ids:
            one = model.draw([[0]], [i], seed=1, stream="s", decoding=Decoding(max_new_tokens=3))
            np.testing.assert_array_equal(one.token_ids[0], many.token_ids[i])


def test_nothing_is_asked_twice(folder, tmp_path):
    answers = tmp_path / "answers" / "target.jsonl"
    decoding = Decoding(max_new_tokens=3)
    with serving(folder, has_seed=False) as fake:
        model = connected(fake, folder, answers=answers)
        first = model.draw([[0]] * 4, range(4), seed=1, stream="s", decoding=decoding)
        model.token_stats([[5, 6], [5, 6]], [[0], [0]])
        n = len(fake.bodies)
        with answers.open("ab") as file:
            file.write(b'{"key": "cut off by kill')  # as kill -9 leaves it
        again = connected(fake, folder, answers=answers)
        same = again.draw([[0]] * 4, range(4), seed=1, stream="s", decoding=decoding)
        again.token_stats([[5, 6]], [[0]])
        assert len(fake.bodies) == n
        again.draw([[0]], [9], seed=1, stream="s", decoding=decoding)
        assert len(fake.bodies) == n + 1
    np.testing.assert_array_equal(first.token_ids, same.token_ids)
    assert answers.stat().st_mode & 0o777 == 0o600
    assert all(json.loads(line) for line in answers.read_text().splitlines())


def test_a_damaged_answer_is_named(folder, tmp_path):
    answers = tmp_path / "target.jsonl"
    answers.write_text('{"key": 1\n{}\n')
    with serving(folder) as fake:
        told = refusal(lambda: connected(fake, folder, answers=answers), RunError)
    assert told == (
        f"{answers}: line 1 is damaged. Delete that line to ask for its answer again, or choose "
        "another --out."
    )


def test_requests_and_cost_are_capped_and_counted_over_restarts(folder, tmp_path):
    answers = tmp_path / "target.jsonl"
    decoding = Decoding(max_new_tokens=3)

    def draw(fake, n, **caps):
        model = connected(fake, folder, answers=answers, concurrency=1, **caps)
        model.draw([[0]] * n, range(n), seed=1, stream="s", decoding=decoding)
        return model.client.journal

    with serving(folder) as fake:
        probed = draw(fake, 0).n_requests
        told = refusal(lambda: draw(fake, 9, max_requests=probed + 2))
        assert told == (
            f"--max-requests {probed + 2} is reached. The answers so far are kept: raise "
            "--max-requests and repeat the command to go on."
        )
        assert len(fake.bodies) == probed + 2
        journal = draw(fake, 2)
        assert journal.n_requests == probed + 2
        # A sample takes 1 token of input and 3 of output: 0.7.
        prices = {"price_per_million_input": 1e5, "price_per_million_output": 2e5}
        most = (journal.n_input + 2 * journal.n_output + 15) / 10
        told = refusal(lambda: draw(fake, 9, **prices, max_cost=most))
        assert told.startswith(f"--max-cost {most:g} could be exceeded by the next request")
        assert len(fake.bodies) == probed + 4  # two more fit


def test_the_key_is_sent_and_never_told(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret-1")
    answers = tmp_path / "target.jsonl"
    with serving(folder, key="sk-secret-1") as fake:
        model = connected(fake, folder, api_key_env="SOME_KEY", answers=answers)
        model.draw([[0]], [0], seed=0, stream="s", decoding=Decoding(max_new_tokens=2))
        monkeypatch.setenv("SOME_KEY", "sk-wrong-2")
        told = refusal(lambda: connected(fake, folder, api_key_env="SOME_KEY"))
        assert told == (
            f"{fake.url} refused the key (HTTP 401). Put a valid key into an environment variable, "
            "and name it with --api-key-env."
        )
        assert "a request without a key" in refusal(lambda: connected(fake, folder))
    assert "secret" not in answers.read_text()
    assert "secret" not in json.dumps([model.capabilities, model.notes, model.identity()])


def test_a_server_that_is_down_is_named(folder):
    with serving(folder) as fake:
        pass
    assert refusal(lambda: connected(fake, folder)) == (
        f"{fake.url} cannot be reached ([Errno 111] Connection refused). Start the server, or "
        "check --model."
    )


def test_a_web_page_is_no_api(folder):
    with serving(folder, always="html") as fake:
        told = refusal(lambda: connected(fake, folder))
    assert told == (
        f"{fake.url} answered with a web page, not JSON. --model must be the base of an "
        "OpenAI-compatible API, such as http://localhost:8000/v1."
    )


def test_another_model_is_named(folder):
    with serving(folder, name="large") as fake:
        told = refusal(lambda: connected(fake, folder))
    assert told == (
        f"{fake.url} does not serve 'tiny'; it serves large. Choose one with --served-model."
    )


def test_another_vocabulary_is_refused(folder, tmp_path):
    from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model

    other = tmp_path / "other"
    network = build_gpt2(n_vocab=280, n_layer=1, width=8, n_head=2, context=64, seed=0)
    save_model(network, build_tokenizer(["something else entirely"] * 4, 280), other)
    with serving(folder) as fake:
        told = refusal(lambda: connected(fake, other))
    assert told.startswith(
        f"{fake.url}: The served model has another vocabulary than --tokenizer {other}: it counts "
    )
    assert told.endswith("Give the tokenizer of the served model.")


def test_fewer_log_probabilities_than_tokens_are_refused(folder):
    with serving(folder, always="fewer", echo=False, prompt_logprobs=False) as fake:
        model = connected(fake, folder)
        assert model.capabilities["log-probabilities of generated tokens"] == (
            "unavailable: the server gave 7 log-probabilities for 8 tokens"
        )
    with serving(folder, echo=False, prompt_logprobs=False) as fake:
        model = connected(fake, folder)
        fake.behaviour.always = "fewer"
        told = refusal(
            lambda: model.draw([[0]], [0], seed=0, stream="s", decoding=Decoding(max_new_tokens=4))
        )
    assert told == (
        f"{fake.url} gave 3 log-probabilities for 4 tokens (8 attempts). Check the server; the "
        "answers so far are kept, and the same command goes on from there."
    )


def test_a_chat_endpoint_draws_and_scores_nothing(folder):
    with serving(folder) as fake:
        model = connected(fake, folder, chat=True)
        prompt = [0, *model.vocabulary.encode("the quick")]
        drawn = model.draw([prompt], [0], seed=0, stream="s", decoding=Decoding(max_new_tokens=4))
        assert fake.bodies[-1]["messages"] == [{"role": "user", "content": "the quick"}]
    assert model.capabilities["log-probabilities of given text"] == (
        "unavailable: chat endpoints give none"
    )
    assert drawn.length[0] > 0


def test_a_prompt_beyond_the_context_is_refused(folder):
    with serving(folder) as fake:
        model = connected(fake, folder)
        model.context = 10
        told = refusal(
            lambda: model.draw([[0] * 4], [0], seed=0, stream="s", decoding=Decoding()), ConfigError
        )
    assert told == (
        "--max-new-tokens must be at most 6 (context 10 minus a prompt of 4); got 256. Lower "
        "--max-new-tokens."
    )
