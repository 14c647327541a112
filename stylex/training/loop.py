"""An embedding's run, from the stored state to its last step, with the other tasks' files.

A plain loop: metrics.csv, the loggers, the exported model and the state to go on from are written
as the trainer's callbacks write them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from stylex.artifacts import write_yaml
from stylex.data.datasets import ImageSet
from stylex.data.steps import ClassBatches, step_loader
from stylex.loggers import end_loggers, log_config
from stylex.progress import Progress
from stylex.tracking import begin_anew
from stylex.training.checkpoints import Keeper, take_over
from stylex.training.embedding import EmbeddingTraining
from stylex.training.records import Records
from stylex.training.resumption import state_of, steps_left
from stylex.training.run import Run
from stylex.types import Images, Labels


@dataclass(frozen=True)
class Surroundings:
    """What a loop asks for while it runs.

    Attributes:
        log: Writes metrics, at a step counted from 0.
        measure: Measures on validation images.
        keep: Saves the state.
        consider: Keeps the model if validation found it the best so far, after so many steps.
        stopped: Whether a signal asked to save and leave; makes sure of the folder, too.
        progress: Shows how far it is.
    """

    log: Callable[[Mapping[str, float], int], None]
    measure: Callable[[], Mapping[str, float]]
    keep: Callable[[dict[str, Any]], None]
    consider: Callable[[int, Mapping[str, float]], None]
    stopped: Callable[[], bool]
    progress: Progress


def go_on(
    training: EmbeddingTraining,
    images: ImageSet,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    loggers: Callable[[], Sequence[Logger]],
    *,
    measure: Callable[[], Mapping[str, float]],
    export: Callable[[Path], None],
    progress: Progress,
    run: Run,
) -> bool:
    """Trains from the stored state, if there is one, and keeps the files of a run.

    Args:
        training: Before its first step.
        images: Of the classes to train on.
        config: The whole configuration.
        facts: Settings that a stored run must have begun with.
        loggers: Makes those beside metrics.csv.
        measure: Measures on validation images.
        export: Writes the model for use into a folder.
        progress: Shows how far it is.
        run: Its folder and the signals that ask it to save and leave.

    Returns:
        Whether there was a step to do; if not, the training is at its last one.

    Raises:
        InputError: If the stored run began with other settings, or a batch does not fit the data.
    """
    folder, settings = run.folder, config["training"]
    state = state_of(folder, facts)
    if state is not None:
        take_over(training.load_state, state)
    if not steps_left(folder, state, settings["num_steps"]):
        return False
    batches = ClassBatches(
        images.labels,
        num_classes=settings["classes_per_batch"],
        images_per_class=settings["images_per_class"],
        seed=config["seed"],
        start_step=training.step,
        stop_step=settings["num_steps"],
    )
    settled = {key: settings[key] for key in ("keep_last", "best")}
    keeper = Keeper(folder / "checkpoints", facts, export, state, **settled)
    write_yaml(folder / "config.yaml", config)
    if state is None:
        begin_anew(folder)
    written = [Records(folder, training.step), *loggers()]
    log_config(written, config)

    def log(metrics: Mapping[str, float], step: int) -> None:
        for logger in written:
            logger.log_metrics(dict(metrics), step=step)
            logger.save()

    loader = step_loader(images, batches, config["data"]["num_workers"])
    sums = {} if state is None else dict(state["sums"])

    def stopped() -> bool:
        run.check()
        return run.departure.signum is not None

    around = Surroundings(log, measure, keeper.keep, keeper.consider, stopped, progress)
    ended = False
    run.departure.begin()
    try:
        fit(training, iter(loader), settings, sums, around)
        ended = True
    finally:
        end_loggers(written, well=ended)
    run.departure.end()
    if stopped():
        run.departure.leave(training.step)
    return True


def fit(
    training: EmbeddingTraining,
    batches: Iterator[tuple[Images, Labels]],
    settings: Mapping[str, Any],
    sums: dict[str, float],
    around: Surroundings,
) -> None:
    """Trains to the last step, or to the one in which a signal comes.

    Args:
        training: At its first step, or one that it goes on from.
        batches: Of the steps from there on.
        settings: The configuration's `training`, for the intervals.
        sums: Of the terms since they were last logged, with the `count` of steps; empty at first,
            part of the state.
        around: Logs, measures and saves.
    """
    sums = dict(sums)
    for step in around.progress(range(training.step, training.num_steps), "training"):
        found = training.train_on(*next(batches))
        stopped = around.stopped()
        for name, value in {**found, "count": 1.0}.items():
            sums[name] = sums.get(name, 0.0) + value
        if step % settings["log_interval_steps"] == 0:
            count = sums.pop("count")
            around.log({name: total / count for name, total in sums.items()}, step)
            sums = {}
        done, last = step + 1, step + 1 == training.num_steps
        if done % settings["validation_interval_steps"] == 0 or done == 1 or last:
            measured = around.measure()
            around.log({f"validation_{name}": value for name, value in measured.items()}, step)
            around.consider(done, measured)
        if done % settings["checkpoint_interval_steps"] == 0 or last or stopped:
            around.keep({**training.state(), "sums": sums})
        if stopped:
            break
