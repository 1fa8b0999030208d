"""Shards processed by several workers equal those of one process, even if workers die."""

import json
import os
import subprocess
import sys
from collections import deque
from contextlib import nullcontext
from pathlib import Path

import pytest

from auditor.audit.pipeline import run_audit
from auditor.audit.workers import processes
from auditor.audit.workers.pool import Workers
from auditor.audit.workers.shard_worker import ShardWorker
from auditor.audit.workers.tasks import Outcome, Settings, Task, WorkerDiedError
from auditor.config.audit import make_config
from auditor.errors import ConfigError, RunError
from auditor.runs.manifest import FileEntry, ModelEntry
from auditor.runs.run import load_run
from auditor.runs.writer import open_for_writing
from auditor.system.offline import is_offline, offline
from tests.tiny import save_tiny_model

ROOT = Path(__file__).parents[2]


# ------------------------------------------------- sharing out, with workers that a test makes up
class Planted:
    """A worker that follows a script for each task: an Outcome, "die", or an error."""

    def __init__(self, script):
        self.script, self.task, self.is_new = script, None, True
        self.is_stopped = False

    def give(self, task):
        assert self.task is None
        assert not self.is_new
        self.task = task

    def receive(self):
        task, self.task = self.task, None
        if self.is_new and self.script("start", self) != "die":
            self.is_new = False
            return None
        told = "die" if self.is_new else self.script(task.stem, self)
        if told == "die":
            raise WorkerDiedError("signal 9")
        return told or Outcome(task, files={f"samples/{task.stem}.parquet": FACTS})

    def stop(self):
        self.is_stopped = True


class PlantedTeam:
    """Workers that answer one at a time, in order of waiting."""

    def __init__(self, script, size, *, replaces=True):
        self.script, self.size, self.replaces = script, size, replaces
        self.started = []
        self.turns = deque()

    def sharing(self):
        return self.size

    def threads(self):
        return 1

    def start(self, settings):
        self.started.append(Planted(self.script))
        return self.started[-1]

    def ready(self, workers):
        assert workers, "nobody is left that could speak"
        return [workers[0]]

    def close(self):
        pass


FACTS = FileEntry(sha256=64 * "0", bytes=1, rows=1)
TASKS = [Task("sample", "top-n", f"top-n-{i:05}", i, i + 1) for i in range(6)]


@pytest.fixture
def writer(tmp_path):
    with open_for_writing(tmp_path / "run", make_config({"model": "gpt2", "samples": 6})) as run:
        yield run


def shared(writer, script, size=2, **how):
    team = PlantedTeam(script, size, **how)
    workers = Workers(writer.config, writer, team)
    return team, [outcome.task.stem for outcome in workers.share(TASKS)]


def once(*stems):
    """Die at each of these tasks once."""
    left = set(stems)

    def script(stem, _):
        if stem in left:
            left.remove(stem)
            return "die"
        return None

    return script


ALL = sorted(task.stem for task in TASKS)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_every_shard_is_processed_once_and_registered(writer, size):
    team, done = shared(writer, lambda *_: None, size)
    assert sorted(done) == ALL
    assert len(team.started) == min(size, 6)
    assert sorted(load_run(writer.path).manifest.shards) == [f"samples/{s}.parquet" for s in ALL]


@pytest.mark.parametrize("replaces", [True, False])
def test_a_dead_worker_loses_only_its_current_shard(writer, replaces):
    team, done = shared(writer, once("top-n-00000", "top-n-00004"), 3, replaces=replaces)
    assert sorted(done) == ALL
    assert len(team.started) == (5 if replaces else 3)
    assert sum(worker.is_stopped for worker in team.started) == 2


def test_the_last_worker_is_always_replaced(writer):
    team, done = shared(writer, once(*ALL), 1, replaces=False)
    assert sorted(done) == ALL
    assert len(team.started) == 7


def test_a_shard_that_kills_every_worker_is_abandoned_and_others_are_kept(writer):
    script = lambda stem, _: "die" if stem == "top-n-00003" else None  # noqa: E731
    with pytest.raises(
        RunError, match=r"sample of top-n-00003 failed 3 times.*signal 9.*--workers"
    ):
        shared(writer, script, 1)
    assert len(load_run(writer.path).manifest.shards) == 3


