"""Door: measures a finished search. `python -m stylex.evaluation FOLDER [key=value ...]`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from stylex.door import image_set, open_door
from stylex.errors import InputError
from stylex.progress import Bars
from stylex.ranges import AMOUNT, COUNT, SHARE, SIZE, Range, check_ranges
from stylex.report.__main__ import arguments as with_folders

if TYPE_CHECKING:
    from stylex.data.datasets import ImageSet
    from stylex.evaluation.subject import Subject

LISTS = ("features", "studies", "attributes")
RANGES = {
    **dict.fromkeys(("batch_size", "num_images", "num_drawings", "num_directions"), COUNT),
    "attributes.*": COUNT,
    "least_reliance": AMOUNT,
    "making.strength": Range(0, 1000, beyond=True),
    "making.share": Range(0, 1, beyond=True),
    "making.most_images": COUNT,
    "counterfactual.changed_threshold": SHARE,
    "counterfactual.num_transition_steps": COUNT,
    "counterfactual.num_splits": COUNT,
    "counterfactual.attack_epsilon": Range(0, 1, beyond=True),
    "counterfactual.attack_steps": COUNT,
    "counterfactual.jpeg_quality": Range(1, 100, whole=True),
    "counterfactual.noise_std": SHARE,
    "reading.num_steps": Range(2, 10**12, whole=True),
    "reading.batch_size": COUNT,
    "reading.learning_rate": Range(0, 1, beyond=True),
    "reading.width": SIZE,
    "reading.noise": AMOUNT,
    "reading.brightness": AMOUNT,
    "reading.num_scored": Range(2, 10**12, whole=True),
}


def evaluation(config: dict[str, Any], raw: DictConfig) -> None:
    """Does one of the tasks."""
    tasks = {
        "scores": scores,
        "augment": augment,
        "bias": bias,
        "reader": reader,
        "foreign": foreign,
    }
    if config["task"] not in tasks:
        raise InputError(
            f"an evaluation's task must be one of {', '.join(tasks)}, got '{config['task']}'; "
            "others are train.py's"
        )
    check_ranges(config, RANGES)
    if config["cpu_threads"] is not None:
        import torch

        torch.set_num_threads(config["cpu_threads"])
    tasks[config["task"]](config, raw)


def scores(config: dict[str, Any], _raw: DictConfig) -> None:
    """Measures each search, writes its evaluation.json and draws its page anew."""
    for folder in folders(config):
        found, data = subject(folder, config)

        from stylex.evaluation.sections import all_sections, export, print_sections
        from stylex.evaluation.tables import write_sections
        from stylex.report.page import write_page
        from stylex.report.results import read_results

        if config["layout"] is not None:
            export(found, data, Path(config["layout"]))
            print(f"wrote '{config['layout']}'")
        sections, copies = all_sections(found, data, config, Bars())
        facts = {
            "flagged_positions": copies.changed_positions(),
            "num_images": len(copies.positions),
            "config": {k: v for k, v in config.items() if k not in ("folders", "cpu_threads")},
        }
        write_sections(folder / "evaluation.json", sections, facts)
        print_sections(sections)
        write_page(folder / "index.html", [read_results(folder)])
        print(f"wrote '{folder / 'evaluation.json'}'; open {folder / 'index.html'}")


def augment(config: dict[str, Any], _raw: DictConfig) -> None:
    """Writes training images with attributes turned over, labels kept."""
    folder = only(config)

    from stylex.evaluation.attributes import read_attributes, read_extremes
    from stylex.evaluation.augmentation import Making, write_augmentation

    attributes = read_attributes(folder, config["attributes"])
    making = Making(**config["making"], batch_size=config["batch_size"], seed=config["seed"])
    output = Path(config["output"] or folder / "augmentation")
    found, _ = subject(folder, config)
    facts = write_augmentation(
        found.model,
        image_set(OmegaConf.create(found.config["data"]), "train"),
        attributes,
        read_extremes(folder),
        output,
        making,
        {"search": str(folder), "checkpoint": str(found.checkpoint)},
        Bars(),
    )
    print(
        f"{facts['num_written']} changed images of {facts['num_images']} are in '{output}'; they "
        f"join the training with data.augmentation={output}"
    )


def bias(config: dict[str, Any], _raw: DictConfig) -> None:
    """Compares the explained classifier with a retrained one; prints and keeps the tables."""
    folder = only(config)
    if config["after"] is None:
        raise InputError(
            "task=bias compares with a retrained classifier, got none; give after=RUN of "
            "train.py task=classifier data.augmentation=SET"
        )
    found, data = subject(folder, config)

    from stylex.evaluation.sections import bias_before_and_after, print_sections
    from stylex.evaluation.tables import write_sections

    section = bias_before_and_after(found, data, config, Bars())
    path = folder / "bias.json"
    write_sections(path, [section], {"before": str(found.checkpoint), "after": config["after"]})
    print_sections([section])
    print(f"wrote '{path}'")


def reader(config: dict[str, Any], raw: DictConfig) -> None:
    """Trains the network that reads a drawn family's factors."""
    if "data" not in config or config["output"] is None:
        raise InputError(
            "task=reader needs drawings and a file to write, got "
            f"data={'given' if 'data' in config else 'none'} and output={config['output']}; give "
            "data=faces output=FILE.safetensors"
        )
    from stylex.data.drawn import DrawnSet
    from stylex.evaluation.readers import Course, train_reader

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
    print(f"wrote '{config['output']}'")


