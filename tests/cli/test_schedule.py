"""`auditor schedule`: one-line errors, and flags that override the file."""

import pytest

from tests.histories import small_audit
from tests.tiny import command

CRON = ("--cron", "0 3 * * 1", "--timezone", "UTC")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--cron", "0 3 * * funday"], 2, "day-of-week must be within 0–7 or sun–sat"),
        (["--cron", "0 3 *"], 2, "must have five fields"),
        (["--timezone", "Mars/Base", *CRON[:2]], 2, "IANA name"),
        ([], 2, "Give --cron LINE"),
        (["--print", "cron"], 2, "Give --cron LINE"),
        (["--print", "launchd", *CRON], 2, "'launchd' is not one of"),
    ],
)
def test_an_invalid_schedule_is_a_one_line_error(tmp_path, args, code, says):
    file = small_audit(tmp_path)
    ended = command("schedule", file, *args)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "runs").exists()


def test_the_schedule_of_the_file_is_read_and_flags_override_it(tmp_path):
    file = small_audit(tmp_path, gates='[schedule]\ncron = "@daily"\ntimezone = "UTC"\n')
    assert "0 0 * * *" in command("schedule", file, "--print", "cron").out
    told = command("schedule", file, "--print", "cron", "--cron", "5 4 * * *").out
    assert "\n5 4 * * * cd " in told
