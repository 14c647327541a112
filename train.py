"""Door 1: trains what the configuration names. `python train.py --help` lists every key."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stylex.door import image_set, open_door, training_set
from stylex.errors import InputError

if TYPE_CHECKING:
    from lightning import Callback, LightningModule

    from stylex.classifier.embedding import Embedding
    from stylex.data.datasets import ImageSet


def train(config: dict[str, Any], raw: DictConfig) -> None:
    """Trains, or goes on with, the task of the configuration."""
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
    from stylex.artifacts import check_writable

    folder = Path(config["output_dir"])
    check_writable(folder)
    if config["training"]["num_steps"] < 1:
        raise InputError(
            f"training.num_steps must be at least 1, got {config['training']['num_steps']}"
        )
    from stylex.loggers import check_loggers

    check_loggers(config["logger"])
    import torch

    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = config["ops"]["tf32"]
    tasks[config["task"]](config, raw, folder)


def train_stylex(config: dict[str, Any], raw: DictConfig, folder: Path) -> None:
    """Trains a StylEx model around a frozen classifier."""
    import torch

    from stylex.classifier.frozen import build_classifier
    from stylex.evaluation.fidelity import fidelity, reconstruct
    from stylex.gan.transfer import start
    from stylex.model import build_discriminator, build_model, save_discriminator
    from stylex.training.callbacks import STATE_FILE, Pictures, Validation
    from stylex.training.module import StylExModule
    from stylex.training.resumption import data_facts, lasting

    training, validation = training_set(raw.data), image_set(raw.data, "validation")
    settings = config["training"]
    torch.manual_seed(config["seed"])
    classifier = build_classifier(config["classifier"], training.class_names)
    model = build_model(config["model"], classifier)
    discriminator = build_discriminator(config["model"], classifier.num_classes)
    path = config["model"]["init_from"]
    if path is not None and not (folder / "checkpoints" / STATE_FILE).is_file():
        taken = start(Path(str(path)), model.generator, model.mapping, discriminator)
        print(f"starts from '{path}': {taken}")
    module = StylExModule(model, discriminator, settings, config["ops"], config["seed"])

    first_of_each = torch.cat(
        [(validation.labels == k).nonzero()[:2, 0] for k in range(classifier.num_classes)]
    )
    shown, _ = validation.batch(first_of_each[:20].tolist())
    order = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0)).tolist()
    measured = [validation.batch(order[i : i + 100]) for i in range(0, min(1000, len(order)), 100)]

    def measure() -> dict[str, float]:
        there = [(x.to(module.device), y.to(module.device)) for x, y in measured]
        found = fidelity(reconstruct(module.average, there))
        return {name: float(estimate.value or 0.0) for name, estimate in found.items()}

    callbacks = [
        Validation(settings["validation_interval_steps"], measure),
        Pictures(settings["picture_interval_steps"], folder / "samples", module.average, shown),
    ]

    def export(target: Path) -> None:
        module.average.save(
            target,
            {key: config[key] for key in ("data", "classifier", "model", "training", "seed")},
        )
        save_discriminator(module.discriminator, target)

    facts = {
        "classifier": classifier.fingerprint(),
        **data_facts(config, training),
        **{key: config[key] for key in ("model", "seed")},
        "training": lasting(settings),
    }
    _fit(module, training, validation, config, raw, callbacks, export, facts)


def train_classifier(config: dict[str, Any], raw: DictConfig, folder: Path) -> None:
    """Trains the classifier that will be explained."""
    import torch

    from stylex.artifacts import write_tensors, write_yaml
    from stylex.classifier.frozen import build_adapter, build_classifier
    from stylex.classifier.module import ClassifierModule
    from stylex.data.permutation import PermutedLabels
    from stylex.training.callbacks import Validation
    from stylex.training.resumption import data_facts

    training, validation = training_set(raw.data), image_set(raw.data, "validation")
    settings = config["training"]
    if settings["permuted_labels"]:
        training = PermutedLabels(training, seed=config["seed"])
    torch.manual_seed(config["seed"])
    network = build_classifier(config["classifier"], training.class_names).network
    network.requires_grad_(True).train()
    keys = (
        "num_steps",
        "learning_rate",
        "weight_decay",
        "label_smoothing",
        "flip_share",
        "noise_std",
    )
    adapter = build_adapter(config["classifier"])
    module = ClassifierModule(
        network, adapter, **{k: settings[k] for k in keys}, seed=config["seed"]
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
        write_tensors(target / "classifier.safetensors", network.state_dict())
        write_yaml(
            target / "config.yaml",
            {
                **{k: config[k] for k in ("data", "classifier", "training", "seed")},
                "class_names": list(training.class_names),
            },
        )

    facts = {
        **data_facts(config, training),
        **{key: config[key] for key in ("classifier", "training", "seed")},
    }
    callbacks = [Validation(settings["validation_interval_steps"], measure)]
    _fit(module, training, validation, config, raw, callbacks, export, facts)


def train_embedding(config: dict[str, Any], raw: DictConfig, folder: Path) -> None:
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
    )
    if had_steps or not (folder / "checkpoints" / RETRIEVAL_FILE).is_file():
        finish(folder, embedding, untrained(), validation, test)


def _fit(
    module: "LightningModule",
    training: "ImageSet",
    validation: "ImageSet",
    config: dict[str, Any],
    raw: DictConfig,
    callbacks: list["Callback"],
    export: Callable[[Path], None],
    facts: dict[str, Any],
) -> None:
    """Fits from the stored state, if there is one, to the last step."""
    from hydra.utils import instantiate
    from lightning import Trainer

    from stylex.artifacts import write_yaml
    from stylex.data.module import ImageDataModule
    from stylex.training.callbacks import Checkpoint, Forecast, Metrics, csv_logger
    from stylex.training.resumption import state_of, steps_left

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)  # importing it has set INFO
    folder, settings = Path(config["output_dir"]), config["training"]
    data = ImageDataModule(
        train=training,
        validation=validation,
        batch_size=settings["batch_size"],
        num_workers=settings["num_workers"],
        seed=config["seed"],
        num_steps=settings["num_steps"],
    )
    state = state_of(folder, facts)
    if not steps_left(folder, state, settings["num_steps"]):
        return
    data.start_step = 0 if state is None else state["step"]
    data.train_dataloader()  # refuses a batch larger than the data before anything is written
    write_yaml(folder / "config.yaml", config)
    trainer = Trainer(
        **config["trainer"],
        max_epochs=1,
        logger=[csv_logger(folder, data.start_step), *instantiate(raw.logger).values()],
        callbacks=[
            Metrics(settings["log_interval_steps"]),
            *callbacks,
            Forecast(settings["num_steps"], 30, lambda text: print(f"\n{text}")),
            Checkpoint(
                folder / "checkpoints", settings["checkpoint_interval_steps"], state, facts, export
            ),
        ],
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data)
    print(
        f"done: {settings['num_steps']} steps in '{folder}', the model is in "
        f"'{folder / 'checkpoints'}'"
    )


if __name__ == "__main__":
    open_door("train", train)
