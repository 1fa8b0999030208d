"""Whole audits of the tiny testbed, whose memorization is known."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from attacks.statistics.intervals import clopper_pearson
from auditor.audit.pipeline import run_audit, verify_again
from auditor.audit.verification import _table
from auditor.corpus.reading import read_corpus
from auditor.errors import ModelError, RunError
from auditor.matching.edit_distance import NearMatch
from auditor.matching.fuzzy import FuzzyMatch
from auditor.matching.index import build_index
from auditor.matching.verbatim import Match
from auditor.models.loading import load_model, load_vocabulary
from auditor.models.tiny_gpt2 import build_gpt2, build_tokenizer, save_model
from auditor.runs.run import load_run
from reports.analysis import schema
from tests.audits import copied, long_spans, settings
from tests.tiny import command

SCORES = ["likelihood", "reference:small", "reference:medium", "zlib", "lowercase", "window"]


@pytest.fixture(scope="module")
def training(bed):
    rows = [json.loads(x) for x in bed.corpus.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["text"] for row in rows}


def test_every_strategy_and_score_has_its_row(run):
    summary = run.summary()
    got = set(zip(summary["strategy"], summary["score"], strict=True))
    strategies = ["top-n", "temperature", "internet"]
    assert got == {(st, sc) for st in strategies for sc in [*SCORES, "random"]}
    assert run.complete


def test_every_reported_overlap_occurs_in_the_training_text(run, training):
    """And k is the number of copies that hold it, counted the slow way."""
    found = run.candidates()
    found = found[found["verdict"] == "verbatim"]
    assert len(found) > 4
    for row in found.itertuples():
        span = row.text[row.match_start : row.match_end]
        assert len(span) == row.match_n_chars
        assert training[row.doc_id][row.doc_offset :].startswith(span)
        assert sum(span in text for text in training.values()) == row.n_documents
        assert row.match_n_tokens >= 32 or row.match_n_chars >= 100


def test_an_index_can_replace_the_text_it_was_built_from(run, bed, tmp_path):
    build_index(read_corpus([bed.corpus]), tmp_path / "index", shard_bytes=20_000)
    again = verify_again(copied(run, tmp_path), {"index": str(tmp_path / "index")})
    pd.testing.assert_frame_equal(again.candidates(), run.candidates())
    pd.testing.assert_frame_equal(again.matches(), run.matches())
    assert "index" in (again.path / "report.html").read_text()


def test_differences_in_spaces_and_case_are_verbatim_only_with_normalization(run, bed, tmp_path):
    """The same training text in capitals, spread over lines: all that was verbatim is again."""
    rows = [json.loads(x) for x in bed.corpus.read_text(encoding="utf-8").splitlines()]
    loud = tmp_path / "loud.jsonl"
    with loud.open("w") as sink:
        for row in rows:
            text = "\n\n".join(row["text"].upper().split(" "))
            sink.write(json.dumps({"id": row["id"], "text": text}) + "\n")
    changes = {"corpus": (str(loud),), "normalize": ("whitespace", "case")}
    before = set(run.candidates().query("verdict == 'verbatim'")["sample_id"])
    found = verify_again(copied(run, tmp_path), changes).candidates()
    assert before <= set(found.query("verdict == 'verbatim'")["sample_id"])
    again = verify_again(tmp_path / "copy", {**changes, "normalize": ()}).candidates()
    assert not (again["verdict"] == "verbatim").any()


def test_each_match_has_up_to_five_places_and_shows_the_first(run, training):
    for row in run.matches().itertuples():
        assert (row.places[0]["doc_id"], row.places[0]["offset"]) == (row.doc_id, row.doc_offset)
        assert len(row.places) == min(5, row.n_occurrences)
        spans = {training[p["doc_id"]][p["offset"] : p["offset"] + row.n_chars] for p in row.places}
        assert len(spans) == 1


def test_near_matches_differ_in_at_most_a_tenth_of_their_tokens(run, bed):
    """Fifty tokens verbatim differ by none; of what was nowhere found nothing is said."""
    found = run.candidates()
    long = found[found["match_n_tokens"].fillna(0) >= 50]
    assert len(long)
    assert (long["near_distance"] == 0).all()
    assert long["is_near"].all()
    assert (
        found["is_near"] == (found["near_distance"] * 10 <= found["near_n_tokens"]).fillna(False)
    ).all()
    assert found.loc[found["verdict"] == "not found", "near_distance"].isna().all()


def test_precision_is_the_share_of_verbatim_candidates_with_its_interval(run):
    found = run.candidates()
    for row in run.summary().itertuples():
        own = found[(found["strategy"] == row.strategy) & found[f"rank:{row.score}"].notna()]
        hits = int((own["verdict"] == "verbatim").sum())
        assert (row.n_chosen, row.n_verbatim) == (len(own), hits)
        # Of one passage: verbatim at overlapping places of one document. All others stand alone.
        held = own[own["verdict"] == "verbatim"].sort_values(["doc_id", "doc_offset"])
        sizes, last = [], ("", 0)
        for doc_id, at, n in held[["doc_id", "doc_offset", "match_n_chars"]].itertuples(
            index=False
        ):
            if doc_id == last[0] and at < last[1]:
                sizes[-1] += 1
                last = doc_id, max(last[1], at + n)
            else:
                sizes.append(1)
                last = doc_id, at + n
        assert row.n_passages == len(sizes)
        squares = sum(n * n for n in sizes) + len(own) - hits
        worth = len(own) ** 2 / squares
        low, high = clopper_pearson(hits, len(own), effective=worth)
        assert row.n_effective == pytest.approx(worth)
        assert np.allclose(
            [row.precision, row.precision_low, row.precision_high], [hits / len(own), low, high]
        )


def test_strategies_are_estimated_from_all_of_their_samples(run, training):
    """Each sample searched the slow way: every window that `long_spans` makes."""
    everything = "\x00".join(training.values())
    vocabulary = load_vocabulary(run.config.model)
    samples, table = run.samples(), run.strategies().set_index("strategy")
    for strategy, own in samples.groupby("strategy"):
        n = 0
        for row in own.itertuples():
            spans = long_spans(vocabulary, row)
            n += any(row.text[a:b] in everything for a, b in spans)
        assert table.loc[strategy, "n_verbatim"] == n
        assert table.loc[strategy, "n_looked_up"] == len(own)
        assert table.loc[strategy, "n_tokens"] == own["n_tokens"].sum()
    assert table["n_verbatim"].sum() > 4
    repeated = run.summary().set_index("strategy")["strategy_total"].dropna()
    assert (repeated == table["total"].reindex(repeated.index)).all()
    assert 'id="claims"' in run.report.read_text(encoding="utf-8")
    assert "Unselected samples, and what is left to find" in (run.path / "report.md").read_text()


def test_above_the_memory_limit_only_the_first_samples_are_searched(run, tmp_path, monkeypatch):
    whole = run.strategies().set_index("strategy")
    monkeypatch.setattr("auditor.audit.unselected.MOST_BYTES", 3 * 5_000)
    again = verify_again(copied(run, tmp_path), {"min_match_chars": 100})
    table = again.strategies().set_index("strategy")
    for strategy, own in again.samples().groupby("strategy"):
        n = int((own["n_bytes"].cumsum() <= 5_000).sum())
        assert table.loc[strategy, "n_looked_up"] == n < whole.loc[strategy, "n_looked_up"]
    assert any("samples were searched for in the training text" in note for note in again.notes())
    pd.testing.assert_frame_equal(again.candidates(), run.candidates())


def test_costs_are_shown_in_seconds_and_money_and_change_only_the_page(run, bed):
    before = {p.name: p.read_bytes() for p in run.path.glob("*.csv")}
    told = command("report", run.path, "--price-per-hour", 36, "--json")
    assert told.code == 0, told.err
    timed = load_run(run.path).manifest.stages["sample"].strategies
    for row in json.loads(told.out)["costs"]:
        seconds = timed[row["strategy"]].seconds
        if row["n_verbatim"]:
            assert np.isclose(row["seconds_per_verbatim"], seconds / row["n_verbatim"])
            assert np.isclose(row["money_per_verbatim"], seconds / 100 / row["n_verbatim"])
    assert {p.name: p.read_bytes() for p in run.path.glob("*.csv")} == before


def test_reported_figures_equal_a_slow_float64_computation(run, bed):
    target, small = (load_model(s) for s in (bed.target, bed.references["small"]))
    rows = run.samples().set_index("sample_id")
    for row in run.candidates().groupby("strategy").head(2).itertuples():
        sample = rows.loc[row.sample_id]
        prompt, ids = list(sample["prompt_token_ids"]), list(sample["token_ids"])
        nats = [_nats(m, prompt, ids) for m in (target, small)]
        low = [text.lower() for text in parts_of(target.vocabulary, ids)]
        before, lowered = rejoined(target.vocabulary, low, sample["prompt"].lower())
        lowered = _nats(target, [target.vocabulary.bos_id, *before], lowered)
        assert np.isclose(row.nll, nats[0].mean(), atol=1e-5)
        record = row._asdict()
        values = run.candidates().set_index("sample_id").loc[row.sample_id]
        assert np.isclose(values["reference:small"], nats[1].mean() / nats[0].mean(), rtol=1e-4)
        assert np.isclose(values["lowercase"], lowered.mean() / nats[0].mean(), rtol=1e-4)
        best = min(nats[0][i : i + 50].mean() for i in range(max(1, len(ids) - 49)))
        assert np.isclose(record["window"], -best, atol=1e-5)


def parts_of(vocabulary, ids):
    """The texts of a sample between the ends of documents."""
    parts = [[]]
    for i in ids:
        if i == vocabulary.eos_id:
            parts.append([])
        else:
            parts[-1].append(i)
    return [vocabulary.decode(part) for part in parts]


def rejoined(vocabulary, texts, before=""):
    """Texts as tokens, an EOS between two; the first is encoded with what stands before it."""
    whole = vocabulary.tokenizer(before + texts[0], return_offsets_mapping=True)
    ends = [end for _, end in whole["offset_mapping"]]
    n = sum(end <= len(before) for end in ends)
    ids = whole["input_ids"][n:]
    for text in texts[1:]:
        ids += [vocabulary.eos_id, *vocabulary.encode(text)]
    return whole["input_ids"][:n], ids


def _nats(model, prompt, ids):
    """Token by token from the whole softmax in float64."""
    with torch.inference_mode():
        logits = model.network(torch.tensor([prompt + ids])).logits[0].double()
    logp = logits.log_softmax(-1)
    return np.array([-logp[len(prompt) + i - 1, t].item() for i, t in enumerate(ids)])


def test_lists_are_in_rank_order_and_hold_no_duplicates(run):
    from tests.analysis.test_duplicates import is_duplicate

    found = run.candidates()
    for score in SCORES:
        for _, rows in found.groupby("strategy"):
            ranked = rows[rows[f"rank:{score}"].notna()].sort_values(f"rank:{score}")
            assert ranked[f"rank:{score}"].tolist() == list(range(1, len(ranked) + 1))
            assert (np.diff(ranked[score].to_numpy()) <= 0).all()
            texts = ranked["text"].tolist()
            pairs = [(a, b) for i, b in enumerate(texts) for a in texts[:i]]
            assert not any(is_duplicate(b, a) for a, b in pairs)


def test_batch_size_and_shards_change_nothing(run, bed, tmp_path):
    """In float32 a sample depends on its seed, strategy and number alone."""
    want = run.samples().set_index("sample_id")
    for n, (batch, shard) in enumerate([(1, 40), (7, 96), (64, 13)]):
        given = settings(
            bed, tmp_path / str(n), batch_size=batch, shard_size=shard, samples=14, top=5
        )
        got = run_audit(**given, until="sample").samples()
        for row in got.itertuples():
            assert list(row.token_ids) == list(want.loc[row.sample_id, "token_ids"])


def test_frames_hold_the_columns_that_the_schema_names(run):
    schema.check(run.candidates(), schema.CANDIDATES)
    schema.check(run.summary(), schema.SUMMARY)
    schema.check(run.strategies(), schema.STRATEGIES)
    schema.check(run.discovery(), schema.DISCOVERY)
    schema.check(run.comparisons(), schema.COMPARISONS)
    schema.check(run.scores(), schema.SCORES)
    schema.check(run.samples(), schema.SAMPLES)
    schema.check(run.matches(), schema.MATCHES)


def test_rerunning_a_complete_audit_does_nothing(run, bed):
    names = [p for p in run.path.rglob("*.parquet") if p.parent.name in ("samples", "scores")]
    before = {p: p.stat().st_mtime_ns for p in names}
    csv = (run.path / "candidates.csv").read_bytes()
    run_audit(**settings(bed, run.path))
    assert {p: p.stat().st_mtime_ns for p in names} == before
    assert (run.path / "candidates.csv").read_bytes() == csv


def test_lost_shards_are_recreated_byte_for_byte(run, bed, tmp_path):
    again = run_audit(**settings(bed, tmp_path / "again"), until="score")
    (again.path / "samples" / "top-n-00001.parquet").unlink()
    (again.path / "scores" / "internet-00000.parquet").unlink()
    again = run_audit(**settings(bed, tmp_path / "again"))
    for name in ("candidates.csv", "summary.csv", "samples/top-n-00001.parquet"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


def test_another_config_in_the_same_folder_is_refused_without_loss(run, bed):
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(RunError, match=r"seed is 0 stored, 5 requested"):
        run_audit(**settings(bed, run.path, seed=5))
    assert (run.path / "manifest.json").read_bytes() == before


def test_without_training_text_no_claim_is_made(bed, tmp_path):
    given = settings(bed, tmp_path / "run", samples=8, top=4, strategies=["top-n"], prompts={})
    run = run_audit(**{**given, "corpus": [], "truth": None})
    assert set(run.candidates()["verdict"]) == {"not checked"}
    assert run.summary()["precision"].isna().all()
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "No training text was given" in page
    found = verify_again(run.path, {"corpus": (str(bed.corpus),)})
    assert "not checked" not in set(found.candidates()["verdict"])
    assert load_run(run.path).config.corpus == (str(bed.corpus),)


def test_fast_scores_are_recomputed_in_float32(bed, tmp_path):
    given = settings(bed, tmp_path / "run", samples=16, top=6, strategies=["top-n"], prompts={})
    run = run_audit(**{**given, "dtype": "bfloat16"})
    assert run.manifest.rescored_in_float32
    model = load_model(bed.target, dtype="float32")
    rows = run.samples().set_index("sample_id").loc[run.candidates()["sample_id"]]
    exact = model.token_stats([list(x) for x in rows["token_ids"]]).nll()
    assert np.allclose(run.candidates()["nll"], exact, atol=1e-5)
    fast = run.scores().set_index("sample_id").loc[run.candidates()["sample_id"], "nll"]
    assert np.allclose(fast, exact, atol=0.05)
    assert not np.allclose(fast, exact, atol=1e-6)


def test_a_reference_with_another_tokenizer_is_compared_in_bits_per_byte(bed, tmp_path):
    texts = bed.truth()["text"].tolist()
    tokenizer = build_tokenizer(texts, 300)
    network = build_gpt2(n_vocab=300, n_layer=1, width=16, n_head=2, context=512, seed=1)
    save_model(network, tokenizer, tmp_path / "other")
    given = settings(bed, tmp_path / "run", samples=6, top=3, strategies=["top-n"], prompts={})
    run = run_audit(**{**given, "references": {"other": str(tmp_path / "other")}})
    other, own = load_model(str(tmp_path / "other")), load_vocabulary(bed.target)
    rows = run.samples().merge(run.scores(), on="sample_id")
    for row in rows.itertuples():
        n_bytes = len(row.text.encode())
        _, ids = rejoined(other.vocabulary, parts_of(own, row.token_ids))
        mine = -np.sum(np.asarray(row.logprob, np.float64)) / n_bytes
        theirs = _nats(other, [other.vocabulary.bos_id], ids).sum() / n_bytes
        got = run.scores().set_index("sample_id").loc[row.sample_id, "reference:other"]
        assert np.isclose(got, theirs / mine, rtol=1e-4)


def test_a_model_with_nan_output_is_a_one_line_error(bed, tmp_path):
    network = build_gpt2(n_vocab=512, n_layer=1, width=16, n_head=2, context=128, seed=1)
    with torch.no_grad():
        network.transformer.h[0].mlp.c_fc.weight.fill_(float("nan"))
    save_model(network, load_model(bed.target).vocabulary.tokenizer, tmp_path / "broken")
    with pytest.raises(ModelError, match=r"not numbers \(NaN\)"):
        run_audit(model=str(tmp_path / "broken"), samples=4, top=4, out=str(tmp_path / "run"))


def test_other_weights_under_the_same_name_are_refused(bed, tmp_path):
    tokenizer = load_model(bed.target).vocabulary.tokenizer
    given = {"model": str(tmp_path / "m"), "samples": 4, "top": 4, "out": str(tmp_path / "run")}
    given["decoding"] = {"max_new_tokens": 8}
    for seed, stage in ((1, "sample"), (2, "score")):
        network = build_gpt2(n_vocab=512, n_layer=1, width=16, n_head=2, context=128, seed=seed)
        save_model(network, tokenizer, tmp_path / "m")
        if stage == "sample":
            run_audit(**given, until=stage)
        else:
            with pytest.raises(RunError, match="other weights"):
                run_audit(**given, until=stage)


def test_beams_few_shot_and_repeat_complete_an_audit(bed, tmp_path):
    run = run_audit(
        model=bed.target,
        strategies=["few-shot", "repeat"],
        strategy={"few-shot": {"beams": 2}, "repeat": {"repeats": 8, "stop_at_eos": True}},
        decoding={"max_new_tokens": 12},
        samples=6,
        top=4,
        out=str(tmp_path / "run"),
    )
    rows = run.samples()
    assert rows[rows["strategy"] == "few-shot"]["prompt"].str.contains("Name:").all()
    assert (rows["n_tokens"] <= 12).all()
    assert isinstance(run.candidates(), pd.DataFrame)


@pytest.mark.parametrize("kind", [Match, FuzzyMatch, NearMatch])
def test_tables_of_matches_have_their_types_even_without_rows(kind):
    schema = _table([], kind).schema
    named = dict(zip(schema.names, map(str, schema.types), strict=True))
    assert (named["sample_id"], named["doc_id"]) == ("string", "string")
    assert {named[name] for name in ("start", "end", "doc_offset")} == {"int64"}
