"""Reading a run: its frames, missing parts and damage."""

import pandas as pd
import pytest

from auditor.errors import RunError
from auditor.runs.manifest import Note
from auditor.runs.run import Run, load_run
from auditor.runs.writer import open_for_writing
from tests.histories import TABLE, asked


# --------------------------------------------------------------------------------- reading
def test_a_flipped_byte_is_found_and_the_file_named(made):
    file = made / "samples" / "top-n-00000.parquet"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(RunError, match=r"top-n-00000\.parquet.*sha256.*Delete that file"):
        load_run(made).samples()


def test_a_shard_that_is_gone_or_cut_is_recreated(made):
    file = made / "samples" / "top-n-00000.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    assert not load_run(made).has("samples/top-n-00000.parquet")
    file.unlink()
    run = load_run(made)
    assert not run.has("samples/top-n-00000.parquet")
    with pytest.raises(RunError, match=r"top-n-00000\.parquet cannot be read"):
        run.samples()


@pytest.mark.parametrize(
    ("frame", "stage"),
    [
        ("scores", "score"),
        ("candidates", "report"),
        ("summary", "report"),
    ],
)
def test_what_a_run_does_not_have_yet_is_reported_with_the_remedy(made, frame, stage):
    with pytest.raises(RunError, match=f"no {frame} yet.*'{stage}' has not run.*--resume {made}"):
        getattr(load_run(made), frame)()


def test_without_training_text_there_are_no_matches_and_why(made):
    with pytest.raises(RunError, match=r"no training text.*auditor verify .*--corpus"):
        load_run(made).matches()


def test_shards_come_in_the_order_of_strategies_and_samples(tmp_path):
    config = asked(strategies=["temperature", "top-n"])
    numbers = [("top-n", 100_000), ("temperature", 1), ("top-n", 99_999), ("temperature", 0)]
    with open_for_writing(tmp_path / "run", config) as run:
        for strategy, number in numbers:
            row = pd.DataFrame({"sample_id": [f"{strategy}-{number}"]})
            run.write(f"samples/{strategy}-{number:05}.parquet", row)
    assert load_run(tmp_path / "run").samples()["sample_id"].tolist() == [
        "temperature-0",
        "temperature-1",
        "top-n-99999",
        "top-n-100000",
    ]


def test_columns_can_be_chosen(made):
    assert list(load_run(made).samples(["n_tokens"]).columns) == ["n_tokens"]


def test_a_name_that_is_not_utf8_can_be_kept_in_the_manifest(tmp_path):
    with open_for_writing(tmp_path / "run", asked(corpus=["odd\udcff"])) as run:
        run.manifest.notes = [Note(stage="", sentence="\ud800 \\udcff")]
    with open_for_writing(tmp_path / "run", asked(corpus=["odd\udcff"])) as run:
        run.save()
    assert load_run(tmp_path / "run").config.corpus == ("odd\udcff",)


def test_forgotten_files_are_recreated(made):
    with open_for_writing(made, asked()) as run:
        run.write("matches/matches.parquet", TABLE)
        run.write("summary.parquet", TABLE)
        run.forget("matches/", "summary")
        run.save()
    assert list(load_run(made).manifest.shards) == ["samples/top-n-00000.parquet"]


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        with open_for_writing(tmp_path / name, asked()) as run:
            run.write("samples/top-n-00000.parquet", TABLE)
    one, two = (load_run(tmp_path / name).manifest.shards for name in ("one", "two"))
    assert one == two


def test_a_run_says_what_it_is(made):
    run = load_run(made)
    assert repr(run) == f"Run({str(made)!r}, gpt2, incomplete)"
    assert not run.complete
    assert run.report == made / "report.html"
    assert isinstance(run, Run)
