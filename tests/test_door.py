"""A user's mistake at a door: one sentence, exit code 2, nothing written.

Most doors are opened inside this process, since a new one needs seconds to import torch; a few are
run as users run them.
"""

import importlib.util
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stylex import door
from stylex.classifier.frozen import build_classifier
from stylex.errors import InputError
from stylex.model import build_model
from stylex.overrides import check_overrides

ROOT = Path(__file__).parents[1]
CLASSES = ["circle", "square", "star"]


# What is typed


def refused(config_name: str, match: str, *overrides: str) -> None:
    with pytest.raises(InputError, match=match):
        check_overrides(config_name, list(overrides))


@pytest.mark.parametrize(
    ("config_name", "typed", "nearest"),
    [
        ("train", "training.num_stepss=4", "training.num_steps"),
        ("train", "training.weights.r1_gama=1", "training.weights.r1_gamma"),
        ("train", "num_steps=4", "training.num_steps"),
        ("train", "sed=4", "seed"),
        ("search", "traget=Coat", "target"),
        ("search", "batch_size=4", "search.batch_size"),
        ("card", "checkpont=x", "checkpoint"),
    ],
)
def test_a_mistyped_key_is_named_with_the_nearest_one(
    config_name: str, typed: str, nearest: str
) -> None:
    key = typed.partition("=")[0]
    refused(config_name, f"got '{key}'; the nearest one is '{nearest}'", typed)


def test_a_key_of_an_option_is_known_once_the_option_is_chosen() -> None:
    refused("train", "got 'data.root'", "data.root=x")
    check_overrides("train", ["data.root=x", "data=folder"])
    refused(
        "train",
        "got 'training.path_length_interval'",
        "training.path_length_interval=2",
        "task=classifier",
    )


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("classifier=resnet19", "classifier=resnet18"),
        ("data=foldr", "data=folder"),
        ("task=classify", "task=classifier"),
        ("logger=wand", "logger=wandb"),
        ("model=32", "model=fashion-32"),
    ],
)
def test_an_unknown_option_is_named_with_all_known_ones(typed: str, nearest: str) -> None:
    group = typed.partition("=")[0]
    known = sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))
    message = f"{group} must be one of {', '.join(known)}, got '.*'; did you mean {nearest}?"
    refused("train", message, typed)


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("seed=abc", "a number"),
        ("training.num_steps=many", "a number"),
        ("training.weights.r1_gamma=high", "a number"),
        ("training.noise_path=2", "true or false"),
        ("training.learning_rate_decay=slow", "settings"),
    ],
)
def test_a_value_of_another_kind_is_refused(typed: str, kind: str) -> None:
    key, _, value = typed.partition("=")
    refused("train", f"{key} must be {kind}, got '{value}'", typed)


def test_a_value_may_be_a_whole_number_where_the_file_has_a_fraction() -> None:
    check_overrides("train", ["training.weights.r1_gamma=1", "cpu_threads=2"])
    check_overrides("search", ["search.strength=1", "source=3", "target=true"])


def test_an_argument_that_a_factory_may_have_is_told_to_be_written_with_a_plus() -> None:
    message = r"write \+classifier.arguments.width=VALUE with a plus sign"
    refused("train", message, "classifier=module", "classifier.arguments.width=3")


@pytest.mark.parametrize("typed", ["steps", "seed=[1", "=3"])
def test_what_is_no_key_and_value_is_refused(typed: str) -> None:
    with pytest.raises(InputError) as caught:
        check_overrides("train", [typed])
    message = f"an argument must read key=value, got '{typed}'; quote special characters"
    assert str(caught.value) == message


def test_several_values_where_one_run_is_asked_for_are_written_as_a_list() -> None:
    message = (
        r"report.format must be one value, got 'gif,mp4'; give 'report.format=\[gif,mp4\]' for"
    )
    refused("search", message, "report.format=gif,mp4")
    check_overrides("search", ["report.format=[gif,mp4]"])


def test_a_group_that_a_door_has_not_is_refused() -> None:
    refused("search", "the configuration must be sound, got: .*model", "model=paper")


