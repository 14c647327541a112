"""What each transform does, how often, and what must stay as it is."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from stylex.errors import InputError
from stylex.training.augment import NAMES, PAPER_BEST, TRANSFORMS, Augment, flip

ALL = tuple(TRANSFORMS)
# How often a transform that was drawn changes an image of 8 px at all.
ACTS = {"flip": 1 / 2, "quarter_turns": 3 / 4, "shift": 3 / 4, "inversion": 1 / 2}
GREY_STAYS = ("hue", "saturation")
Draws = dict[str, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(count: int, channels: int, size: int) -> Tensor:
    return torch.rand(count, channels, size, size, generator=seeded(9)) * 2 - 1


def only(draws: Draws, *names: str) -> Draws:
    """Draws in which these transforms are drawn at any p above 0, and no other below 1."""
    chances = torch.full_like(draws["chances"], 0.9999)
    for name in names:
        chances[:, NAMES.index(name)] = 0.0
    return {**draws, "chances": chances}


def augment(channels: int, size: int, p: float, kinds: tuple[str, ...] = ALL) -> Augment:
    return Augment(channels, size, p, kinds, "reference")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_at_probability_zero_images_come_back_bit_for_bit(
    channels: int, dtype: torch.dtype
) -> None:
    images = images_of(6, channels, 32).to(dtype)
    nothing = augment(channels, 32, 0.0)
    found = nothing(images, nothing.draw(6, seeded()))
    assert torch.equal(found, images)
    assert found.dtype == dtype


def test_an_image_for_which_nothing_was_drawn_comes_back_bit_for_bit_beside_others() -> None:
    images, some = images_of(40, 3, 16), augment(3, 16, 0.05)
    draws = some.draw(40, seeded())
    found = some(images, draws)
    spared = (draws["chances"] >= 0.05).all(dim=1)
    assert 5 < spared.sum() < 35
    assert torch.equal(found[spared], images[spared])
    assert not (found == images)[~spared].all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 256])
def test_shapes_stay_and_values_are_finite_when_everything_is_drawn(
    channels: int, size: int
) -> None:
    images, everything = images_of(2, channels, size), augment(channels, size, 1.0)
    found = everything(images, everything.draw(2, seeded()))
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert (found != images).float().mean() > 0.9


def test_an_image_depends_on_its_own_draws_alone() -> None:
    images, some = images_of(6, 3, 32), augment(3, 32, 0.7)
    draws = some.draw(6, seeded())
    found = some(images, draws)
    rows = some(images[2:5], {name: value[2:5] for name, value in draws.items()})
    torch.testing.assert_close(rows, found[2:5], atol=1e-6, rtol=0)
    assert torch.equal(some(images, draws), found)
    again = some.draw(6, seeded())
    assert all(torch.equal(draws[name], again[name]) for name in draws)
    assert not torch.allclose(some(images, some.draw(6, seeded(1))), found, atol=0.1)


def test_every_random_number_has_the_images_as_its_first_axis() -> None:
    draws = augment(3, 16, 0.5).draw(7, seeded())
    assert {len(value) for value in draws.values()} == {7}


@pytest.mark.parametrize("name", NAMES)
def test_the_share_of_images_that_a_transform_changes_is_its_probability(name: str) -> None:
    count, p = 1000, 0.3
    kind = next(kind for kind, names in TRANSFORMS.items() if name in names)
    images, some = images_of(count, 3, 8), augment(3, 8, p, (kind,))
    draws = some.draw(count, seeded(NAMES.index(name)))
    chances = torch.full_like(draws["chances"], 0.9999)
    chances[:, NAMES.index(name)] = draws["chances"][:, NAMES.index(name)]
    found = some(images, {**draws, "chances": chances})
    changed = ((found - images).abs() > 1e-5).flatten(1).any(dim=1)
    drawn = 1 - math.sqrt(1 - p) if name.endswith("_turn") else p
    expected = drawn * ACTS.get(name, 1.0)
    error = math.sqrt(expected * (1 - expected) / count)
    assert abs(changed.float().mean() - expected) < 4 * error


def test_strengths_have_the_papers_distributions() -> None:
    count = 20_000
    draws = augment(3, 8, 1.0).draw(count, seeded())
    near = 4 / math.sqrt(count)
    normal = {
        **{"scale": (draws["scale"].log2(), 0.2), "stretch": (draws["stretch"].log2(), 0.2)},
        **{"offset": (draws["offset"].flatten(), 0.125), "brightness": (draws["brightness"], 0.2)},
        "contrast": (draws["contrast"].log2(), 0.5),
        "saturation": (draws["saturation"].log2(), 1.0),
        "bands": (draws["bands"].log2().flatten(), 1.0),
    }
    for name, (values, deviation) in normal.items():
        assert abs(values.mean()) < near * deviation, name
        assert abs(values.std() / deviation - 1) < near, name
        assert abs((values.abs() < deviation).float().mean() - 0.6827) < near, name
    assert abs(draws["noise_level"].square().mean().sqrt() / 0.1 - 1) < near
    uniform = {
        **{name: (draws[name], -math.pi, math.pi) for name in ("first_turn", "second_turn", "hue")},
        "shift": (draws["shift"].flatten(), -0.125, 0.125),
        "cutout": (draws["cutout"].flatten(), 0.0, 1.0),
    }
    for name, (values, least, most) in uniform.items():
        shares = torch.histc((values - least) / (most - least), 10, 0.0, 1.0) / len(values)
        assert ((shares - 0.1).abs() < near).all(), name
        assert least <= values.min(), name
        assert values.max() <= most, name
    assert draws["flip"].unique().tolist() == draws["inversion"].unique().tolist() == [0, 1]
    assert draws["quarter_turns"].unique(return_counts=True)[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [31, 32])
def test_whole_moves_are_exactly_a_flip_then_quarter_turns_then_a_shift(size: int) -> None:
    count = 40
    images, some = images_of(count, 3, size), augment(3, size, 0.5)
    draws = only(some.draw(count, seeded()), *TRANSFORMS["blit"])
    found = some(images, draws)
    for k in range(count):
        image = images[k].flip(2) if draws["flip"][k] else images[k]
        image = torch.rot90(image, -int(draws["quarter_turns"][k]), (1, 2))
        right, down = (draws["shift"][k] * size).round().int().tolist()
        wide = np.pad(image.numpy(), [(0, 0), (size, size), (size, size)], mode="symmetric")
        moved = wide[:, size - down : 2 * size - down, size - right : 2 * size - right]
        assert torch.equal(found[k], torch.from_numpy(moved.copy()))


def forward_matrices(draws: Draws, k: int, size: int) -> dict[str, np.ndarray]:
    """What each transform does to a place (x right, y down) from the middle: the paper's list."""

    def turned(angle: float) -> np.ndarray:
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])

    def moved(x: float, y: float) -> np.ndarray:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    value = {name: draws[name][k].double().numpy() for name in draws if name != "noise"}
    return {
        "flip": np.diag([1 - 2 * value["flip"], 1, 1]),
        "quarter_turns": turned(math.pi / 2 * value["quarter_turns"]),
        "shift": moved(*np.round(value["shift"] * size)),
        "scale": np.diag([value["scale"], value["scale"], 1]),
        "first_turn": turned(value["first_turn"]),
        "stretch": np.diag([value["stretch"], 1 / value["stretch"], 1]),
        "second_turn": turned(value["second_turn"]),
        "offset": moved(*value["offset"] * size),
    }


