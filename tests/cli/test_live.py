"""The three lines of a job that trains."""

from typing import Any

from rich.console import Console

from cli.live import Picture


def metrics(step: int, second: int, **values: float) -> dict[str, Any]:
    data = {"step": step, "total_steps": 100, **values}
    return {"type": "metrics", "created_at": second, "message": "", "data": data}


def state(status: str) -> dict[str, Any]:
    data = {"kind": "state", "status": status}
    return {"type": "message", "created_at": 0, "message": "", "data": data}


def shown(picture: Picture) -> str:
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(picture.render())
    return capture.get()


def test_who_comes_late_is_told_the_right_time() -> None:
    """All old events come at once; the times that they carry count, not when they came."""
    picture = Picture()
    picture.see(state("running"))
    for step in range(1, 61):
        picture.see(metrics(step, 1000 + 10 * step, train_loss=2.0))

    assert picture.left() == 400
    assert "6 m 40 s left" in shown(picture)


def test_a_pause_is_no_pace() -> None:
    picture = Picture()
    picture.see(metrics(10, 100))
    picture.see(state("running"))
    picture.see(metrics(11, 9000))
    picture.see(metrics(13, 9004))

    assert picture.left() == 2 * (100 - 13)


def test_steps_within_a_second_and_steps_back_tell_no_time() -> None:
    picture = Picture()
    picture.see(metrics(1, 100))
    picture.see(metrics(2, 100))
    assert picture.left() is None

    picture.see(metrics(50, 600))
    picture.see(metrics(40, 700))
    assert picture.left() is None

    picture.see(metrics(41, 702))
    assert picture.left() == 2 * (100 - 41)


def test_it_shows_step_share_losses_and_evaluation() -> None:
    picture = Picture()
    picture.see(state("running"))
    for step, loss in enumerate((4.0, 3.0, 2.0, 1.0), start=1):
        picture.see(metrics(25 * step - 1, step, train_loss=loss))
    picture.see(metrics(99, 9, valid_loss=1.5))

    text = shown(picture)

    assert text.splitlines()[0].startswith("● running")
    assert "99%  step 99/100" in text.splitlines()[1]
    assert "loss 1.0000 █▆▃▁" in text.splitlines()[2]
    assert "eval 1.5000" in text


def test_before_the_first_step_it_says_what_is_waited_for() -> None:
    picture = Picture()
    picture.see(state("queued"))

    assert shown(picture).strip() == "○ queued"


def test_it_says_who_trains_and_how_fast() -> None:
    picture = Picture()
    picture.see(
        {
            "type": "message",
            "created_at": 0,
            "message": "",
            "data": {"kind": "state", "status": "running", "attempt": 2, "worker": "gpu-1\x1b[31m"},
        }
    )
    picture.see(metrics(10, 100, num_tokens=1000, train_loss=2.0))
    picture.see(metrics(20, 110, num_tokens=21_000, train_loss=1.0))

    first, second, third = shown(picture).splitlines()

    assert first.startswith("● running on gpu-1\ufffd[31m · attempt 2 · 1 m 20 s left")
    assert second.endswith("20%  step 20/100")
    assert third == "  loss 1.0000 █▁  2,000 tokens/s"


def test_a_queued_job_says_in_one_line_what_it_waits_for() -> None:
    picture = Picture()
    picture.see(state("queued"))
    picture.reason = "waits for a free worker; " + "very " * 30

    (line,) = shown(picture).splitlines()

    assert line.startswith("○ queued · waits for a free worker; ")
    assert len(line) <= 80