def test_sound_arguments_pass() -> None:
    check_overrides("train", [])
    check_overrides("train", ["data=folder", "data.root=a", "data.resolution=64", "seed=3"])
    check_overrides("train", ["classifier=module", "+classifier.arguments.width=3"])
    check_overrides("train", ["logger=wandb", "logger.wandb.offline=false"])
    check_overrides("search", ["source=Ankle boot", "search.torgb=true", "image=null"])


# Doors opened in this process

Opened = Callable[..., str]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"door_{name}", ROOT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Opened]:
    """Opens a door that refuses; gives its sentence, once code, form and output_dir are checked."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output"

    def refusal(name: str, *overrides: str) -> str:
        given = [f"output_dir={output}"] if name != "card" else []
        arguments = [*given, "cpu_threads=1", *overrides]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        if name == "card":
            from benchmarks.card import evaluate as run
        else:
            run = getattr(script(name), name)
        with pytest.raises(SystemExit) as stopped:
            door.open_door(name, run)
        assert_one_sentence(stopped.value.code, text := capsys.readouterr().err)
        assert not output.exists() or not any(output.rglob("*"))
        return text.strip()

    with warnings.catch_warnings():
        yield refusal
        logging.captureWarnings(False)


def assert_one_sentence(code: Any, text: str) -> None:  # noqa: ANN401
    assert code == 2, text
    assert text.startswith("error: "), text
    assert text.count("\n") == 1, text


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve random pictures of 32 px in each of three classes."""
    root = tmp_path / "pictures"
    random = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_config: dict[str, Any]) -> Path:
    """An untrained model for 32 px, 3 channels and the three classes."""
    classifier, spec = tiny_config["classifier"], tiny_config["model"]
    classifier["arguments"]["channels"] = 3
    classifier |= {"input_resolution_px": 32, "input_channels": 3}
    spec |= {"resolution_px": 32, "channels": 3}
    model = build_model(spec, build_classifier(classifier, CLASSES))
    folder = tmp_path / "model"
    model.save(folder, {"classifier": classifier, "model": spec})
    return folder


def data(root: Path, resolution: int = 32) -> list[str]:
    return ["data=folder", f"data.root={root}", f"data.resolution={resolution}"]


UNTRAINED = ["classifier=small_cnn", "classifier.arguments.width=4"]


def test_a_door_says_a_mistyped_key_before_anything_is_loaded(opened: Opened) -> None:
    expected = "error: a key must be known, got 'sede'; the nearest one is 'seed'"
    assert opened("train", "sede=3") == expected


def test_a_door_says_what_must_be_given(opened: Opened) -> None:
    expected = "error: data.root must be given, got nothing; add data.root=VALUE to the command"
    assert opened("train", "data=folder", "data.resolution=32") == expected


@pytest.mark.parametrize("key", ["source", "target"])
def test_an_unknown_class_is_answered_with_the_known_ones(
    opened: Opened, checkpoint: Path, key: str
) -> None:
    expected = f"error: {key} must be one of circle, square, star, got 'Pulover'"
    assert opened("search", f"checkpoint={checkpoint}", f"{key}=Pulover") == expected


@pytest.mark.parametrize("name", ["search", "card"])
def test_a_missing_checkpoint_is_named(opened: Opened, name: str) -> None:
    text = opened(name, "checkpoint=nowhere")
    assert "checkpoint must be a folder with model.safetensors and config.yaml" in text
    assert "got 'nowhere'" in text


@pytest.mark.parametrize(
    ("file", "what"), [("model", "checkpoint"), ("classifier", "classifier.weights")]
)
def test_a_truncated_checkpoint_is_named(
    opened: Opened, checkpoint: Path, pictures: Path, file: str, what: str
) -> None:
    path = checkpoint / f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    text = opened("search", f"checkpoint={checkpoint}", *data(pictures))
    assert f"{what} must be a whole safetensors file, got '{path}'" in text


