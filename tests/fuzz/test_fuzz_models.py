"""Broken and hostile models, classifiers and training states: refused in one sentence, none run."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzzing import Entrance, assert_lawful, assert_whole, cases, corrupted, listing
from safetensors.torch import load_file, save
from small import CLASSES, CLASSIFIER, MODEL

Spoil = Callable[[bytes], bytes]


class Mark:
    """A pickle that makes a file when it is read as pickles are."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        import os

        return os.system, ("touch MARK",)


def headed(header: Any, content: bytes = bytes(64), length: int | None = None) -> bytes:
    """A safetensors file of this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def entry(*offsets: int, dtype: str = "F32", shape: tuple[Any, ...] = (4,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def weights() -> dict[str, bytes]:
    """Files that are no model's, whatever model it is."""
    torch.manual_seed(1)
    found = corrupted(save({"a": torch.rand(9, 9), "b": torch.rand(40)}), 6)
    return {f"tensors {how}": content for how, content in found.items()} | {
        "a header of 2^63": headed({}, length=2**63),
        "a header of 2^64 - 1": headed({}, length=2**64 - 1),
        "a header of 200 MB": headed({}, length=200_000_000),
        "a header of nothing": headed(b""),
        "a header that is a list": headed([]),
        "a header in UTF-16": headed("{}".encode("utf-16")),
        "100,000 brackets": headed(b"[" * 100_000),
        "offsets in each other": headed({"a": entry(0, 16), "b": entry(8, 24)}),
        "offsets behind the end": headed({"a": entry(0, 4000, shape=(1000,))}),
        "offsets below 0": headed({"a": entry(-16, 0)}),
        "offsets that go back": headed({"a": entry(16, 0)}),
        "a hole between": headed({"a": entry(0, 16), "b": entry(32, 48)}),
        "an unknown type": headed({"a": entry(0, 16, dtype="F7")}),
        "a shape that is too large": headed({"a": entry(0, 16, shape=(2**62, 4))}),
        "a shape below 0": headed({"a": entry(0, 16, shape=(-4,))}),
        "a shape of texts": headed({"a": entry(0, 16, shape=("4",))}),
        "no tensors": headed({}, b""),
        "metadata that are numbers": headed({"__metadata__": {"a": 1}}, b""),
        "other tensors": save({"a": torch.rand(3)}),
        "a pickle": pickle.dumps(Mark()),
        "torch's own form": b"PK\3\4" + bytes(99),
    }


