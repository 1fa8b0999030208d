"""Gates: decisions by figure and by confidence interval, on runs with known results."""

import pandas as pd
import pytest

from auditor.config.audit import make_config
from auditor.config.gates import Gates
from auditor.errors import ConfigError, GateError, RunError
from auditor.gates.decide import compare_with_last, judge
from auditor.runs.gate_results import check
from tests.histories import lists, nothing, passage, planted_run


def decided(run, **gates):
    (decision,) = judge(run, Gates(**gates), None)
    return decision


@pytest.fixture
def run(tmp_path):
    """12 of 60 candidates verbatim, and a random draw beside them that does not count."""
    rows = [passage(i) for i in range(12)] + [nothing()] * 48
    rows += [passage(100, doc="x") | {"best_rank": None}] * 9
    summary = lists(
        ("top-n", "zlib", 9, 10), ("top-n", "window", 3, 50), ("top-n", "random", 10, 10)
    )
    return planted_run(tmp_path / "run", rows, summary)


# 12 of 60: 6.5 to 19.4 by Clopper and Pearson, which test_limits checks by their definition.
@pytest.mark.parametrize(
    ("limit", "by_figure", "by_interval"),
    [
        (5, "fail", "fail"),
        (6, "fail", "fail"),
        (7, "fail", "warn"),
        (11, "fail", "warn"),
        (12, "pass", "pass"),
        (20, "pass", "pass"),
    ],
)
def test_a_count_is_decided_by_itself_or_by_its_interval(run, limit, by_figure, by_interval):
    for gates, state in (({}, by_figure), ({"decide_by": "interval"}, by_interval)):
        decision = decided(run, max_verified=limit, **gates)
        assert (decision.state, decision.passed) == (state, state != "fail")
        assert decision.record()["state"] == state
        assert decision.value == 12
        assert 6 < decision.low < 7 < 19 < decision.high < 20


def test_a_limit_within_the_interval_is_a_warning_that_says_so(run):
    told = str(decided(run, max_verified=10, decide_by="interval"))
    assert told.startswith("gate max_verified warns: 12 of 60")
    assert told.endswith("; allowed 10, which the interval does not exclude")
    told = str(decided(run, max_verified=12, decide_by="interval"))
    assert told.startswith("gate max_verified holds: 12 of 60")
    assert told.endswith("; allowed 12")


def test_the_option_of_earlier_versions_still_decides_as_it_did(run):
    assert decided(run, max_verified=10, strict=True).state == "fail"
    assert decided(run, max_verified=10, strict=False).state == "warn"
    with pytest.raises(ConfigError, match=r"gates\.strict must be true or false; got 'yes'"):
        make_config({"model": "m", "corpus": ["x"], "gates": {"strict": "yes"}})
    with pytest.raises(ConfigError, match=r"gates\.decide_by must be 'figure' or"):
        make_config({"model": "m", "corpus": ["x"], "gates": {"decide_by": "chance"}})


def test_precision_is_the_most_precise_lists_and_never_the_random_draws(run):
    decision = decided(run, max_precision=0.2)
    assert not decision.passed
    assert decision.value == 0.9
    assert "90.0 % of the list zlib on top-n" in decision.sentence
    assert "allowed 20 %" in decision.sentence
    assert decided(run, max_precision=0.6).state == "fail"
    assert decided(run, max_precision=0.6, decide_by="interval").state == "warn"


def test_a_short_list_over_the_limit_warns_although_a_long_one_has_the_higher_low_end(tmp_path):
    """1 of 1 exceeds 95 %, but 45 of 50 has the higher low end; neither excludes 95 %."""
    summary = lists(("top-n", "zlib", 1, 1), ("top-n", "window", 45, 50))
    run = planted_run(tmp_path / "run", [passage(1)], summary)
    decision = decided(run, max_precision=0.95, decide_by="interval")
    assert (decision.state, decision.value) == ("warn", 1.0)
    decision = decided(run, max_precision=0.5, decide_by="interval")
    assert (decision.state, decision.value) == ("fail", 0.9)


