"""Sections of an evaluation, each measured on a finished search."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylex.classifier.embedding import load_embedding, same_cosine
from stylex.classifier.files import read_classifier
from stylex.classifier.frozen import FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.data.drawn import DrawnSet
from stylex.errors import InputError
from stylex.evaluation.arena import Arena, score_methods
from stylex.evaluation.attributes import read_attributes, read_extremes
from stylex.evaluation.bias import bias_section, judge, reliance_table
from stylex.evaluation.counterfactual.measurement import Identity, Judges
from stylex.evaluation.counterfactual.measurement import Settings as Conditions
from stylex.evaluation.counterfactual.scorecard import scorecard
from stylex.evaluation.distances import distance_table
from stylex.evaluation.edits import Edits, read_edits
from stylex.evaluation.effects import effect_table, saved_edits
from stylex.evaluation.features import build_features, has_features
from stylex.evaluation.fidelity import SavedCopies, fidelity_section, judge_copies
from stylex.evaluation.groups import Groups, listed_groups, planted_groups, style_groups
from stylex.evaluation.layout import write_layout
from stylex.evaluation.perceptual import Lpips, build_distance
from stylex.evaluation.readers import Reader, load_reader, score_reader
from stylex.evaluation.reliance import Classify, Reliance, measure_reliance
from stylex.evaluation.sanity import sanity_section
from stylex.evaluation.standings import arena_section
from stylex.evaluation.study import read_answers, study_section
from stylex.evaluation.subject import Subject
from stylex.evaluation.tables import Section, spoken
from stylex.imaging import from_uint8, to_uint8
from stylex.model import StylEx, read_config
from stylex.progress import Progress
from stylex.types import Images, Labels

READER_FILE = "reader.safetensors"  # beside a checkpoint of drawn images
Config = Mapping[str, Any]  # of the door


def all_sections(
    found: Subject, data: ImageSet, config: Config, progress: Progress
) -> tuple[list[Section], SavedCopies]:
    """Every section that can be had of a search, and what its model makes of images."""
    methods = read_edits(found.folder)
    # All files are read before anything is measured, which may take long.
    oracle, reader = (
        oracle_of(found.model, found.checkpoint, config),
        reader_of(found, data, config),
    )
    identity = identity_of(found.model, config)
    answers = read_answers([Path(str(file)) for file in config["studies"]])
    lpips = Lpips() if config["distance"] == "lpips" else None
    copies, section = fidelity(found, data, config, progress)
    num_coordinates = len(found.model.generator.layout.searched(found.config["search"]["torgb"]))
    sections = [
        section,
        counterfactuals(found.model, methods, config, oracle, identity, lpips),
        arena(found, data, methods, reader, config, progress),
        sanity_section(found.folder, num_coordinates),
        study_section(answers) if answers else None,
    ]
    return [each for each in sections if each is not None], copies


def fidelity(
    found: Subject, data: ImageSet, config: Config, progress: Progress
) -> tuple[SavedCopies, Section]:
    """Judges copies of images that are drawn at random from the split."""
    device = found.model.generator.const.device
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(config["seed"]))
    positions = order[: config["num_images"]].sort().values

    def batches() -> Iterator[tuple[Images, Labels]]:
        for part in progress(list(positions.split(config["batch_size"])), "copies"):
            images, labels = data.batch(part.tolist())
            yield images.to(device), labels.to(device)

    distance = build_distance(config["distance"], found.model.classifier)
    copies = judge_copies(found.model, batches(), positions.tolist(), distance)
    weights = None if config["features_weights"] is None else Path(config["features_weights"])
    judge = found.model.classifier
    kinds = [kind for kind in config["features"] if kind != "FD-C" or has_features(judge)]
    if len(kinds) < len(config["features"]):
        log = logging.getLogger("stylex")
        log.info("FD-C is left out: the classifier's layers cannot be read; FD-Lite0 needs none")
    sets = distance_table(
        [build_features(kind, judge, None if kind == "FD-C" else weights) for kind in kinds],
        copies.images,
        copies.reconstructions,
        batch_size=config["batch_size"],
        seed=config["seed"],
    )
    return copies, fidelity_section(copies, found.model.class_names, distance, sets)


def counterfactuals(
    model: StylEx,
    methods: Mapping[str, Edits],
    config: Config,
    oracle: FrozenClassifier | None,
    identity: Identity | None,
    lpips: Lpips | None,
) -> Section:
    """Scores saved edits beside doing nothing, the copy and an attack."""
    features = {}
    if has_features(model.classifier):
        explained = build_features("FD-C", model.classifier, None)
        features["FD-C"] = lambda images: explained(to_uint8(images)).cpu()
    judges = Judges(
        classifier=from_cpu(model.classifier, model),
        oracle=None if oracle is None else from_cpu(oracle, model),
        lpips=lpips,
        identity=identity,
        features=features,
    )
    conditions = Conditions(
        **config["counterfactual"], batch_size=config["batch_size"], seed=config["seed"]
    )
    return scorecard(methods, judges, conditions)


def from_cpu(network: Callable[[Images], Tensor], model: StylEx) -> Callable[[Images], Tensor]:
    """A network on a model's device for images on the CPU, where saved edits and drawings are."""
    device = model.generator.const.device
    return lambda images: network(images.to(device)).to(images.device)


def oracle_of(model: StylEx, checkpoint: Path, config: Config) -> FrozenClassifier | None:
    """The independent classifier that confirms decisions, if one is given."""
    if config["oracle"] is None:
        return None
    return beside(model, checkpoint, config["oracle"], config["trust"])