def blob(size: int, middle: np.ndarray, covariance: np.ndarray) -> Tensor:
    """A Gaussian of height 1 and its mirror images beyond the edges [1 h w]."""
    axis = np.arange(size) - (size - 1) / 2
    apart = np.stack(np.meshgrid(axis, axis), axis=2) - middle
    form = (apart @ np.linalg.inv(covariance) * apart).sum(axis=2)
    return torch.from_numpy(np.exp(-0.5 * form))[None]


@pytest.mark.parametrize(
    "names", [*((name,) for name in TRANSFORMS["geometry"]), (*TRANSFORMS["blit"], "scale")]
)
def test_a_blob_is_moved_as_the_papers_matrices_say(names: tuple[str, ...]) -> None:
    check_blob(names)


def test_all_moves_together_follow_in_the_papers_order() -> None:
    check_blob((*TRANSFORMS["blit"], *TRANSFORMS["geometry"]))


def check_blob(names: tuple[str, ...]) -> None:
    """Compares the moved image of a Gaussian with its closed form, well inside the image."""
    size, count = 64, 6
    some = augment(1, size, 0.5, ("blit", "geometry"))
    draws = only(some.draw(count, seeded(3)), *names)
    draws["offset"] = draws["offset"].clamp(-0.15, 0.15)
    middle, covariance = np.array([3.0, -2.0]), np.array([[16.0, 3.0], [3.0, 9.0]])
    images = blob(size, middle, covariance).expand(count, 1, size, size)
    found = some(images, draws)
    for k in range(count):
        total, each = np.eye(3), forward_matrices(draws, k, size)
        for name in names:  # in the paper's order: the first one acts first
            total = each[name] @ total
        linear, offset = total[:2, :2], total[:2, 2]
        expected = blob(size, linear @ middle + offset, linear @ covariance @ linear.T)
        inside = expected > 0.2  # mirror images reach the rest
        assert inside.sum() > 20
        torch.testing.assert_close(found[k][inside], expected[inside], atol=0.015, rtol=0)


