"""Progress: a plain line every 30 s, right numbers, all of it on stderr, nothing hostile in it."""

import io

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
        "sampling: 30%, 10 tokens/s, 1 min 10 s left",
        "sampling: 60%, 10 tokens/s, 40.0 s left",
        "sampling: 90%, 10 tokens/s, 10.0 s left",
        "sampling: done in 1 min 40 s, 10 tokens/s",
    ]


def test_a_quick_stage_prints_one_line(told, clock):
    bar, stream = told
    with bar.stage("ranking", 1, "lists") as stage:
        clock.now += 0.5
        stage.advance(1)
    assert lines(stream) == ["ranking: done in 0.5 s, 2 lists/s"]


def test_the_rate_is_of_the_whole_stage(told, clock):
    bar, stream = told
    with bar.stage("scoring", 400, "texts") as stage:
        clock.now += 30
        stage.advance(300)  # 10 a second
        clock.now += 30
        stage.advance(0)  # 5 a second so far, 100 to go
    assert lines(stream)[:2] == [
        "scoring: 75%, 10 texts/s, 10.0 s left",
        "scoring: 75%, 5 texts/s, 20.0 s left",
    ]


def test_no_line_before_anything_is_done(told, clock):
    bar, stream = told
    with bar.stage("scoring", 400, "texts") as stage:
        clock.now += 100
        stage.advance(0)
    assert lines(stream) == ["scoring: done in 1 min 40 s"]


def test_more_than_the_total_is_all_of_it(told, clock):
    bar, stream = told
    with bar.stage("matching", 10, "bytes") as stage:
        clock.now += 30
        stage.advance(15)
    assert lines(stream)[0] == "matching: 100%, 0.5 bytes/s, 0.0 s left"


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
    expected = ["matching: 15 bytes, 0.5 bytes/s", "matching: done in 30.0 s, 0.5 bytes/s"]
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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (119.9, "2 min 00 s"),
        (3599.6, "1 h 00 min"),
        (86400, "24 h 00 min"),
    ],
)
def test_durations_never_round_up_to_sixty(seconds, words):
    assert progress._duration(seconds) == words