def test_workers_that_cannot_start_end_the_run(writer):
    with pytest.raises(RunError, match=r"a worker's start failed 3 times"):
        shared(writer, lambda stem, _: "die" if stem == "start" else None)


def test_an_error_in_a_worker_is_raised_in_the_caller(writer):
    def script(stem, worker):
        wrong = ("ConfigError", "There is no such thing.")
        return Outcome(TASKS[0], error=wrong) if stem == "top-n-00002" else None

    with pytest.raises(ConfigError, match="There is no such thing"):
        shared(writer, script)


@pytest.mark.parametrize(
    ("key", "what"), [("sha256", "The model"), ("vocabulary_sha256", "The tokenizer of model")]
)
def test_workers_with_other_weights_or_another_tokenizer_are_refused(writer, key, what):
    def script(stem, worker):
        if stem == "start":
            return None
        task = next(t for t in TASKS if t.stem == stem)
        return Outcome(task, models={"target": ModelEntry(**{"sha256": "one", key: stem})})

    with pytest.raises(RunError, match=f"{what} 'target' differs between workers"):
        shared(writer, script)


def test_one_bfloat16_worker_makes_the_run_rescore_in_float32(writer):
    """Machines of one cluster may differ: the shortlist is exact whichever worker sampled it."""

    def script(stem, worker):
        if stem == "start":
            return None
        task = next(t for t in TASKS if t.stem == stem)
        dtype = "bfloat16" if task is TASKS[2] else "float32"
        return Outcome(task, models={"target": ModelEntry(sha256="one", dtype=dtype)})

    shared(writer, script)
    assert writer.manifest.models["target"].dtype == "bfloat16"


def test_workers_are_reused_for_later_tasks(writer):
    team = PlantedTeam(lambda *_: None, 2)
    workers = Workers(writer.config, writer, team)
    team.ready = lambda some: [some[-1]]  # the second worker does all the work of the first round
    assert len(list(workers.share(TASKS))) == 6
    assert len(list(workers.share(TASKS))) == 6
    assert len(team.started) == 2


def test_partial_files_of_a_killed_worker_are_deleted(writer):
    writer.write_bytes("samples/top-n-00000.parquet", b"whole")
    left = writer.path / "samples" / "..top-n-00001.parquet.0123.shard.part"
    left.write_bytes(b"half")
    Workers(writer.config, writer, PlantedTeam(lambda *_: None, 1))
    assert [p.name for p in (writer.path / "samples").iterdir()] == ["top-n-00000.parquet"]


