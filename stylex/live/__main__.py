"""Door: the live explorer, a page on this computer where one's own image is explained.

`python -m stylex.live [checkpoint=...] [data=folder data.root=...] [host=...] [port=...]`
"""

import ipaddress
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stylex.door import image_set, open_door
from stylex.errors import InputError
from stylex.ranges import COUNT, SIZE, Range, check_range, check_ranges

RANGES = {
    "port": Range(1, 65535, whole=True),
    "max_upload_mb": Range(0, 10**6, beyond=True),
    "max_pixels": COUNT,
    "search.batch_size": SIZE,
}


def live(config: dict[str, Any], raw: DictConfig) -> None:
    """Serves the page until it is interrupted."""
    from stylex.live.uploads import Limits
    from stylex.model import model_folder

    check_ranges(config, RANGES)
    limits = Limits(config["max_upload_mb"], config["max_pixels"])
    checkpoint = model_folder(Path(config["checkpoint"]))
    check_address(config["host"], config["port"])
    with tempfile.TemporaryDirectory(prefix="stylex-live-") as name:
        confine(name)
        check_gradio()
        exploration = prepared(config, raw, checkpoint)

        from stylex.live.widgets import Page

        page = Page(exploration, checkpoint.name, limits, Path(name))
        try:
            address = page.launch(config["host"], config["port"])
        except OSError as error:
            raise taken(config["port"]) from error
        if not is_own(config["host"]):
            print(
                f"warning: host={config['host']} lets anybody who can reach this computer use the "
                "explorer"
            )
        print(f"open {address} (Ctrl+C ends it)", flush=True)
        wait()
        page.blocks.close(verbose=False)


def check_gradio() -> None:
    """Refuses to go on without the optional package."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the live explorer needs gradio, got none; pip install -e '.[live]'"
        ) from error


def confine(folder: str) -> None:
    """Makes gradio, which reads it when it is imported, write into one folder and keep no diary."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    for name in ("NO_PROXY", "no_proxy"):  # it asks itself whether it is there, and nobody else
        os.environ[name] = "*"
    tempfile.tempdir = folder


def check_address(host: str, port: int) -> None:
    """Refuses an address that cannot be served at, before anything heavy is loaded."""
    check_range("port", port, RANGES["port"])
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except socket.gaierror as error:
        raise InputError(
            f"host must be an address of this computer, got '{host}'; leave it out for this "
            "computer alone"
        ) from error
    except OSError as error:
        raise taken(port) from error


def taken(port: int) -> InputError:
    """What to say of a port that cannot be had."""
    return InputError(f"port must be free, got {port}, which is not; give another port")


def is_own(host: str) -> bool:
    """Whether an address is this computer's to itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def prepared(config: dict[str, Any], raw: DictConfig, checkpoint: Path) -> Any:  # noqa: ANN401
    """The model with its reference images."""
    from stylex.progress import Bars
    from stylex.search.exploration import Exploration
    from stylex.search.preparation import prepare
    from stylex.search.results import Settings

    given = {k: v for k, v in config["search"].items() if k not in ("batch_size", "autocast")}
    settings = Settings.of({**given, "seed": config["seed"]})
    data = image_set(raw.data, config["split"])
    member = prepare(
        config,
        data,
        checkpoint,
        classifier=config.get("classifier"),
        local_rank=0,
        progress=Bars(),
    )
    return Exploration(member, settings)


def wait() -> None:
    """Returns when the process is interrupted or asked to end."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    open_door("live", live)
