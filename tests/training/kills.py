"""Runs that are killed: torch is imported once, and every run is a fork that dies when told to.

`python kills.py PLAN.json` reads {"overrides": [...], "kills": [...]} and prints a line for every
run. A kill is ["calls", n]: at the n-th step, write or system call of a save; or ["seconds", t]: so
long after the first step began. At last an undisturbed run goes on to the end; the number of its
calls is printed, too.
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def loaded(overrides: list[str]) -> tuple[Callable[..., None], dict[str, Any], Any]:
    """The training door and its configuration."""
    import hydra
    from omegaconf import OmegaConf

    spec = importlib.util.spec_from_file_location("door_train", ROOT / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = hydra.compose("train", overrides=overrides)
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return module.train, plain, config


def import_all() -> None:
    """What a run imports, so that a fork does not."""
    import lightning  # noqa: F401
    import torch

    import stylex.attribution.heldout
    import stylex.classifier.module
    import stylex.training.checkpoints
    import stylex.training.loop
    import stylex.training.module
    import stylex.training.run  # noqa: F401

    torch.set_num_threads(1)


class Killer:
    """Counts what a run does with its folder, and its steps; the n-th is its last."""

    def __init__(self, kind: str, when: float) -> None:
        self.kind, self.when, self.calls = kind, when, 0

    def due(self) -> bool:
        """Counts a call; whether it is the last."""
        self.calls += 1
        return self.kind == "calls" and self.calls == self.when

    def before(self, owner: Any, name: str) -> None:
        """Dies when it is called."""
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.due():
                die()
            return real(*args, **kwargs)

        setattr(owner, name, counted)

    def halfway(self, owner: Any, name: str) -> None:
        """Dies when half of the content has arrived."""
        real = getattr(owner, name)

        def counted(given: Any, content: Any) -> Any:
            if self.due():
                real(given, content[: len(content) // 2])
                if hasattr(given, "flush"):
                    given.flush()
                die()
            return real(given, content)

        setattr(owner, name, counted)

    def step(self, owner: Any, name: str) -> None:
        """Begins to count the seconds, too."""
        real = getattr(owner, name)

        def stepped(*args: Any, **kwargs: Any) -> Any:
            if self.kind == "seconds":
                self.kind = "begun"
                timer = threading.Timer(self.when, die)
                timer.daemon = True
                timer.start()
            if self.due():
                die()
            return real(*args, **kwargs)

        setattr(owner, name, stepped)


def die() -> None:
    """As a power cut, or a cluster that takes its computer back."""
    os.kill(os.getpid(), signal.SIGKILL)


def armed(kill: list[Any] | None) -> Killer:
    """Sees to it that this process dies."""
    import csv

    import stylex.artifacts as artifacts
    import stylex.classifier.module as classifier
    import stylex.training.embedding as embedding
    import stylex.training.module as stylex

    killer = Killer(*(kill or ("never", 0)))
    for name in ("fsync", "rename", "replace", "unlink"):
        killer.before(os, name)
    killer.halfway(Path, "write_bytes")
    killer.halfway(Path, "write_text")
    killer.halfway(artifacts._Checked, "write")
    killer.before(csv.DictWriter, "writerow")
    killer.before(csv.DictWriter, "writerows")
    killer.step(stylex.StylExModule, "training_step")
    killer.step(classifier.ClassifierModule, "training_step")
    killer.step(embedding.EmbeddingTraining, "train_on")
    return killer


def run(overrides: list[str], kill: list[Any] | None) -> tuple[int, int]:
    """One run in a fork of this process; its exit code, negative for a signal, and its calls."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with os.fdopen(reading) as pipe:
            return code, int(pipe.read() or 0)
    code = 70
    try:
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        train, plain, raw = loaded(overrides)
        killer = armed(kill)
        train(plain, raw)
        os.write(writing, str(killer.calls).encode())
        code = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def main() -> None:
    """All runs of a plan."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    import_all()
    for kill in (*plan["kills"], None):
        begun = time.monotonic()
        code, calls = run(plan["overrides"], kill)
        taken = round(time.monotonic() - begun, 2)
        print(
            json.dumps({"kill": kill, "code": code, "seconds": taken, "calls": calls}), flush=True
        )


if __name__ == "__main__":
    main()
