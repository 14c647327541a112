"""The folder that the wing writes: pictures as PNG, maps as safetensors, all else as wing.json."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from stylex.artifacts import read_json, write_json, write_tensors
from stylex.attribution.exhibits import Exhibit, Pictures, Table
from stylex.attribution.heat import heat
from stylex.attribution.taxonomy import STYLEX, place_of
from stylex.errors import InputError
from stylex.imaging import to_uint8, write_png
from stylex.types import Images

SCHEMA = 1
OPACITY = 0.7  # of a map over its image, which stays to be seen
WING_FILE, MAPS_FILE = "wing.json", "maps.safetensors"


@dataclass
class Gallery:
    """Writes what the methods give, one after the other.

    Attributes:
        folder: Where it goes; old files of the same names are replaced.
        images: The images that are explained.
        names: What each is called, as people read it.
        facts: What made it: classifier, data, settings.
    """

    folder: Path
    images: Images
    names: Sequence[str]
    facts: Mapping[str, Any]
    _methods: list[dict[str, Any]] = field(default_factory=list)
    _maps: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Removes what an earlier run left there, so that no picture outlives its description."""
        described = self.folder / WING_FILE
        if not described.is_file():
            return
        earlier = read_json(described, "remove it")
        parts = [part for method in earlier["methods"] for part in method["parts"]]
        names = [i["file"] for i in earlier["images"]]
        names += [file for part in parts for file in part.get("files", ())]
        described.unlink()
        for name in [*names, MAPS_FILE]:
            (self.folder / Path(name).name).unlink(missing_ok=True)

    def hang(
        self, name: str, method: Callable[[], Exhibit | tuple[Exhibit, ...]], refusable: bool
    ) -> str:
        """Runs a method and writes what it gives.

        Args:
            name: Of the method, also of its files.
            method: All its arguments bound.
            refusable: Whether a method that cannot explain this classifier is left out with its
                reason, so that the others are not lost.

        Returns:
            Why it was left out; empty if it was not.

        Raises:
            InputError: If it cannot, or its settings do not fit, and it is not refusable.
        """
        begun = time.perf_counter()
        found: Exhibit | tuple[Exhibit, ...]
        refusal = ""
        try:
            found = method()
        except (InputError, TypeError, ValueError, IndexError, KeyError) as error:
            told = error if isinstance(error, InputError) else _unfit(name, error)
            if not refusable:
                raise told from error
            found, refusal = (), str(told)
        seconds = time.perf_counter() - begun
        parts = [
            self._part(f"{name}-{i}", exhibit, place_of(name).is_signed)
            for i, exhibit in enumerate(found if isinstance(found, tuple) else (found,), start=1)
        ]
        place = place_of(name)
        self._methods.append(
            {
                "name": name,
                "title": place.title,
                "family": place.family,
                "place": place.line,
                "reading": place.reading,
                "seconds": round(seconds, 1),
                "refusal": refusal,
                "parts": parts,
            }
        )
        return refusal

    def close(self) -> None:
        """Writes the images, the maps and wing.json, which the report reads."""
        files = self._pictures("image", self.images)
        if self._maps:
            write_tensors(self.folder / MAPS_FILE, self._maps)
        images = [{"file": f, "caption": c} for f, c in zip(files, self.names, strict=True)]
        write_json(
            self.folder / WING_FILE,
            {
                "schema": SCHEMA,
                **self.facts,
                "stylex": STYLEX.line,
                "images": images,
                "methods": self._methods,
            },
        )

    def _part(self, name: str, exhibit: Exhibit, is_signed: bool) -> dict[str, Any]:
        """Writes an exhibit's files; what wing.json says of it."""
        if isinstance(exhibit, Table):
            rows = [list(row) for row in exhibit.rows]
            facts = {"columns": list(exhibit.columns), "rows": rows, "reading": exhibit.reading}
            return {"kind": "table", **facts}
        if isinstance(exhibit, Pictures):
            files = self._pictures(name, exhibit.images)
            facts = {"files": files, "captions": list(exhibit.captions)}
            return {"kind": "pictures", **facts, "columns": exhibit.columns}
        self._maps[name] = exhibit
        shown = heat(
            self.images,
            exhibit,
            signed=is_signed or bool((exhibit < 0).any()),
            shared=False,
            opacity=OPACITY,
            columns=len(self.images),
        )
        files = self._pictures(name, shown.images)
        return {"kind": "maps", "files": files, "captions": list(shown.captions), "tensor": name}

    def _pictures(self, name: str, images: Images) -> list[str]:
        files = [f"{name}-{i}.png" for i in range(1, len(images) + 1)]
        for file, pixels in zip(files, to_uint8(images.cpu()), strict=True):
            write_png(self.folder / file, pixels)
        return files


def _unfit(name: str, error: Exception) -> InputError:
    """What settings that a method did not foresee end in."""
    return InputError(
        f"method.{name}'s settings must fit the method, the network and the images, got "
        f"{type(error).__name__} ({error}); see configs/method/{name}.yaml"
    )
