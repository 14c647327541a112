"""A signal ends the step, saves, and hands the run back to its scheduler."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stylex.training.departure import SIGNALS, Departure, departing

FOLDER = Path("runs/x")


@pytest.fixture(autouse=True)
def _outside_any_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def departure() -> Iterator[Departure]:
    with departing(FOLDER, leads=True) as found:
        yield found


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Slurm's command, which writes what it was asked for."""
    path = tmp_path / "scontrol"
    path.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path / "asked"}\nexit ${{SCONTROL_CODE:-0}}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "asked"


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_in_a_step_waits_for_its_end_and_the_exit_code_names_it(
    departure: Departure, signum: int, capsys: pytest.CaptureFixture[str]
) -> None:
    departure.begin()
    assert not departure.wanted(1, None)

    os.kill(os.getpid(), signum)

    assert departure.wanted(2, None)
    with pytest.raises(SystemExit) as left:
        departure.leave(2)
    assert left.value.code == 128 + signum
    said = capsys.readouterr().out
    name = signal.Signals(signum).name
    assert said == f"'runs/x' was stopped by {name} at step 2; the same command goes on\n"


def test_a_signal_outside_the_steps_leaves_at_once(departure: Departure) -> None:
    with pytest.raises(SystemExit) as left:
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 143


@pytest.mark.parametrize(("second", "ends"), [(signal.SIGTERM, True), (signal.SIGUSR1, False)])
def test_the_same_signal_again_leaves_at_once_another_one_does_not(second: int, ends: bool) -> None:
    child = os.fork()
    if not child:
        with departing(FOLDER, leads=True) as departure:
            departure.begin()
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), second)
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (-signal.SIGTERM if ends else 0)


def test_a_process_that_reads_images_leaves_signals_to_its_parent(departure: Departure) -> None:
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_handlers_are_given_back() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with departing(FOLDER, leads=True) as departure:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as another library would
        departure.begin()
        assert signal.getsignal(signal.SIGTERM) == departure._note
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def left_by(departure: Departure, signum: int) -> object:
    departure.begin()
    os.kill(os.getpid(), signum)
    with pytest.raises(SystemExit) as left:
        departure.leave(5)
    return left.value.code


def test_in_slurm_sigusr1_queues_the_job_again_and_sigterm_does_not(
    departure: Departure,
    scontrol: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert left_by(departure, signal.SIGTERM) == 143
    assert not scontrol.exists()
    departure.signum = None

    assert left_by(departure, signal.SIGUSR1) == 128 + signal.SIGUSR1

    assert scontrol.read_text() == "requeue 4711\n"
    assert capsys.readouterr().out.endswith("Slurm begins job 4711 again\n")


def test_a_signal_while_a_job_is_queued_again_changes_nothing(
    departure: Departure, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    command = scontrol.with_name("scontrol")
    command.write_text(f"#!/bin/sh\nkill -TERM {os.getpid()}\nsleep 0.2\n")

    assert left_by(departure, signal.SIGUSR1) == 128 + signal.SIGUSR1


@pytest.mark.parametrize("fault", ["refused", "missing"])
def test_a_scontrol_that_fails_is_said_with_what_to_do(
    departure: Departure,
    scontrol: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SCONTROL_CODE", "3")
    if fault == "missing":
        monkeypatch.setenv("PATH", "/nowhere")

    assert left_by(departure, signal.SIGUSR1) == 128 + signal.SIGUSR1

    said = capsys.readouterr().out
    assert "Slurm does not begin job 4711 again (" in said
    assert said.endswith("): give the same command\n")


def test_outside_slurm_nobody_is_asked(departure: Departure, scontrol: Path) -> None:
    left_by(departure, signal.SIGUSR1)
    assert not scontrol.exists()


def test_another_process_than_the_first_says_and_asks_nothing(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with departing(FOLDER, leads=False) as departure:
        assert left_by(departure, signal.SIGUSR1) == 128 + signal.SIGUSR1
    assert not scontrol.exists()
    assert capsys.readouterr().out == ""


def test_of_several_processes_the_first_decides_every_few_steps() -> None:
    departure = Departure(FOLDER, leads=False)
    departure.signum = int(signal.SIGTERM)  # its own signal does not count
    told = [departure.wanted(step, lambda _: None) for step in range(1, 21)]
    assert not any(told)
    told = [departure.wanted(step, lambda _: int(signal.SIGUSR1)) for step in range(1, 21)]
    assert [step for step, yes in enumerate(told, 1) if yes] == [10, 20]
    assert departure.signum == signal.SIGUSR1


def test_inside_submitit_its_own_handlers_requeue_and_ignore_sigterm(
    monkeypatch: pytest.MonkeyPatch, scontrol: Path
) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    called: list[int] = []

    def requeue(signum: int, frame: object) -> None:
        called.append(signum)
        raise SystemExit(-1)

    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR2)}
    signal.signal(signal.SIGTERM, lambda signum, frame: called.append(signum))
    signal.signal(signal.SIGUSR2, requeue)
    try:
        with departing(FOLDER, leads=True) as departure:
            departure.begin()
            os.kill(os.getpid(), signal.SIGTERM)
            assert called == [signal.SIGTERM]
            assert not departure.wanted(1, None)
            assert left_by(departure, signal.SIGUSR2) == -1
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert called == [signal.SIGTERM, signal.SIGUSR2]
    assert not scontrol.exists()
