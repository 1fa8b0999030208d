"""Progress: a plain line every 30 s, right numbers, all of it on stderr, nothing hostile in it."""

import io
import re
import threading

import pytest

from auditor.system import progress


class Clock:
    """A clock that advances only on request."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told(clock):
    stream = io.StringIO()
    return progress.Lines(stream, clock=clock), stream


def lines(stream):
    return stream.getvalue().splitlines()


def test_a_line_every_thirty_seconds_and_one_at_the_end(told, clock):
    bar, stream = told
    with bar.stage("sampling", 1000, "tokens") as stage:
        for _ in range(100):  # a step of one second and ten tokens
            clock.now += 1
            stage.advance(10)
    assert lines(stream) == [
        "sampling: 30%, 0:30 elapsed, about 1:10 left",
        "sampling: 60%, 1:00 elapsed, about 0:40 left",
        "sampling: 90%, 1:30 elapsed, about 0:10 left",
        "sampling: done in 1:40",
    ]


def test_a_quick_stage_prints_one_line(told, clock):
    bar, stream = told
    with bar.stage("ranking", 1, "lists") as stage:
        clock.now += 3
        stage.advance(1)
    assert lines(stream) == ["ranking: done in 0:03"]


def test_the_time_left_is_by_the_rate_of_the_whole_stage(told, clock):
    bar, stream = told
    with bar.stage("scoring", 400, "texts") as stage:
        clock.now += 30
        stage.advance(300)  # 10 a second
        clock.now += 30
        stage.advance(0)  # 5 a second so far, 100 to go
    assert lines(stream)[:2] == [
        "scoring: 75%, 0:30 elapsed, about 0:10 left",
        "scoring: 75%, 1:00 elapsed, about 0:20 left",
    ]


def test_without_progress_the_time_elapsed_is_told_alone(told, clock):
    bar, stream = told
    with bar.stage("scoring", 400, "texts") as stage:
        clock.now += 100
        stage.advance(0)
    assert lines(stream) == ["scoring: 0%, 1:40 elapsed", "scoring: done in 1:40"]


def test_a_stage_that_reports_nothing_for_long_still_writes_lines(clock):
    """The first line comes from another thread: the stage itself waits for it."""
    written = threading.Event()

    class Watched(io.StringIO):
        def write(self, text):
            written.set()
            return super().write(text)

    stream = Watched()
    bar = progress.Lines(stream, clock=clock, beat=0.01)
    with bar.stage("loading", None, "models"):
        clock.now += 31
        assert written.wait(60)
    assert lines(stream) == ["loading: 0:31 elapsed", "loading: done in 0:31"]


def test_verbose_lines_end_with_the_throughput_unless_it_is_less_than_one(clock):
    stream = io.StringIO()
    bar = progress.Lines(stream, clock=clock, is_verbose=True)
    for name, n in (("sampling", 100), ("reporting", 1)):
        with bar.stage(name, n, "units") as stage:
            clock.now += 10
            stage.advance(n)
    assert lines(stream) == ["sampling: done in 0:10, 10 units/s", "reporting: done in 0:10"]


def test_more_than_the_total_is_all_of_it(told, clock):
    bar, stream = told
    with bar.stage("matching", 10, "bytes") as stage:
        clock.now += 30
        stage.advance(15)
    assert lines(stream)[0] == "matching: 100%, 0:30 elapsed"


def test_a_stage_without_work_is_accepted(told, clock):
    bar, stream = told
    with bar.stage("matching", 0, "bytes") as stage:
        clock.now += 30
        stage.advance(1)
    assert lines(stream)[0].startswith("matching: 100%")


def test_where_the_total_is_unknown_what_is_done_is_reported(told, clock):
    bar, stream = told
    with bar.stage("matching", None, "bytes") as stage:
        clock.now += 30
        stage.advance(15)
    expected = ["matching: 15 bytes, 0:30 elapsed", "matching: done in 0:30"]
    assert lines(stream) == expected


def test_a_stage_that_fails_is_not_called_done(told):
    bar, stream = told
    with pytest.raises(RuntimeError), bar.stage("sampling", 10, "tokens"):
        raise RuntimeError
    assert lines(stream) == []


@pytest.mark.parametrize("make", [progress.Lines, progress.Terminal])
def test_nothing_goes_to_stdout(capsys, make):
    bar = make()
    with bar.stage("sampling", 10, "tokens") as stage:
        stage.advance(5)
        bar.note("A remark.")
        stage.advance(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert "sampling" in err
    assert "A remark." in err


def test_quiet_says_nothing(capsys):
    bar = progress.NullProgress()
    with bar.stage("sampling", 10, "tokens") as stage:
        stage.advance(5)
    bar.note("A remark.")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("make", [progress.Lines, progress.Terminal])
def test_a_note_shows_control_characters_instead_of_sending_them(capsys, make):
    make().note("evil\x1b[31m\r\u202e[red] \x9b.txt: line 3")
    err = capsys.readouterr().err
    assert "evil\\x1b[31m\\r\\u202e[red] \\x9b.txt: line 3" in err.replace("\n", "")
    assert not set("\x1b\r\u202e\x9b") & set(err)


class Tty(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(progress.for_terminal(), progress.Lines)
    monkeypatch.setattr("sys.stderr", Tty())
    assert isinstance(progress.for_terminal(), progress.Terminal)
    assert type(progress.for_terminal(-1)) is progress.NullProgress


@pytest.mark.parametrize(
    ("answer", "is_agreed"), [("y", True), ("Yes", True), ("", False), ("no", False), (None, False)]
)
def test_a_question_is_asked_at_a_terminal_and_silence_means_no(
    monkeypatch, capsys, answer, is_agreed
):
    def said():
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", said)
    monkeypatch.setattr("sys.stdin", Tty())
    assert progress.Terminal().confirm("This takes 3 days. Start?") is is_agreed
    assert "This takes 3 days. Start? [y/N]" in capsys.readouterr().err
    assert progress.Terminal(asks=False).confirm("Start?") is False
    assert progress.Lines().confirm("Start?") is False
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    assert progress.Terminal().confirm("Start?") is False


def test_a_bar_shows_the_time_elapsed_and_left(monkeypatch):
    stream = Tty()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    with progress.Terminal().stage("sampling", 100, "tokens") as stage:
        stage.advance(50)
        stage.bar.refresh()
    assert re.search(r"50 % 0:00 elapsed, about 0:00 left", stream.getvalue())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.96, "1:00"),
        (119.9, "2:00"),
        (3599.6, "1:00:00"),
        (86400, "24:00:00"),
    ],
)
def test_durations_never_show_sixty_seconds(seconds, words):
    assert progress.clock_time(seconds) == words
