"""Door 1: trains what the configuration names. `python train.py --help` lists every key."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stylex.door import image_set, open_door, training_set
from stylex.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from stylex.classifier.embedding import Embedding
    from stylex.data.datasets import ImageSet
    from stylex.training.fit import Outside
    from stylex.training.run import Run


def train(config: dict[str, Any], raw: DictConfig) -> float | None:
    """Trains, or goes on with, the task of the configuration; returns the best validation value."""
    tasks = {
        "stylex": train_stylex,
        "classifier": train_classifier,
        "embedding": train_embedding,
    }
    if config["task"] not in tasks:
        raise InputError(
            f"train.py's task must be one of {', '.join(tasks)}, got '{config['task']}'; others "
            "are python -m stylex.evaluation's"
        )
    if config["task"] == "embedding":
        from stylex.training.objective import check_objective

        check_objective(config["loss"], config["miner"], config["training"])
    from stylex.artifacts import check_apart, check_writable
    from stylex.training.ranges import check_training

    if not isinstance(config["output_dir"], str):
        raise InputError(f"output_dir must be a folder, got {config['output_dir']}; give one")
    stages = config["training"].get("stages", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise InputError(
            f"training.stages must be a list of settings, got {stages}; see training/stylex.yaml"
        )
    check_training(config)
    folder = Path(config["output_dir"])
    check_writable(folder)
    check_apart(folder, config["data"].get("root"))
    from stylex.loggers import check_loggers

    check_loggers(config["logger"])
    import torch

    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    if config["trainer"]["precision"] == "64-true":
        torch.set_default_dtype(torch.float64)  # of what is made outside the trainer, too
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = config["ops"]["tf32"]
    from stylex.training.run import begun
    from stylex.training.study import objective

    with begun(folder) as run:
        tasks[config["task"]](config, raw, run)
    return objective(folder)


def train_stylex(config: dict[str, Any], raw: DictConfig, run: "Run") -> None:
    """Trains a StylEx model around a frozen classifier."""
    import torch

    from stylex.classifier.frozen import build_classifier, judged
    from stylex.evaluation.fidelity import fidelity, reconstruct
    from stylex.gan.transfer import start
    from stylex.model import build_discriminator, build_model
    from stylex.training.callbacks import Pictures, Validation
    from stylex.training.checkpoints import has_states
    from stylex.training.fit import fit
    from stylex.training.module import StylExModule
    from stylex.training.resumption import data_facts, lasting
    from stylex.training.spread import spread
    from stylex.training.watch import Watch

    training, validation = training_set(raw.data), image_set(raw.data, "validation")
    settings = config["training"]
    torch.manual_seed(config["seed"])
    classifier = build_classifier(config["classifier"], training.class_names)
    model = build_model(config["model"], classifier)
    discriminator = build_discriminator(config["model"], classifier.num_classes)
    path = config["model"]["init_from"]
    if path is not None and not has_states(run.folder / "checkpoints"):
        taken = start(Path(str(path)), model.generator, model.mapping, discriminator)
        print(f"starts from '{path}': {taken}")
    shared = {**settings, "batch_size": config["data"]["batch_size"]}
    module = StylExModule(model, discriminator, shared, config["ops"], config["seed"])

    shown, measured = _validation_images(validation, classifier.num_classes)
    classifier.check(shown)
    if run.leads and classifier.class_names == training.class_names:  # not one label of many
        print(judged(classifier, measured[:5]))

    def measure() -> dict[str, float]:
        there = [(x.to(module.device), y.to(module.device)) for x, y in measured]
        found = fidelity(reconstruct(module.average, there))
        figures = {name: float(estimate.value or 0.0) for name, estimate in found.items()}
        return {**figures, **spread(module.average, shown.to(module.device))}

    watch = Watch(settings, classifier.num_classes, print, run.folder)
    callbacks = [
        Validation(settings["validation_interval_steps"], measure),
        Pictures(settings["picture_interval_steps"], run.folder / "samples", module.average, shown),
    ]

    def export(target: Path) -> None:
        module.average.save(
            target,
            {key: config[key] for key in ("data", "classifier", "model", "training", "seed")},
            module.discriminator,
        )

    facts = {
        "classifier": classifier.fingerprint(),
        **data_facts(config, training),
        **{key: config[key] for key in ("model", "seed")},
        "training": lasting(settings),
    }
    fit(module, training, validation, config, _outside(raw), callbacks, export, facts, run, watch)


def _validation_images(
    images: "ImageSet", num_classes: int
) -> "tuple[Tensor, list[tuple[Tensor, Tensor]]]":
    """Two images of each class to draw, twenty at most, and batches to measure on."""
    import torch

    first = torch.cat([(images.labels == k).nonzero()[:2, 0] for k in range(num_classes)])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    measured = [images.batch(order[i : i + 100]) for i in range(0, min(1000, len(order)), 100)]
    return images.batch(first[:20].tolist())[0], measured


def train_classifier(config: dict[str, Any], raw: DictConfig, run: "Run") -> None:
    """Trains the classifier that will be explained."""
    import torch

    from stylex.artifacts import write_tensors, write_yaml
    from stylex.classifier.frozen import build_classifier
    from stylex.classifier.module import ClassifierModule
    from stylex.data.permutation import PermutedLabels
    from stylex.training.callbacks import Validation
    from stylex.training.fit import fit
    from stylex.training.resumption import data_facts, lasting

    training, validation = training_set(raw.data), image_set(raw.data, "validation")
    settings = config["training"]
    if settings["permuted_labels"]:
        training = PermutedLabels(training, seed=config["seed"])
    torch.manual_seed(config["seed"])
    if config["classifier"].get("output") is not None:
        raise InputError(
            "task=classifier trains all outputs, one a class, got classifier.output="
            f"{config['classifier']['output']}; leave it out"
        )
    classifier = build_classifier(config["classifier"], training.class_names)
    network = classifier.network.requires_grad_(True).train()
    keys = (
        "num_steps",
        "learning_rate",
        "weight_decay",
        "label_smoothing",
        "flip_share",
        "noise_std",
    )
    module = ClassifierModule(
        network,
        classifier.adapter,
        **{k: settings[k] for k in keys},
        batch_size=config["data"]["batch_size"],
        seed=config["seed"],
    )
    positions = list(range(len(validation)))

    @torch.no_grad()
    def measure() -> dict[str, float]:
        network.eval()
        correct = 0
        for start in range(0, len(positions), 100):
            images, labels = validation.batch(positions[start : start + 100])
            logits = module(images.to(module.device)).cpu()
            guess = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
            correct += int((guess == labels).sum())
        network.train()
        return {"accuracy": correct / len(positions)}

    def export(target: Path) -> None:
        about = {k: config[k] for k in ("data", "classifier", "training", "seed")}
        names = list(training.class_names)
        write_yaml(target / "config.yaml", {**about, "class_names": names}, durable=True)
        weights = network.state_dict()
        write_tensors(target / "classifier.safetensors", weights, durable=True)

    facts = {
        **data_facts(config, training),
        **{key: config[key] for key in ("classifier", "seed")},
        "training": {**lasting(settings), "num_steps": settings["num_steps"]},
    }
    callbacks = [Validation(settings["validation_interval_steps"], measure)]
    fit(module, training, validation, config, _outside(raw), callbacks, export, facts, run)


def train_embedding(config: dict[str, Any], raw: DictConfig, run: "Run") -> None:
    """Trains an embedding on some classes and measures it on the others."""
    import torch
    from hydra.utils import instantiate

    from stylex.attribution.heldout import HeldOut, finish
    from stylex.classifier.embedding import RETRIEVAL_FILE, build_embedding
    from stylex.data.subset import ClassSubset, split_classes
    from stylex.progress import Bars
    from stylex.training.embedding import EmbeddingTraining, choose_device
    from stylex.training.loop import go_on
    from stylex.training.resumption import data_facts, lasting

    settings, seed = config["training"], config["seed"]
    loss, miner, held = config["loss"], config["miner"], config["held_out"]
    device = choose_device(config["trainer"])
    whole = training_set(raw.data)
    kept, others = split_classes(whole.class_names, held["classes"], held["share"], seed)
    validation, test = (
        HeldOut(ClassSubset(image_set(raw.data, split), others), config["retrieval"], seed, device)
        for split in ("validation", "test")
    )

    def untrained() -> "Embedding":
        torch.manual_seed(seed)
        dim = settings["embedding_dim"]
        return build_embedding(config["classifier"], whole.class_names, dim).to(device)

    embedding = untrained()
    training = EmbeddingTraining(
        embedding, settings, loss=loss, miner=miner, num_classes=len(kept), seed=seed
    )
    facts = {
        **data_facts(config, whole),
        **{key: config[key] for key in ("classifier", "loss", "miner", "held_out", "seed")},
        "training": {**lasting(settings), "num_steps": settings["num_steps"]},
    }
    about = {
        **{key: config[key] for key in ("data", "classifier", "training", "loss", "miner", "seed")},
        **{"class_names": list(whole.class_names), "held_out_classes": list(others)},
    }
    print(f"trains on {', '.join(kept)}; held out: {', '.join(others)}")
    had_steps = go_on(
        training,
        ClassSubset(whole, kept),
        config,
        facts,
        lambda: list(instantiate(raw.logger).values()),
        measure=lambda: validation.measure(embedding).figures(),
        export=lambda target: embedding.save(target, about),
        progress=Bars(),
        run=run,
    )
    if had_steps or not (run.folder / "checkpoints" / RETRIEVAL_FILE).is_file():
        finish(run.folder, embedding, untrained(), validation, test)


def _outside(raw: DictConfig) -> "Outside":
    from hydra.utils import instantiate

    from stylex.training.fit import Outside

    return Outside(
        trainer=instantiate(raw.trainer, _convert_="all"),
        loggers=lambda: list(instantiate(raw.logger).values()),
    )


if __name__ == "__main__":
    open_door("train", train)