def identity_of(model: StylEx, config: Config) -> Identity | None:
    """The trained embedding that tells whether it is still the same, if one is given."""
    if config["identity"] is None:
        return None
    folder = Path(str(config["identity"]))
    embedding = load_embedding(folder, trust=config["trust"]).to(model.generator.const.device)
    if embedding.adapter.input_channels != model.channels:
        raise InputError(
            f"identity must be an embedding of images of {model.channels} channels, as the "
            f"searched ones, got one of {embedding.adapter.input_channels} in '{folder}'; train "
            "one on the same data"
        )
    network = from_cpu(embedding, model)
    return Identity(network, same_cosine(folder), "the embedding of task=embedding")


def beside(model: StylEx, checkpoint: Path, name: str, trust: bool) -> FrozenClassifier:
    """A second classifier, to judge the same images as a model's own, on its device."""
    device, size = model.generator.const.device, model.resolution_px
    spec = read_config(checkpoint)["classifier"]
    one = torch.zeros(1, model.channels, size, size)
    return read_classifier(str(name), model.classifier, spec, one, trust=trust).to(device)


def arena(
    found: Subject,
    data: ImageSet,
    methods: Mapping[str, Edits],
    reader: Reader | None,
    config: Config,
    progress: Progress,
) -> Section | None:
    """Scores the methods against the known factors; none unless the images are drawn and read."""
    if reader is None or not isinstance(data, DrawnSet):
        return None
    count, seed, target = config["num_drawings"], config["seed"], methods["stylex"].target
    model = found.model
    classify = from_cpu(model.classifier, model)
    against = Arena(
        classify=classify,
        reader=reader,
        reconstructed=score_reader(reader, data, count, seed, from_cpu(model.reconstruct, model)),
        reliance={target: reliance_on(data, classify, target, config, progress)},
        least=config["least_reliance"],
        most=config["num_directions"],
        seed=seed,
    )
    searches = {name: [edits] for name, edits in methods.items()}
    for other in sorted((found.folder / "seeds").glob("*/edits")):
        for name, edits in read_edits(other.parent).items():
            searches.setdefault(name, []).append(edits)
    return arena_section(against, searches, score_methods(against, searches), ())


def reader_of(found: Subject, data: ImageSet, config: Config) -> Reader | None:
    """The reader of drawn factors; none of other images, and none, with a line, without a file."""
    if not isinstance(data, DrawnSet):
        return None
    path = Path(config["reader"] or found.checkpoint / READER_FILE)
    if config["reader"] is None and not path.is_file():
        print(
            f"no {READER_FILE} beside the checkpoint, so the arena is left out; make one: python "
            f"-m stylex.evaluation task=reader data=... output={path}"
        )
        return None
    return load_reader(path)


def reliance_on(
    data: DrawnSet, classify: Classify, target: str, config: Config, progress: Progress
) -> Reliance:
    """A classifier's reliance on every drawn factor, for one class."""
    index = data.class_names.index(target)
    return measure_reliance(data, classify, index, config["num_drawings"], config["seed"], progress)


def bias_before_and_after(
    found: Subject, data: ImageSet, config: Config, progress: Progress
) -> Section:
    """The explained classifier and a retrained one, on the same images and edits."""
    before = found.model.classifier
    after = beside(found.model, found.checkpoint, config["after"], config["trust"])
    edits = read_edits(found.folder)["stylex"]
    reliance = None
    if isinstance(data, DrawnSet):
        reliance = reliance_table(
            *(
                reliance_on(data, from_cpu(each, found.model), edits.target, config, progress)
                for each in (before, after)
            )
        )
    return bias_section(
        judge(before, after, data, progress),
        divisions(found, data, config, progress),
        effect_table(saved_edits(edits), before, after, edits.target),
        reliance,
    )


def divisions(found: Subject, data: ImageSet, config: Config, progress: Progress) -> list[Groups]:
    """How images are grouped: by a table, or a planted watermark and the attributes themselves."""
    if config["groups"] is not None:
        return [listed_groups(Path(config["groups"]), data)]
    groups = []
    if isinstance(data, DrawnSet) and data.planted is not None:
        groups.append(planted_groups(data))
    extremes = read_extremes(found.folder)
    for attribute in read_attributes(found.folder, config["attributes"]):
        groups.append(
            style_groups(found.model, data, attribute, extremes, config["batch_size"], progress)
        )
    return groups


def export(found: Subject, data: ImageSet, folder: Path) -> None:
    """Writes the edits as the ACE and DiME scripts lay them out, under the search folder's name."""
    edits, classifier = read_edits(found.folder)["stylex"], found.model.classifier
    device = found.model.generator.const.device
    before, after = (
        classifier.probabilities(from_uint8(pixels).to(device)).cpu()
        for pixels in (edits.images, edits.together[-1])
    )
    labels = data.labels[edits.positions]
    write_layout(edits, labels, before, after, folder, found.folder.resolve().name)


def print_sections(sections: Sequence[Section]) -> None:
    """Prints all tables."""
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console()
    for section in sections:
        console.print(f"\n[bold]{section.title}[/bold]\n{section.reading}", highlight=False)
        for table in section.tables:
            printed = Printed("", *(column.title for column in table.columns), title=table.title)
            for row in table.rows:
                printed.add_row(row.title, *(spoken(cell) for cell in row.cells))
            console.print(printed)
