"""A T5 testbed: its files, what its models learn from, and the verbs on it."""

from dataclasses import replace

import numpy as np
import pytest

from auditor.audit.pipeline import run_audit
from auditor.comparison.models import compare_models
from auditor.errors import ConfigError, ModelError, RunError
from auditor.finetuning.rows import IGNORED
from auditor.membership.membership_audit import audit_members
from auditor.models.loading import load_model
from auditor.models.span_corruption import long_span, merge, random_of, short_spans
from auditor.scoring.score_texts import score_texts
from auditor.testbed import families
from auditor.testbed.denoising import Denoising
from auditor.testbed.testbed import SIZES, Shape, build_testbed


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    """A T5 testbed of a few short documents; its models know little."""
    shape = Shape(1, 32, 2, 2)
    small = replace(
        SIZES["tiny"], n_documents=30, document_chars=120, n_vocab=400, context=96,
        target=shape, small=shape, medium=shape,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", small)
        patch.setattr(families, "_T5_WINDOW", 24)
        yield build_testbed(tmp_path_factory.mktemp("t5") / "bed", size="tiny", family="t5")


def test_the_models_are_encoder_decoders_of_one_vocabulary(bed):
    models = [load_model(spec) for spec in (bed.target, *bed.references.values())]
    assert {model.kind for model in models} == {"encoder-decoder"}
    assert len({model.vocabulary.fingerprint for model in models}) == 1
    text = bed.truth()["text"].iloc[0]
    vocabulary = models[0].vocabulary
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_folder_of_another_family_is_refused(bed):
    with pytest.raises(RunError, match="family"):
        build_testbed(bed.folder, size="tiny")
    with pytest.raises(ConfigError, match="--family must be one of"):
        build_testbed(bed.folder, size="tiny", family="rnn")


def test_examples_are_texts_with_hidden_spans():
    gaps, width = list(range(100, 200)), 20
    rows = [np.arange(1, n) for n in (60, 40, 12, 3)] * 40
    batch = Denoising(gaps, 99, width=width, seed=0)(rows)
    seen = set()
    for row, source, mask, labels in zip(
        rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        shown = source[mask.bool()].tolist()
        hidden = labels[labels != IGNORED].tolist()
        assert shown[-1] == hidden[-1] == 99
        text = merge(shown[:-1], hidden[:-1], gaps)
        whole = row.tolist()
        assert text == whole[whole.index(text[0]) :][: len(text)]
        spans = [(a, b) for a, b in _spans_of(shown[:-1], hidden[:-1], gaps)]
        if len(text) == width and spans == short_spans(width, random_of(text, 0)):
            seen.add("short")
        elif len(text) == width and spans == long_span(width, width // 2):
            seen.add("long")
        else:
            assert spans[-1][1] == len(text)
            seen.add("rest")
    assert seen == {"short", "long", "rest"}


def _spans_of(shown, hidden, gaps):
    """The hidden spans of an example, from its text with gaps."""
    lengths = np.diff([i for i, token in enumerate(hidden) if token in gaps]) - 1
    at, spans = 0, iter(lengths.tolist())
    for token in shown:
        if token in gaps:
            n = next(spans)
            yield at, at + n
            at += n
        else:
            at += 1


def test_texts_are_scored_and_recall_is_left_out(bed, tmp_path):
    prefix = tmp_path / "prefix.txt"
    prefix.write_text("some other text")
    frame = score_texts(
        [bed.heldout], model=bed.target, references={"small": bed.references["small"]},
        nonmember_prefix=prefix, neighbours=2, progress=False,
    )  # fmt: skip
    assert "recall" not in frame
    names = ["loss", "zlib", "window", "lowercase", "min_k_plus_plus", "neighbourhood"]
    assert np.isfinite(frame[[*names, "reference:small"]].to_numpy()).all()


def test_members_are_tested(bed):
    report = audit_members([bed.corpus], [bed.heldout], model=bed.target, progress=False)
    assert "loss" in set(report.table["score"])


def test_models_are_compared_by_a_hidden_span(bed):
    found = compare_models(
        bed.references["small"], bed.target, texts=[str(bed.corpus)], heldout=[str(bed.heldout)],
        prefix_tokens=12, suffix_tokens=12, progress=False,
    )  # fmt: skip
    [one] = found.texts[found.texts["n_tokens"] >= 24].head(1).itertuples()
    model = load_model(bed.target, dtype="float32")
    ids = model.vocabulary.encode(one.text)[:24]
    [(start, stop)] = long_span(24, 12)
    prompt = [*ids[:start], model.gaps[0], *ids[stop:]]
    nll = model.token_stats([ids[start:stop]], [prompt]).total_nll()
    assert one.log_p_z_tuned == pytest.approx(-nll[0], abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"fill_gap": False, "stop_at_eos": True}])
def test_an_audit_runs_from_samples_to_the_report(bed, tmp_path, settings):
    strategies = ["top-n", "internet"] if not settings else ["internet"]
    run = run_audit(
        model=bed.target, references={"small": bed.references["small"]}, strategies=strategies,
        prompts=[str(bed.corpus)], samples=8, max_new_tokens=12, corpus=[str(bed.corpus)],
        truth=str(bed.truth_file), out=str(tmp_path / "run"), progress=False, **settings,
    )  # fmt: skip
    assert (run.path / "report.html").exists()
    samples = run.samples()
    model = load_model(bed.target)
    ends = [ids[-1] == model.gaps[0] for ids in samples["prompt_token_ids"]]
    assert ends == [not settings] * len(samples)
    again = run_audit(config=run.config, until="score", out=str(tmp_path / "again"), progress=False)
    drawn = [n for n in run.manifest.shards if n.startswith(("samples/", "scores/"))]
    assert len(drawn) == 2 * len(strategies)
    assert all(again.manifest.shards[n].sha256 == run.manifest.shards[n].sha256 for n in drawn)


def test_answers_need_prompts_and_beams_need_a_causal_model(bed, tmp_path):
    given = {"model": bed.target, "samples": 2, "max_new_tokens": 8, "progress": False}
    with pytest.raises(ModelError, match="needs a BOS token"):
        run_audit(**given, fill_gap=False, out=str(tmp_path / "a"))
    with pytest.raises(ConfigError, match="--beams must be 1"):
        run_audit(**given, beams=2, out=str(tmp_path / "b"))
