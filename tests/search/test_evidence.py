"""What speaks for an attribute, on tables whose answers can be computed by hand."""

import json
import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError
from stylex.estimates import mean, q_values, share
from stylex.gan.generator import SynthesisState
from stylex.model import StylEx
from stylex.search.edits import Edits
from stylex.search.engine import Engine as RealEngine
from stylex.search.evidence import (
    DOSES,
    Findings,
    dose_response,
    extreme_position,
    gather,
    interaction,
    standardised_effects,
)
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Images, Logits, Styles

# Dose-response -----------------------------------------------------------------------------------

CURVES = {
    "linear": (lambda x: 3 * x, True, False),
    "tanh": (lambda x: math.tanh(2 * x), True, True),
    "hump": (lambda x: x * (2 - x), False, False),
    "flat": (lambda _: 0.0, True, False),
    "falling": (lambda x: -x, False, False),
    "dip": (lambda x: x * (x - 0.4), False, False),
    "accelerating": (lambda x: x**2, True, False),
}


@pytest.mark.parametrize(("curve", "monotone", "saturating"), CURVES.values(), ids=list(CURVES))
@pytest.mark.parametrize("num_images", [1, 30])
def test_a_curves_shape_is_judged_by_its_steps_and_its_two_ends(
    curve: object, monotone: bool, saturating: bool, num_images: int
) -> None:
    scale = torch.linspace(0.5, 1.5, num_images)
    effects = torch.tensor([curve(x) for x in DOSES])[:, None] * scale

    found = dose_response(DOSES, effects)

    assert (found.monotone, found.saturating) == (monotone, saturating)
    for x, dose in zip(DOSES, found.doses, strict=True):
        assert dose.strength == x
        assert dose.effect.value == pytest.approx(curve(x) * float(scale.mean()), abs=1e-6)
        assert dose.effect.num_images == num_images


@pytest.mark.parametrize(("last_slope", "saturating"), [(0.24, True), (0.26, False)])
def test_a_curve_saturates_below_a_quarter_of_its_first_slope(
    last_slope: float, saturating: bool
) -> None:
    # Slope 1 per unit of strength to 1.5, then the last one, per unit of strength, too.
    curve = [min(x, 1.5) + last_slope * max(0.0, x - 1.5) for x in DOSES]

    found = dose_response(DOSES, torch.tensor(curve)[:, None].expand(7, 5))

    assert found.saturating == saturating


def test_steps_are_judged_on_the_same_images_at_both_strengths() -> None:
    offset = 10 * torch.randn(40, dtype=torch.float64)
    effects = torch.stack((offset, offset - 0.01, offset))

    # 0.01 is far inside the interval of either mean, but every image falls.
    assert not dose_response((1.0, 2.0, 3.0), effects).monotone


def test_a_fall_that_the_images_do_not_agree_on_is_none() -> None:
    noise = torch.randn(40, dtype=torch.float64)
    noise -= noise.mean() + 0.01  # falls by 0.01 on average, at a deviation of 1
    first = torch.full((40,), 5.0, dtype=torch.float64)

    assert dose_response((1.0, 2.0, 3.0), torch.stack((first, first + noise, first + 5))).monotone


@pytest.mark.parametrize("strengths", [(1.0, 2.0), (0.0, 1.0, 2.0), (1.0, 3.0, 2.0)])
def test_strengths_that_do_not_rise_from_0_are_refused(strengths: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"at least 3 numbers that rise from 0, got \["):
        dose_response(strengths, torch.zeros(len(strengths), 4))


# Against random weights --------------------------------------------------------------------------


def test_an_effect_is_standardised_by_its_logits_deviation_over_the_unedited_images() -> None:
    base = torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])  # deviations 2 and 0
    changes = torch.tensor([[1.0, 1.0], [1.0, 2.0], [4.0, 3.0]])

    assert standardised_effects(changes, base).tolist() == [1.0, 0.0]
    assert standardised_effects(7 * changes, 7 * base).tolist() == [1.0, 0.0]
    assert standardised_effects(torch.stack((changes, -changes)), base).tolist() == [
        [1.0, 0.0],
        [-1.0, 0.0],
    ]


