"""The doctor's door: what it prints and how it exits."""

import subprocess
import sys
from pathlib import Path

import pytest

from stylex import doctor
from stylex.ops import checkup
from stylex.ops.checkup import Finding

ROOT = Path(__file__).parents[1]
NINJA = Finding("ninja", "missing", "ninja must be installed, got none", "'pip install ninja'")
GPU = Finding("GPU", "missing", "a GPU must be visible to torch, got none: no driver", "install it")
LIST = Finding("targets", "warning", "TORCH_CUDA_ARCH_LIST='5.0' is ignored", "unset it")
TORCH = Finding("torch", "ok", "2.14.1, built for CUDA 13.0")


@pytest.mark.parametrize(
    ("findings", "code", "ending"),
    [
        ([TORCH], 0, "The fused CUDA ops are used for tensors on a GPU: nothing is missing."),
        ([TORCH, LIST], 0, "The fused CUDA ops are used for tensors on a GPU: nothing is missing."),
        (
            [TORCH, GPU, NINJA],
            1,
            "The reference ops are used, plain PyTorch on the CPU; missing for CUDA: GPU, ninja.",
        ),
        (
            [TORCH, NINJA],
            1,
            "The fused CUDA ops cannot be used; missing for CUDA: ninja. Training on a GPU stops "
            "with an error until that is put right, or runs slower with ops.impl=reference.",
        ),
    ],
)
def test_the_last_sentence_and_the_exit_code_follow_from_what_is_missing(
    findings: list[Finding],
    code: int,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checkup, "examine", lambda: findings)
    assert doctor.main([]) == code
    assert capsys.readouterr().out == f"{doctor.table(findings)}\n\n{ending}\n"


def test_every_fault_has_its_remedy_on_the_line_below_in_the_findings_column() -> None:
    assert doctor.table([TORCH, NINJA]).splitlines() == [
        "ok       torch          2.14.1, built for CUDA 13.0",
        "missing  ninja          ninja must be installed, got none",
        "                        remedy: 'pip install ninja'",
    ]


def test_a_torch_that_cannot_be_imported_is_the_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "stylex.ops.checkup", None)
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert out.startswith("missing  torch          it must be importable, got '")
    assert out.endswith("\n                        remedy: install torch again with pip\n")


@pytest.mark.parametrize("argument", ["checkpoint=x", "--gpu"])
def test_an_argument_is_refused_in_one_line(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main([argument]) == 2
    said = capsys.readouterr()
    expected = f"error: the doctor takes no argument, got '{argument}'; usage: "
    assert said.err == f"{expected}python -m stylex.doctor\n"
    assert said.out == ""


def test_help_comes_without_torch() -> None:
    code = "import sys; from stylex.doctor import main; main(['--help']); "
    code += "print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m stylex.doctor\n")
    assert done.stdout.endswith("False\n")


def test_the_door_opens_as_users_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    command = [sys.executable, "-m", "stylex.doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "\nmissing  GPU            a GPU must be visible to torch, got none: " in done.stdout
    assert "GPU" in done.stdout.splitlines()[-1].partition("missing for CUDA: ")[2]
    assert list(tmp_path.iterdir()) == []
