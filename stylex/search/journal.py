"""Exact measurements, asked for in rounds, kept on disk so that a stopped search goes on.

An answer's file is named by the digest of its question. A search asks the same questions whenever
it runs with the same settings, so one that was stopped finds its answers on disk.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.artifacts import digest, read_tensors, write_json, write_tensors
from stylex.errors import InputError
from stylex.progress import quiet
from stylex.search.crew import Crew, Task
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.scores import Score
from stylex.types import Logits, Styles

SLOPE_BLOCK = 32  # images whose gradients are computed at once
LOGIT_BLOCK = 256  # images that are synthesised as one share of a process
SILENT_ROUNDS = 2  # a longer measurement shows how far it is
MADE_BY = "made_by.json"
LONGEST_ROUND = 1024  # edits written at once: what a killed run loses at most
GRADIENT_PASSES = 3  # of one score: a forward pass, and a backward pass that counts as two


@dataclass(frozen=True)
class Baseline:
    """Unedited images, which effects are measured from.

    Attributes:
        styles: Of the images.
        base_logits: The classifier's, of their reconstructions.
        extremes: Smallest and largest value of every coordinate.
    """

    styles: Styles
    base_logits: Logits
    extremes: Float[Tensor, "2 s"]


class Journal:
    """Measures edits of a study, on all processes together, and remembers.

    Attributes:
        baseline: The unedited images.
        passes: Generator passes of the answers, those read from disk included; every edit counts
            as a whole pass although it starts at its layer, and every image as one for its states.
    """

    def __init__(
        self, baseline: Baseline, folder: Path, made_by: Mapping[str, Any], crew: Crew
    ) -> None:
        """Opens a journal.

        Args:
            baseline: The unedited images.
            folder: Where the answers lie; made when the first is written.
            made_by: What makes them, such as the digests of model and images.
            crew: The processes that measure together.

        Raises:
            InputError: If the folder holds the answers of something else.
        """
        self.baseline, self.folder, self.crew = baseline, folder, crew
        self.passes = 0
        self._resumed = torch.zeros(len(baseline.styles), dtype=torch.bool)
        check_made_by(folder / MADE_BY, made_by)
        self._made_by = dict(made_by)
        self._digest = _text(digest(vars(baseline)))

    @property
    def batch_size(self) -> int:
        """Edited images per forward pass."""
        self.open()
        return self.crew.engine().batch_size

    def measure(self, edits: Edits) -> Float[Tensor, "m k"]:
        """Changes of all logits by edits, in their order."""
        parts = [edits.select(rows) for rows in torch.arange(len(edits)).split(LONGEST_ROUND)]
        shown = self.crew.member.progress if len(parts) > SILENT_ROUNDS else quiet
        answers = [
            self._answer("measure", vars(part), _measure, part) for part in shown(parts, "edits")
        ]
        self.passes += len(edits) + int((~self._resumed[edits.images.unique()]).sum())
        self._resumed[edits.images] = True
        return torch.cat(answers) if answers else self.baseline.base_logits[:0]

    def slopes(self, images: Int64[Tensor, " b"], score: Score) -> Float[Tensor, "b s"]:
        """Gradients of a score of the logits with respect to the unedited styles.

        Args:
            images: Rows of the baseline.
            score: One number per image of its logits: a dataclass of a module.
        """
        self.passes += GRADIENT_PASSES * len(images)
        question = {"images": images, "score": _text(repr(score))}
        return self._answer("slopes", question, _slopes, images, score)

    def logits(self, styles: Styles) -> Logits:
        """Logits of whole style vectors."""
        self.passes += len(styles)
        return self._answer("logits", {"styles": styles}, _logits, styles)

    def _answer(
        self, kind: str, question: Mapping[str, Tensor], task: Task, *arguments: Any
    ) -> Tensor:
        asked = digest({**question, "baseline": self._digest})
        path = self.folder / f"{kind}-{asked}.safetensors"
        try:
            return read_tensors(path, "an answer")[0]["answer"]
        except InputError:  # it is not there, or cut off: it is found again
            pass
        self.open()
        answer = self.crew.call(task, *arguments)
        if not (self.folder / MADE_BY).is_file():
            write_json(self.folder / MADE_BY, self._made_by)
        write_tensors(path, {"answer": answer})
        return answer

    def open(self) -> None:
        """Makes every process's engine this baseline's."""
        if self.crew.member.baseline is not self.baseline:
            self.crew.call(_open_engine, self.baseline)
            self.crew.member.baseline = self.baseline


def _open_engine(crew: Crew, baseline: Baseline) -> None:
    member = crew.member
    member.engine = None  # its stored states make room first
    member.engine = Engine(member.model, **vars(baseline), **member.computing)


def _measure(crew: Crew, edits: Edits) -> Tensor:
    engine = crew.engine()
    batches = engine.batches(edits)
    return crew.merge(engine.measure(edits, [batches[j] for j in crew.share(len(batches))]))


def _slopes(crew: Crew, images: Tensor, score: Score) -> Tensor:
    engine = crew.engine()

    def slopes(part: Tensor) -> Tensor:
        return engine.slopes(part, [score])[..., 0]

    return _by_blocks(crew, images, SLOPE_BLOCK, engine.styles.shape[1], slopes)


def _logits(crew: Crew, styles: Styles) -> Tensor:
    engine = crew.engine()
    width = engine.base_logits.shape[1]
    return _by_blocks(crew, styles, LOGIT_BLOCK, width, engine.logits)


def _by_blocks(
    crew: Crew, items: Tensor, size: int, width: int, compute: Callable[[Tensor], Tensor]
) -> Tensor:
    found = torch.zeros(len(items), width)
    blocks = torch.arange(len(items)).split(size)
    for j in crew.share(len(blocks)):
        found[blocks[j]] = compute(items[blocks[j]])
    return crew.merge(found)


def _text(text: str) -> Tensor:
    return torch.tensor(list(text.encode()))


def check_made_by(path: Path, made_by: Mapping[str, Any]) -> None:
    """Refuses a folder that something else has filled.

    Args:
        path: What filled it, as JSON; none if it is empty.
        made_by: What is about to fill it.

    Raises:
        InputError: If they differ, naming the first difference.
    """
    if not path.is_file():
        return
    try:
        stored = json.loads(path.read_text())
    except (ValueError, RecursionError):
        stored = {}
    for name, value in json.loads(json.dumps(dict(made_by))).items():
        if stored.get(name) != value:
            raise InputError(
                f"output_dir must be new or hold the same search, got another '{name}' in "
                f"'{path.parent}'; give another output_dir"
            )