# Extremes ----------------------------------------------------------------------------------------


def test_an_extremes_position_is_its_z_score_and_the_share_of_images_near_it() -> None:
    values = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 10])  # mean 4.6, square mean 30.4

    found = extreme_position(values, 10.0)

    assert found.z == pytest.approx((10 - 4.6) / math.sqrt(30.4 - 4.6**2))
    assert found.near == share(values >= 9)  # 10 % of the range is 1: 10 alone
    assert extreme_position(values, 0.0).z == pytest.approx(-4.6 / math.sqrt(30.4 - 4.6**2))
    assert extreme_position(values, 0.0).near == share(values <= 1)


def test_a_lone_outlier_is_seen_far_away_with_nothing_near_it() -> None:
    found = extreme_position(torch.cat((torch.zeros(99), torch.ones(1))), 1.0)

    assert found.z == pytest.approx(0.99 / math.sqrt(0.01 * 0.99))
    assert found.near.value == pytest.approx(0.01)


def test_a_coordinate_that_never_varies_has_its_extreme_at_its_mean() -> None:
    found = extreme_position(torch.full((5,), 0.7), float(torch.tensor(0.7)))

    assert (found.z, found.near.value) == (0.0, 1.0)


# Interactions ------------------------------------------------------------------------------------


def test_an_interaction_counts_flips_by_both_and_neither_and_what_is_beyond_the_sum() -> None:
    base = torch.tensor([[4.0, 0.0]]).expand(4, 2)
    none = torch.zeros(4)

    def to(*changes: float) -> Tensor:
        return torch.stack((none, torch.tensor(changes)), dim=1)

    # Flipped: by both alone; by the first already; by nothing; by both, the second already.
    first, second, both = to(3, 5, 1, 0), to(3, 0, 1, 6), to(7, 6, 2, 6)

    flips, effect = interaction(base, (first, second), both, target=1)

    assert flips == share(torch.tensor([True, False, False, False]))
    assert effect == mean(torch.tensor([1.0, 1.0, 0.0, 0.0]))


# All of it ---------------------------------------------------------------------------------------


class Canvas(nn.Module):
    """Paints styles, all within [-1, 1], as the pixels of a square image."""

    def __init__(self) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.zeros(1))
        self.painted = 0

    def synthesis(self, styles: Styles, start: SynthesisState | None = None) -> Images:
        self.painted += len(styles)
        side = math.isqrt(styles.shape[1])
        return styles.reshape(-1, 1, side, side)


class LinearEngine:
    """Every effect in closed form: logits are linear in the styles."""

    batch_size, passes = 7, 0

    def __init__(self, statistics: Statistics, weight: Tensor, bend: float = 0.0) -> None:
        self.statistics, self.weight, self.bend = statistics, weight, bend
        self.asked: list[int] = []

    def measure(self, edits: Edits) -> Tensor:
        self.asked.append(len(edits))
        value = self.statistics.styles[edits.images, edits.coordinates]
        step = self.statistics.extremes[edits.directions, edits.coordinates] - value
        return (edits.strengths * step)[:, None] * self.weight[:, edits.coordinates].t()

    def logits(self, styles: Styles) -> Logits:
        return styles @ self.weight.t() + self.bend


# Class 2 hears the first style, faintly the second; the last two move nothing of it.
WEIGHT = torch.tensor([[0.3, 0.2, 0.5, 0.1], [0.1, -0.4, 0.2, -0.3], [6.0, 1.0, 0.0, 0.0]])
PICKS = [Pick(0, 1), Pick(1, 1), Pick(2, 1), Pick(3, 0)]


