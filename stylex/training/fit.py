"""A fit with Lightning: from the stored state to the last step, watched and kept."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from stylex.artifacts import write_yaml
from stylex.classifier.module import ClassifierModule
from stylex.data.datasets import ImageSet
from stylex.data.module import ImageDataModule
from stylex.errors import InputError
from stylex.loggers import end_loggers, log_config
from stylex.tracking import begin_anew
from stylex.training.callbacks import Metrics, Watching
from stylex.training.checkpoints import Checkpoint
from stylex.training.module import StylExModule
from stylex.training.records import Records
from stylex.training.resumption import state_of, steps_left
from stylex.training.run import Guard, Run
from stylex.training.strategy import settle
from stylex.training.throughput import Throughput
from stylex.training.watch import Watch


@dataclass(frozen=True)
class Outside:
    """What a run takes from outside the library.

    Attributes:
        trainer: Lightning's settings.
        loggers: Makes the loggers beside the CSV file; called once the run has its folder.
    """

    trainer: Mapping[str, Any]
    loggers: Callable[[], list[Logger]]


def fit(
    module: StylExModule | ClassifierModule,
    training: ImageSet,
    validation: ImageSet,
    config: dict[str, Any],
    outside: Outside,
    callbacks: list[Callback],
    export: Callable[[Path], None],
    facts: dict[str, Any],
    run: Run,
    watch: Watch | None = None,
) -> None:
    """Fits from the stored state, if there is one, to the last step.

    Args:
        module: What is trained.
        training: Images to train on.
        validation: Images to measure on.
        config: Resolved; its settings are kept in the run's folder.
        outside: The trainer's settings and what makes the loggers.
        callbacks: The task's own: they measure and draw, on the first process.
        export: Writes the model into a folder.
        facts: What a state must have been left by to go on from it.
        run: Whose folder is written to.
        watch: Looks for collapse and divergence; its findings are part of the state.

    Raises:
        InputError: If the stored state is of another run, or the trainer refuses its settings.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)  # importing it has set INFO
    folder, settings = run.folder, config["training"]
    data = ImageDataModule(
        train=training,
        validation=validation,
        batch_size=config["data"]["batch_size"],
        num_workers=config["data"]["num_workers"],
        seed=config["seed"],
        num_steps=settings["num_steps"],
        share=lambda batch: module.share.of_batch(batch),  # known once the processes have met
    )
    state = state_of(folder, facts)
    if not steps_left(folder, state, settings["num_steps"]):
        return
    data.start_step = 0 if state is None else state["step"]
    data.train_dataloader()  # refuses a batch larger than the data before anything is written
    checkpoint = Checkpoint(
        folder / "checkpoints",
        settings["checkpoint_interval_steps"],
        state,
        facts,
        export,
        keep_last=settings["keep_last"],
        best=settings["best"],
        departure=run.departure,
        beside={} if watch is None else {"watch": watch},
    )
    loggers: list[Logger] = []
    if run.leads:
        write_yaml(folder / "config.yaml", config)
        loggers, reports = _reports(config, outside, data.start_step, fresh=state is None)
        if watch is not None:
            loggers.append(Watching(watch))
        callbacks = [Guard(run), reports[0], *callbacks, *reports[1:]]
    trainer = _trainer(
        settle(outside.trainer, os.environ),
        max_epochs=1,
        logger=loggers,
        callbacks=[*(callbacks if run.leads else []), checkpoint],
        enable_checkpointing=False,
        use_distributed_sampler=False,  # the batches are shared out already
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    try:
        trainer.fit(module, data)
    finally:
        end_loggers(loggers, well=trainer.state.finished)
    if run.departure.signum is not None and checkpoint.saved != settings["num_steps"]:
        run.departure.leave(checkpoint.saved)
    if run.leads:
        print(
            f"done: {settings['num_steps']} steps in '{folder}', the model is in "
            f"'{folder / 'checkpoints'}'"
        )


def _trainer(settings: dict[str, Any], **fixed: Any) -> Trainer:  # noqa: ANN401  Lightning's
    """The trainer; what Lightning does not take is the user's mistake."""
    try:
        return Trainer(**settings, **fixed)
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["nothing"])[0]
        raise InputError(
            "trainer must have settings that this computer and Lightning take, got accelerator="
            f"{settings.get('accelerator')}, devices={settings.get('devices')}, precision="
            f"{settings.get('precision')} ({reason}); correct them"
        ) from error


def _reports(
    config: dict[str, Any], outside: Outside, step: int, *, fresh: bool
) -> tuple[list[Logger], list[Callback]]:
    """Where a run's figures go, and what measures them."""
    folder, settings = Path(config["output_dir"]), config["training"]
    if fresh:
        begin_anew(folder)
    loggers = [Records(folder, step), *outside.loggers()]
    log_config(loggers, config)
    throughput = Throughput(
        settings["num_steps"],
        config["data"]["batch_size"],
        settings["log_interval_steps"],
        config["report_seconds"],
        ("loss", "adversarial", "discriminator", "image_l1", "classifier_kl"),
    )
    return loggers, [Metrics(settings["log_interval_steps"]), throughput]
