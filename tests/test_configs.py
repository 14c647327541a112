"""Every configuration composes and builds what it names; the API's defaults equal the files."""

import inspect
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from domains import LAYOUTS
from foreign import small_network, write_huggingface, write_onnx
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

import stylex
from stylex.attribution.taxonomy import METHODS
from stylex.classifier.frozen import FrozenClassifier, build_adapter, build_classifier
from stylex.door import image_set, training_set
from stylex.model import build_discriminator, build_model
from stylex.search.results import Settings

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
FILES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
DOORS = (
    *("train", "search", "report", "evaluation", "attribution", "card"),
    *("check", "doctor", "live"),
)
EVALUATIONS = ("scores", "augment", "bias", "reader", "foreign")  # tasks of the evaluation door
NETWORK = "classifier.network=stylex.classifier.backbones:SmallCNN"
WIDTHS = "{channels: 3, num_classes: null, width: 4, dropout: 0.0}"
SLURM = "needs pip install '.[slurm]'"
OPTUNA = "needs pip install '.[optuna]'"
NEEDED = {  # what a user must give with an option
    "data/folder.yaml": ["data.root=nowhere", "data.resolution=32"],
    "classifier/module.yaml": [NETWORK, f"+classifier.arguments={WIDTHS}"],
    "classifier/torchscript.yaml": ["classifier.network=network.pt"],
    "classifier/onnx.yaml": ["classifier.network=network.onnx"],
    "classifier/torchvision.yaml": ["classifier.arguments.name=mobilenet_v3_small"],
    "classifier/timm.yaml": ["classifier.arguments.name=resnet10t"],
    "classifier/huggingface.yaml": ["classifier.arguments.folder=folder"],
    "classifier/mobilenet.yaml": ["classifier.weights=null"],
    "report.yaml": ["folders=[results]"],
    "check.yaml": ["data.root=nowhere"],
    **{
        f"{group}/{name}.yaml": ["data.root=nowhere"]
        for group in ("data", "experiment")
        for name in set(LAYOUTS) - {"elpv"}
    },
    "domain/published.yaml": ["+domain.name=pictures"],
    **{
        f"recipe/published-{task}.yaml": [
            f"task={task}",
            "domain=published",
            "domain.name=pictures",
        ]
        for task in ("classifier", "stylex")
    },
}


def options(group: str) -> list[str]:
    return [path.stem for path in FILES if path.parent == Path(group)]


