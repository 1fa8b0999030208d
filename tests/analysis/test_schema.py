"""Columns as data: complete, unambiguous, and enforced."""

import pandas as pd
import pytest

from reports.analysis.dtypes import table_of
from reports.analysis.schema import (
    CALIBRATION,
    CANDIDATES,
    COMPARISONS,
    DISCOVERY,
    MATCHES,
    SAMPLES,
    SCORES,
    STRATEGIES,
    SUMMARY,
    check,
    conform,
    describe,
    score_names,
)

TABLES = [SAMPLES, SCORES, CANDIDATES, SUMMARY, MATCHES]
TABLES += [STRATEGIES, DISCOVERY, COMPARISONS, CALIBRATION]


def frame_of(table):
    return pd.DataFrame(columns=[column.name.replace("*", "x") for column in table.columns])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_has_a_type_and_a_meaning_and_one_name(table):
    described = describe(table)
    assert (described["dtype"] != "").all()
    assert described["meaning"].str.endswith(".").all()
    assert described["name"].is_unique


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_name_matches_two_columns(table):
    for name in frame_of(table).columns:
        assert sum(column.matches(name) for column in table.columns) == 1


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_conform_orders_columns_whatever_order_they_came_in(table):
    frame = frame_of(table)
    assert list(conform(frame[frame.columns[::-1]], table).columns) == list(frame.columns)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_missing_and_unknown_columns_are_named(table):
    frame = frame_of(table).drop(columns="strategy" if table is not MATCHES else "start")
    with pytest.raises(ValueError, match=r"missing: (strategy|start); unknown: colour, taste\."):
        check(frame.assign(colour=1, taste=2), table)


def test_columns_that_are_not_required_may_be_absent():
    required = [column.name for column in SCORES.columns if column.required]
    check(pd.DataFrame(columns=required), SCORES)


def test_raw_columns_and_ranks_are_not_scores():
    frame = pd.DataFrame(columns=["window", "nll_reference:a", "rank:zlib", "reference:a", "zlib"])
    assert score_names(frame) == ["reference:a", "zlib", "window"]


def test_a_table_without_rows_has_categories_of_text():
    assert table_of([], CALIBRATION)["strategy"].cat.categories.dtype == object
