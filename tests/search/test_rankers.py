"""Rankers on planted cases with known answers, and their comparison measured once more by hand."""

import math
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.gan.generator import Generator, NoiseMaps, SynthesisState
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.search import rankers
from stylex.search.counterfactuals import move
from stylex.search.directions import (
    Direction,
    LatentEdit,
    edited_latents,
    ganalyze_direction,
    moved_latents,
    style_directions,
)
from stylex.search.engine import Engine
from stylex.search.rankers import (
    RANKERS,
    Ranking,
    compare_rankers,
    most_certain,
    random_picks,
    rank_edits,
    stylespace_channels,
)
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics, collect
from stylex.types import Images, Latents, Logits, Styles

# Coordinates -------------------------------------------------------------------------------------

# Rows 0 to 2 are exemplars. Column 0 has their mean at that of all images, 1 sets them apart
# below, 2 above and tightly, 3 never varies.
TABLE = torch.tensor(
    [
        [1.0, -3.0, 5.0, 7.0],
        [5.0, -1.0, 5.1, 7.0],
        [3.0, -2.0, 5.2, 7.0],
        [2.0, 2.0, 0.0, 7.0],
        [4.0, 4.0, 1.0, 7.0],
        [3.0, 3.0, -1.0, 7.0],
    ]
)
EXEMPLARS = torch.tensor([True, True, True, False, False, False])


def test_stylespace_ranks_by_distance_over_spread_with_the_sign_as_direction() -> None:
    found = stylespace_channels(TABLE, EXEMPLARS, 4, [0, 1, 2, 3])

    assert found[:2] == [Pick(2, 1), Pick(1, 0)]
    assert {pick.coordinate for pick in found[2:]} == {0, 3}


def test_stylespace_scores_equal_those_of_loops_over_the_papers_formula() -> None:
    torch.manual_seed(3)
    styles, exemplars = torch.randn(30, 8), torch.rand(30) < 0.4
    scores, signs = {}, {}
    for channel in range(8):
        column = styles[:, channel].tolist()
        deltas = [
            (value - fmean(column)) / stdev(column)
            for value, chosen in zip(column, exemplars.tolist(), strict=True)
            if chosen
        ]
        scores[channel], signs[channel] = abs(fmean(deltas)) / stdev(deltas), fmean(deltas) > 0

    found = stylespace_channels(styles, exemplars, 8, list(range(8)))

    assert [p.coordinate for p in found] == sorted(scores, key=scores.__getitem__, reverse=True)
    assert all(pick.direction == signs[pick.coordinate] for pick in found)


def test_stylespace_ranks_the_given_coordinates_alone_and_at_most_so_many() -> None:
    assert stylespace_channels(TABLE, EXEMPLARS, 1, [3, 1, 0]) == [Pick(1, 0)]


@pytest.mark.parametrize("count", [0, 1])
def test_stylespace_refuses_fewer_than_two_exemplars(count: int) -> None:
    with pytest.raises(InputError, match=f"at least 2 images .* got {count}; give more images"):
        stylespace_channels(TABLE, torch.arange(6) < count, 2, [0, 1])


def test_exemplars_are_the_most_certain_images_of_those_called_the_target() -> None:
    logits = torch.tensor([[0.0, 3.0], [0.0, 1.0], [5.0, 4.9], [0.0, 2.0], [1.0, 0.0]])

    assert most_certain(logits, 1, 2).tolist() == [True, False, False, True, False]
    assert most_certain(logits, 1, 9).tolist() == [True, True, False, True, False]


def test_random_picks_are_different_coordinates_that_the_seed_alone_decides() -> None:
    coordinates = list(range(100, 140))

    found = random_picks(coordinates, 30, seed=4)

    assert found == random_picks(coordinates, 30, seed=4)
    assert found != random_picks(coordinates, 30, seed=5)
    assert len({pick.coordinate for pick in found}) == 30
    assert {pick.coordinate for pick in found} <= set(coordinates)
    assert {pick.direction for pick in found} == {0, 1}
    assert len(random_picks(coordinates, 99, seed=4)) == 40