def test_a_checkpoint_of_another_resolution_is_refused(
    opened: Opened, checkpoint: Path, pictures: Path
) -> None:
    text = opened("search", f"checkpoint={checkpoint}", *data(pictures, 64))
    assert "(32 px, 3 channels, 3 classes), got 64 px, 3 channels, 3 classes" in text


def test_a_checkpoint_of_another_number_of_classes_is_refused(
    opened: Opened, checkpoint: Path, pictures: Path
) -> None:
    (pictures / "star").rename(pictures.parent / "star")
    text = opened("search", f"checkpoint={checkpoint}", *data(pictures))
    assert "(32 px, 3 channels, 3 classes), got 32 px, 3 channels, 2 classes" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["device=tpu"], "device must be auto, cpu or cuda, got 'tpu'"),
        (["device=cuda"], "device=cuda needs a GPU that torch can use, got none; give device=cpu"),
        (["split=tests"], "split must be train, validation or test, got tests"),
        (["image=3000"], "image must be a position in the data from 0 to 2, got 3000"),
        (["source=star", "target=Star"], "source and target must be two classes, got 'star' twice"),
        (["target=star"], "the search needs at least 8 images that the classifier calls"),
        (
            ["search.extremes=quantile", "search.quantile=0.5"],
            "search.quantile must be in [0, 0.5), got 0.5",
        ),
        (["image=0", "search.batch_size=0"], "batch_size must be at least 1, got 0"),
        (["search.audit_images=1"], "audit_images must be at least 2, got 1"),
        (["search.confidence=1"], "confidence must be between 0.5 and 1, got 1"),
        (["search.tolerance=-1"], "tolerance must be at least 0, got -1"),
        (["search.rankers=[attfind,best]"], "rankers must be among attfind, stylespace, sefa, gan"),
        (["search.autocast=int8"], "search.autocast must be"),
        (["search.num_edited=-1"], "num_edited must be at least 0, got -1"),
        (["randomised_layers=8"], "randomised_layers must be from 0 to 7, the layers of SmallCNN"),
        (["randomised_layers=-1"], "randomised_layers must be at least 0, got -1"),
        (["search.shown_strength=3"], "shown_strength must be above 0 and at most twice the"),
        (["report.frame_ms=5"], "frame_ms must be from 600 to 1000 milliseconds, got 5"),
        (
            ["report.format=bmp"],
            "an animation's format must be one of gif, webp, apng, mp4, got 'b",
        ),
        (["report.columns=3"], "columns of figures must be 1 (3.3 in) or 2 (6.9 in), got 3"),
        (["discriminator=true"], "the discriminator filter needs discriminator.safetensors beside"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    opened: Opened,
    checkpoint: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = opened("search", f"checkpoint={checkpoint}", *data(pictures), *overrides)
    assert message in text


@pytest.mark.parametrize("name", ["train", "search"])
def test_an_output_folder_that_cannot_be_made_is_refused(
    opened: Opened, tmp_path: Path, checkpoint: Path, name: str
) -> None:
    (tmp_path / "file").write_text("here")
    folder = tmp_path / "file" / "runs" / "a"
    given = [f"checkpoint={checkpoint}"] if name == "search" else []
    text = opened(name, *given, f"output_dir={folder}")
    assert f"output_dir must be a folder that can be written, got '{folder}'" in text
    assert (tmp_path / "file").read_text() == "here"


# Folders of images, at both doors that read them


def at_both_doors(opened: Opened, checkpoint: Path, given: list[str], message: str) -> None:
    assert message in opened("train", *given, *UNTRAINED)
    assert message in opened("search", f"checkpoint={checkpoint}", *given)


def test_a_folder_that_is_not_there_is_refused(opened: Opened, checkpoint: Path) -> None:
    message = "root must be an existing folder, got nowhere: correct the path"
    at_both_doors(opened, checkpoint, data(Path("nowhere")), message)


def test_an_empty_folder_is_refused(opened: Opened, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = f"at least two sub-folders, one a class, got 0 in {tmp_path / 'empty'}"
    at_both_doors(opened, checkpoint, data(tmp_path / "empty"), message)


def test_a_class_without_images_is_named(opened: Opened, checkpoint: Path, pictures: Path) -> None:
    (pictures / "void").mkdir()
    message = f"PNG, JPEG, WebP, TIFF or BMP files, got none in {pictures / 'void'}"
    at_both_doors(opened, checkpoint, data(pictures), message)


def test_a_resolution_of_48_is_refused(opened: Opened, checkpoint: Path, pictures: Path) -> None:
    message = "resolution must be a power of two from 32 to 1024, got 48"
    at_both_doors(opened, checkpoint, data(pictures, 48), message)


def test_a_broken_image_is_named(opened: Opened, checkpoint: Path, pictures: Path) -> None:
    path = min(pictures.rglob("*.png"))
    path.write_bytes(path.read_bytes()[:60])
    message = f"readable PNG, JPEG, WebP, TIFF or BMP files, got {path}"
    at_both_doors(opened, checkpoint, data(pictures), message)


# Training


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.num_steps=0"], "training.num_steps must be at least 1, got 0"),
        (["data.batch_size=31"], "the number of training images (30), got 31: lower it or"),
        (["task=classifier", "data.batch_size=31"], "training images (30), got 31: lower it"),
        (["classifier.weights=gone"], "classifier.weights must be an existing safetensors file"),
        (
            ["classifier.network=a:b"],
            "classifier.network must be package.module:factory or a Torch",
        ),
        (["+classifier.arguments.depth=3"], "classifier.arguments must fit stylex.classifier.back"),
        (["classifier.std=[1.0,1.0]"], "classifier.std must have one value per input channel (3)"),
        (["classifier.feature_layers=[]"], "perceptual=classifier needs classifier.feature_layers"),
        (["classifier.feature_layers=[end]"], "must name sub-modules of the network, got 'end'"),
        (["model.init_from=gone.pt"], "published weights must be an existing file, got 'gone.pt'"),
    ],
)
def test_a_training_that_cannot_be_is_refused(
    opened: Opened, pictures: Path, overrides: list[str], message: str
) -> None:
    assert message in opened("train", *data(pictures), *UNTRAINED, *overrides)


