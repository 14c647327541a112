"""Door: measures a finished search. `python -m stylex.evaluation FOLDER [key=value ...]`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from stylex.door import image_set, open_door
from stylex.errors import InputError

if TYPE_CHECKING:
    from stylex.data.datasets import ImageSet
    from stylex.evaluation.edits import Edits
    from stylex.evaluation.fidelity import SavedCopies
    from stylex.evaluation.readers import Reader
    from stylex.evaluation.subject import Subject
    from stylex.evaluation.tables import Section

LISTS = ("features", "studies", "attributes")
READER_FILE = "reader.safetensors"


def evaluation(config: dict[str, Any], raw: DictConfig) -> None:
    """Does one of the tasks."""
    tasks = {"scores": scores, "augment": augment, "bias": bias, "reader": reader}
    if config["task"] not in tasks:
        raise InputError(f"task must be one of {', '.join(tasks)}, got '{config['task']}'")
    for name in ("batch_size", "num_images", "num_drawings", "num_directions"):
        if config[name] < 1:
            raise InputError(f"{name} must be at least 1, got {config[name]}")
    if config["cpu_threads"] is not None:
        import torch

        torch.set_num_threads(config["cpu_threads"])
    tasks[config["task"]](config, raw)


# Tasks


def scores(config: dict[str, Any], _raw: DictConfig) -> None:
    """Measures each search, writes its evaluation.json and draws its page anew."""
    for folder in folders(config):
        found, data = subject(folder, config)
        score(found, data, config)


def augment(config: dict[str, Any], _raw: DictConfig) -> None:
    """Writes training images with attributes turned over, labels kept."""
    from stylex.evaluation.attributes import read_attributes, read_extremes
    from stylex.evaluation.augmentation import Making, write_augmentation
    from stylex.progress import Bars

    folder = only(config)
    attributes = read_attributes(folder, config["attributes"])
    output = Path(config["output"] or folder / "augmentation")
    found, _ = subject(folder, config)
    data = image_set(OmegaConf.create(found.config["data"]), "train")
    making = Making(**config["making"], batch_size=config["batch_size"], seed=config["seed"])
    facts = write_augmentation(
        found.model,
        data,
        attributes,
        read_extremes(folder),
        output,
        making,
        {"search": str(folder), "checkpoint": str(found.checkpoint)},
        Bars(),
    )
    print(f"{facts['num_written']} images of {facts['num_images']} are in '{output}'")
    print(f"join them: python train.py task=classifier data.augmentation={output} ...")


def bias(config: dict[str, Any], _raw: DictConfig) -> None:
    """Compares the explained classifier with a retrained one, and prints and keeps the tables."""
    from stylex.data.drawn import DrawnSet
    from stylex.evaluation import bias as comparison
    from stylex.evaluation.edits import read_edits
    from stylex.evaluation.subject import read_classifier
    from stylex.evaluation.tables import write_sections
    from stylex.progress import Bars

    folder = only(config)
    if config["after"] is None:
        raise InputError(
            "task=bias compares with a retrained classifier, got none; give after=RUN of "
            "train.py task=classifier data.augmentation=SET"
        )
    found, data = subject(folder, config)
    before = found.model.classifier
    after = read_classifier(Path(config["after"]), before).to(before.adapter.mean.device)
    edits = read_edits(folder)["stylex"]
    judged = comparison.judge(before, after, data, Bars())
    reliance = None
    if isinstance(data, DrawnSet):
        reliance = comparison.reliance_table(
            *(reliance_on(data, each, edits.target, config) for each in (before, after))
        )
    section = comparison.bias_section(
        judged,
        group_divisions(found, data, config),
        comparison.effect_table(comparison.saved_edits(edits), before, after, edits.target),
        reliance,
    )
    path = folder / "bias.json"
    write_sections(path, [section], {"before": str(found.checkpoint), "after": config["after"]})
    print_sections([section])
    print(f"wrote {path}")


def reader(config: dict[str, Any], raw: DictConfig) -> None:
    """Trains the network that reads a drawn family's factors."""
    from stylex.data.drawn import DrawnSet
    from stylex.evaluation.readers import Course, train_reader
    from stylex.progress import Bars

    if not raw.data or config["output"] is None:
        raise InputError(
            "task=reader needs drawings and a file to write, got "
            f"data={config['data'] and 'given'} and output={config['output']}; give data=faces "
            f"output=FOLDER/{READER_FILE}"
        )
    data = image_set(raw.data, "test")
    if not isinstance(data, DrawnSet):
        raise InputError(
            f"task=reader reads factors of drawings, got {type(data).__name__}; give data=faces or "
            "data=leaves"
        )
    trained = train_reader(data, Course(**config["reading"], seed=config["seed"]), Bars())
    trained.save(Path(config["output"]))
    for each in trained.held_out:
        kind = "balanced accuracy" if each.is_binary else "R²"
        print(f"{each.factor:20s} {kind:18s} {each.score.value or 0:.3f}")
    print(f"wrote {config['output']}")


# What they share


def folders(config: Mapping[str, Any]) -> list[Path]:
    """The searches' folders.

    Raises:
        InputError: If there is none.
    """
    given = config["folders"]
    if not given:
        raise InputError(
            "an evaluation is of a search's folder, got none; python -m stylex.evaluation FOLDER"
        )
    return [Path(str(each)) for each in (given if isinstance(given, list) else [given])]


def only(config: Mapping[str, Any]) -> Path:
    """The one folder of a task that takes one.

    Raises:
        InputError: If there are several.
    """
    found = folders(config)
    if len(found) > 1:
        raise InputError(f"task={config['task']} takes one folder, got {len(found)}; give one")
    return found[0]


def subject(folder: Path, config: Mapping[str, Any]) -> "tuple[Subject, ImageSet]":
    """A finished search and the images of its split.

    Raises:
        InputError: If the data are others than those searched.
    """
    from stylex.evaluation.subject import read_subject
    from stylex.model import choose_device

    checkpoint = None if config["checkpoint"] is None else Path(config["checkpoint"])
    found = read_subject(folder, checkpoint, choose_device(config["device"], 0))
    data = image_set(OmegaConf.create(found.config["data"]), found.config["split"])
    if data.fingerprint != found.made_by["data"]:
        raise InputError(
            f"an evaluation needs the images that were searched, got others than '{folder}' names; "
            "restore them or search again"
        )
    return found, data


def arguments(typed: Sequence[str]) -> list[str]:
    """What was typed, as Hydra reads it: folders and values with commas become lists."""
    from stylex.report.__main__ import arguments as with_folders

    return with_folders(typed, LISTS)


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:])
    open_door("evaluation", evaluation)
