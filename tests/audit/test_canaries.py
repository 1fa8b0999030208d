"""Canaries measured beside an audit: the figures of `canaries measure`, without the secrets."""

import pandas as pd
import pytest

from auditor.canaries.canaries import make_canaries
from auditor.canaries.exposure import measure_canaries
from auditor.errors import RunError
from auditor.runs.run import load_run
from tests.histories import small_audit
from tests.tiny import command


def test_an_audit_measures_its_canaries_and_keeps_no_secret(tmp_path):
    canaries = make_canaries("Code {n}: {digits:2}.", count=3, controls=20)
    canaries.save(tmp_path / "canaries.json")
    file = small_audit(tmp_path, gates="[gates]\nmax_exposure_bits = 6.7\n")
    ended = command("audit", file, "--canaries", tmp_path / "canaries.json")
    assert ended.code == 0, ended.err  # no exposure is above log2(100), 6.64 bits
    run = load_run(tmp_path / "runs" / "audit")
    own = measure_canaries(str(tmp_path / "model"), canaries)
    pd.testing.assert_frame_equal(
        run.exposure(), own.drop(columns=["prefix", "secret"]), check_dtype=False
    )
    most = own[own["role"] == "canary"].nlargest(1, "exposure").iloc[0]
    (gate,) = run.manifest.judged.gates
    assert gate.value == pytest.approx(most["exposure"])
    assert most["canary_id"] in gate.sentence
    limit = most["exposure"] - 0.01
    small_audit(tmp_path, gates=f"[gates]\nmax_exposure_bits = {limit}\n")
    ended = command("audit", file, "--canaries", tmp_path / "canaries.json")
    assert ended.code == 3
    assert f"canary {most['canary_id']} has an exposure of {most['exposure']:.1f} bits" in ended.err


def test_missing_canaries_are_reported_before_sampling(tmp_path):
    file = small_audit(tmp_path)
    ended = command("audit", file, "--canaries", tmp_path / "none.json")
    assert ended.code == 1
    assert "a canary manifest is required" in ended.err
    assert not (tmp_path / "runs" / "audit").exists()


def test_asking_for_the_exposure_of_an_audit_without_canaries_is_an_error(tmp_path):
    assert command("audit", small_audit(tmp_path)).code == 0
    with pytest.raises(RunError, match="the audit has no canaries"):
        load_run(tmp_path / "runs" / "audit").exposure()
