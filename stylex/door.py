"""How every door opens: a user's mistake becomes one sentence and exit code 2."""

import errno
import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stylex.errors import InputError, shown
from stylex.overrides import CONFIGS, PLUGINS, check_overrides
from stylex.progress import shown_log
from stylex.ranges import SHARED, TEXTS, check_finite, check_ranges, check_texts

if TYPE_CHECKING:
    from stylex.data.datasets import ImageSet

UNREACHABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR)
Run = Callable[[dict[str, Any], DictConfig], float | None]
LOADING = ("augmentation", "batch_size", "num_workers")  # of `data`: how training reads images


def open_door(config_name: str, run: Run) -> None:
    """Runs a door with the command line's configuration, then leaves the process.

    Of several runs each gets an output_dir of its own, and a mistake in one ends that one alone;
    the exit code is 2 all the same.

    Args:
        config_name: File in configs/ without its ending.
        run: Gets the resolved configuration as plain dictionaries, and as Hydra's own for
            `instantiate`; what it returns is what a study lowers.
    """
    several = bool({"-m", "--multirun", *PLUGINS} & set(sys.argv[1:]))
    try:
        typed = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        swept = check_overrides(config_name, typed, several)
    except InputError as error:
        _refuse(error)
    refused: list[str] = []
    folders: dict[str, str] = {}

    def task(config: DictConfig) -> float | None:
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
        warnings.simplefilter("default")
        try:
            if several:
                _part(config, swept, folders)
            return _value(run, config)
        except (InputError, InstantiationException, OmegaConfBaseException, OSError) as error:
            mistake = _mistake(error)
            if not several:
                _refuse(mistake)
            refused.append(_say(mistake))
            raise mistake from None

    if several:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # its own way ends in a traceback
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(task)()
    except InputError as error:
        if not refused:  # in another process, whose log has it, too
            refused.append(_say(error))
    if refused:
        raise SystemExit(2)


def _value(run: Run, config: DictConfig) -> float | None:
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    check_finite(plain)
    check_ranges(plain, SHARED)  # type: ignore[arg-type]  # keys of a configuration are texts
    check_texts(plain, TEXTS)  # type: ignore[arg-type]
    try:
        with shown_log():
            value = run(plain, config)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what is whole", file=sys.stderr)
        raise SystemExit(130) from None
    if value is None and "sweeper=optuna" in sys.argv:
        raise InputError(
            "sweeper=optuna lowers the best validation value, got none; give training.best"
        )
    return value


def _part(config: DictConfig, swept: list[str], folders: dict[str, str]) -> None:
    """Gives a run among several a folder below output_dir that is named after its own values.

    Args:
        config: Of this run; `output_dir` is changed unless it is given for each run.
        swept: Keys and groups that get several values.
        folders: Of the runs before, with their values; this one is added.

    Raises:
        InputError: If a run with other values has the same folder.
    """
    if config.get("output_dir") is None:
        return
    job = HydraConfig.get()
    names = {*swept, *(job.sweeper.get("params") or {})}
    given = [str(text).lstrip("+") for text in job.overrides.task]
    values = ",".join(sorted(text for text in given if text.partition("=")[0] in names))
    whole = OmegaConf.to_container(config, resolve=False)
    assert isinstance(whole, dict)
    if values and "output_dir" not in names and "${hydra:" not in str(whole["output_dir"]):
        name = re.sub(r"[^\w.=,+-]", "-", values)
        if len(name) > 150:
            name = f"{name[:100]}-{hashlib.sha256(values.encode()).hexdigest()[:12]}"
        config.output_dir = f"{config.output_dir}/{name}"
    folder = str(config.output_dir)
    if folders.setdefault(folder, values) != values:
        raise InputError(f"runs must have an output_dir each, got '{folder}' twice; leave it out")


def image_set(data: DictConfig, split: str) -> "ImageSet":
    """The configured images of a split, as they are: without what is for training alone.

    Args:
        data: The configuration's `data`.
        split: "train", "validation" or "test".
    """
    from hydra.utils import instantiate

    own = {key: data[key] for key in data if key not in LOADING}
    return instantiate(own, split=split, _convert_="all")


def training_set(data: DictConfig) -> "ImageSet":
    """The images to train on: the train split, joined by those of `augmentation` if it is given."""
    from stylex.data.augmentation import AugmentedSet

    images, added = image_set(data, "train"), data.get("augmentation")
    if added is None:
        return images
    cache = data.get("cache")
    return AugmentedSet(images, Path(str(added)), None if cache is None else Path(str(cache)))


def _refuse(error: InputError) -> NoReturn:
    _say(error)
    raise SystemExit(2)


def _say(error: InputError) -> str:
    text = f"error: {' '.join(str(error).split())}"
    print(text, file=sys.stderr, flush=True)
    return text


def _mistake(error: Exception) -> InputError:
    """The user's mistake behind an error; raises what is none."""
    if isinstance(error, InstantiationException):
        cause = error.__cause__
        if isinstance(cause, TypeError | AttributeError | ValueError) and not isinstance(
            cause, InputError
        ):
            key = getattr(error, "full_key", None) or str(error).partition("'")[2].partition("'")[0]
            reason = (str(cause).strip().splitlines() or ["nothing"])[0]
            return InputError(
                f"settings must be of the kind that {key} takes, got {type(cause).__name__} "
                f"({shown(reason)}); look at the option in configs/"
            )
        if not isinstance(cause, InputError | OSError):
            raise error
        return _mistake(cause)
    if isinstance(error, OSError):
        if error.errno not in UNREACHABLE or error.filename is None:
            raise error
        return InputError(
            f"a path must be one that can be read, got '{shown(str(error.filename)[:300])}' "
            f"({error.strerror}); correct it, or its rights"
        )
    if isinstance(error, OmegaConfBaseException):
        missing = re.search(r"Missing mandatory value: ([\w.]+)", str(error))
        key = getattr(error, "full_key", None) or "a key"
        if missing and "." in missing[1]:  # what the key itself hangs on
            key = missing[1]
        return InputError(f"{key} must be given, got nothing; add {key}=VALUE to the command")
    assert isinstance(error, InputError)
    return error
