"""A stored classifier runs no code unless it is trusted by name; its file is found again."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from foreign import small_network, write_huggingface, write_onnx
from torch import nn

from stylex.artifacts import digest, write_json
from stylex.classifier.embedding import EMBEDDING_FILE, build_embedding, load_embedding
from stylex.classifier.files import read_classifier
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.classifier.networks import runs_code
from stylex.errors import InputError
from stylex.evaluation.subject import read_subject
from stylex.model import StylEx, build_model, load
from stylex.types import Images

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

CLASSES = ["circle", "square", "star"]
REFUSED = "may run code only if you say so, got '{}'"
MALICIOUS = [  # each makes the folder `mark`
    ("os:mkdir", {"path": "mark"}),
    ("os:system", {"command": "mkdir mark"}),
    ("subprocess:call", {"args": ["mkdir", "mark"]}),
    ("builtins:exec", {}),
    (
        "stylex.classifier.networks:build_network",
        {"source": "os:mkdir", "arguments": {"path": "m"}},
    ),
    ("stylex.classifier.libraries:importlib", {}),
    ("stylex.classifier.backbones:nn", {}),
    ("stylex.artifacts:write_json", {"path": "mark", "value": {}}),
    ("torchvision.datasets.utils:extract_archive", {"from_path": "a.zip"}),
    ("torchvision.models:list_models", {}),
    ("timm:create_model", {"model_name": "hf-hub:a/b"}),
    ("torch.hub:load", {"repo_or_dir": "a/b", "model": "c"}),
    ("mark_maker:make", {}),
    ("net.pt", {}),
]


def change(folder: Path, **classifier: Any) -> None:
    """Changes what a stored model says of its classifier."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["classifier"].update(classifier)
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a module that makes a folder when it is imported."""
    place = tmp_path / "here"
    place.mkdir()
    (place / "mark_maker.py").write_text("import os\nos.mkdir('mark')\n")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return place


@pytest.mark.parametrize(("source", "arguments"), MALICIOUS)
def test_a_malicious_configuration_is_refused_and_nothing_runs(
    source: str, arguments: dict[str, Any], tiny_checkpoint: Path, here: Path
) -> None:
    change(tiny_checkpoint, network=source, arguments=arguments)
    with pytest.raises(InputError, match=REFUSED.format(source)):
        load(tiny_checkpoint)
    assert [path.name for path in here.iterdir()] == ["mark_maker.py"]


@pytest.mark.parametrize(("source", "arguments"), MALICIOUS[:1])
def test_every_door_to_a_stored_classifier_is_closed(
    source: str,
    arguments: dict[str, Any],
    tiny_checkpoint: Path,
    tiny_model: StylEx,
    tiny_classifier: FrozenClassifier,
    tiny_images: Images,
    tiny_config: dict[str, Any],
    here: Path,
) -> None:
    evil = {**tiny_config["classifier"], "network": source, "arguments": arguments}
    made_by = {
        "checkpoint": str(tiny_checkpoint),
        "model": digest(tiny_model.state_dict()),
        "classifier": "0",
        "data": "0",
        "config": {"classifier": evil, "randomised_layers": 0, "seed": 0},
    }
    write_json(here / "search" / "provenance.json", made_by)
    with pytest.raises(InputError, match=REFUSED.format(source)):
        read_subject(here / "search", None, "cpu")

    embedding = build_embedding(tiny_config["classifier"], CLASSES, 4)
    embedding.save(here / "embedding", {"classifier": evil, "class_names": CLASSES})
    assert (here / "embedding" / EMBEDDING_FILE).is_file()
    with pytest.raises(InputError, match=REFUSED.format(source)):
        load_embedding(here / "embedding")

    change(tiny_checkpoint, network=source, arguments=arguments)
    spec = tiny_config["classifier"]
    with pytest.raises(InputError, match=REFUSED.format(source)):
        read_classifier(str(tiny_checkpoint), tiny_classifier, spec, tiny_images[:1])
    assert not (here / "mark").exists()


@pytest.mark.parametrize(
    "data",
    [
        {"_target_": "os.mkdir", "path": "mark"},
        {"_target_": "stylex.data.datasets.torch.load", "f": "x"},
        {"_target_": "stylex.data.datasets.ImageFolder", "root": {"_target_": "os.getcwd"}},
        {"_target_": "stylex.data.datasets.ImageFolder", "roots": [{"_target_": "os.getcwd"}]},
    ],
)
def test_data_of_a_search_that_would_run_something_is_refused(
    data: dict[str, Any], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = {"classifier": None, "data": data, "randomised_layers": 0, "seed": 0}
    facts = {"checkpoint": str(tiny_checkpoint), "model": "0", "classifier": "0", "data": "0"}
    write_json(tmp_path / "provenance.json", {**facts, "config": config})
    with pytest.raises(InputError, match="data may run code only if you say so, got '"):
        read_subject(tmp_path, None, "cpu")


def test_what_is_shipped_runs_no_code() -> None:
    root = Path(__file__).parents[2]
    options = [yaml.safe_load(f.read_text()) for f in (root / "configs/classifier").glob("*.yaml")]
    sources = [option["network"] for option in options if "network" in option]
    assert {s for s in sources if s != "???" and runs_code(s)} == set()
    assert not runs_code("torchvision.models:resnet18")
    assert not runs_code("folder/net.onnx")
    assert runs_code("folder/net.ts")


def test_ones_own_module_and_torchscript_are_run_when_trusted_and_it_is_said(
    tiny_config: dict[str, Any],
    tiny_images: Images,
    here: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (here / "mine.py").write_text("from stylex.classifier.backbones import SmallCNN\n")
    torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), tiny_images).save("net.pt")
    for network, arguments in (
        ("mine:SmallCNN", tiny_config["classifier"]["arguments"]),
        ("net.pt", {}),
    ):
        own = {"network": network, "arguments": arguments, "feature_layers": []}
        spec = {**tiny_config["classifier"], **own}
        with caplog.at_level(logging.INFO, "stylex"):
            classifier = build_classifier(spec, CLASSES)
        assert f"'{network}', which classifier.network names" in caplog.records[-1].message
        model = build_model(tiny_config["model"], classifier)
        model.save(here / "model", {**tiny_config, "classifier": spec})
        with pytest.raises(InputError, match=r"give trust=true \(in Python trust=True\)"):
            load(here / "model")
        loaded = load(here / "model", trust=True)
        torch.testing.assert_close(loaded(tiny_images), model.eval()(tiny_images))


def test_this_packages_own_networks_run_without_a_word(
    tiny_config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stylex"):
        build_classifier(tiny_config["classifier"], CLASSES)
    assert not caplog.records


# Models around classifiers of other libraries ----------------------------------------------------


def foreign_spec(kind: str, place: Path) -> dict[str, Any]:
    unsaid = {"input_resolution_px": None, "input_range": None, "mean": None, "std": None}
    spec = {"weights": None, "input_channels": 3, "feature_layers": [], **unsaid}
    if kind == "onnx":
        write_onnx(place / "net.onnx", small_network())
        said = {"input_range": [0, 1], "mean": [0.5], "std": [0.25]}
        return {**spec, **said, "network": str(place / "net.onnx"), "arguments": {}}
    if kind == "huggingface":
        write_huggingface(place / "net", CLASSES)
        arguments: dict[str, Any] = {"folder": str(place / "net")}
    else:
        arguments = {"name": "resnet10t", "num_classes": None, "in_chans": 3}
    network = f"stylex.classifier.libraries:{kind}_network"
    return {**spec, "network": network, "arguments": arguments}


@pytest.mark.parametrize("kind", ["onnx", "huggingface", "timm"])
def test_a_model_around_a_foreign_classifier_is_loaded_again_wherever_its_file_went(
    kind: str, tiny_config: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    spec = foreign_spec(kind, tmp_path)
    model = build_model(tiny_config["model"], build_classifier(spec, CLASSES)).eval()
    folder = tmp_path / "model"
    model.save(folder, {**tiny_config, "classifier": spec})
    said = yaml.safe_load((folder / "config.yaml").read_text())["classifier"]
    assert None not in (said["mean"], said["input_resolution_px"])
    torch.testing.assert_close(load(folder)(tiny_images), model(tiny_images))
    if kind == "timm":
        return

    made_from = tmp_path / ("net.onnx" if kind == "onnx" else "net")
    shutil.move(made_from, tmp_path / "moved")
    with pytest.raises(
        InputError, match=f"got nothing at '{made_from}'; put it back, or copy it i"
    ):
        load(folder)
    shutil.move(tmp_path / "moved", folder / made_from.name)
    torch.testing.assert_close(load(folder)(tiny_images), model(tiny_images))


def test_another_onnx_file_in_the_place_of_the_first_is_refused(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    spec = foreign_spec("onnx", tmp_path)
    model = build_model(tiny_config["model"], build_classifier(spec, CLASSES))
    model.save(tmp_path / "model", {**tiny_config, "classifier": spec})
    write_onnx(tmp_path / "net.onnx", small_network(), operator="Sigmoid")
    with pytest.raises(
        InputError, match="must be the one that its model was trained with, got ano"
    ):
        load(tmp_path / "model")


def test_another_frozen_torchscript_file_in_the_place_of_the_first_is_refused(
    tiny_config: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    def write() -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(256, 3)).eval()
        torch.jit.freeze(torch.jit.trace(net, tiny_images)).save(tmp_path / "net.pt")

    write()
    own = {"network": str(tmp_path / "net.pt"), "arguments": {}, "feature_layers": []}
    spec = {**tiny_config["classifier"], **own}
    model = build_model(tiny_config["model"], build_classifier(spec, CLASSES)).eval()
    model.save(tmp_path / "model", {**tiny_config, "classifier": spec})
    loaded = load(tmp_path / "model", trust=True)
    torch.testing.assert_close(loaded(tiny_images), model(tiny_images))
    write()
    with pytest.raises(
        InputError, match="must be the one that its model was trained with, got ano"
    ):
        load(tmp_path / "model", trust=True)


@pytest.mark.parametrize(
    "broken",
    [{"network": 3}, {"network": None}, {"arguments": [1]}, {"arguments": None}, {"mean": "a"}]
    + [
        {"input_range": 3},
        {"feature_layers": 3},
        {"output": [1]},
        {"label_names": 3},
        {"arguments": {"width": "wide"}},
        {"network": "stylex:nothing"},
    ],
)
def test_a_broken_configuration_ends_in_a_sentence(
    broken: dict[str, Any], tiny_checkpoint: Path
) -> None:
    change(tiny_checkpoint, **broken)
    with pytest.raises(InputError):
        load(tiny_checkpoint)


@pytest.mark.parametrize("broken", [{"latent_dim": "x"}, {"generator": None}, {"channels": -1}])
def test_a_configuration_of_no_model_ends_in_a_sentence(
    broken: dict[str, Any], tiny_checkpoint: Path
) -> None:
    path = tiny_checkpoint / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "model": {**config["model"], **broken}}))
    with pytest.raises(
        InputError, match="must describe its model, got one that|latent_dim must be a number"
    ):
        load(tiny_checkpoint)


def test_an_incomplete_configuration_ends_in_a_sentence(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for key in ("network", "arguments", "mean", "feature_layers"):
        less = {k: v for k, v in config["classifier"].items() if k != key}
        path.write_text(yaml.safe_dump({**config, "classifier": less}))
        with pytest.raises(InputError, match=f"a stored classifier must say .*, got no {key} in"):
            load(tiny_checkpoint)
