"""Files: whole or not at all, nothing inside is run, and made from what was asked for."""

import errno
import json
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stylex.artifacts import (
    SCHEMA,
    check_writable,
    provenance,
    read_state,
    read_tensors,
    replacing,
    write_checked_state,
    write_json,
    write_state,
    write_tensors,
    write_yaml,
)
from stylex.errors import InputError


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Says that unpickling means touching the file."""
        return Path.touch, (self.path,)


def test_a_file_is_replaced_when_the_block_ends_well_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # on the same disk, so that the exchange is atomic
        assert temporary.suffix == ".txt"

    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_error_inside_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_half()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_the_first_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file.txt"):
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_a_durable_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = {"fsync": os.fsync, "replace": Path.replace}

    def fsync(handle: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real["fsync"](handle)

    def replace(path: Path, target: Path) -> Path:
        order.append("name")
        return real["replace"](path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)

    write_checked_state(tmp_path, "1", {"step": 1})
    write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, durable=True)

    assert order == 2 * ["file", "name", "folder"]


def test_a_file_system_that_syncs_no_folders_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)

    assert read_state(write_checked_state(tmp_path, "1", {"step": 1})) == {"step": 1}


# Tensors -----------------------------------------------------------------------------------------


def test_tensors_and_metadata_survive_the_round_trip(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    tensors = {
        "transposed": base.t(),
        "a view": base[:2],
        "the same memory": base[:2],
        "learned": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(7),
        "half": torch.randn(2).half(),
    }

    write_tensors(tmp_path / "x.safetensors", tensors, {"classifier": "abc"})
    found, metadata = read_tensors(tmp_path / "x.safetensors", "x")

    assert metadata == {"classifier": "abc", "schema": str(SCHEMA)}
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_a_tensor_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the thing must be an existing safetensors file, got '"):
        read_tensors(tmp_path / "none.safetensors", "the thing")


@pytest.mark.parametrize("kept", [0, 1, 8, 50, -1])
def test_a_truncated_tensor_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match="the thing must be a whole safetensors file, got '"):
        read_tensors(path, "the thing")


# States ------------------------------------------------------------------------------------------


def test_a_state_of_tensors_and_plain_values_survives_the_round_trip(tmp_path: Path) -> None:
    state = {
        "step": 3,
        "networks": {"weight": torch.randn(2, 3)},
        "optimisers": [{"state": {0: {"step": torch.tensor(1.0)}}, "betas": (0.0, 0.99)}],
        "facts": {"name": "run", "rate": 0.1, "classes": ["a", "b"], "nothing": None},
    }

    write_state(tmp_path / "state.ckpt", state)
    found = read_state(tmp_path / "state.ckpt")

    assert torch.equal(found["networks"].pop("weight"), state["networks"].pop("weight"))
    assert found == state


def test_code_inside_a_state_is_refused_and_not_run(tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    for path, write in (
        (tmp_path / "torch.ckpt", torch.save),
        (tmp_path / "plain.ckpt", lambda value, path: path.write_bytes(pickle.dumps(value))),
    ):
        write({"step": Bomb(fuse)}, path)

        with pytest.raises(InputError, match="must be a whole file of tensors, got '.*ckpt'"):
            read_state(path)

    assert not fuse.exists()


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_state_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "state.ckpt"
    write_state(path, {"weight": torch.randn(100)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])

    with pytest.raises(InputError, match="must be a whole file of tensors.* delete it to start"):
        read_state(path)


def test_a_state_is_read_onto_the_cpu_and_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.ckpt"
    write_state(path, {"step": 1})

    class Unwritable:
        """Cannot be pickled."""

        def __reduce__(self) -> tuple[Any, ...]:
            """Fails."""
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_state(path, {"step": 2, "bad": Unwritable()})

    assert read_state(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


# Texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "read"), [(write_json, json.loads), (write_yaml, yaml.safe_load)]
)
def test_texts_survive_the_round_trip_in_their_order_and_alphabet(
    write: Any,  # noqa: ANN401
    read: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    value = {"zebra": [1, 2.5, None], "apple": {"größe": "Ø 3"}, "flag": True}

    write(tmp_path / "file", value)

    text = (tmp_path / "file").read_text()
    assert read(text) == value
    assert list(read(text)) == ["zebra", "apple", "flag"]
    assert "größe" in text


# Folders -----------------------------------------------------------------------------------------


def test_a_folder_that_can_be_made_is_accepted_and_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(InputError, match="output_dir must be a folder that can be written"):
            check_writable(folder)


def test_a_folder_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError("read-only")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)

    with pytest.raises(InputError, match="output_dir must be a folder that can be written"):
        check_writable(tmp_path / "a")


# Provenance --------------------------------------------------------------------------------------


def test_provenance_adds_schema_versions_and_platform_to_the_facts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stylex.artifacts.PACKAGES", ("torch", "no-such-package-here"))

    found = provenance(seed=3, checkpoint="x")

    assert found["seed"] == 3
    assert found["checkpoint"] == "x"
    assert found["schema"] == SCHEMA
    assert found["versions"]["torch"] == torch.__version__.split("+")[0] or (
        found["versions"]["torch"] == torch.__version__
    )
    assert found["versions"]["no-such-package-here"] == "not installed"
    assert found["versions"]["python"]
    assert found["platform"]
    assert json.loads(json.dumps(found)) == found
