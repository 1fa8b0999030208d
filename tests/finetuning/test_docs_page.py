"""The code of the documentation page runs twice, on a small model."""

import json
import os
import warnings
from pathlib import Path

import pytest

from auditor.finetuning.callback import read_probes
from tests.test_docs import blocks
from tests.tiny import WORDS, save_tiny_model

PAGE = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the page's code leaves the second time, and the folder that it ran in."""
    folder, before = tmp_path_factory.mktemp("page"), Path.cwd()
    model = save_tiny_model(folder / "model")
    for name, word in (("notes", "day"), ("unseen", "night")):
        lines = [json.dumps({"text": f"{WORDS} on {word} {i}"}) + "\n" for i in range(8)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            # The Trainer's default pins memory for a GPU, and torch remarks that there is none.
            warnings.filterwarnings("ignore", message=".*pin_memory")
            code = "".join(blocks(PAGE, "python")).replace('"gpt2"', repr(str(model)))
            for _ in range(2):  # a script that is run again
                names = {}
                exec(compile(code, "finetuning.md", "exec"), names)  # noqa: S102
    finally:
        os.chdir(before)
    return names, folder


def test_the_trainer_of_the_page_is_measured_to_its_last_step(ran):
    names, folder = ran
    canaries = names["canaries"]
    n_texts = 8 + sum(c.repeats for c in canaries.canaries)
    assert len(names["training"]) == n_texts
    assert names["trainer"].state.global_step == -(-len(names["rows"]) // 8)
    rows = read_probes(folder / "probes")
    assert rows["step"].tolist() == [names["trainer"].state.global_step]
    assert rows["repeats"].iloc[0].tolist() == [c.repeats for c in canaries.canaries]
    assert names["callback"].stopped_at is None


def test_the_loop_of_the_page_learns_and_is_measured(ran):
    names, folder = ran
    row = read_probes(folder / "loop-probes").iloc[-1]
    assert row["step"] == len(names["batches"])
    assert row["member_nll"] < names["before"].member_nll  # the base, before any training


def test_adapters_of_the_page_change_nothing_until_they_are_trained(ran):
    names, _ = ran
    assert names["after"].member_nll == names["before"].member_nll