def changed(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> bytes:
    """A whole file with its tensors changed; the metadata stay."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    change(tensors)
    return save(tensors, about)


Change = Callable[[dict[str, torch.Tensor]], object]


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, value in sorted(tensors.items()) if value.ndim > 1)


CHANGES: dict[str, Change] = {
    "no number": lambda t: t[first(t)].fill_(float("nan")),
    "one infinity": lambda t: t[first(t)].view(-1)[0].fill_(float("inf")),
    "one less": lambda t: t.pop(first(t)),
    "one more": lambda t: t.update(more=torch.rand(2)),
    "another shape": lambda t: t.update({first(t): t[first(t)][:1].clone()}),
    "another name": lambda t: t.update({"x": t.pop(first(t))}),
    "integers": lambda t: t.update({first(t): t[first(t)].long()}),
    "truth": lambda t: t.update({first(t): t[first(t)] > 0}),
    "complex numbers": lambda t: t.update({first(t): t[first(t)].to(torch.complex64)}),
    "none at all": lambda t: t.clear(),
}


def configurations() -> dict[str, bytes]:
    whole = {"model": MODEL, "classifier": CLASSIFIER, "class_names": CLASSES}

    def other(part: str, **more: Any) -> bytes:
        return yaml.safe_dump({**whole, part: {**whole[part], **more}}).encode()  # type: ignore[dict-item]

    text = yaml.safe_dump(whole).encode()
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(8)
    )
    hostile = {
        "a call": b"!!python/object/apply:os.system ['touch MARK']\n",
        "a new object": b"!!python/object/new:os.system ['touch MARK']\n",
        "a module": b"!!python/module:os\n",
        "a call in it": text + b"x: !!python/object/apply:os.system ['touch MARK']\n",
        "an unknown tag": text + b"x: !mine 3\n",
        "a name for itself": b"a: &a [*a]\n" + text,
        "a model in itself": b"model: &m {model: *m}\nclassifier: *m\nclass_names: [a, b]\n",
        "an alias of nothing": b"a: *b\n",
        "a billion words": bomb + text,
        "100,000 brackets": b"[" * 100_000,
        "5,000 digits": text + b"x: " + b"9" * 5000,
        "a list": b"[1, 2]\n",
        "a text": b"hello\n",
        "two documents": text + b"---\n" + text,
        "a tab": b"model:\n\t- x\n",
        "NUL": text + b"\0",
        "UTF-16": text.decode().encode("utf-16"),
        "Latin-1": text + "x: \u00e4\n".encode("latin-1"),
        "an odd date": text + b"x: 2024-99-99\n",
        "one class": yaml.safe_dump({**whole, "class_names": ["a"]}).encode(),
        "no classes": yaml.safe_dump({**whole, "class_names": []}).encode(),
        "classes that are numbers": yaml.safe_dump({**whole, "class_names": [1, 2, 3]}).encode(),
        "one class thrice": yaml.safe_dump({**whole, "class_names": ["a"] * 3}).encode(),
        "no model": yaml.safe_dump({**whole, "model": None}).encode(),
        "a large latent": other("model", latent_dim=10**12),
        "a latent of a half": other("model", latent_dim=0.5),
        "a large width": other("model", generator={"channel_base": 2**40, "channel_max": 2**30}),
        "a million layers": other("model", mapping_layers=10**6),
        "an unknown key": other("model", generator={**MODEL["generator"], "more": 1}),
        "a resolution of 31": other("model", resolution_px=31),
        "a resolution of 2^40": other("model", resolution_px=2**40),
        "a network that calls": other("classifier", network="os:system"),
        "a large classifier": other(
            "classifier", arguments={**CLASSIFIER["arguments"], "width": 10**9}
        ),
        "a mean of no number": other("classifier", mean=[float("nan")]),
        "a deviation of 0": other("classifier", std=[0.0]),
        "a range of a text": other("classifier", input_range="wide"),
        "a size of -1": other("classifier", input_resolution_px=-1),
        "a size of 10^9": other("classifier", input_resolution_px=10**9),
        "a size of a text": other("classifier", input_resolution_px="32"),
    }
    found = {f"config {how}": content for how, content in corrupted(text, 6).items()}
    return found | {f"config with {what}": content for what, content in hostile.items()}


def states() -> dict[str, bytes]:
    """Training states, as they would lie in a run's folder."""
    import io

    content = io.BytesIO()
    torch.save({"step": 1, "facts": {}, "module": {"a": torch.rand(3)}}, content)
    hostile = io.BytesIO()
    torch.save({"step": 1, "facts": Mark()}, hostile)
    found = {f"state {how}": spoilt for how, spoilt in corrupted(content.getvalue(), 6).items()}
    return found | {
        "state that calls": hostile.getvalue(),
        "state that is a pickle": pickle.dumps(Mark()),
        "state of an old pickle": b"cos\nsystem\n(S'touch MARK'\ntR.",
        "state that is a list": _saved([1, 2]),
        "state of a number": _saved(3),
        "state of nothing": _saved({}),
        "state of other keys": _saved({"step": "1", "facts": 3}),
        "state of another run": _saved({"step": 1, "facts": {"seed": 7}, "best": None}),
    }


def _saved(value: Any) -> bytes:
    import io

    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def assert_refused(
    entrance: Entrance, folder: Path, here: Path, output: Path, *, legal: bool = False, **given: Any
) -> None:
    before = listing(folder)
    code, said = entrance.enter(**given)
    assert_lawful(code, said, (0, 2) if legal else (2,))
    assert listing(folder) == before
    assert not (here / "MARK").exists()
    assert_whole(output)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a mark would be made."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("content", cases(weights()))
@pytest.mark.parametrize("name", ["model", "classifier"])
def test_a_broken_file_of_a_model_is_refused(
    name: str, content: bytes, checkpoint: Path, here: Path, entrances: dict[str, Entrance]
) -> None:
    (checkpoint / f"{name}.safetensors").write_bytes(content)
    given = {"checkpoint": str(checkpoint), "output_dir": str(here / "out")}
    assert_refused(entrances["search"], checkpoint, here, here / "out", **given)


@pytest.mark.parametrize("change", cases(CHANGES))
@pytest.mark.parametrize("name", ["model", "classifier"])
def test_changed_tensors_of_a_model_are_refused(
    name: str, change: Change, checkpoint: Path, here: Path, entrances: dict[str, Entrance]
) -> None:
    path = checkpoint / f"{name}.safetensors"
    path.write_bytes(changed(path, change))
    given = {"checkpoint": str(checkpoint), "output_dir": str(here / "out")}
    assert_refused(entrances["search"], checkpoint, here, here / "out", **given)


@pytest.mark.parametrize("content", cases(configurations()))
def test_a_broken_configuration_of_a_model_is_refused_or_read(
    content: bytes, checkpoint: Path, here: Path, entrances: dict[str, Entrance]
) -> None:
    (checkpoint / "config.yaml").write_bytes(content)
    given = {"checkpoint": str(checkpoint), "output_dir": str(here / "out")}
    assert_refused(entrances["search"], checkpoint, here, here / "out", legal=True, **given)


@pytest.mark.parametrize("content", cases(weights()))
def test_broken_weights_of_a_classifier_are_refused(
    content: bytes, here: Path, entrances: dict[str, Entrance]
) -> None:
    path = here / "weights.safetensors"
    path.write_bytes(content)
    given = {"classifier__weights": str(path), "output_dir": str(here / "out")}
    for name in ("train", "doctor"):
        assert_refused(entrances[name], here, here, here / "out", **given)


@pytest.mark.parametrize("change", cases(CHANGES))
def test_changed_weights_of_a_classifier_are_refused(
    change: Change, stored: Path, here: Path, entrances: dict[str, Entrance]
) -> None:
    path = here / "weights.safetensors"
    path.write_bytes(changed(stored / "classifier.safetensors", change))
    given = {"classifier__weights": str(path), "output_dir": str(here / "out")}
    assert_refused(entrances["train"], here, here, here / "out", **given)


@pytest.mark.parametrize("ending", ["onnx", "pt", "ts"])
@pytest.mark.parametrize("content", cases(weights()))
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_broken_network_in_a_file_is_refused(
    ending: str, content: bytes, here: Path, entrances: dict[str, Entrance]
) -> None:
    path = here / f"net.{ending}"
    path.write_bytes(content)
    given = {
        "classifier__network": str(path),
        "classifier__arguments": {},
        "classifier__feature_layers": [],
        "output_dir": str(here / "out"),
    }
    assert_refused(entrances["doctor"], here, here, here / "out", **given)


@pytest.mark.parametrize("content", cases({**weights(), **states()}))
def test_broken_published_weights_are_refused(
    content: bytes, here: Path, entrances: dict[str, Entrance]
) -> None:
    path = here / "published.pt"
    path.write_bytes(content)
    given = {"model__init_from": str(path), "output_dir": str(here / "out")}
    assert_refused(entrances["train"], here, here, here / "out", **given)


@pytest.mark.parametrize("name", ["0000001.ckpt", "0000001-0123456789abcdef.ckpt"])
@pytest.mark.parametrize("content", cases(states()))
def test_a_broken_state_is_refused_and_nothing_in_it_runs(
    name: str, content: bytes, here: Path, entrances: dict[str, Entrance]
) -> None:
    folder = here / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    given = {"output_dir": str(here / "run")}
    assert_refused(entrances["train"], folder, here, here / "run", legal=True, **given)


@pytest.mark.parametrize("file", ["model.safetensors", "classifier.safetensors", "config.yaml"])
@pytest.mark.parametrize("what", ["a folder", "a link to nothing", "a link to itself", "nothing"])
def test_a_model_with_something_else_in_place_of_a_file_is_refused(
    file: str, what: str, checkpoint: Path, here: Path, entrances: dict[str, Entrance]
) -> None:
    path = checkpoint / file
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what != "nothing":
        path.symlink_to("gone" if what == "a link to nothing" else path.name)
    given = {"checkpoint": str(checkpoint), "output_dir": str(here / "out")}
    assert_refused(entrances["search"], checkpoint, here, here / "out", **given)
    shutil.rmtree(checkpoint)