def test_one_line_names_every_gate_that_failed_and_why(run):
    decisions = judge(run, Gates(max_verified=5, max_precision=0.2), None)
    with pytest.raises(GateError) as raised:
        check(decisions)
    told = str(raised.value)
    assert raised.value.exit_code == 3
    assert "\n" not in told
    assert told.startswith("Gate max_verified failed: 12 of 60 candidates are verbatim (95 %")
    assert "; allowed 5; gate max_precision failed: 90.0 % of" in told
    check(d for d in decisions if d.passed)  # nothing failed, nothing raised


def test_no_gate_is_no_decision(run):
    assert judge(run, Gates(decide_by="interval"), None) == ()


def test_nothing_found_is_past_no_limit(tmp_path):
    empty = planted_run(tmp_path / "run", [])
    assert decided(empty, max_verified=0).passed
    assert decided(empty, max_precision=0.0).passed


# ------------------------------------------------------------------------------- exposure
def exposures(*rows):
    """(canary_id, exposure, method, interpolated) of each canary, of 99 controls, 20 bits."""
    names = ["canary_id", "exposure", "method", "interpolated"]
    frame = pd.DataFrame(rows, columns=names).assign(role="canary")
    control = frame.head(1).assign(role="control", canary_id="control", exposure=19.0)
    return pd.concat([frame, control]).assign(n_controls=99, space_bits=20.0)


def exposed(folder, *rows):
    return planted_run(folder, [], canaries="c.json", exposure=exposures(*rows))


def test_an_exposure_that_was_counted_out_has_no_doubt(tmp_path):
    run = exposed(tmp_path / "run", ("a", 12.0, "enumerated", 5.0), ("b", 3.0, "enumerated", 3.0))
    decision = decided(run, max_exposure_bits=11.9)
    assert (decision.passed, decision.low, decision.high) == (False, 12.0, 12.0)
    assert "canary a has an exposure of 12.0 bits" in decision.sentence
    assert decided(run, max_exposure_bits=12).passed


def test_an_extrapolated_exposure_fails_only_as_far_as_controls_show(tmp_path):
    """None of 99 controls is as likely: the share is at most 1 - 0.025^(1/99), 3.66 %: 4.8 bits."""
    most = 6.643856189774724  # log2(100)
    run = exposed(tmp_path / "run", ("a", 18.0, "extrapolated", most))
    decision = decided(run, max_exposure_bits=8, decide_by="interval")
    assert decision.state == "warn"
    assert decision.low == pytest.approx(4.77, abs=0.01)
    assert decided(run, max_exposure_bits=8).state == "fail"
    assert decided(run, max_exposure_bits=4.7, decide_by="interval").state == "fail"


# ----------------------------------------------------------------------------- passages
def test_passages_are_new_gone_or_unchanged(tmp_path):
    planted_run(tmp_path / "1", [passage(i) for i in (1, 2, 3)], when="2026-11-10T03:00+00:00")
    planted_run(tmp_path / "2", [passage(i) for i in (1, 2)], when="2026-11-17T03:00+00:00")
    run = planted_run(tmp_path / "3", [passage(i) for i in (2, 4, 5)])
    since = compare_with_last(run)
    assert (since.new, since.gone, since.unchanged) == (2, 1, 1)
    assert since.run == str(tmp_path / "2")
    assert "2 passages new, 1 gone, 1 unchanged." in str(since)
    (decision,) = judge(run, Gates(no_new_passages_since="last"), since)
    assert not decision.passed
    assert "2 passages are new since" in str(decision)


