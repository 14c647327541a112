"""The GAN's layers against the definitions, with every kernel formed and every sum written out."""

import math

import pytest
import torch
from torch import Tensor, nn

from stylex.gan.layers import (
    Convolution,
    FullyConnected,
    SynthesisLayer,
    ToRGB,
    channels_at,
    demodulation,
    resampling_taps,
)

TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


def double(module: nn.Module) -> nn.Module:
    """The module in float64 and without gradients, with every parameter random."""
    for parameter in module.requires_grad_(False).parameters():
        parameter.normal_()
    return module.double()


def correlate(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Correlation without padding: one product per place of the window."""
    size = kernel.shape[-1]
    windows = x.unfold(2, size, stride).unfold(3, size, stride)
    return torch.einsum("bihwkl,oikl->bohw", windows, kernel)


def surround(x: Tensor, width: int) -> Tensor:
    """The features inside a frame of zeros."""
    batch, channels, height, breadth = x.shape
    framed = x.new_zeros(batch, channels, height + 2 * width, breadth + 2 * width)
    framed[:, :, width : width + height, width : width + breadth] = x
    return framed


def smooth(x: Tensor, width: int) -> Tensor:
    """Every channel in a frame of zeros, filtered with [1, 3, 3, 1] on both axes."""
    framed = surround(x, width)
    rows, columns = (side - 3 for side in framed.shape[2:])
    result = x.new_zeros(*x.shape[:2], rows, columns)
    for k in range(4):
        for m in range(4):
            result += TAPS[k] * TAPS[m] * framed[:, :, k : k + rows, m : m + columns]
    return result


def activate(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def modulated(weight: Tensor, styles: Tensor) -> Tensor:
    """One sample's kernel: scaled per input channel, then every output filter brought to norm 1."""
    kernel = weight * styles[None, :, None, None]
    for o in range(len(kernel)):
        kernel[o] = kernel[o] / math.sqrt(float((kernel[o] ** 2).sum()) + 1e-8)
    return kernel


def test_the_taps_sum_to_one() -> None:
    assert resampling_taps().tolist() == [*TAPS]
    assert float(resampling_taps().sum()) == 1.0


def test_channels_shrink_with_the_resolution_up_to_a_maximum() -> None:
    expected = {4: 512, 32: 512, 64: 512, 128: 256, 256: 128}
    assert {r: channels_at(r, 32768, 512) for r in expected} == expected


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_fully_connected_layer_scales_weight_and_bias_when_they_are_used(
    lr_multiplier: float,
) -> None:
    layer = double(FullyConnected(5, 3, lr_multiplier=lr_multiplier))
    x = torch.randn(4, 5, dtype=torch.float64)

    expected = x @ (layer.weight * lr_multiplier / math.sqrt(5)).T + layer.bias * lr_multiplier

    torch.testing.assert_close(layer(x), expected)


def test_an_activated_fully_connected_layer_ends_in_leaky_relu_with_gain_sqrt_2() -> None:
    linear, activated = FullyConnected(5, 3), FullyConnected(5, 3, activate=True)
    activated.load_state_dict(linear.state_dict())
    x = torch.randn(4, 5)

    torch.testing.assert_close(activated(x), activate(linear(x)))


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_new_fully_connected_layer_keeps_the_variance_and_has_the_bias_asked_for(
    lr_multiplier: float,
) -> None:
    layer = FullyConnected(256, 1024, bias_init=1.5, lr_multiplier=lr_multiplier)
    layer.requires_grad_(False)

    outputs = layer(torch.randn(256, 256))

    assert float(layer.weight.std()) == pytest.approx(1 / lr_multiplier, rel=0.02)
    assert float(outputs.mean()) == pytest.approx(1.5, abs=0.02)
    assert float(outputs.std()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("kernel_px", [1, 3])
def test_a_convolution_scales_its_weight_by_the_root_of_its_inputs(
    kernel_px: int, activated: bool
) -> None:
    layer = double(Convolution(3, 2, kernel_px, down=False, activate=activated))
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)

    weight = layer.weight / math.sqrt(3 * kernel_px**2)
    expected = correlate(surround(x, kernel_px // 2), weight)
    if activated:
        expected = activate(expected + layer.bias[:, None, None]) / math.sqrt(2)

    torch.testing.assert_close(layer(x, gain=1.7), 1.7 * expected)


def test_a_large_kernel_that_halves_filters_with_padding_2_and_then_convolves_with_stride_2() -> (
    None
):
    layer = double(Convolution(3, 2, 3, down=True, activate=True))
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)

    convolved = correlate(smooth(x, 2), layer.weight / math.sqrt(27), stride=2)
    expected = activate(convolved + layer.bias[:, None, None])

    assert expected.shape == (2, 2, 4, 3)
    torch.testing.assert_close(layer(x), expected)


def test_a_kernel_of_one_pixel_that_halves_filters_decimates_and_then_convolves() -> None:
    layer = double(Convolution(3, 2, 1, down=True, activate=False))
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)

    kept = smooth(x, 1)[:, :, ::2, ::2]
    expected = correlate(kept, layer.weight / math.sqrt(3))

    assert expected.shape == (2, 2, 4, 3)
    torch.testing.assert_close(layer(x, gain=0.5), 0.5 * expected)


def test_only_a_convolution_that_activates_has_a_bias() -> None:
    assert Convolution(3, 2, 1, down=True, activate=False).bias is None
    assert Convolution(3, 2, 1, down=True, activate=True).bias is not None


def test_demodulation_is_one_over_the_norm_of_the_modulated_kernels() -> None:
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    styles = torch.randn(5, 3, dtype=torch.float64)

    found = demodulation(weight, styles)

    for n in range(5):
        for o in range(4):
            kernel = weight[o] * styles[n][:, None, None]
            norm = math.sqrt(float((kernel**2).sum()) + 1e-8)
            assert float(found[n, o]) == pytest.approx(1 / norm, rel=1e-12)


def test_demodulation_of_all_zero_styles_is_finite() -> None:
    found = demodulation(torch.randn(4, 3, 3, 3), torch.zeros(1, 3))

    torch.testing.assert_close(found, torch.full((1, 4), 1e4))


@pytest.mark.parametrize("noise", ["none", "stored", "fresh"])
@pytest.mark.parametrize("up", [False, True])
def test_a_synthesis_layer_convolves_every_sample_with_its_own_demodulated_kernel(
    up: bool, noise: str
) -> None:
    layer = SynthesisLayer(3, 4, 6, 8, up=up, noise=noise != "none")
    layer = double(layer)
    side = 4 if up else 8
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    styles = torch.randn(2, 3, dtype=torch.float64)
    fresh = torch.randn(2, 1, 8, 8, dtype=torch.float64)

    found = layer(x, styles, fresh if noise == "fresh" else None)

    added = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    if noise == "stored":
        added = added + layer.noise_const * layer.noise_strength
    elif noise == "fresh":
        added = fresh * layer.noise_strength
    samples = []
    for n in range(2):
        kernel = modulated(layer.weight, styles[n])
        if up:
            # Every input value stamps the kernel onto the fine grid; then the filter, with gain 4.
            stamped = x.new_zeros(1, 4, 2 * side + 1, 2 * side + 1)
            for i in range(side):
                for j in range(side):
                    stamp = torch.einsum("oikl,i->okl", kernel, x[n, :, i, j])
                    stamped[0, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += stamp
            convolved = 4 * smooth(stamped, 1)
        else:
            convolved = correlate(surround(x[n : n + 1], 1), kernel)
        samples.append(activate(convolved + added[n] + layer.bias[:, None, None]))
    torch.testing.assert_close(found, torch.cat(samples), rtol=1e-6, atol=1e-6)


def test_a_synthesis_layer_is_blind_to_the_common_scale_of_its_styles() -> None:
    layer = double(SynthesisLayer(3, 4, 6, 8, up=False, noise=False))
    x, styles = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3, 8, 8), (2, 3)))

    torch.testing.assert_close(layer(x, 9 * styles, None), layer(x, styles, None))