def foreign(config: dict[str, Any], _raw: DictConfig) -> None:
    """Scores counterfactuals that other programs left in the ACE and DiME scripts' layout."""
    for key in ("layout", "results", "checkpoint", "target"):
        if config[key] is None:
            raise InputError(
                f"task=foreign needs {key}, got none; give layout=FOLDER results=NAME "
                "checkpoint=MODEL target=CLASS"
            )
    if config["distance"] not in (None, "lpips"):
        raise InputError(
            f"task=foreign has edits and no copies, so distance must be null or lpips, got "
            f"'{config['distance']}'"
        )
    from stylex.evaluation.layout import read_layout
    from stylex.evaluation.perceptual import Lpips
    from stylex.evaluation.sections import (
        counterfactuals,
        identity_of,
        oracle_of,
        print_sections,
    )
    from stylex.evaluation.tables import write_sections
    from stylex.gan.compute import choose_device
    from stylex.model import load, model_folder

    checkpoint = model_folder(Path(config["checkpoint"]))
    model = load(checkpoint, trust=config["trust"]).to(choose_device(config["device"], 0))
    folder, name = Path(config["layout"]), str(config["results"])
    found = read_layout(folder, name, model.class_names, config["target"])
    oracle = oracle_of(model, checkpoint, config)
    lpips = None if config["distance"] is None else Lpips()
    section = counterfactuals(
        model, {name: found.edits}, config, oracle, identity_of(model, config), lpips
    )
    path = folder / "Results" / name / "evaluation.json"
    write_sections(path, [section], {"checkpoint": str(checkpoint)})
    print_sections([section])
    print(f"wrote '{path}'")


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
    from stylex.gan.compute import choose_device

    checkpoint = None if config["checkpoint"] is None else Path(config["checkpoint"])
    device = choose_device(config["device"], 0)
    found = read_subject(folder, checkpoint, device, trust=config["trust"])
    data = image_set(OmegaConf.create(found.config["data"]), found.config["split"])
    if data.fingerprint != found.made_by["data"]:
        raise InputError(
            f"an evaluation needs the images that were searched, got others than '{folder}' names; "
            "restore them or search again"
        )
    return found, data


if __name__ == "__main__":
    sys.argv[1:] = with_folders(sys.argv[1:], LISTS)
    open_door("evaluation", evaluation)