# Edits in the latent space -----------------------------------------------------------------------


@pytest.fixture
def latents() -> Latents:
    """Twenty latents of six dimensions, of which the last two are the appended probabilities."""
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def unit(*values: float) -> Tensor:
    vector = torch.tensor(values, dtype=torch.float64)
    return vector / vector.norm()


def test_a_direction_has_length_1_and_the_extreme_projections(latents: Latents) -> None:
    found = Direction.over(torch.tensor([0.0, -3.0, 0, 4, 0, 0], dtype=torch.float64), latents)

    torch.testing.assert_close(found.vector, unit(0, -0.6, 0, 0.8, 0, 0))
    projections = [-0.6 * float(w[1]) + 0.8 * float(w[3]) for w in latents]
    assert math.isclose(found.low, min(projections))
    assert math.isclose(found.high, max(projections))


@pytest.mark.parametrize("towards", [0, 1])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_an_edit_sets_the_projection_and_leaves_everything_else(
    latents: Latents, towards: int, strength: float
) -> None:
    direction = Direction.over(unit(1, 2, 0, -1, 0, 0), latents)
    before = latents.clone()

    moved = edited_latents(latents, direction, towards, strength)

    extreme = (direction.low, direction.high)[towards]
    projected = latents @ direction.vector
    expected = projected + strength * (extreme - projected)
    torch.testing.assert_close(moved @ direction.vector, expected)
    for other in (unit(2, -1, 0, 0, 0, 0), unit(1, 0, 0, 1, 0, 0), unit(0, 0, 1, 0, 0, 0)):
        torch.testing.assert_close(moved @ other, latents @ other)
    assert torch.equal(moved[:, 4:], latents[:, 4:])
    assert torch.equal(latents, before)


def test_edits_at_right_angles_reach_all_their_extremes_together(latents: Latents) -> None:
    one = Direction.over(unit(1, 1, 0, 0, 0, 0), latents)
    two = Direction.over(unit(1, -1, 1, 0, 0, 0), latents)

    moved = moved_latents(latents, [LatentEdit(one, 0), LatentEdit(two, 1)], 1.0)

    torch.testing.assert_close(moved @ one.vector, torch.full_like(latents[:, 0], one.low))
    torch.testing.assert_close(moved @ two.vector, torch.full_like(latents[:, 0], two.high))
    assert torch.equal(moved_latents(latents, [], 1.0), latents)


def test_moving_together_sums_the_edits_of_the_unedited_latent(latents: Latents) -> None:
    edits = [
        LatentEdit(Direction.over(unit(1, 2, 0, 0, 0, 0), latents), 0),
        LatentEdit(Direction.over(unit(2, 1, 1, 0, 0, 0), latents), 1),
    ]

    moved = moved_latents(latents, edits, 1.5)

    steps = [edited_latents(latents, d, towards, 1.5) - latents for d, towards in edits]
    torch.testing.assert_close(moved, latents + steps[0] + steps[1])


# SeFa --------------------------------------------------------------------------------------------


WHITE = 64.0  # the style that is a white pixel; what a test plants is darker


class AffineGenerator(Generator):
    """One affine layer, and the styles as a row of pixels, from black at -64 to white at 64."""

    def __init__(self, matrix: Tensor) -> None:
        nn.Module.__init__(self)
        self.const = nn.Parameter(torch.zeros(1))
        self.matrix = matrix

    def styles(self, latents: Latents) -> Tensor:
        """A·w + 1."""
        return latents @ self.matrix.t() + 1

    def synthesis(
        self, styles: Styles, start: SynthesisState | None = None, noise: NoiseMaps | None = None
    ) -> Images:
        """The styles as an image."""
        return styles[:, None, None, :] / WHITE


