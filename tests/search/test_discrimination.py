"""The discriminator filter on greys: every judgement is known in closed form."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.search.discrimination import DiscriminatorFilter
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Images, Probabilities

Make = Callable[..., DiscriminatorFilter]


class Realist(Discriminator):
    """Judges an image by its grey, and by the probability of class 1 that goes with it."""

    def __init__(self, of_grey: float, of_probability: float) -> None:
        nn.Module.__init__(self)
        self.of_grey, self.of_probability = of_grey, of_probability

    def forward(self, images: Images, probabilities: Probabilities) -> Tensor:
        """A weighted sum."""
        return self.of_grey * images[:, 0, 0, 0] + self.of_probability * probabilities[:, 1]


# Sum of the styles: grey. Coordinate 0 moves up by 0.1 to 0.4, coordinate 1 by nothing.
STYLES = torch.tensor([[0.0, 0.5], [0.1, 0.5], [0.2, 0.5], [0.3, 0.5]])
EXTREMES = torch.tensor([[0.0, 0.5], [0.4, 0.5]])
LOGITS = torch.tensor([[0.0, -1.0], [0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])  # of the originals
ROWS = [0, 1, 2, 3]


def everything(pick: Pick) -> Tensor:
    return torch.ones(4)


@pytest.fixture
def make(grey_model: StylEx) -> Make:
    """Builds a filter whose every number can be changed."""

    def build(
        discriminator: Realist,
        effects: Callable[[Pick], Tensor] = everything,
        rows: list[int] = ROWS,
        **changes: float,
    ) -> DiscriminatorFilter:
        statistics = Statistics(
            torch.arange(4), torch.zeros(4, 3), STYLES, LOGITS, torch.zeros(4, 2), EXTREMES
        )
        settings = {"most_change": 0.2, "least_effect": 0.2, "num_images": 10, "strength": 2.0}
        return DiscriminatorFilter(
            grey_model, discriminator, statistics, rows, effects, **{**settings, **changes}
        )

    return build


def towards(direction: int, *effects: float) -> Callable[[Pick], Tensor]:
    """Effects of one direction; the other's are 0."""
    return lambda pick: torch.tensor(effects if pick.direction == direction else [0.0] * 4)


@pytest.mark.parametrize(("limit", "passes"), [(0.79, False), (0.81, True)])
def test_one_image_that_changes_too_much_rejects_a_coordinate(
    make: Make, limit: float, passes: bool
) -> None:
    # At strength 2, image 0 moves up by 2 x 0.4, and image 3 down by 2 x 0.3.
    assert make(Realist(1.0, 0.0), most_change=limit)(Pick(0, 1)) is passes


@pytest.mark.parametrize(("limit", "passes"), [(0.59, False), (0.61, True)])
def test_both_directions_of_a_coordinate_are_judged_whichever_is_asked(
    make: Make, limit: float, passes: bool
) -> None:
    for asked in (0, 1):
        down = towards(0, 1.0, 1.0, 1.0, 1.0)
        assert make(Realist(1.0, 0.0), down, most_change=limit)(Pick(0, asked)) is passes


def test_a_worse_and_a_better_judgement_count_alike(make: Make) -> None:
    for sign in (-1.0, 1.0):
        assert not make(Realist(sign, 0.0))(Pick(0, 1))


@pytest.mark.parametrize(("strength", "passes"), [(0.45, True), (0.55, False)])
def test_the_judged_edit_has_the_filters_strength(
    make: Make, strength: float, passes: bool
) -> None:
    assert make(Realist(1.0, 0.0), strength=strength)(Pick(0, 1)) is passes  # 0.4 x strength


def test_each_image_goes_with_its_own_probabilities(make: Make) -> None:
    # The reconstruction with the original's, the edited image with the classifier's of it:
    # sigmoid(4 x grey), where coordinate 1 moves nothing and the grey is 0.5 to 0.8.
    before = LOGITS.softmax(dim=1)[:, 1]
    after = (4 * STYLES.sum(dim=1)).sigmoid()
    largest = float((after - before).abs().max())

    assert make(Realist(0.0, 1.0), most_change=largest + 0.01)(Pick(1, 1))
    assert not make(Realist(0.0, 1.0), most_change=largest - 0.01)(Pick(1, 1))