def composed(door: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(door, overrides=list(overrides))


def plain(config: DictConfig) -> Any:  # noqa: ANN401
    """As the doors get it: interpolations resolved, nothing missing."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.fixture(autouse=True)
def _from_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_composes_and_leaves_nothing_missing(file: Path) -> None:
    group = file.parent.as_posix()
    if group == ".":
        config = composed(file.stem, *NEEDED.get(str(file), []))
    else:
        door = "search" if group in ("search", "launcher", "report") else "train"
        if group == "measures" or (group == "task" and file.stem in EVALUATIONS):
            door = "evaluation"
        if group == "method":
            door = "attribution"
        if file.stem == "slurm":
            pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason=SLURM)
        if file.stem == "optuna":
            pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason=OPTUNA)
        config = composed(door, f"{group}={file.stem}", *NEEDED.get(str(file), []))
    assert isinstance(plain(config), dict)


def test_the_files_were_seen_and_are_few() -> None:
    assert {f"{door}.yaml" for door in DOORS} <= {str(file) for file in FILES}
    counted = [file for file in FILES if file.parent.name not in ("method", "experiment")]
    assert 10 < len(counted) <= 80


def test_every_method_has_its_place_and_is_one_of_all() -> None:
    methods = {option for option in options("method") if option != "all"}
    assert methods == set(METHODS)
    assert set(composed("attribution", "method=all").method) == methods
    for option in methods:
        given = instantiate(composed("attribution", f"method={option}").method)
        assert callable(given[option])


def test_the_help_gives_every_methods_place() -> None:
    text = yaml.safe_load((CONFIGS / "attribution.yaml").read_text())["hydra"]["help"]["template"]
    for name, place in METHODS.items():
        assert f"{name:16} {place.line}" in text


def test_an_experiment_is_a_short_delta_that_says_how_to_run_it() -> None:
    for name in options("experiment"):
        lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines()
        assert len([line for line in lines if line.strip() and not line.startswith("#")]) <= 15
        assert f"experiment={name}" in "\n".join(line for line in lines if line.startswith("#"))


# What the options build


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    for name in ("circle", "square"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (40, 32), (60 * i, 0, 0)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def data_overrides(option: str, folder: Path) -> list[str]:
    given = {"folder": [f"data.root={folder}", "data.resolution=32"]}
    return [f"data={option}", *given.get(option, [])]


@pytest.mark.parametrize(
    ("option", "split"),
    [
        (option, split)
        for option in options("data")
        for split in ("train", "validation", "test")
        if option not in LAYOUTS  # tests/test_domains.py has them
        if option != "photographs" or split == "test"  # it has no other
    ],
)
def test_every_data_option_gives_images(option: str, split: str, picture_folder: Path) -> None:
    config = composed("train", *data_overrides(option, picture_folder))
    data = image_set(config.data, split)
    images, labels = data.batch([0])
    assert images.shape == (1, config.data.channels, config.data.resolution, config.data.resolution)
    assert -1 <= images.min() <= images.max() <= 1
    assert int(labels) < len(data.class_names)


@pytest.mark.parametrize("option", ["faces", "folder"])
def test_an_augmentation_joins_the_training_images_and_no_others(
    option: str, picture_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    overrides = data_overrides(option, picture_folder)
    plainly, added = composed("train", *overrides), tmp_path_factory.mktemp("set")
    own = image_set(plainly.data, "train")
    for name in own.class_names:
        (added / name).mkdir()
        Image.new("RGB", (32, 32)).save(added / name / "0-a1.png")
    config = composed("train", *overrides, f"data.augmentation={added}")
    for split in ("train", "validation", "test"):
        alone, asked = (image_set(given.data, split) for given in (plainly, config))
        assert alone.fingerprint == asked.fingerprint
    assert training_set(plainly.data).fingerprint == own.fingerprint
    assert len(training_set(config.data)) == len(own) + len(own.class_names)


def test_every_data_option_can_be_augmented_and_ships_without() -> None:
    for option in options("data"):
        assert composed("train", f"data={option}").data.augmentation is None


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[str]]:
    """What options name that take a file: three channels, three classes."""
    script = tmp_path / "network.pt"
    torch.jit.trace(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.zeros(1, 3, 8, 8)
    ).save(script)
    write_onnx(tmp_path / "network.onnx", small_network())
    write_huggingface(tmp_path / "folder", ("cat", "dog", "cow"))
    return {
        "classifier/torchscript.yaml": [f"classifier.network={script}"],
        "classifier/onnx.yaml": [f"classifier.network={tmp_path / 'network.onnx'}"],
        "classifier/huggingface.yaml": [f"classifier.arguments.folder={tmp_path / 'folder'}"],
    }


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("option", options("classifier"))
def test_every_classifier_option_gives_one_logit_per_class(
    option: str, files: dict[str, list[str]]
) -> None:
    given = {**NEEDED, **files}
    num_classes = {"fashion": 10, "faces": 2, "faces-shortcut": 2, "lite0": 1000}.get(option, 3)
    overrides = given.get(f"classifier/{option}.yaml", [])
    data = option if option in options("data") else "fashion"
    config = plain(composed("train", f"classifier={option}", f"data={data}", *overrides))
    names = [f"class {i}" for i in range(num_classes)]
    classifier = build_classifier(config["classifier"], names)
    size = config["data"]["resolution"]
    images = torch.zeros(2, config["data"]["channels"], size, size)
    logits, features = classifier.features(images)
    assert logits.shape == (2, num_classes)
    assert len(features) == len(config["classifier"]["feature_layers"])


def test_every_classifier_option_can_explain_one_label_and_ships_without() -> None:
    for option in options("classifier"):
        config = composed("train", f"classifier={option}").classifier
        assert (config.output, config.label_names) == (None, None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("option", options("model"))
def test_every_model_option_builds_all_networks(option: str, channels: int) -> None:
    config = plain(composed("train", f"model={option}", f"data.channels={channels}"))
    with torch.device("meta"):  # the paper's widths cost nothing there
        classifier = untrained_classifier(config)
        model = build_model(config["model"], classifier)
        discriminator = build_discriminator(config["model"], num_classes=3)
        images = torch.zeros(4, channels, 32, 32)
        assert model.reconstruct(images).shape == images.shape
        assert discriminator(images, torch.zeros(4, 3)).shape[0] == 4
    assert (model.resolution_px, model.channels) == (32, channels)


def untrained_classifier(config: dict[str, Any]) -> FrozenClassifier:
    return build_classifier({**config["classifier"], "weights": None}, ["a", "b", "c"])


@pytest.mark.parametrize("option", options("training"))
def test_every_training_option_builds_its_recipe(option: str) -> None:
    config = plain(composed("train", f"task={option}", "classifier=small_cnn"))
    classifier = untrained_classifier(config)
    settings = config["training"]
    if option == "stylex":
        from stylex.training.module import StylExModule

        model = build_model(config["model"], classifier)
        discriminator = build_discriminator(config["model"], classifier.num_classes)
        shared = {**settings, "batch_size": config["data"]["batch_size"]}
        module = StylExModule(model, discriminator, shared, config["ops"], config["seed"])
        assert len(module.configure_optimizers()) == 3
    elif option == "embedding":
        from stylex.classifier.embedding import Embedding
        from stylex.training.embedding import EmbeddingTraining
        from stylex.training.objective import check_objective

        named = {name: config[name] for name in ("loss", "miner")}
        check_objective(**named, settings=settings)
        embedding = Embedding(classifier.network, classifier.adapter, settings["embedding_dim"])
        EmbeddingTraining(embedding, settings, **named, num_classes=3, seed=config["seed"])
    else:
        from stylex.classifier.module import ClassifierModule

        taken = inspect.signature(ClassifierModule).parameters.keys() & settings.keys()
        adapter = build_adapter(config["classifier"])
        given = {name: settings[name] for name in taken}
        common = {"batch_size": config["data"]["batch_size"], "seed": config["seed"]}
        module = ClassifierModule(classifier.network, adapter, **given, **common)
        assert module.configure_optimizers()["optimizer"] is not None


@pytest.mark.parametrize("classifier", ["fashion", "faces", "small_cnn"])
@pytest.mark.parametrize("task", ["classifier", "embedding"])
def test_a_network_that_is_trained_starts_without_a_shipped_ones_weights(
    task: str, classifier: str
) -> None:
    assert composed("train", f"task={task}", f"classifier={classifier}").classifier.weights is None
    given = composed("train", f"task={task}", "classifier.weights=mine.safetensors")
    assert given.classifier.weights == "mine.safetensors"
    assert composed("train", "classifier=fashion").classifier.weights is not None


@pytest.mark.parametrize("option", options("training"))
def test_every_training_key_is_read_somewhere(option: str) -> None:
    files = [ROOT / "train.py", *(ROOT / "stylex" / "training").glob("*.py")]
    source = "".join(file.read_text() for file in files)

    def keys(values: dict[str, Any]) -> Iterator[str]:
        for key, value in values.items():
            yield key
            if isinstance(value, dict) and key != "best":  # which names validation's metrics
                yield from keys(value)

    found = list(keys(yaml.safe_load((CONFIGS / "training" / f"{option}.yaml").read_text())))
    assert len(found) > 5
    assert [key for key in found if f'"{key}"' not in source] == []


@pytest.mark.filterwarnings("ignore")  # Lightning's, on GPUs that are not used
@pytest.mark.parametrize("option", options("trainer"))
def test_every_trainer_option_builds_a_trainer(option: str) -> None:
    from lightning import Trainer

    config = composed("train", f"trainer={option}", "trainer.accelerator=cpu")
    settings = instantiate(config.trainer, _convert_="all")
    Trainer(**settings, logger=False, enable_checkpointing=False)


@pytest.mark.parametrize("option", options("logger"))
def test_every_logger_option_names_classes_that_take_its_keys(option: str) -> None:
    config = plain(composed("train", f"logger={option}"))["logger"]
    for settings in config.values():
        target = hydra.utils.get_class(settings.pop("_target_"))
        inspect.signature(target).bind(**settings)


# The API


COMPUTING = {"batch_size", "autocast"}  # change no result but its last bits


def of_files() -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of the door and of its search group, as shipped."""
    door = yaml.safe_load((CONFIGS / "search.yaml").read_text())
    return door, yaml.safe_load((CONFIGS / "search" / "default.yaml").read_text())


def test_the_settings_of_a_search_are_those_of_the_files_key_by_key() -> None:
    door, search = of_files()
    assert not door.keys() & search.keys()
    expected = {name: value for name, value in search.items() if name not in COMPUTING}
    expected |= {name: door[name] for name in ("selector", "seed")}
    shipped = asdict(Settings())
    shipped["rankers"] = list(shipped["rankers"])  # YAML has no tuples
    assert shipped == expected
    kinds = {name: type(value) for name, value in expected.items()}
    assert {name: type(value) for name, value in shipped.items()} == kinds
    assert search.keys() >= COMPUTING
    assert {search[name] for name in COMPUTING} == {None}


def test_the_question_of_explain_is_the_doors() -> None:
    door, search = of_files()
    parameters = dict(inspect.signature(stylex.explain).parameters)
    assert parameters.pop("settings").kind is inspect.Parameter.VAR_KEYWORD
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults.pop("model") is inspect.Parameter.empty
    assert defaults.pop("images") is inspect.Parameter.empty
    for name in ("made_by", "progress"):  # a caller's own
        defaults.pop(name)
    assert defaults.pop("k") == search["num_attributes"]
    assert defaults.pop("discriminator") is None
    assert door.pop("discriminator") is False
    assert defaults.pop("batch_size") is search["batch_size"]
    for name in ("defaults", "hydra", "checkpoint", "split", "device", "cpu_threads", "ops"):
        door.pop(name)  # where model and images come from, and what computes
    for name in ("compare", "compare_least"):
        door.pop(name)  # another question, of several classifiers
    door.pop("trust")  # of the checkpoint, which a caller has loaded
    door.pop("called_by")  # sanity checks alone ask another one
    door.pop("randomised_layers")  # of the classifier, which a caller has
    settings = {field.name for field in fields(Settings)}
    assert defaults == {name: value for name, value in door.items() if name not in settings}


def test_every_shipped_setting_makes_a_search() -> None:
    config = plain(composed("search"))
    settings = {name: value for name, value in config["search"].items() if name not in COMPUTING}
    given = {**settings, "selector": config["selector"], "seed": config["seed"]}
    assert replace(Settings.of(given), rankers=()) == Settings()
