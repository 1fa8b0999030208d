"""Frames of a run: their types, and that only requested columns are read."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.config.audit import make_config
from auditor.errors import RunError
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from reports.analysis import columns_page
from reports.analysis.dtypes import typed
from reports.analysis.schema import CANDIDATES, SUMMARY, TABLES

N = 4000


def table(strategy, n=N):
    """Samples whose text is far larger than the rest, and cannot be compressed."""
    noise = np.random.default_rng(0)
    return pa.table(
        {
            "sample_id": [f"{strategy}-{i:06}" for i in range(n)],
            "strategy": [strategy] * n,
            "text": [noise.bytes(64).hex() for _ in range(n)],
            "n_tokens": np.arange(n),
            "finish": ["eos"] * n,
        }
    )


@pytest.fixture
def made(tmp_path):
    config = make_config({"model": "gpt2", "samples": 10, "strategies": ["top-n", "temperature"]})
    with open_for_writing(tmp_path / "run", config) as run:
        for strategy in ("temperature", "top-n"):
            run.write(f"samples/{strategy}-00000.parquet", table(strategy))
    return tmp_path / "run"


def spoil(file, column):
    """Flip a byte in the middle of a column's pages."""
    part = pq.ParquetFile(file).metadata.row_group(0)
    names = [part.column(i).path_in_schema for i in range(part.num_columns)]
    facts = part.column(names.index(column))
    raw = bytearray(file.read_bytes())
    begin = facts.dictionary_page_offset or facts.data_page_offset
    raw[begin + facts.total_compressed_size // 2] ^= 1
    file.write_bytes(raw)


def test_only_the_columns_that_are_requested_are_read(made):
    spoil(made / "samples" / "top-n-00000.parquet", "text")
    run = load_run(made)
    assert run.samples(["n_tokens"])["n_tokens"].tolist() == [*range(N), *range(N)]
    for asked in (["text"], None):
        with pytest.raises(RunError, match=r"top-n-00000\.parquet.*Delete that file"):
            run.samples(asked)


def test_columns_come_in_the_order_asked_and_patterns_stand_for_all_that_fit(made):
    run = load_run(made)
    assert list(run.samples(["text", "sample_id"]).columns) == ["text", "sample_id"]
    assert list(run.samples(["n_*", "n_tokens", "s*"]).columns) == [
        "n_tokens",
        "sample_id",
        "strategy",
    ]


def test_a_column_that_is_missing_is_named_with_the_nearest(made):
    with pytest.raises(RunError, match=r"no column 'n_token'\. Did you mean 'n_tokens'\? Columns"):
        load_run(made).samples(["n_token"])


def test_a_file_that_is_cut_is_reported_even_where_its_columns_cannot_be_listed(made):
    file = made / "samples" / "top-n-00000.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"top-n-00000\.parquet.*Delete that file"):
        load_run(made).samples(["text"])


def test_categories_are_those_of_the_config_and_of_the_schema(made):
    frame = load_run(made).samples()
    assert frame["strategy"].cat.categories.tolist() == ["top-n", "temperature"]
    assert frame["strategy"].iloc[0] == "top-n"
    assert frame["finish"].cat.categories.tolist() == ["length", "eos"]
    assert frame["finish"].value_counts().to_dict() == {"eos": 2 * N, "length": 0}


def test_whole_numbers_may_be_missing_and_undefined_scores_are_nan():
    frame = pd.DataFrame({"match_start": [3.0, None], "zlib": [1, None], "rank:zlib": [None, 2]})
    got = typed(frame.assign(is_near=[True, None], verdict="verbatim"), CANDIDATES)
    assert got["match_start"].tolist() == [3, pd.NA]
    assert got["rank:zlib"].dtype == "Int64"
    assert np.isnan(got["zlib"].iloc[1])
    assert got["is_near"].dtype == "boolean"


def test_a_value_that_nobody_listed_is_kept():
    got = typed(pd.DataFrame({"verdict": ["seen", "fuzzy"], "mine": ["a", "b"]}), CANDIDATES)
    assert got["verdict"].tolist() == ["seen", "fuzzy"]
    assert got["mine"].dtype == "str"
    scores = typed(pd.DataFrame({"score": ["zlib", "random", "zlib"]}), SUMMARY)["score"]
    assert scores.cat.categories.tolist() == ["zlib", "random"]


# ------------------------------------------------------------------------ the page of columns
def test_the_page_of_columns_is_up_to_date(pytestconfig):
    kept = (pytestconfig.rootpath / "docs" / "columns.md").read_text(encoding="utf-8")
    assert kept == columns_page.page(), "run: make docs"


def test_the_page_has_every_column_with_its_meaning():
    page = columns_page.page()
    for each in TABLES:
        section = page.partition(f"## {each.name}\n")[2].partition("\n## ")[0]
        for column in each.columns:
            (row,) = (x for x in section.splitlines() if x.startswith(f"| `{column.name}` |"))
            assert column.meaning in row
            assert f"`{column.dtype}`" in row