def study(num_images: int = 20, weight: Tensor = WEIGHT) -> tuple[StylEx, Statistics]:
    num_styles = weight.shape[1]
    network = nn.Sequential(nn.Flatten(), nn.Linear(num_styles, 3))
    network[1].weight.data, network[1].bias.data = weight.clone(), torch.zeros(3)
    adapter = Adapter(
        input_resolution_px=math.isqrt(num_styles), input_channels=1, input_range=(-1.0, 1.0),
        mean=[0.0], std=[1.0],
    )  # fmt: skip
    model = StylEx.__new__(StylEx)
    nn.Module.__init__(model)
    model.generator = Canvas()
    model.classifier = FrozenClassifier(network, adapter, ("a", "b", "c"), [])
    styles = torch.rand(num_images, num_styles, generator=torch.Generator().manual_seed(1)) * 2 - 1
    logits = styles @ weight.t()
    extremes = torch.tensor([-1.0, 1.0])[:, None].expand(2, num_styles).contiguous()
    return model, Statistics(
        torch.arange(num_images), torch.zeros(num_images, 2), styles, logits, logits, extremes
    )


def evidence(
    model: StylEx,
    statistics: Statistics,
    engine: LinearEngine,
    rows: Tensor,
    picks: list[Pick] = PICKS,
    **changes: object,
) -> Findings:
    settings = {"strength": 1.0, "moved": 0.2, "num_random": 20, "seed": 3, **changes}
    return gather(model, engine, statistics, picks, rows, 2, **settings)


def test_all_figures_are_those_of_the_rows_given() -> None:
    model, statistics = study()
    rows = torch.arange(1, 20, 2)

    found = evidence(model, statistics, LinearEngine(statistics, WEIGHT), rows)

    styles, base = statistics.styles[rows], statistics.base_logits[rows]
    for (coordinate, direction), one in zip(PICKS, found.evidence, strict=True):
        end = (-1.0, 1.0)[direction]
        change = (end - styles[:, coordinate])[:, None] * WEIGHT[:, coordinate]
        assert one.effect.value == pytest.approx(float(change[:, 2].mean()), abs=1e-6)
        assert one.moved == share(change[:, 2] > 0.2)
        assert one.flips == share((base + change).argmax(dim=1) == 2)
        expected = extreme_position(statistics.styles[:, coordinate], end)
        assert one.extreme == expected
        for dose in one.dose_response.doses:
            expected = dose.strength * one.effect.value
            assert dose.effect.value == pytest.approx(expected, abs=1e-5)
        assert one.dose_response.monotone
        assert not one.dose_response.saturating
    assert [e.rank.median for e in found.evidence] == [1.0, 2.0, 3.5, 3.5]
    assert found.evidence[0].rank.interval == (1.0, 1.0)
    assert found.rank_correlation == pytest.approx(1.0)


def test_p_counts_the_same_edits_on_every_class_of_every_random_classifier() -> None:
    model, statistics = study()
    rows = torch.arange(10, 20)

    found = evidence(model, statistics, LinearEngine(statistics, WEIGHT), rows, num_random=9)

    styles = statistics.styles[rows]
    for (coordinate, direction), one in zip(PICKS, found.evidence, strict=True):
        step = ((-1.0, 1.0)[direction] - styles[:, coordinate]).mean()

        def statistic(weight: Tensor, k: int, c: int = coordinate, s: Tensor = step) -> float:
            return float(s * weight[k, c] / (styles @ weight[k]).std())

        observed = statistic(WEIGHT, 2)
        null = [
            statistic(model.classifier.randomised(3 + i).network[1].weight, k)
            for i in range(9)
            for k in range(3)
        ]
        at_least = sum(value >= observed - 1e-6 for value in null)
        assert one.p == pytest.approx((1 + at_least) / 28)
    assert [e.q for e in found.evidence] == q_values([e.p for e in found.evidence])
    assert [e.significant for e in found.evidence] == [e.q <= 0.05 for e in found.evidence]
    assert min(e.p for e in found.evidence) < 0.2 < max(e.p for e in found.evidence)


