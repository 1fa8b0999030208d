"""Figures: positions of points, no global state, SVG valid under a strict content policy."""

import re
import sys
from xml.dom import minidom

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports.figures.audit_figures import (
    by_repeats_figure,
    by_strategy_figure,
    figure3,
    precision_figure,
    to_svg,
)


def scores_of(n, strategies=("a",)):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "strategy": np.resize(np.array(strategies, dtype=object), n),
            "nll": rng.uniform(0.1, 4, n),
            "zlib_bits": rng.uniform(200, 4000, n),
        }
    )


def candidates_of(scores):
    chosen = scores.head(6).copy()
    chosen["best_rank"] = pd.array([1, 2, 3, 4, 5, None], dtype="Int64")
    chosen["verdict"] = ["verbatim", "verbatim", "fuzzy", "not found", "not found", "verbatim"]
    return chosen


@pytest.fixture
def summary():
    return pd.DataFrame(
        {
            "strategy": ["a", "a", "b", "b"],
            "score": ["zlib", "random", "zlib", "random"],
            "precision": [0.5, 0.1, 0.0, 0.0],
            "precision_low": [0.4, 0.02, 0.0, 0.0],
            "precision_high": [0.6, 0.2, 0.1, 0.1],
        }
    )


TABLE = pd.DataFrame(
    {"kind": ["text", "text", "canary"], "repeats": [1, 16, 16], "share": [0.0, 1.0, 0.5],
     "low": [0.0, 0.7, 0.1], "high": [0.3, 1.0, 0.9], "n_documents": [9, 9, 2]}
)  # fmt: skip


def points(panel):
    return {layer.get_label(): np.asarray(layer.get_offsets()) for layer in panel.collections}


def test_every_sample_is_a_point_at_its_perplexity_and_entropy():
    scores = scores_of(20)
    (panel,) = figure3(scores, candidates_of(scores)).axes
    layers = points(panel)
    expected = np.column_stack([np.exp(scores["nll"]), scores["zlib_bits"]])
    np.testing.assert_allclose(layers["all samples"], expected)
    assert {name: len(places) for name, places in layers.items()} == {
        "all samples": 20,
        "candidates": 2,
        "near match": 1,
        "found verbatim": 2,  # the third was drawn by the control alone
    }


def test_undefined_and_infinite_values_are_left_out():
    scores = scores_of(10)
    scores.loc[0, "nll"], scores.loc[1, "zlib_bits"], scores.loc[2, "nll"] = np.nan, np.nan, 5000
    (panel,) = figure3(scores, candidates_of(scores)).axes
    assert len(points(panel)["all samples"]) == 7


def test_each_strategy_has_its_panel():
    scores = scores_of(40, ["a", "b", "c", "d"])
    figure = figure3(scores, candidates_of(scores))
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert [title for title in titles if title] == ["a", "b", "c", "d"]


def test_many_samples_become_an_image_and_few_do_not():
    few, many = scores_of(50), scores_of(20_001)
    assert "<image" not in to_svg(figure3(few, candidates_of(few)))
    drawing = to_svg(figure3(many, candidates_of(many)))
    assert "<image" in drawing
    assert len(drawing) < 1_000_000


def test_no_samples_and_no_lists_make_figures_all_the_same(summary):
    scores = scores_of(6)
    nothing = candidates_of(scores).iloc[:0]
    figures = (figure3(scores.iloc[:0], nothing), figure3(scores, nothing))
    for figure in (*figures, precision_figure(summary.iloc[:0])):
        assert "<svg" in to_svg(figure)


def test_precision_is_drawn_in_percent_with_the_control_as_a_line(summary):
    panel = precision_figure(summary).axes[0]
    drawn = [line.get_xdata() for line in panel.lines]
    assert any(np.allclose(x, [50.0]) for x in drawn)
    assert any(np.allclose(x, [10.0, 10.0]) for x in drawn)
    assert [label.get_text() for label in panel.get_yticklabels()] == ["zlib"]


def test_repeats_are_drawn_in_order_with_each_kind():
    (panel,) = by_repeats_figure(TABLE).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "16"]
    labels = panel.get_legend_handles_labels()[1]
    assert sorted(labels) == [
        "canaries, 2 each (intervals in the table)", "documents, with 95 % interval",
    ]  # fmt: skip


def test_intervals_of_a_few_canaries_are_not_drawn():
    """The two documents have intervals (0–30 and 70–100 %), the two canaries do not."""
    (panel,) = by_repeats_figure(TABLE).axes
    (bars,) = [c for c in panel.collections if hasattr(c, "get_segments")]
    assert [[round(y) for y in part[:, 1]] for part in bars.get_segments()] == [[0, 30], [70, 100]]
    assert 50.0 in [float(y) for line in panel.lines for y in line.get_ydata()]


def test_strategies_that_were_looked_up_are_drawn_with_their_share():
    frame = pd.DataFrame(
        {"strategy": ["a", "b", "c"], "n_looked_up": [10, 10, 0], "precision": [0.5, 0.1, np.nan],
         "precision_low": [0.2, 0.0, np.nan], "precision_high": [0.8, 0.4, np.nan]}
    )  # fmt: skip
    (panel,) = by_strategy_figure(frame).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    assert panel.lines[0].get_xdata().tolist() == [50, 10]
    assert [text.get_text() for text in panel.texts] == ["50.0 %", "10.0 %"]


def all_figures(summary):
    scores = scores_of(3000)
    return [
        figure3(scores, candidates_of(scores)),
        precision_figure(summary),
        by_repeats_figure(TABLE),
    ]


def test_svg_needs_no_style_attribute_and_nothing_from_outside(summary):
    for figure in all_figures(summary):
        drawing = to_svg(figure, name="one", label='"quoted" & <marked>')
        document = minidom.parseString(drawing)  # noqa: S318 - our own
        ids, links = [], []
        for element in document.getElementsByTagName("*"):
            assert not element.hasAttribute("style")
            assert element.tagName not in ("style", "script")
            ids += [element.getAttribute("id")] if element.hasAttribute("id") else []
            links += [element.getAttribute("href")] if element.hasAttribute("href") else []
        assert "://" not in drawing
        assert all(link.startswith(("#one-", "data:image/png;")) for link in links)
        assert all(identifier.startswith("one-") for identifier in ids)
        used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", drawing))
        assert used <= set(ids)
        root = document.documentElement
        assert root.getAttribute("aria-label") == '"quoted" & <marked>'


def test_svg_takes_its_colours_from_the_page(summary):
    drawing = to_svg(precision_figure(summary))
    assert "var(--ink, #1c1e21)" in drawing
    assert "var(--verbatim, " in drawing


def test_same_figure_gives_same_svg(summary):
    first, second = (to_svg(precision_figure(summary)) for _ in range(2))
    assert first == second


def test_names_are_text_never_formulas():
    scores = scores_of(8, ["$x_1$ <b>"])
    assert "$x_1$ &lt;b&gt;" in to_svg(figure3(scores, candidates_of(scores)))


def test_nothing_global_changes(summary):
    before = dict(mpl.rcParams)
    for figure in all_figures(summary):
        assert isinstance(figure, Figure)
        to_svg(figure)
    assert dict(mpl.rcParams) == before
    managers = sys.modules.get("matplotlib._pylab_helpers")
    assert managers is None or not managers.Gcf.figs
