"""The whole road at 32 px: two trainings, stopped and gone on with; search, report; a kill."""

import csv
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import compose, run
from PIL import Image, ImageDraw
from recorded import recorded

import stylex
from stylex.artifacts import digest
from stylex.classifier.module import ClassifierModule
from stylex.door import image_set
from stylex.evaluation.edits import read_edits
from stylex.folders import Lock
from stylex.model import load_discriminator
from stylex.search.statistics import Statistics

ROOT = Path(__file__).parents[1]
FEW = {"num_images", "value", "interval"}
WIDTH = "{channel_base: 128, channel_max: 8"
QUICK = ["cpu_threads=1", "trainer.accelerator=cpu"]
TINY = [
    "model.latent_dim=4",
    "model.mapping_layers=2",
    f"model.generator={WIDTH}, noise: true}}",
    f"model.encoder={WIDTH}}}",
    f"model.discriminator={WIDTH}, minibatch_group: 2}}",
    "data.batch_size=4",
    "training.learning_rate=0.01",
    "training.path_length_interval=2",
    "training.r1_interval=2",
    "training.log_interval_steps=1",
    "training.validation_interval_steps=2",
    "training.picture_interval_steps=4",
]


SHORT = ["search.num_attributes=2", "search.num_shown=3", "search.num_random=2"]
MEASURED = {"screened": "measured", "exhaustive": "effects.zarr/done/c"}  # one file after the other


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of this module's files are."""
    return tmp_path_factory.mktemp("road")


@pytest.fixture(scope="module")
def pictures(home: Path) -> list[str]:
    """Forty coloured pictures in each of two classes, as the doors' arguments."""
    random = np.random.default_rng(0)
    for name in ("disc", "square"):
        (home / "pictures" / name).mkdir(parents=True)
        for i in range(40):
            back, front = random.integers(0, 90, 3), random.integers(120, 256, 3)
            picture = Image.new("RGB", (36, 32), tuple(back.tolist()))
            x, y, r = random.integers(12, 24), random.integers(10, 22), random.integers(5, 10)
            draw = ImageDraw.Draw(picture)
            shape = draw.ellipse if name == "disc" else draw.rectangle
            shape((int(x - r), int(y - r), int(x + r), int(y + r)), fill=tuple(front.tolist()))
            picture.save(home / "pictures" / name / f"{i:02d}.png")
    root = home / "pictures"
    return ["data=folder", f"data.root={root}", "data.resolution=32", "data.test_share=0.4"]


@pytest.fixture(scope="module")
def classifier(home: Path, pictures: list[str]) -> list[str]:
    """A classifier after a few steps, as the doors' arguments."""
    network = ["classifier=small_cnn", "classifier.arguments.width=4"]
    run(
        "train",
        "task=classifier",
        *pictures,
        *network,
        *QUICK,
        "training.num_steps=30",
        "data.batch_size=16",
        "training.validation_interval_steps=15",
        f"output_dir={home / 'classifier'}",
    )
    weights = home / "classifier" / "checkpoints" / "classifier.safetensors"
    return [*network, f"classifier.weights={weights}"]


