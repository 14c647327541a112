"""Weights & Biases, online and offline, and what keeps a logger from ending a run."""

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from wandb import Run
    from wandb.sdk.lib import RunDisabled

Mode = Literal["online", "offline"]
RUN_FILE = "wandb-run.json"
KEY = "WANDB_API_KEY=KEY in the environment, or once wandb login"


class Enduring(Logger):
    """A logger whose failures are said once and never end the run."""

    failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends figures, if that can be done."""
        with enduring(self):
            super().log_metrics(dict(metrics), step)  # type: ignore[safe-super]

    def save(self) -> None:
        """Writes what is waiting, if that can be done."""
        with enduring(self):
            super().save()


class Wandb(Enduring, WandbLogger):
    """Weights & Biases: a run that goes on is one run there, too, online as offline.

    The folder keeps the run's identity and how far it was sent. An interrupted run goes back to its
    last state and would send some steps again; Weights & Biases wants steps that grow, so what
    lies before that is passed over.
    """

    def __init__(self, project: str, save_dir: str, offline: bool | None, **settings: Any) -> None:
        """Prepares a run, which begins with the first thing that is sent.

        Args:
            project: There.
            save_dir: The run's folder.
            offline: Whether to write files alone, which `wandb sync` sends later; none: if there is
                no key.
            settings: Others of `wandb.init`.
        """
        super().__init__(project=project, save_dir=save_dir, **settings)
        self.lost = False  # whether the run could not be begun
        self.wanted, self.folder, self.sent, self.current = offline, Path(save_dir), -1, -1

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run | RunDisabled":
        """The run, of the first process alone."""
        if self._experiment is None:
            self.lost = True  # unless it can be begun: once is enough to wait for it
            self._experiment = self._begun()
            self.lost = False
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Sends figures or media, unless their step was sent before the run was interrupted."""
        if self.lost:
            return
        with enduring(self):
            run = self.experiment  # knows what was sent
            if step is None:
                run.log(dict(metrics))
                return
            if step <= self.sent:
                return
            if step > self.current:  # which ends the step before
                self._keep(self.current)
                self.current = step
            run.log({**metrics, "trainer/global_step": step}, step=step)

    def end(self, *, well: bool) -> None:
        """Ends the run of this process; another process may go on with it."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if well else 1)
            self._keep(self.current)
            self._experiment = None

    def _begun(self) -> "Run | RunDisabled":
        """Begins the run, or goes on with it; offline if it must be."""
        import wandb

        self._id, self.current = self._kept()
        self._keep(self.current)
        online = self._online()
        if online:
            try:
                return self._run("online")
            except (wandb.errors.Error, OSError) as error:
                reason = " ".join(str(error).split())
                say(f"wandb: the server cannot be reached ({reason}): offline, in '{self.folder}'")
                wandb.teardown()  # whose process still holds the run
        self.sent = self.current
        return self._run("offline" if online is not None else None)

    def _online(self) -> bool | None:
        """Whether a server is to be asked; none if the environment says something else."""
        if self.wanted is not None:
            return not self.wanted
        if os.environ.get("WANDB_MODE", "online") != "online":
            return None
        if has_key():
            return True
        say(
            f"wandb: no key is given ({KEY}), so it is offline; to send it: "
            f"wandb sync {self.folder}/wandb/offline-run-*"
        )
        return False

    def _run(self, mode: Mode | None) -> "Run | RunDisabled":
        import wandb

        wanted: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "init_timeout": 30.0,
            "finish_timeout": 120.0,
            "x_transaction_log_flush_interval": 1.0,  # what a killed run may lose there [s]
        }
        known = {k: v for k, v in wanted.items() if k in wandb.Settings.model_fields}
        given = {k: v for k, v in self._wandb_init.items() if v is not None and k != "id"}
        settings = wandb.Settings(**known)
        return wandb.init(**{**given, "id": self._id, "mode": mode, "settings": settings})

    def _kept(self) -> tuple[str, int]:
        """The run's identity and the last step that was sent; new ones if there are none."""
        try:
            found = json.loads((self.folder / RUN_FILE).read_text())
            return str(found["id"]), int(found["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return self._wandb_init.get("id") or uuid.uuid4().hex[:12], -1

    def _keep(self, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{RUN_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps({"id": self._id, "step": step}))
        temporary.replace(self.folder / RUN_FILE)


def say(text: str) -> None:
    """Tells the user."""
    logging.getLogger(__name__).warning(text)


@contextmanager
def enduring(logger: Logger) -> Iterator[None]:
    """Says a logger's first failure, and goes on without it."""
    try:
        yield
    except Exception as error:  # of files, of sockets, of other processes
        if not getattr(logger, "failed", False):
            reason = " ".join(str(error).split()) or "no reason given"
            say(
                f"{type(logger).__name__} failed ({type(error).__name__}: {reason}); the run goes "
                "on, and metrics.csv has every figure"
            )
        logger.failed = True  # type: ignore[attr-defined]


def has_key() -> bool:
    """Whether Weights & Biases finds a key: in the environment, in its settings or in a netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    settings = wandb.Settings()
    if getattr(settings, "api_key", None):
        return True
    given = os.environ.get("WANDB_BASE_URL")
    hosts = [urlsplit(given or settings.base_url).netloc, *([] if given else ["api.wandb.ai"])]
    home = Path.home()
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            if any(netrc(path).authenticators(host) for host in hosts):
                return True
        except (OSError, NetrcParseError):
            continue
    return False


def begin_anew(folder: Path) -> None:
    """Forgets the run of Weights & Biases that was logged from this folder, which starts again."""
    (folder / RUN_FILE).unlink(missing_ok=True)