def test_random_classifiers_judge_what_people_see() -> None:
    # Three times as far out, the extremes are black and white all the same.
    model, statistics = study()
    statistics = replace(statistics, extremes=3 * statistics.extremes)
    rows = torch.arange(10, 20)

    found = evidence(model, statistics, LinearEngine(statistics, WEIGHT), rows, num_random=9)

    styles, weights = statistics.styles[rows], WEIGHT[2]
    for (coordinate, direction), one in zip(PICKS, found.evidence, strict=True):
        end, own = (-1.0, 1.0)[direction], styles[:, coordinate].mean()
        observed = (3 * end - own) * weights[coordinate] / (styles @ weights).std()
        randomised = [model.classifier.randomised(3 + i).network[1].weight for i in range(9)]
        null = [
            (end - own) * weight[k, coordinate] / (styles @ weight[k]).std()
            for weight in randomised
            for k in range(3)
        ]
        at_least = sum(bool(value >= observed - 1e-6) for value in null)
        assert one.p == pytest.approx((1 + at_least) / 28)


def test_what_the_classifier_listens_to_is_significant_and_what_it_ignores_is_not() -> None:
    weight = 0.02 * torch.randn(3, 64)
    weight[2, 0] = 1.0  # permuted, it comes to this column in 1 of 64 classifiers
    model, statistics = study(40, weight)
    engine = LinearEngine(statistics, weight)

    found = evidence(model, statistics, engine, torch.arange(20, 40), PICKS[:2], num_random=50)

    assert [one.significant for one in found.evidence] == [True, False]


def test_passes_are_few_one_synthesis_serves_all_random_classifiers() -> None:
    model, statistics = study()
    engine = LinearEngine(statistics, WEIGHT)

    evidence(model, statistics, engine, torch.arange(8), num_random=30)

    assert engine.asked == [7 * 4 * 8]
    assert model.generator.painted == (1 + 4) * 8


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_doses_are_multiples_of_the_searchs_strength(strength: float) -> None:
    model, statistics = study()
    rows = torch.arange(8)
    engine = LinearEngine(statistics, WEIGHT)

    (one,) = evidence(model, statistics, engine, rows, PICKS[:1], strength=strength).evidence

    assert [d.strength for d in one.dose_response.doses] == [strength * x for x in DOSES]
    assert one.effect == one.dose_response.doses[3].effect
    expected = strength * 6 * float((1 - statistics.styles[rows, 0]).mean())
    assert one.effect.value == pytest.approx(expected, rel=1e-5)


def test_effects_that_add_up_have_no_interaction_and_others_have_theirs() -> None:
    model, statistics = study()
    rows = torch.arange(8)

    plain = evidence(model, statistics, LinearEngine(statistics, WEIGHT), rows).interactions
    bent = evidence(model, statistics, LinearEngine(statistics, WEIGHT, 0.5), rows).interactions

    assert [(i.first, i.second) for i in plain] == list(combinations(range(1, 5), 2))
    for one, other in zip(plain, bent, strict=True):
        assert one.effect.value == pytest.approx(0.0, abs=1e-5)
        assert other.effect.value == pytest.approx(0.5, abs=1e-5)


def test_pairs_are_those_of_two_coordinates_among_ten_picks_on_fifty_images() -> None:
    model, statistics = study(70)
    picks = [Pick(c, d) for c in range(4) for d in range(2)] + [Pick(0, 1)] * 4

    found = evidence(
        model, statistics, LinearEngine(statistics, WEIGHT), torch.arange(70), picks, num_random=0
    )

    expected = [(i + 1, j + 1) for i, j in combinations(range(10), 2) if picks[i][0] != picks[j][0]]
    assert [(i.first, i.second) for i in found.interactions] == expected
    assert {i.flips.num_images for i in found.interactions} == {50}
    assert found.evidence[0].effect.num_images == 70