def test_fresh_noise_differs_between_samples_and_stored_noise_does_not() -> None:
    layer = double(SynthesisLayer(3, 4, 6, 8, up=False, noise=True))
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64).expand(2, -1, -1, -1)
    styles = torch.ones(2, 3, dtype=torch.float64)

    stored, fresh = layer(x, styles, None), layer(x, styles, torch.randn(2, 1, 8, 8).double())

    assert torch.equal(stored[0], stored[1])
    assert not torch.equal(fresh[0], fresh[1])


def test_a_new_synthesis_layer_adds_no_noise_and_has_style_bias_one() -> None:
    layer = SynthesisLayer(3, 4, 6, 8, up=False, noise=True)

    assert layer.noise_strength.tolist() == 0.0
    assert layer.affine(torch.zeros(2, 6)).tolist() == [[1.0] * 3] * 2


def test_torgb_scales_the_styles_by_the_root_of_the_channels_and_does_not_demodulate() -> None:
    layer = double(ToRGB(5, 3, 6))
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    styles = torch.randn(2, 5, dtype=torch.float64)

    expected = torch.einsum("oi,bi,bihw->bohw", layer.weight[:, :, 0, 0], styles, x) / math.sqrt(5)

    torch.testing.assert_close(layer(x, styles, None), expected + layer.bias[:, None, None])


def test_torgb_adds_the_bilinearly_doubled_image_of_the_blocks_below() -> None:
    layer = double(ToRGB(5, 3, 6))
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    styles = torch.randn(2, 5, dtype=torch.float64)
    image = torch.randn(2, 3, 4, 4, dtype=torch.float64)

    doubling = torch.zeros(8, 4, dtype=torch.float64)  # pixels outside the image are 0
    for i in range(8):
        near = i // 2
        far = near + (1 if i % 2 else -1)
        doubling[i, near] = 0.75
        if 0 <= far < 4:
            doubling[i, far] = 0.25
    expected = layer(x, styles, None) + doubling @ image @ doubling.T

    torch.testing.assert_close(layer(x, styles, image), expected)


def test_filters_are_no_part_of_the_saved_weights() -> None:
    layers = [
        Convolution(3, 2, 3, down=True, activate=True),
        SynthesisLayer(3, 4, 6, 8, up=True, noise=True),
        ToRGB(5, 3, 6),
    ]
    assert not [name for layer in layers for name in layer.state_dict() if "taps" in name]
