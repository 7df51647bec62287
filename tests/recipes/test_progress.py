"""What progress writes when nobody sits at a terminal."""

import io

from lamoid.recipes.progress import Progress


def test_plain_lines_tell_how_far_and_the_figures() -> None:
    stream = io.StringIO()
    progress = Progress(stream, interval=0.0)
    progress.start("training", 4, "steps")
    progress.advance(1, loss=2.25)
    progress.say("a word between")
    progress.advance(3, loss=2.0)
    progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("training: 1/4 steps")
    assert "left" in lines[0]
    assert lines[0].endswith("loss 2.25")
    assert lines[1] == "a word between"
    assert lines[-1].startswith("training: 4/4 steps")
    assert "taken" in lines[-1]


def test_an_unknown_total_and_silence_between() -> None:
    stream = io.StringIO()
    progress = Progress(stream, interval=1e9)
    progress.start("reading", None, "bytes")
    for _ in range(100):
        progress.advance(10)
    assert stream.getvalue() == ""
    progress.finish()
    progress.finish()
    assert stream.getvalue().startswith("reading: 1000 bytes")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress(stream) as progress:
        progress.start("training", 2, "steps")
        progress.advance(2, loss=1.0)
        progress.say("a word [between]")
    assert "training" in stream.getvalue()
    assert "a word [between]" in stream.getvalue()


def test_advancing_before_the_start_is_nothing() -> None:
    stream = io.StringIO()
    Progress(stream).advance(1)
    assert stream.getvalue() == ""
