"""One's own image under a model: encoded, explained, and edited by several knobs at once."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.progress import Progress
from stylex.search.counterfactuals import turn
from stylex.search.crew import Crew, Member, Place
from stylex.search.results import Attribute, Explanation, Settings
from stylex.search.statistics import Statistics, collect_together, with_image
from stylex.search.study import Search, class_index
from stylex.types import Images, Styles

FARTHEST_BACK, FARTHEST = -1.0, 2.0  # positions of a knob; 0 is as encoded, 1 the extreme


def turned(
    styles: Styles,
    attributes: Sequence[Attribute],
    positions: Sequence[float],
    extremes: Float[Tensor, "2 s"],
) -> Styles:
    """Moves several coordinates, each by its own knob; leaves the input untouched.

    Args:
        styles: Styles of the images.
        attributes: Of different coordinates.
        positions: Of the attributes' knobs, see `turn`.
        extremes: Smallest and largest value of every coordinate.
    """
    for attribute, position in zip(attributes, positions, strict=True):
        styles = turn(styles, attribute.pick, extremes, position)
    return styles


@dataclass(frozen=True)
class View:
    """An image and what the classifier says of it.

    Attributes:
        image: [1 c h w] in [-1, 1].
        probabilities: One per class.
    """

    image: Images
    probabilities: tuple[float, ...]

    @property
    def decision(self) -> int:
        """The most probable class."""
        return self.ranking[0]

    @property
    def ranking(self) -> list[int]:
        """Classes from the most to the least probable."""
        order = range(len(self.probabilities))
        return sorted(order, key=lambda k: self.probabilities[k], reverse=True)


@dataclass(frozen=True)
class Subject:
    """One's own image, as the model sees it.

    Attributes:
        given: The image.
        copy: Its reconstruction, which all edits begin with.
        statistics: The reference images and the given one, which is the last.
    """

    given: View
    copy: View
    statistics: Statistics

    @property
    def agrees(self) -> bool:
        """Whether image and reconstruction are called the same."""
        return self.given.decision == self.copy.decision

    @property
    def next_class(self) -> int:
        """The second most probable class of the reconstruction."""
        return self.copy.ranking[1]


class Exploration:
    """A model with its reference images, ready for images of one's own.

    Attributes:
        model: The model under explanation.
        settings: Of the searches.
    """

    def __init__(self, member: Member, settings: Settings) -> None:
        """Runs the reference images through the model, with the member's progress.

        Args:
            member: The model, the reference images, how engines compute.
            settings: Of the searches.
        """
        self.model, self.settings, self._member = member.model, settings, member
        self._autocast = member.computing.get("autocast")
        crew = Crew(Place())
        crew.member = member
        self._reference = collect_together(crew, settings.reach)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of probabilities."""
        return self.model.class_names

    @property
    def num_images(self) -> int:
        """Number of reference images, which give the extremes."""
        return len(self._reference.indices)

    @torch.no_grad()
    def see(self, image: Images) -> Subject:
        """Encodes, reconstructs and classifies an image.

        Args:
            image: One image in [-1, 1], of the model's resolution and channels.
        """
        statistics = with_image(self._reference, self.model, image, self._autocast)
        given = _view(image, statistics.logits[-1])
        return Subject(given, self._drawn(statistics.styles[-1:]), statistics)

    def explain(
        self, subject: Subject, target: str, folder: Path, progress: Progress
    ) -> Explanation:
        """Finds what would change the decision on an image's reconstruction.

        Args:
            subject: The image.
            target: Class to move to.
            folder: Where measurements lie while the search goes on; it leaves nothing there.
            progress: Wraps long loops.

        Raises:
            InputError: If the target is no class or the decision's own, or if nothing moves it.
        """
        crew = Crew(Place())
        crew.member = replace(self._member, progress=progress, engine=None, baseline=None)
        index = int(subject.statistics.indices[-1])
        with tempfile.TemporaryDirectory(dir=folder) as name:
            search = Search(crew, subject.statistics, self.settings, Path(name), {}, None)
            return search.explain_image(index, class_index(self.class_names, target))

    @torch.no_grad()
    def edit(
        self, subject: Subject, attributes: Sequence[Attribute], positions: Sequence[float]
    ) -> View:
        """The reconstruction with knobs turned; see `turned`."""
        statistics = subject.statistics
        styles = turned(statistics.styles[-1:], attributes, positions, statistics.extremes)
        return self._drawn(styles)

    def _drawn(self, styles: Styles) -> View:
        device, autocast = self.model.generator.const.device, self._autocast
        with torch.autocast(device.type, autocast, autocast is not None):
            image = self.model.render(styles.to(device))
            logits = self.model.classifier(image)
        return _view(image.float(), logits[0])


def _view(image: Images, logits: Float[Tensor, " k"]) -> View:
    return View(image.cpu(), tuple(logits.float().softmax(dim=0).tolist()))
