"""Runs of earlier versions: `likelihood` was `perplexity`, `personal_iban` was `personal:IBAN`."""

import io
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.audit.pipeline import run_audit
from auditor.comparison.runs import compare_runs
from auditor.config.audit import make_config
from auditor.config.audit_file import load_toml
from auditor.errors import RunError
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from tests.histories import small_audit


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(load_toml(small_audit(tmp_path_factory.mktemp("audit"))))


OLD_KINDS = {
    "personal_api_key": "personal:API key",
    "personal_e_mail": "personal:e-mail",
    "with_personal_iban": "with_personal:IBAN",
}


def as_before(path, config):
    """Give the run's files the names of scores that earlier versions wrote."""
    with open_for_writing(path, config) as run:
        for name, entry in run.manifest.shards.items():
            facts = entry.model_dump(exclude={"sha256", "bytes", "rows"})
            if "undefined" in facts:
                facts["undefined"] = {"perplexity": {"text has no scored token": 2}}
            if name.endswith(".parquet"):
                table = pq.read_table(io.BytesIO((path / name).read_bytes()))
                old = [column.replace("likelihood", "perplexity") for column in table.column_names]
                table = table.rename_columns([OLD_KINDS.get(name, name) for name in old])
                for column in {"score", "first", "second"} & set(old):
                    frame = table.to_pandas()
                    frame[column] = frame[column].astype(str).replace("likelihood", "perplexity")
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                run.write(name, table, **facts)


def test_an_old_run_has_todays_names(config, tmp_path):
    run = run_audit(config)
    frames = {
        name: getattr(run, name)()
        for name in ("scores", "candidates", "summary", "comparisons", "calibration")
    }
    assert "rank:likelihood" in frames["candidates"]
    assert "likelihood" in set(frames["summary"]["score"])
    path = shutil.copytree(run.path, tmp_path / "old")
    as_before(path, config.model_copy(update={"out": path}))
    assert b"perplexity" in (path / "candidates.parquet").read_bytes()
    assert b"personal:API key" in (path / "candidates.parquet").read_bytes()
    assert b"with_personal:IBAN" in (path / "summary.parquet").read_bytes()
    old = load_run(path)
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(getattr(old, name)(), frame)
    columns = ["rank:likelihood", "likelihood", "personal_e_mail"]
    pd.testing.assert_frame_equal(old.candidates(columns), frames["candidates"][columns])
    pd.testing.assert_frame_equal(old.candidates("rank:*"), run.candidates("rank:*"))
    n_shards = len([n for n in old.manifest.shards if n.startswith("scores/")])
    assert old.undefined()["likelihood"] == {"text has no scored token": 2 * n_shards}
    # All candidates, and each list but that of the control.
    assert len(compare_runs(run.path, path).differences) == len(frames["summary"])
    with pytest.raises(RunError, match=r"no column 'rank:perplexity'. It is now named 'rank:like"):
        old.candidates(["rank:perplexity"])


def test_an_old_run_is_finished_with_todays_names(config, tmp_path):
    half = config.model_copy(update={"out": tmp_path / "half"})
    run_audit(half, until="score")
    as_before(half.out, half)
    finished, fresh = run_audit(half), run_audit(config)
    assert (finished.path / "candidates.csv").read_bytes() == (
        fresh.path / "candidates.csv"
    ).read_bytes()
    assert (finished.path / "summary.csv").read_bytes() == (fresh.path / "summary.csv").read_bytes()