def test_one_image_has_effects_and_doses_but_nothing_that_needs_two() -> None:
    model, statistics = study()

    found = evidence(model, statistics, LinearEngine(statistics, WEIGHT), torch.tensor([4]))

    assert found.rank_correlation is None
    assert found.interactions == ()
    assert model.generator.painted == 0
    for one in found.evidence:
        assert (one.rank, one.p, one.q, one.significant) == (None, None, None, None)
        assert one.effect.num_images == 1
        assert one.dose_response.monotone


def test_no_random_classifiers_leave_out_the_test_alone() -> None:
    model, statistics = study()
    engine = LinearEngine(statistics, WEIGHT)

    found = evidence(model, statistics, engine, torch.arange(8), num_random=0)

    assert {(e.p, e.q, e.significant) for e in found.evidence} == {(None, None, None)}
    assert found.rank_correlation is not None


def test_the_same_seed_gives_the_same_evidence_and_draws_nothing_from_outside() -> None:
    model, statistics = study()
    engine, rows = LinearEngine(statistics, WEIGHT), torch.arange(8)
    before = torch.get_rng_state()

    first, second = (evidence(model, statistics, engine, rows) for _ in range(2))

    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


def test_evidence_is_written_as_plain_numbers() -> None:
    model, statistics = study()
    found = evidence(model, statistics, LinearEngine(statistics, WEIGHT), torch.arange(8))

    written = json.loads(json.dumps([one.as_json() for one in found.evidence]))
    pair = json.loads(json.dumps(found.interactions[0].as_json()))

    assert written[0]["effect"]["value"] == found.evidence[0].effect.value
    assert written[0]["dose_response"]["doses"][6]["strength"] == 2.0
    assert written[0]["rank"] == {"median": 1.0, "interval": [1.0, 1.0]}
    assert written[0]["extreme"]["near"]["num_images"] == 20
    assert (pair["first"], pair["second"], pair["flips"]["num_images"]) == (1, 2, 8)


@pytest.mark.parametrize(("num_picks", "num_rows"), [(0, 3), (2, 0)])
def test_evidence_of_nothing_is_refused(num_picks: int, num_rows: int) -> None:
    model, statistics = study()
    engine, rows = LinearEngine(statistics, WEIGHT), torch.arange(num_rows)

    rule = f"at least one attribute and one image, got {num_picks} and {num_rows}"
    with pytest.raises(InputError, match=rule):
        evidence(model, statistics, engine, rows, PICKS[:num_picks])


def test_a_negative_number_of_random_classifiers_is_refused() -> None:
    model, statistics = study()
    engine = LinearEngine(statistics, WEIGHT)

    with pytest.raises(InputError, match="num_random must be at least 0, got -1"):
        evidence(model, statistics, engine, torch.arange(3), num_random=-1)


def test_the_searchs_engine_and_a_whole_model_give_evidence(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    engine = RealEngine(
        tiny_model, statistics.styles, statistics.base_logits, statistics.extremes, batch_size=32
    )
    rows = torch.arange(6, 12)

    found = gather(
        tiny_model, engine, statistics, [Pick(2, 1), Pick(7, 0)], rows, 1,
        strength=1.0, moved=0.2, num_random=3, seed=0,
    )  # fmt: skip

    styles = statistics.styles[rows]
    both = styles.clone()
    both[:, 2], both[:, 7] = statistics.extremes[1, 2], statistics.extremes[0, 7]
    edited = [styles.clone(), styles.clone()]
    edited[0][:, 2], edited[1][:, 7] = both[:, 2], both[:, 7]
    base, first, second, together = (
        tiny_model.classifier(tiny_model.render(s))[:, 1] for s in (styles, *edited, both)
    )
    for one, moved in zip(found.evidence, (first, second), strict=True):
        assert one.effect.value == pytest.approx(float((moved - base).mean()), abs=1e-4)
        assert 0.1 <= one.p <= 1
    (pair,) = found.interactions
    beyond = together - first - second + base
    assert pair.effect.value == pytest.approx(float(beyond.mean()), abs=1e-4)