def test_only_images_with_enough_effect_are_judged(make: Make) -> None:
    realist = Realist(1.0, 0.0)

    # Upwards, image 3 changes by 0.2 and image 0, which has too little effect, by 0.8.
    assert make(realist, towards(1, 0.2, 0.1, 0.0, 0.3), most_change=0.21)(Pick(0, 1))
    assert not make(realist, towards(1, 0.21, 0.1, 0.0, 0.3), most_change=0.21)(Pick(0, 1))


def test_only_the_first_images_are_judged(make: Make) -> None:
    down = towards(0, 1.0, 1.0, 1.0, 1.0)  # changes 0, 0.2, 0.4, 0.6

    assert make(Realist(1.0, 0.0), down, num_images=2, most_change=0.21)(Pick(0, 1))
    assert not make(Realist(1.0, 0.0), down, num_images=3, most_change=0.21)(Pick(0, 1))


def test_a_coordinate_without_an_effect_passes(make: Make) -> None:
    found = make(Realist(100.0, 0.0), towards(0, 0.0, 0.0, 0.0, 0.0))

    assert found(Pick(0, 1))
    assert found.rejected == []


def test_rows_choose_the_images(make: Make) -> None:
    def two(pick: Pick) -> Tensor:
        return torch.ones(2)

    # Rows 2 and 1 change by 0.4 at most downwards, by 0.6 upwards.
    assert make(Realist(1.0, 0.0), two, [2, 1], most_change=0.61)(Pick(0, 1))
    assert not make(Realist(1.0, 0.0), two, [2, 1], most_change=0.59)(Pick(0, 1))


def test_a_coordinate_is_judged_once_and_rejections_are_kept_in_order(make: Make) -> None:
    asked = []

    def effects(pick: Pick) -> Tensor:
        asked.append(pick)
        return torch.ones(4)

    found = make(Realist(1.0, 0.0), effects)

    verdicts = [found(pick) for pick in (Pick(1, 0), Pick(0, 1), Pick(0, 0), Pick(1, 1))]
    assert verdicts == [True, False, False, True]
    assert found.rejected == [0]
    assert len(asked) == len(set(asked))


def test_a_judgement_that_is_no_number_rejects(make: Make) -> None:
    assert not make(Realist(float("nan"), 0.0))(Pick(0, 1))


def test_the_judgements_of_a_whole_model_are_those_of_single_images(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    discriminator = Discriminator(16, 1, 64, 8, 3, 1).eval().requires_grad_(False)
    pick, rows = Pick(3, 1), [4, 0, 9, 7]
    changes = []
    for row in rows:
        before, after = statistics.styles[row].clone(), statistics.styles[row].clone()
        after[3] += 2 * (statistics.extremes[1, 3] - after[3])
        real, changed = (tiny_model.generator.synthesis(s[None]) for s in (before, after))
        believed = tiny_model.classifier.probabilities(changed)
        old = discriminator(real, statistics.logits[row].softmax(dim=0)[None])
        changes.append(float((discriminator(changed, believed) - old).abs()))
    largest = max(changes)

    for factor, passes in ((0.99, False), (1.01, True)):
        found = DiscriminatorFilter(
            tiny_model,
            discriminator,
            statistics,
            rows,
            towards(1, 1.0, 1.0, 1.0, 1.0),
            most_change=factor * largest,
            least_effect=0.2,
            num_images=10,
            strength=2.0,
        )
        assert found(pick) is passes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_images": 0}, "must judge at least 1 image, got 0"),
        ({"most_change": 0.0}, "largest change must be above 0, got 0.0"),
        ({"most_change": float("nan")}, "largest change must be above 0, got nan"),
    ],
)
def test_a_filter_that_says_nothing_is_refused(
    make: Make, change: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(Realist(1.0, 0.0), **change)