# ---------------------------------------------------------------------------- real processes
def settings(folder, **how):
    texts = folder / "texts.txt"
    texts.write_text("the quick brown fox jumps over the lazy dog\n" * 20)
    return {
        "model": str(folder / "model"),
        "references": {"other": str(folder / "other")},
        "strategies": ["top-n", "internet"],
        "prompts": {"corpus": [str(texts)], "min_tokens": 2, "max_tokens": 8},
        "decoding": {"max_new_tokens": 16},
        "samples": 40,
        "shard_size": 10,
        **how,
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with models, and the run of one process in it."""
    folder = tmp_path_factory.mktemp("workers")
    save_tiny_model(folder / "model")
    save_tiny_model(folder / "other", seed=1)
    run_audit(**settings(folder, out=str(folder / "alone")), until="score")
    return folder


def digests(path):
    """sha256 of every shard, counts, and fingerprints of what was read."""
    manifest = load_run(path).manifest
    stages = manifest.model_dump()["stages"].items()
    counts = {stage: without_seconds(facts) for stage, facts in stages}
    assert len(manifest.shards) == 16
    return (
        manifest.shards,
        counts,
        manifest.models,
        manifest.prompts,
        manifest.batch_size,
    )


def without_seconds(facts):
    """A stage's counts, at any depth."""
    return {
        k: without_seconds(v) if isinstance(v, dict) else v
        for k, v in facts.items()
        if k != "seconds"
    }


def test_two_processes_with_one_killed_write_the_same_bytes(alone, monkeypatch):
    killed = []

    class Mortal(processes.ProcessWorker):
        def give(self, task):
            super().give(task)
            if task.stage == "sample" and task.first == 10 and not killed:
                killed.append(task)
                self.process.kill()

    monkeypatch.setattr(processes, "ProcessWorker", Mortal)
    run_audit(**settings(alone, out=str(alone / "two"), workers=2), until="score")
    assert [task.stem for task in killed] == ["top-n-00001"]
    assert digests(alone / "two") == digests(alone / "alone")


def test_a_worker_error_is_reported_in_one_line(alone):
    config = make_config({**settings(alone), "bos": "nothing-here"})
    told = Settings(str(alone / "wrong"), config.model_dump(mode="json"), {}, 0, 1)
    outcome = ShardWorker(told).do(Task("plan", "top-n", "top-n-00000", 0, 10))
    assert outcome.error[0] == "ConfigError"
    assert "nothing-here" in outcome.error[1]
    assert not (alone / "wrong").exists()


def test_a_worker_refuses_a_shard_with_another_hash(alone):
    config = make_config(settings(alone))
    name = "samples/top-n-00000.parquet"
    facts = load_run(alone / "alone").manifest.shards[name]
    told = Settings(str(alone / "alone"), config.model_dump(mode="json"), {}, 0, 1)
    needs = {name: facts.model_copy(update={"sha256": "0" * 64})}
    outcome = ShardWorker(told).do(Task("score", "top-n", "top-n-00000", 0, 0, needs=needs))
    assert outcome.error[0] == "RunError"
    assert name in outcome.error[1]


@pytest.mark.parametrize("how", ["asked", "said", "neither"])
def test_offline_holds_in_workers_too(writer, monkeypatch, how):
    """Asked for in the audit file, or said of the whole command."""
    told = []
    team = PlantedTeam(lambda *_: None, 1)
    begin = team.start
    monkeypatch.setattr(team, "start", lambda settings: (told.append(settings), begin(settings))[1])
    config = make_config({"model": "gpt2", "samples": 6, "offline": how == "asked"})
    with offline() if how == "said" else nullcontext():
        list(Workers(config, writer, team).share(TASKS[:1]))
    seen = []
    monkeypatch.setattr(ShardWorker, "_work", lambda *_: seen.append(is_offline()) or {})
    ShardWorker(told[0]).do(TASKS[0])
    assert seen == [how != "neither"]
    assert not is_offline()


# ------------------------------------------------------------------------------------- Ray
RAY = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from auditor.audit.pipeline import run_audit
from auditor.audit.workers import pool, ray_cluster

given = json.loads(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
lost, mortal = [], []
start, give, bury = ray_cluster.RayTeam.start, ray_cluster.RayWorker.give, pool.Workers._drop

def started(self, settings):
    worker = start(self, settings)
    if node in cluster.list_all_nodes():  # later there may be no room for it
        ray.get(worker.reference)  # it stands on its node before it is given a task
        where = worker.actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
        if ray.get(where) == node.node_id:
            mortal.append(worker)
    return worker

def watched(self, task):
    give(self, task)
    if self in mortal and task.stage == "sample" and node in cluster.list_all_nodes():
        cluster.remove_node(node, allow_graceful=False)  # with this task on it, or the next

def counted(self, worker, task, died, tries):
    lost.append(task.stem)
    bury(self, worker, task, died, tries)

ray_cluster.RayTeam.start, ray_cluster.RayWorker.give = started, watched
pool.Workers._drop = counted
run_audit(**given, ray=cluster.address, workers=2, until="score")
cluster.shutdown()
print(json.dumps({"lost": lost}))
"""


def test_two_ray_nodes_with_one_killed_write_the_same_bytes(alone):
    given = settings(alone, out=str(alone / "ray"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }
    # The cluster is started in a folder that has a package `reports` of its own.
    (alone / "reports").mkdir()
    (alone / "reports" / "__init__.py").write_text("raise ImportError('the other reports')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", RAY, json.dumps(given)],
        cwd=alone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads(done.stdout.strip().splitlines()[-1])["lost"]) == 1
    assert digests(alone / "ray") == digests(alone / "alone")


def test_without_ray_the_error_says_how_to_install_it(monkeypatch, writer):
    from auditor.audit.workers.ray_cluster import RayTeam

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs the package ray.*pip install"):
        RayTeam("auto")