# Doors as users open them


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_refused_door_leaves_the_process_with_code_2(checkpoint: Path, tmp_path: Path) -> None:
    given = [f"checkpoint={checkpoint}", "source=Pulover", f"output_dir={tmp_path / 'output'}"]
    done = run(str(ROOT / "search.py"), *given, cwd=tmp_path)
    assert_one_sentence(done.returncode, done.stderr)
    assert "source must be one of circle, square, star, got 'Pulover'" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("selector=best", "joint, paper, notebook"),
        ("search.effects=best", "screened, exhaustive"),
        ("search.extremes=best", "min_max, quantile"),
    ],
)
def test_an_unknown_choice_is_refused_at_the_door(
    checkpoint: Path, pictures: Path, tmp_path: Path, typed: str, known: str
) -> None:
    given = [f"checkpoint={checkpoint}", *data(pictures), typed]
    done = run(str(ROOT / "search.py"), *given, f"output_dir={tmp_path / 'output'}", cwd=tmp_path)
    assert_one_sentence(done.returncode, done.stderr)
    name = typed.partition("=")[0].rpartition(".")[2]
    assert f"{name} must be one of {known}, got 'best'" in done.stderr
    assert not (tmp_path / "output").exists()


def test_an_image_that_breaks_a_running_training_is_named_alone(
    pictures: Path, tmp_path: Path
) -> None:
    for path in pictures.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    given = [*data(pictures), *UNTRAINED, "classifier.weights=null", "task=classifier"]
    short = ["data.batch_size=4", "training.num_steps=2", "trainer.accelerator=cpu"]
    output = f"output_dir={tmp_path / 'output'}"
    done = run(str(ROOT / "train.py"), *given, *short, output, cwd=tmp_path)
    assert_one_sentence(done.returncode, done.stderr)
    assert f"readable PNG, JPEG, WebP, TIFF or BMP files, got {pictures}" in done.stderr