def test_sefas_directions_are_the_right_singular_vectors_of_a_hand_made_matrix() -> None:
    right = torch.tensor([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    left = torch.linalg.qr(torch.randn(5, 5))[0][:, :3]
    code = left @ torch.diag(torch.tensor([2.0, 5.0, 1.0])) @ right
    appended = 100 * torch.randn(5, 2)  # the largest slopes by far, and forbidden
    generator = AffineGenerator(torch.cat((code, appended), dim=1))
    latents = torch.randn(9, 5)

    found = style_directions(generator, latents, 2, code_dim=3)

    assert len(found) == 2
    torch.testing.assert_close(found[0].vector, torch.tensor([0.8, -0.6, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(found[1].vector, torch.tensor([0.6, 0.8, 0.0, 0.0, 0.0]))
    assert found[0].vector[3:].tolist() == [0.0, 0.0]
    assert math.isclose(found[0].high, float((latents @ found[0].vector).max()), rel_tol=1e-5)


def test_sefas_matrix_stacks_every_affine_layer(tiny_model: StylEx) -> None:
    layers = [*tiny_model.generator.convolutions, *tiny_model.generator.torgbs]
    stacked = torch.cat([m.affine.weight[:, :4] * m.affine.weight_gain for m in layers])
    values, vectors = torch.linalg.eigh(stacked.t() @ stacked)  # rising

    found = style_directions(tiny_model.generator, torch.randn(5, 7), 64, code_dim=4)

    assert len(found) == 4
    assert values.diff().min() > 0.01  # else the vectors are not defined
    for direction, expected in zip(found, vectors.t().flip(0), strict=True):
        expected = expected * expected[expected.abs().argmax()].sign()
        torch.testing.assert_close(direction.vector[:4], expected, atol=1e-4, rtol=1e-3)
        assert not direction.vector[4:].any()


# GANalyze ----------------------------------------------------------------------------------------


class Scorer(nn.Module):
    """Two classes, of images that show latents: the second's logit is a·w + ½ w·B·w."""

    class_names = ("no", "yes")

    def __init__(self, slope: Tensor, curvature: Tensor) -> None:
        super().__init__()
        self.slope, self.curvature = nn.Parameter(slope), curvature

    def forward(self, images: Images) -> Logits:
        """The logits."""
        w = WHITE * images[:, 0, 0] - 1
        logit = w @ self.slope + ((w @ self.curvature) * w).sum(dim=1) / 2
        return torch.stack((torch.zeros_like(logit), logit), dim=1)


def planted(slope: list[float], curvature: Tensor) -> StylEx:
    model = StylEx.__new__(StylEx)
    nn.Module.__init__(model)
    model.generator = AffineGenerator(torch.eye(len(slope)))
    model.classifier = Scorer(torch.tensor(slope), curvature)
    return model


def trained(model: StylEx, latents: Latents, seed: int = 0) -> Direction:
    return ganalyze_direction(
        model,
        latents,
        1,
        steps=400,
        batch_size=16,
        learning_rate=0.02,
        seed=seed,
        progress=quiet,
    )


def test_ganalyze_finds_the_one_dimension_that_the_classifier_reads() -> None:
    model = planted([0.0, 0.0, -2.0, 0.0, 30.0, -30.0], torch.zeros(6, 6))
    latents = torch.randn(200, 6)

    found = trained(model, latents)

    assert found.vector.tolist() == [0.0, 0.0, -1.0, 0.0, 0.0, 0.0]
    assert math.isclose(found.high, -float(latents[:, 2].min()), rel_tol=1e-6)
    assert math.isclose(found.low, -float(latents[:, 2].max()), rel_tol=1e-6)


def test_ganalyze_is_aligned_with_the_slope_that_all_images_share() -> None:
    # The gradient is a + B·w. With B a reflection and w normal its second moment is a·aᵀ + 1, so
    # the squared error is least along a.
    slope = [1.5, -0.3, 0.6, 0.1, 0.0, 0.0]
    mirror = torch.eye(6) - 2 * torch.full((6, 6), 1 / 4)
    mirror[4:] = 0.0
    mirror[:, 4:] = 0.0
    model = planted(slope, mirror)
    latents = torch.randn(2000, 6)

    found = trained(model, latents)

    cosine = float(found.vector @ torch.tensor(slope)) / math.dist(slope, [0] * 6)
    assert cosine > 0.95
    assert not found.vector[4:].any()


def test_ganalyze_hears_nothing_of_what_is_beyond_the_range_of_an_image() -> None:
    model = planted([30.0, -2.0, 0.0, 0.0], torch.zeros(4, 4))
    latents = torch.randn(200, 4)
    latents[:, 0] += 10 * WHITE
    assert (model.generator(latents)[..., 0] > 1).all()

    found = trained(model, latents)

    assert found.vector.tolist() == [0.0, -1.0, 0.0, 0.0]


def test_ganalyzes_steps_are_adams_on_the_squared_error_of_standardised_rises() -> None:
    slope, curvature = (
        torch.tensor([1.0, -2.0, 0.5, 0.0]),
        torch.diag(torch.tensor([3.0, 1, -2, 0])),
    )
    model, latents = planted(slope.tolist(), curvature), torch.randn(30, 4)
    scores = model.classifier(model.render(model.generator.styles(latents)))[:, 1].detach()
    deviation = stdev(scores.tolist())

    draws = torch.Generator().manual_seed(8)
    theta, first, second = torch.zeros(4), torch.zeros(4), torch.zeros(4)
    for step in range(1, 4):
        rows = torch.randint(30, (5,), generator=draws).tolist()
        gradient = torch.zeros(4)
        for row, drawn in zip(rows, torch.rand(5, generator=draws).tolist(), strict=True):
            alpha = drawn - 0.5
            shift = alpha * theta
            rise = slope @ shift + curvature @ latents[row] @ shift + curvature @ shift @ shift / 2
            error = rise / deviation - alpha
            steepest = alpha * (slope + curvature @ (latents[row] + shift)) / deviation
            gradient += 2 * error * steepest / 5
        gradient[2:] = 0.0  # the appended probabilities
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9**step), second / (1 - 0.999**step)
        theta = theta - 0.1 * unbiased[0] / (unbiased[1].sqrt() + 1e-8)

    found = ganalyze_direction(
        model, latents, 1, steps=3, batch_size=5, learning_rate=0.1, seed=8, progress=quiet
    )

    torch.testing.assert_close(found.vector, theta / theta.norm(), atol=1e-4, rtol=1e-4)


def test_ganalyze_depends_on_its_seed_alone_and_leaves_the_model_untouched(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    given = {"steps": 5, "batch_size": 4, "learning_rate": 0.02, "progress": quiet}

    with torch.no_grad():
        one, same, other = (
            ganalyze_direction(tiny_model, statistics.latents, 1, seed=s, **given).vector
            for s in (0, 0, 1)
        )

    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items())
    assert all(p.grad is None for p in tiny_model.parameters())


def test_ganalyze_fills_no_gradients_of_a_model_that_learns() -> None:
    model = planted([1.0, 0.0, 0.0], torch.zeros(3, 3))

    trained(model, torch.randn(8, 3))

    assert model.classifier.slope.requires_grad
    assert model.classifier.slope.grad is None


@pytest.mark.parametrize("slope", [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]])
def test_ganalyze_refuses_a_logit_that_nothing_moves(slope: list[float]) -> None:
    model = planted(slope, torch.zeros(4, 4))

    with pytest.raises(InputError, match="differ in the logit of 'yes' and a generator that can"):
        trained(model, torch.randn(20, 4))


# Comparison --------------------------------------------------------------------------------------


def test_each_direction_is_ranked_once_by_its_better_way() -> None:
    table = {0.0: (1.0, -2.0), 1.0: (-1.0, -0.5), 2.0: (0.5, 3.0), 3.0: (2.0, 2.5)}
    directions = [Direction(torch.ones(1), low, 9.0) for low in table]

    def effect(edit: LatentEdit) -> float:
        return table[edit.direction.low][edit.towards]

    assert rank_edits(effect, directions, 9, quiet) == [(2, 1), (3, 1), (0, 0)]
    assert rank_edits(effect, directions, 2, quiet) == [(2, 1), (3, 1)]
    assert rank_edits(effect, directions[1:2], 9, quiet) == [(0, 1)]  # the best there is


class Compared:
    """Rankings of a study of sixty images, and the means to measure them again."""

    def __init__(self, model: StylEx, images: Images) -> None:
        self.model = model
        self.statistics = collect(model, [images[:60]], list(range(60)), 0.0)
        said = self.statistics.base_logits.argmax(dim=1)
        self.target = int(said.bincount().argmax())
        rows = (said != self.target).nonzero()[:, 0]
        self.selecting, self.held = rows[::2], rows[1::2]
        self.picks = [Pick(5, 1), Pick(20, 0), Pick(11, 1)]
        self.coordinates = model.generator.layout.searched()

    def rankings(self, *names: str, num: int = 3, **changes: object) -> dict[str, Ranking]:
        s = self.statistics
        given = {
            "picks_of_search": self.picks,
            "passes_of_search": 1234,
            "coordinates": self.coordinates,
            "strength": 1.5,
            "names": names,
            "num": num,
            "seed": 6,
            "progress": quiet,
            **changes,
        }
        engine = Engine(self.model, s.styles, s.base_logits, s.extremes, batch_size=16)
        engine.logits(s.styles[:7])  # of something else
        found = compare_rankers(
            self.model, engine, s, self.selecting, self.held, self.target, **given
        )
        assert [ranking.name for ranking in found] == list(names)
        return {ranking.name: ranking for ranking in found}

    def judged(self, styles: Tensor) -> Logits:
        return self.model.classifier(self.model.render(styles))

    def assert_measured(self, ranking: Ranking, edited: list[Tensor]) -> None:
        """Compares with styles of the held images after the first, the first two, ... edits."""
        torch.testing.assert_close(ranking.together, torch.stack(edited))
        torch.testing.assert_close(ranking.alone[0], edited[0])
        logits = [self.judged(styles) for styles in edited]
        change = logits[0] - self.statistics.base_logits[self.held]
        assert ranking.effect.num_images == len(self.held)
        assert math.isclose(
            ranking.effect.value, float(change[:, self.target].mean()), abs_tol=1e-4
        )
        shares = [float((out.argmax(dim=1) == self.target).float().mean()) for out in logits]
        assert list(ranking.sufficiency) == list(range(1, len(edited) + 1))
        assert [e.value for e in ranking.sufficiency.values()] == pytest.approx(shares)
        assert ranking.flips == ranking.sufficiency[1]


@pytest.fixture
def compared(tiny_model: StylEx, study_images: Images, monkeypatch: pytest.MonkeyPatch) -> Compared:
    """The comparison, with a short GANalyze."""
    monkeypatch.setattr(rankers, "GANALYZE_STEPS", 4)
    return Compared(tiny_model, study_images)


def test_attfinds_picks_are_measured_moved_together_on_held_images(compared: Compared) -> None:
    found = compared.rankings("attfind", num=2)["attfind"]

    styles, extremes = compared.statistics.styles[compared.held], compared.statistics.extremes
    edited = [move(styles, compared.picks[:count], extremes, 1.5) for count in (1, 2)]
    compared.assert_measured(found, edited)
    for alone, pick in zip(found.alone, compared.picks, strict=False):
        torch.testing.assert_close(alone, move(styles, [pick], extremes, 1.5))
    name = compared.model.generator.layout.name
    assert found.ranked == (f"{name(5)} -> largest", f"{name(20)} -> smallest")
    assert found.passes == 1234


def test_stylespace_and_chance_rank_the_searched_coordinates_without_a_pass(
    compared: Compared,
) -> None:
    found = compared.rankings("stylespace", "random")

    s, extremes = compared.statistics, compared.statistics.extremes
    certainty = s.base_logits.softmax(dim=1)[:, compared.target].tolist()
    called = (s.base_logits.argmax(dim=1) == compared.target).nonzero()[:, 0].tolist()
    assert len(called) > 30
    chosen = sorted(called, key=certainty.__getitem__)[-30:]
    exemplars = torch.tensor([row in chosen for row in range(60)])
    expected = {
        "stylespace": stylespace_channels(s.styles, exemplars, 3, compared.coordinates),
        "random": random_picks(compared.coordinates, 3, 6),
    }
    for name, picks in expected.items():
        edited = [move(s.styles[compared.held], picks[: i + 1], extremes, 1.5) for i in range(3)]
        compared.assert_measured(found[name], edited)
        assert found[name].passes == 0


def test_sefa_ranks_by_the_effect_on_the_rows_selected_on(compared: Compared) -> None:
    found = compared.rankings("sefa")["sefa"]

    s, generator = compared.statistics, compared.model.generator
    directions = style_directions(generator, s.latents, 64, 4)
    effects = {}
    for i, direction in enumerate(directions):
        for towards in (0, 1):
            moved = edited_latents(s.latents[compared.selecting], direction, towards, 1.5)
            change = compared.judged(generator.styles(moved)) - s.base_logits[compared.selecting]
            effects[i, towards] = float(change[:, compared.target].mean())
    best = sorted((i for i in range(4)), key=lambda i: max(effects[i, 0], effects[i, 1]))[::-1]
    ways = [(i, int(effects[i, 1] > effects[i, 0])) for i in best[:3]]
    ways = [way for rank, way in enumerate(ways) if rank == 0 or effects[way] > 0]
    assert found.ranked == tuple(
        f"singular vector {i + 1} -> {('smallest', 'largest')[t]}" for i, t in ways
    )
    latents = s.latents[compared.held]
    edits = [LatentEdit(directions[i], t) for i, t in ways]
    edited = [
        generator.styles(moved_latents(latents, edits[: count + 1], 1.5))
        for count in range(len(edits))
    ]
    compared.assert_measured(found, edited)
    for alone, edit in zip(found.alone, edits, strict=True):
        moved = generator.styles(edited_latents(latents, *edit, 1.5))
        torch.testing.assert_close(alone, moved)
    assert found.passes == 4 * 2 * len(compared.selecting)


@pytest.mark.parametrize("seed", [7, 8])
def test_ganalyze_is_trained_without_the_held_images_and_moved_to_the_extent_of_all(
    compared: Compared, seed: int
) -> None:
    s = compared.statistics
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    compared.held = order[:40]  # the extreme is theirs
    found = compared.rankings("ganalyze", seed=seed)["ganalyze"]

    free = [i for i in range(60) if i not in compared.held.tolist()]
    trained = ganalyze_direction(
        compared.model,
        s.latents[free],
        compared.target,
        steps=4,
        batch_size=rankers.GANALYZE_BATCH,
        learning_rate=rankers.GANALYZE_LEARNING_RATE,
        seed=seed,
        progress=quiet,
    )
    direction = Direction.over(trained.vector, s.latents)
    assert direction.high > trained.high
    moved = edited_latents(s.latents[compared.held], direction, 1, 1.5)
    compared.assert_measured(found, [compared.model.generator.styles(moved)])
    assert found.ranked == ("GANalyze",)
    assert found.passes == len(free) + 3 * 4 * rankers.GANALYZE_BATCH


def test_rankings_come_in_the_order_asked_and_as_plain_values(compared: Compared) -> None:
    found = compared.rankings(*reversed(RANKERS))

    for name, ranking in found.items():
        plain = ranking.as_json()
        assert list(plain) == ["name", "ranked", "effect", "flips", "sufficiency", "passes"]
        assert plain["name"] == name
        assert plain["flips"] == plain["sufficiency"]["1"]
        assert len(plain["ranked"]) == len(plain["sufficiency"])


def test_an_unknown_ranker_is_refused(compared: Compared) -> None:
    with pytest.raises(InputError, match="rankers must be among attfind, .*, got 'svd'"):
        compared.rankings("attfind", "svd")


@pytest.mark.parametrize("changes", [{"num": 0}, {"picks_of_search": []}])
def test_nothing_to_compare_is_refused(compared: Compared, changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="at least 1 attribute of the search, got 0"):
        compared.rankings("random", **changes)