def colour_matrix(draws: Draws, names: tuple[str, ...], k: int) -> np.ndarray:
    """The paper's product of 4 by 4 matrices."""
    value = {name: float(draws[name][k]) for name in TRANSFORMS["colour"]}
    axis = np.array([1, 1, 1]) / math.sqrt(3)
    along, cross = np.outer(axis, axis), np.cross(axis, np.eye(3)).T
    cos, sin = math.cos(value["hue"]), math.sin(value["hue"])
    linear = {
        "contrast": value["contrast"] * np.eye(3),
        "inversion": np.eye(3) - 2 * along * value["inversion"],
        "hue": cos * np.eye(3) + sin * cross + (1 - cos) * along,  # Rodrigues' formula
        "saturation": along + (np.eye(3) - along) * value["saturation"],
    }
    total = np.eye(4)
    for name in names:
        step = np.eye(4)
        if name == "brightness":
            step[:3, 3] = value["brightness"]
        else:
            step[:3, :3] = linear[name]
        total = step @ total
    return total


@pytest.mark.parametrize(
    "names", [*((name,) for name in TRANSFORMS["colour"]), TRANSFORMS["colour"]]
)
def test_colours_are_those_of_the_papers_matrices(names: tuple[str, ...]) -> None:
    count = 10
    images, some = images_of(count, 3, 8).double(), augment(3, 8, 0.5)
    draws = only(some.draw(count, seeded(2)), *names)
    found = some(images, draws)
    for k in range(count):
        pixels = np.concatenate((images[k].flatten(1).numpy(), np.ones((1, 64))))
        expected = (colour_matrix(draws, names, k) @ pixels)[:3].reshape(3, 8, 8)
        torch.testing.assert_close(found[k], torch.from_numpy(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMS["colour"])
def test_a_grey_image_gets_what_the_same_image_in_colour_gets(name: str) -> None:
    grey, some = images_of(10, 1, 8), augment(1, 8, 0.5)
    draws = only(some.draw(10, seeded()), name)
    found = some(grey, draws)
    coloured = augment(3, 8, 0.5)(grey.expand(-1, 3, -1, -1), draws)
    torch.testing.assert_close(found.expand(-1, 3, -1, -1), coloured, atol=1e-6, rtol=0)
    assert torch.equal(found, grey) == (name in GREY_STAYS)


def test_a_band_alone_is_amplified_and_expected_power_kept() -> None:
    size, some = 64, augment(1, 64, 0.5, ("filter",))
    wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(size // 2)
    images = (0.5 + wave).expand(4, 1, size, size)  # constant in the lowest band, wave in the last
    gains = some.draw(4, seeded())
    for band, low_share in (("band_1", 10 / 13), ("band_4", 1 / 13)):
        found = some(images, only(gains, band))[:, 0, size // 2, 24:40]
        gain = gains["bands"][:, int(band[-1]) - 1].double()
        others = 1 / (1 + low_share * (gain.square() - 1)).sqrt()
        lowest, last = (gain * others, others) if band == "band_1" else (others, gain * others)
        # The filter runs along both axes, and the wave is constant along one.
        expected = 0.5 * lowest.square()[:, None] + (last * lowest)[:, None] * wave[24:40]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_bands_add_up_to_the_image_and_lie_where_they_should() -> None:
    bands = augment(1, 8, 0.5).bands.double()
    total = bands.sum(dim=0)
    assert total[len(total) // 2] == pytest.approx(1, abs=1e-6)
    assert total.abs().sum() == pytest.approx(1, abs=1e-5)
    places = torch.arange(len(total)).double() - len(total) // 2
    for k, frequency in enumerate((1 / 32, 3 / 32 * 2, 3 / 8, 3 / 4)):  # each band's middle
        strengths = (bands * (math.pi * frequency * places).cos()).sum(dim=1)
        assert strengths.argmax() == k


def test_noise_and_holes_are_what_was_drawn() -> None:
    images, some = images_of(5, 3, 16), augment(3, 16, 0.5)
    draws = some.draw(5, seeded())
    noisy = some(images, only(draws, "noise"))
    expected = images + draws["noise_level"][:, None, None, None] * draws["noise"]
    torch.testing.assert_close(noisy, expected)
    draws["cutout"] = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.5], [0.25, 0.75], [0.5, 0.0]])
    holes = some(images, only(draws, "cutout")) == 0
    assert holes[0, :, 4:12, 4:12].all()
    assert holes[1, :, :4, :4].all()
    assert holes[3, :, 8:, :8].all()  # left and below: x comes first
    assert (holes.sum(dim=(1, 2, 3)) / 3).tolist() == [64, 16, 32, 64, 32]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_pipeline_has_exact_second_derivatives(channels: int) -> None:
    images = images_of(2, channels, 5).double().requires_grad_()
    everything = augment(channels, 5, 1.0)
    draws = everything.draw(2, seeded())

    def judged(x: Tensor) -> Tensor:
        return everything(x, draws) ** 3

    assert torch.autograd.gradcheck(judged, images, atol=1e-4, fast_mode=True)
    assert torch.autograd.gradgradcheck(judged, images, atol=1e-4, fast_mode=True)


def test_a_penalty_on_the_gradient_reaches_weights_through_the_pipeline() -> None:
    images, everything = images_of(2, 3, 8).requires_grad_(), augment(3, 8, 1.0, PAPER_BEST)
    weight = torch.randn(3 * 64, generator=seeded(), requires_grad=True)
    judged = (everything(images, everything.draw(2, seeded())).flatten(1) @ weight).tanh()
    (gradient,) = torch.autograd.grad(judged.sum(), images, create_graph=True)
    (found,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert found.isfinite().all()
    assert found.abs().max() > 0


def test_what_is_computed_does_not_follow_what_was_drawn() -> None:
    """Tracing on tensors without values fails wherever a value would be asked for."""
    images, some = images_of(3, 3, 16), augment(3, 16, 0.5)
    buffers = dict(some.named_buffers())

    def derived(p: Tensor, images: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        images = images.detach().requires_grad_()
        made = torch.func.functional_call(some, {**buffers, "p": p}, (images, draws))
        (gradient,) = torch.autograd.grad((made**3).sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), images)
        return made.detach(), gradient.detach(), second

    first = some.draw(3, seeded())
    traced = make_fx(derived, tracing_mode="fake", _allow_non_fake_inputs=True)(
        torch.tensor(0.5), images, first
    )
    for seed, p in enumerate((0.0, 0.5, 1.0)):
        given = (torch.tensor(p), images, some.draw(3, seeded(seed)))
        for found, expected in zip(traced(*given), derived(*given), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


ONE_GRAPH = """
import sys
import torch
from stylex.training.augment import TRANSFORMS, Augment

graphs = []
def counted(graph, inputs):
    graphs.append(graph)
    return graph

images, random = torch.randn(3, 3, 16, 16), torch.Generator().manual_seed(0)
some = Augment(3, 16, 0.0, tuple(TRANSFORMS), sys.argv[1])
compiled = torch.compile(some, fullgraph=True, backend=counted, dynamic=False)
for p in (0.0, 0.5, 1.0):
    some.p.fill_(p)
    draws = some.draw(3, random)
    torch.testing.assert_close(compiled(images, draws), some(images, draws), atol=1e-6, rtol=0)
print(len(graphs), "graphs")
"""


@pytest.mark.slow  # in a process of its own: shape checks of the tests cannot be compiled
@pytest.mark.parametrize("impl", ["reference", "fused"])
def test_the_compiler_finds_one_graph_for_all_draws(impl: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_GRAPH, impl], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "1 graphs", done.stderr


def test_the_registered_op_gives_the_same_images_as_plain_pytorch() -> None:
    images = images_of(3, 3, 16)
    plain, fused = (Augment(3, 16, 0.8, PAPER_BEST, impl) for impl in ("reference", "fused"))
    draws = plain.draw(3, seeded())
    torch.testing.assert_close(fused(images, draws), plain(images, draws), atol=1e-5, rtol=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nothing_waits_for_the_gpu() -> None:
    some = Augment(3, 32, 0.6, ALL).cuda()
    images = images_of(8, 3, 32).cuda().requires_grad_()
    generator = torch.Generator("cuda").manual_seed(0)
    some(images, some.draw(8, generator)).sum().backward()  # builds the ops, fills caches
    torch.cuda.set_sync_debug_mode("error")
    try:
        judged = some(images, some.draw(8, generator)).square().sum()
        (gradient,) = torch.autograd.grad(judged, images, create_graph=True)
        gradient.square().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_gives_the_images_and_second_derivatives_of_the_cpu() -> None:
    found = []
    everything = augment(3, 32, 1.0)
    draws = everything.draw(4, seeded())
    for device in ("cpu", "cuda"):
        everything, here = everything.to(device), {k: v.to(device) for k, v in draws.items()}
        images = images_of(4, 3, 32).to(device).requires_grad_()
        made = everything(images, here)
        (gradient,) = torch.autograd.grad((made**3).sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), images)
        found.append([value.detach().cpu() for value in (made, gradient, second)])
    for cpu, cuda in zip(*found, strict=True):
        torch.testing.assert_close(cuda, cpu, atol=1e-3, rtol=1e-3)


def test_the_state_is_the_probability_alone() -> None:
    some, other = augment(3, 16, 0.25), augment(3, 16, 0.0)
    assert list(some.state_dict()) == ["p"]
    other.load_state_dict(some.state_dict())
    assert other.p == 0.25


def test_a_share_of_real_images_is_mirrored() -> None:
    images, chances = images_of(4, 1, 8), torch.tensor([0.0, 0.49, 0.5, 0.9])
    found = flip(images, chances, 0.5)
    assert torch.equal(found[:2], images[:2].flip(3))
    assert torch.equal(found[2:], images[2:])
    assert torch.equal(flip(images, chances, 0.0), images)
    assert torch.equal(flip(images, chances, 1.0), images.flip(3))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_probability_out_of_its_range_is_refused(p: float) -> None:
    with pytest.raises(InputError, match="augment.p must be from 0 to 1, got"):
        augment(3, 16, p)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="any of blit, .*, got rotation"):
        augment(3, 16, 0.5, ("blit", "rotation"))


def test_images_of_another_shape_are_refused() -> None:
    some = augment(3, 16, 0.5)
    with pytest.raises(ValueError, match=r"shape \(3, 16, 16\), got \(1, 16, 16\)"):
        some(images_of(2, 1, 16), some.draw(2, seeded()))
