"""The doctor's door: what it prints and how it exits."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doors import code_of

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


@pytest.mark.parametrize("argument", ["checkpoint", "--gpu"])
def test_what_is_no_key_and_value_is_refused_in_one_line(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main([argument]) == 2
    said = capsys.readouterr()
    expected = f"error: the doctor takes key=value or nothing, got '{argument}'; usage: "
    assert said.err.startswith(f"{expected}python -m stylex.doctor [classifier=... ")
    assert said.out == ""


def test_help_comes_without_torch() -> None:
    code = "import sys; from stylex.doctor import main; main(['--help']); "
    code += "print('torch' in sys.modules or 'hydra' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m stylex.doctor [classifier=...")
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


# A classifier


ENDS = """
from torch import nn
from stylex.classifier.backbones import SmallCNN

class Rounded(nn.Module):
    def forward(self, x):
        return (100 * x).round()

def make(last):
    ends = {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid(), "round": Rounded()}
    return nn.Sequential(SmallCNN(1, 10, 4, 0.0), ends[last])
"""


def examined(*typed: str) -> Any:
    few = [] if any(text.startswith("num_images") for text in typed) else ["num_images=48"]
    return code_of("doctor", doctor.examine_classifier, [*few, "device=cpu", *typed])


def test_a_good_classifier_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert examined("classifier=faces", "data=faces") == 0
    said = capsys.readouterr().out
    lines = {line.split()[1]: line for line in said.splitlines() if line.startswith("ok ")}
    assert (
        "32 px, 3 channels, range [-1, 1], mean [0], std [1]; by channel it was given -"
        in lines["input"]
    )
    assert "logits, 2 an image, -" in lines["outputs"]
    assert "of 48 images" in lines["accuracy"]
    assert "expected calibration error 0." in lines["calibration"]
    assert "of the pixels, mean length" in lines["gradient"]
    assert "MiB for 32 images" in lines["memory"]
    assert "images/s, with gradients" in lines["speed"]
    for name in ("Alder", "Birch"):
        assert f"  {name}  0." in said or f"  {name}  1." in said
    assert "reliability: of images" in said
    assert said.endswith("The classifier can be explained; fine.\n")


def test_a_wrong_range_is_a_warning_that_says_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = ["classifier.input_range=[0,255]"]
    assert examined("classifier=fashion", "data=fashion", "num_images=128", *wrong) == 1
    said = capsys.readouterr().out
    assert "warning  other inputs   another one is right more often: 0." in said
    remedy = "classifier.input_range=[-1,1] classifier.mean=[0] classifier.std=[1]"
    assert f"remedy: {remedy}\n" in said
    assert said.splitlines()[-1].startswith("The classifier can be explained; see ")


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ("softmax", "must return logits, got probabilities (every output lies in [0, 1], and each"),
        ("sigmoid", "got probabilities (every output lies in [0, 1]); cut the last sigmoid off"),
        ("round", "the gradient of the logits must reach the image, got 0 everywhere; training"),
    ],
)
def test_what_cannot_be_explained_leaves_with_2_and_one_sentence(
    last: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "ended.py").write_text(ENDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    network = ["classifier=module", "classifier.network=ended:make"]
    form = ["classifier.input_channels=1", "classifier.mean=[0]", "classifier.std=[1]"]
    own = [*network, f"+classifier.arguments.last={last}", *form]
    assert examined("data=fashion", *own) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert "runs the code of 'ended:make', which classifier.network names" in said.out


@pytest.mark.parametrize("typed", ["num_images=0", "classifier=fashin", "split=tset", "num_bins=x"])
def test_a_users_mistake_is_one_sentence(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert examined(typed) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_the_doctor_is_told_about_a_classifier_as_users_tell_it() -> None:
    typed = ["classifier=faces", "data=faces", "num_images=32", "device=cpu", "cpu_threads=1"]
    command = [sys.executable, "-m", "stylex.doctor", *typed]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("fine.\n")