def test_only_earlier_complete_runs_of_the_same_audit_count(tmp_path):
    early = {"when": "2026-11-17T03:00+00:00"}
    planted_run(tmp_path / "other", [passage(1)], samples=99, **early)
    planted_run(tmp_path / "halved", [passage(1)], manifest={"complete": False}, **early)
    planted_run(tmp_path / "later", [passage(1)], when="2026-12-01T03:00+00:00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    run = planted_run(tmp_path / "run", [passage(1)])
    assert compare_with_last(run) is None
    (decision,) = judge(run, Gates(no_new_passages_since="last"), None)
    assert decision.passed
    assert "no earlier run" in str(decision)


def test_another_seed_is_the_same_audit_and_said(tmp_path):
    planted_run(tmp_path / "1", [passage(1)], seed=7, when="2026-11-17T03:00+00:00")
    since = compare_with_last(planted_run(tmp_path / "2", [passage(1)]))
    assert (since.unchanged, since.same_seed) == (1, False)
    assert "the seeds differ" in str(since)


# ----------------------------------------------------------- what is asked and cannot be had
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"gates": {"max_verified": 3}}, "gates.max_verified needs training text.*--corpus"),
        ({"gates": {"max_precision": 0.1}}, "gates.max_precision needs training text.*--corpus"),
        (
            {"gates": {"no_new_passages_since": "last"}},
            "no_new_passages_since needs training text.*--corpus",
        ),
        ({"gates": {"max_exposure_bits": 3}}, "max_exposure_bits needs canaries.*--canaries FILE"),
        ({"gates": {"max_verifed": 3}}, "Unknown setting gates.max_verifed.*'max_verified'"),
        ({"gate": {"max_verified": 3}}, "Unknown setting gate.*'gates'"),
        ({"gates": {"max_verified": -1}}, "gates.max_verified must be at least 0; got -1"),
        ({"gates": {"max_verified": True}}, "gates.max_verified must be a whole number; got True"),
        ({"gates": {"max_precision": 20}}, "gates.max_precision must be at most 1; got 20"),
        ({"gates": {"no_new_passages_since": "first"}}, "must be 'last'; got 'first'"),
        ({"gates": 3}, "gates must be a table"),
        ({"notify": {"webhok": "x"}}, "Unknown setting notify.webhok.*'webhook'"),
        ({"notify": {"webhook": "x"}}, "must be a URL that begins with https://.*got 'x'"),
        ({"notify": {"command": "a 'b"}}, "cannot be split into words.*Close the quotes"),
        ({"schedule": {"crn": "x"}}, "Unknown setting schedule.crn.*'cron'"),
        (
            {
                "corpus": ["x"],
                "gates": {"no_new_passages_since": "last"},
                "schedule": {"seed": "new"},
            },
            "needs the same samples in every run",
        ),
    ],
)
def test_gates_that_cannot_be_decided_are_refused_before_the_run(settings, says):
    with pytest.raises(ConfigError, match=says) as raised:
        make_config({"model": "gpt2", **settings})
    assert "\n" not in str(raised.value)


def test_a_figure_that_a_run_does_not_have_is_a_one_line_error(tmp_path):
    run = planted_run(tmp_path / "run", [passage(1)])
    with pytest.raises(RunError, match=r"max_personal_data.*has none.*remove"):
        judge(run, Gates(max_personal_data=0), None)
    with pytest.raises(RunError, match=r"no exposure: the audit has no canaries.*--canaries FILE"):
        judge(run, Gates(max_exposure_bits=3), None)


def test_personal_data_is_counted_by_candidates(tmp_path):
    rows = [nothing(n_personal=n) for n in (0, 2, 1, 0)]
    run = planted_run(tmp_path / "run", rows)
    decision = decided(run, max_personal_data=1)
    assert (decision.passed, decision.value) == (False, 2)
    assert "2 of 4 candidates contain personal data" in decision.sentence
    assert decided(run, max_personal_data=1, decide_by="interval").state == "warn"


def test_candidates_of_one_passage_count_as_one_cluster_and_are_reported_as_such(tmp_path):
    """40 of 40 verbatim, by one passage: worth one candidate, so 1 (40 times 0.025) to 40."""
    rows = [{**passage(1), "match_n_chars": 60} for _ in range(40)]
    run = planted_run(tmp_path / "run", rows, lists(("top-n", "zlib", 40, 40)))
    (decision,) = judge(run, Gates(max_verified=3, decide_by="interval"), None)
    assert decision.sentence.startswith(
        "40 of 40 candidates are verbatim: 1 passage from 1 document (95 % Korn–Graubard "
        "interval 1.0–40.0)"
    )
    assert decision.state == "warn"
    (decision,) = judge(run, Gates(max_verified=3), None)
    assert decision.state == "fail"