@pytest.fixture(scope="module")
def trained(home: Path, pictures: list[str], classifier: list[str]) -> Path:
    """A StylEx model after six steps in one go."""
    folder = home / "whole"
    given = [*pictures, *classifier, *TINY, *QUICK]
    run("train", *given, "training.num_steps=6", f"output_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def resumed(home: Path, pictures: list[str], classifier: list[str]) -> Path:
    """The same after four steps, and then two more."""
    folder = home / "resumed"
    given = [*pictures, *classifier, *TINY, *QUICK, f"output_dir={folder}"]
    run("train", *given, "training.num_steps=4")
    run("train", *given, "training.num_steps=6")
    return folder


def asked(home: Path, pictures: list[str], trained: Path, name: str) -> list[str]:
    return [
        *pictures,
        f"checkpoint={trained}",
        f"output_dir={home / name}",
        "cpu_threads=1",
        "device=cpu",
        "search.num_images=8",
        "search.least_rise=-1.0",
    ]


@pytest.fixture(scope="module")
def found(home: Path, pictures: list[str], trained: Path) -> Path:
    """The folder of a search."""
    run("search", *asked(home, pictures, trained, "found"))
    return home / "found"


def stopped_after(step: int) -> Any:  # noqa: ANN401
    """A training step that breaks off once so many are done."""
    whole = ClassifierModule.training_step

    def training_step(module: ClassifierModule, *given: Any) -> Any:  # noqa: ANN401
        if module.step == step:
            raise RuntimeError("stopped")
        return whole(module, *given)

    return training_step


def test_a_training_on_permuted_labels_goes_on_as_in_one_go_and_is_no_other_training(
    home: Path, pictures: list[str], classifier: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["task=classifier", *pictures, *classifier[:2], *QUICK, "training.num_steps=6"]
    given += ["data.batch_size=16", "training.checkpoint_interval_steps=2"]
    permuted = "training.permuted_labels=true"
    for name, switch in (("plain", []), ("permuted", [permuted])):
        run("train", *given, *switch, f"output_dir={home / name}")
    cut = home / "cut"
    with monkeypatch.context() as patched:
        patched.setattr(ClassifierModule, "training_step", stopped_after(4))
        with pytest.raises(RuntimeError, match="stopped"):
            run("train", *given, permuted, f"output_dir={cut}")
    with pytest.raises(stylex.errors.InputError, match="another 'training'"):
        run("train", *given, f"output_dir={cut}")
    run("train", *given, permuted, f"output_dir={cut}")
    weights = [
        (home / name / "checkpoints" / "classifier.safetensors").read_bytes()
        for name in ("plain", "permuted", "cut")
    ]
    assert weights[1] == weights[2]
    assert weights[0] != weights[1]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_trained_classifier_has_seen_what_it_says(home: Path, classifier: list[str]) -> None:
    accuracies = [row["validation_accuracy"] for row in rows(home / "classifier")]
    measured = [float(value) for value in accuracies if value]
    assert len(measured) == 3  # after the first step, halfway, at the end
    assert all(0 <= value <= 1 for value in measured)


def test_a_training_leaves_what_the_next_stage_reads(trained: Path) -> None:
    found = [path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()]
    names = {re.sub("-[0-9a-f]{16}", "-DIGEST", name) for name in found}
    assert len(names) == len(found)
    model = ("model", "classifier", "discriminator-DIGEST")
    assert names == {
        "config.yaml",
        "metrics.csv",
        "samples/0000001.png",
        "samples/0000004.png",
        "checkpoints/0000006-DIGEST.ckpt",
        *(f"checkpoints/{name}.safetensors" for name in model),
        "checkpoints/config.yaml",
        *(f"checkpoints/best/{name}.safetensors" for name in model),
        "checkpoints/best/config.yaml",
        "checkpoints/best/best.json",
    }
    for folder in (trained, trained / "checkpoints" / "best"):
        model = stylex.load(folder)
        assert model.class_names == ("disc", "square")
        assert (model.resolution_px, model.channels) == (32, 3)
        assert load_discriminator(folder).fc.weight.isfinite().all()


def test_the_best_model_is_that_of_the_lowest_divergence_and_l1_measured(trained: Path) -> None:
    best = json.loads((trained / "checkpoints" / "best" / "best.json").read_text())
    sums = {
        int(row["step"]) + 1: float(row["validation_classifier_kl"])
        + float(row["validation_reconstruction_l1"])
        for row in rows(trained)
        if row["validation_classifier_kl"]
    }
    assert sorted(sums) == [1, 2, 4, 6]
    assert best["step"] == min(sums, key=lambda step: sums[step])
    assert best["value"] == pytest.approx(sums[best["step"]])


def test_six_steps_train_every_network(trained: Path, pictures: list[str]) -> None:
    terms = rows(trained)
    for name in ("image_l1", "adversarial", "adversarial_encoder", "path_length", "r1"):
        values = [float(row[name]) for row in terms if row.get(name)]
        assert len(values) == 3, name  # every second step
        assert len(set(values)) == 3, name
        assert all(np.isfinite(values)), name


def test_a_resumed_training_equals_one_in_one_go_bit_for_bit(resumed: Path, trained: Path) -> None:
    checkpoints = trained / "checkpoints"
    names = [p.relative_to(checkpoints) for p in checkpoints.rglob("*.safetensors")]
    assert len(names) == 6
    for name in (*names, "config.yaml"):
        one, other = (folder / "checkpoints" / name for folder in (resumed, trained))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_resumed_trainings_metrics_are_those_of_one_in_one_go(
    resumed: Path, trained: Path
) -> None:
    one, other = (recorded(folder / "metrics.csv") for folder in (resumed, trained))
    assert one == other


def state_file(folder: Path) -> Path:
    (path,) = folder.glob("checkpoints/*.ckpt")
    return path


def test_a_finished_training_is_left_as_it_is(
    home: Path,
    pictures: list[str],
    classifier: list[str],
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = state_file(trained).stat().st_mtime_ns
    given = [*pictures, *classifier, *TINY, *QUICK, f"output_dir={trained}"]
    run("train", *given, "training.num_steps=6")
    assert (
        f"'{trained}' has its 6 steps; give a larger training.num_steps" in capsys.readouterr().out
    )
    assert state_file(trained).stat().st_mtime_ns == state


@pytest.mark.parametrize(
    ("fact", "override"),
    [
        ("seed", "seed=1"),
        ("training", "training.weights.image_l1=2"),
        ("model", "model.appended=uniform"),
        ("data", "data.seed=1"),
        ("classifier", "classifier.input_range=[0.0,1.0]"),
    ],
)
def test_a_training_goes_on_with_the_settings_it_began_with(
    pictures: list[str], classifier: list[str], trained: Path, fact: str, override: str
) -> None:
    given = [*pictures, *classifier, *TINY, *QUICK, f"output_dir={trained}", override]
    message = f"goes on with the settings it began with, got another '{fact}' for '{trained}'"
    with pytest.raises(stylex.errors.InputError, match=message):
        run("train", *given, "training.num_steps=8")


# Search and report


def test_a_search_leaves_all_its_numbers(found: Path, trained: Path) -> None:
    for name in ("attributes", "metrics", "provenance"):
        assert isinstance(json.loads((found / f"{name}.json").read_text()), dict)
    statistics = Statistics.read(found / "statistics.safetensors")
    assert len(statistics.indices) == 32
    assert (found / "measured" / "made_by.json").is_file()
    assert len(list((found / "measured").glob("measure-*.safetensors"))) > 1
    assert not (found / "effects.zarr").exists()
    assert (found / "counterfactuals" / "together.safetensors").is_file()


def test_a_search_leaves_its_edits_for_an_evaluation(found: Path) -> None:
    edits = read_edits(found)
    attributes = json.loads((found / "attributes.json").read_text())["attributes"]
    assert list(edits) == ["stylex"]
    assert list(edits["stylex"].names) == [attribute["name"] for attribute in attributes]
    assert edits["stylex"].images.shape == (4, 3, 32, 32)


def test_another_seed_and_untrained_layers_are_searched_in_folders_of_their_own(
    home: Path, pictures: list[str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    given = [key for key in asked(home, pictures, trained, "x") if "output_dir" not in key]
    few = [*SHORT, "search.num_random=0", "search.num_swept=0", "report.columns=1"]
    folder = home / "results" / "whole" / "most-confused-pair"
    for switches in ([], ["seed=1", "randomised_layers=2"]):
        run("search", *given, *few, *switches)
    assert sorted(path.name for path in folder.glob("seeds/*")) == ["1"]
    inner = folder / "seeds" / "1" / "sanity" / "layers-2"
    prints = [
        json.loads((f / "attributes.json").read_text())["classifier"] for f in (folder, inner)
    ]
    own = stylex.load(trained).classifier
    assert prints == [own.fingerprint(), own.reinitialised(2, seed=1).fingerprint()]
    assert read_edits(inner)["stylex"].edited


def test_every_figure_has_its_denominator_and_interval(found: Path) -> None:
    metrics = json.loads((found / "metrics.json").read_text())
    for name in ("agreement", "reconstruction_l1", "sufficiency_at_10"):
        assert metrics[name].keys() == FEW, name
        low, high = metrics[name]["interval"]
        assert low <= metrics[name]["value"] <= high
    assert metrics["agreement"]["num_images"] == 32
    assert metrics["sufficiency_at_10"]["num_images"] == 4


def test_metrics_and_attributes_are_those_of_the_stored_model(
    found: Path, trained: Path, pictures: list[str]
) -> None:
    config = compose("search", pictures)
    data = image_set(config.data, "test")
    images, _ = data.batch(range(len(data)))
    model = stylex.load(trained)
    metrics = json.loads((found / "metrics.json").read_text())
    with torch.no_grad():
        l1 = (model.reconstruct(images) - images).abs().mean()
    assert metrics["reconstruction_l1"]["value"] == pytest.approx(float(l1), abs=1e-4)
    again = stylex.explain(model, images, num_images=8, least_rise=-1.0)
    written = json.loads((found / "attributes.json").read_text())
    assert (written["source"], written["target"]) == (again.source, again.target)
    coordinates = [entry["coordinate"] for entry in written["attributes"]]
    assert coordinates == [attribute.coordinate for attribute in again.attributes]


def test_provenance_names_what_made_the_results(found: Path, trained: Path) -> None:
    facts = json.loads((found / "provenance.json").read_text())
    model = stylex.load(trained)
    assert facts["checkpoint"] == str(trained)
    assert facts["model"] == digest(model.state_dict())
    assert facts["classifier"] == model.classifier.fingerprint()
    assert facts["seed"] == 0
    assert facts["config"]["search"]["num_images"] == 8
    assert facts["versions"]["torch"] == importlib.metadata.version("torch")
    assert len(facts["data"]) == 64


def test_a_search_leaves_a_report(found: Path) -> None:
    attributes = json.loads((found / "attributes.json").read_text())["attributes"]
    shown = [entry["rank"] for entry in attributes if entry["shown"]]
    assert shown
    for rank in shown:
        assert (found / "counterfactuals" / f"{rank:02d}.safetensors").is_file()
        with Image.open(found / "animations" / f"{rank:02d}.gif") as animation:
            assert animation.n_frames == 2
        with Image.open(found / "animations" / f"{rank:02d}-sweep.gif") as animation:
            assert animation.n_frames == 60
    for ending in ("pdf", "png"):
        assert (found / "figures" / f"attributes.{ending}").is_file()
    page = (found / "index.html").read_text()
    assert attributes[0]["name"] in page


@pytest.mark.slow
def test_the_same_search_again_changes_no_result(
    home: Path, pictures: list[str], trained: Path, found: Path
) -> None:
    names = ("attributes.json", "metrics.json")
    before = {name: (found / name).read_bytes() for name in names}
    answers = written(found / "measured")
    run("search", *asked(home, pictures, trained, "found"))
    assert {name: (found / name).read_bytes() for name in names} == before
    assert written(found / "measured") == answers


def test_two_searches_cannot_write_into_one_folder(
    home: Path, pictures: list[str], trained: Path
) -> None:
    lock = Lock(home / "held")
    with pytest.raises(
        stylex.errors.InputError, match="one run's alone, got '.*held', which proce"
    ):
        run("search", *asked(home, pictures, trained, "held"))
    lock.release()
    assert not (home / "held").exists()


@pytest.mark.slow
def test_a_search_that_measures_everything_keeps_a_table_and_measures_it_once(
    home: Path, pictures: list[str], trained: Path
) -> None:
    given = [*asked(home, pictures, trained, "exhaustive"), *SHORT, "search.effects=exhaustive"]
    run("search", *given)
    folder = home / "exhaustive"
    selection = json.loads((folder / "attributes.json").read_text())["selection"]
    assert (selection["effects"], selection["decisions"]) == ("exhaustive", [])
    assert len(written(folder / MEASURED["exhaustive"])) == 4
    before, table = (folder / "attributes.json").read_bytes(), written(folder / "effects.zarr")
    run("search", *given)
    assert (folder / "attributes.json").read_bytes() == before
    assert written(folder / "effects.zarr") == table


def test_a_search_asks_the_discriminator_that_its_training_left(
    home: Path, pictures: list[str], trained: Path, found: Path
) -> None:
    given = asked(home, pictures, trained, "filtered")
    run("search", *given, *SHORT, "discriminator=true", "search.discriminator_change=1e6")
    one, other = (
        json.loads((home / name / "attributes.json").read_text()) for name in ("filtered", "found")
    )
    assert (one["selection"]["rejected"], other["selection"]["rejected"]) == ([], None)
    assert one["attributes"][0]["coordinate"] == other["attributes"][0]["coordinate"]


def written(folder: Path) -> dict[str, int]:
    """Time of writing of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


# A killed search


def whole(folder: Path) -> dict[str, int]:
    """The same of the files that are not being written."""
    return {name: time for name, time in written(folder).items() if not name.startswith(".")}


@pytest.fixture
def started(home: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end, whatever happens."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("effects", MEASURED)
def test_a_killed_search_goes_on_where_it_was_and_ends_the_same(
    home: Path,
    pictures: list[str],
    trained: Path,
    started: list[subprocess.Popen[str]],
    effects: str,
) -> None:
    folder = home / f"killed-{effects}"
    given = [*asked(home, pictures, trained, folder.name), f"search.effects={effects}"]
    # One edited image at a time: slow enough to be killed in the middle.
    overrides = [*given, "search.batch_size=1"]
    measured = folder / MEASURED[effects]

    def start() -> subprocess.Popen[str]:
        environment: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "search.py", *overrides],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    process = start()
    deadline = time.monotonic() + 120
    while len(whole(measured)) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = whole(measured)
    assert len(before) >= 2
    assert not (folder / "attributes.json").exists()

    second = start()
    _, errors = second.communicate(timeout=240)
    assert second.returncode == 0, errors
    assert errors == ""
    after = whole(measured)
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before  # measured once, not again
    run("search", *given, f"output_dir={home / 'unbroken' / effects}")
    unbroken = home / "unbroken" / effects
    one, other = (json.loads((f / "attributes.json").read_text()) for f in (folder, unbroken))
    assert_same(one, other)


def assert_same(one: Any, other: Any) -> None:  # noqa: ANN401
    """Equal, but for the last bits of numbers: the batch size was another."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4)
    else:
        assert one == other
