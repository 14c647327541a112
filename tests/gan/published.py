"""StyleGAN2 of the two published layouts in plain PyTorch, straight from their state_dicts.

Every modulated kernel is formed and every filter is a correlation of the zero-stuffed features.
Names and shapes are written out here, not taken from the tables under test.
"""

import math

import torch
from torch import Tensor

RESOLUTION, WIDTH, DEPTH = 32, 10, 3  # px, of the latent, mapping layers
CHANNELS = {4: 12, 8: 12, 16: 8, 32: 4}  # of base 128, at most 12
SIZES = {"channel_base": 128, "channel_max": 12}
State = dict[str, Tensor]

# States ------------------------------------------------------------------------------------------


def taps(gain: float = 1.0) -> Tensor:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(line, line) / 64 * gain


def around(mean: float, *shape: int) -> Tensor:
    return mean + 0.3 * torch.randn(shape)


def nvlabs_generator() -> State:
    state = {"mapping.w_avg": torch.randn(WIDTH)}
    for i in range(DEPTH):
        state[f"mapping.fc{i}.weight"] = torch.randn(WIDTH, WIDTH) * 100
        state[f"mapping.fc{i}.bias"] = around(0, WIDTH) * 100
    state["synthesis.b4.const"] = torch.randn(12, 4, 4)
    for r, out in CHANNELS.items():
        block = f"synthesis.b{r}"
        state[f"{block}.resample_filter"] = taps()
        below = CHANNELS.get(r // 2)
        for name, inputs in (("conv0", below), ("conv1", out)):
            if inputs is not None:
                state[f"{block}.{name}.affine.weight"] = torch.randn(inputs, WIDTH)
                state[f"{block}.{name}.affine.bias"] = around(1, inputs)
                state[f"{block}.{name}.weight"] = torch.randn(out, inputs, 3, 3)
                state[f"{block}.{name}.noise_strength"] = around(0)
                state[f"{block}.{name}.bias"] = around(0, out)
                state[f"{block}.{name}.resample_filter"] = taps()
                state[f"{block}.{name}.noise_const"] = torch.randn(r, r)
        state[f"{block}.torgb.affine.weight"] = torch.randn(out, WIDTH)
        state[f"{block}.torgb.affine.bias"] = around(1, out)
        state[f"{block}.torgb.weight"] = torch.randn(3, out, 1, 1)
        state[f"{block}.torgb.bias"] = around(0, 3)
    return state


def nvlabs_discriminator(num_outputs: int = 1) -> State:
    state = {
        "b32.fromrgb.weight": torch.randn(4, 3, 1, 1),
        "b32.fromrgb.bias": around(0, 4),
        "b32.fromrgb.resample_filter": taps(),
    }
    for r in (32, 16, 8):
        here, out = CHANNELS[r], CHANNELS[r // 2]
        state[f"b{r}.resample_filter"] = taps()
        for name, o, k in (("conv0", here, 3), ("conv1", out, 3), ("skip", out, 1)):
            state[f"b{r}.{name}.weight"] = torch.randn(o, here, k, k)
            state[f"b{r}.{name}.resample_filter"] = taps()
            if k == 3:
                state[f"b{r}.{name}.bias"] = around(0, o)
    state["b4.conv.weight"], state["b4.conv.bias"] = torch.randn(12, 13, 3, 3), around(0, 12)
    state["b4.conv.resample_filter"] = taps()
    state["b4.fc.weight"], state["b4.fc.bias"] = torch.randn(12, 192), around(0, 12)
    state["b4.out.weight"] = torch.randn(num_outputs, 12)
    state["b4.out.bias"] = around(0, num_outputs)
    return state


def rosinality_generator() -> State:
    state = {"input.input": torch.randn(1, 12, 4, 4)}
    for i in range(1, DEPTH + 1):
        state[f"style.{i}.weight"] = torch.randn(WIDTH, WIDTH) * 100
        state[f"style.{i}.bias"] = around(0, WIDTH) * 100
    layers = [("conv1", 12, 12, 4)]  # name, inputs, outputs, resolution
    for k, r in enumerate((8, 16, 32)):
        layers.append((f"convs.{2 * k}", CHANNELS[r // 2], CHANNELS[r], r))
        layers.append((f"convs.{2 * k + 1}", CHANNELS[r], CHANNELS[r], r))
        state[f"convs.{2 * k}.conv.blur.kernel"] = taps(4)
        state[f"to_rgbs.{k}.upsample.kernel"] = taps(4)
    for j, (name, inputs, out, r) in enumerate(layers):
        state[f"{name}.conv.weight"] = torch.randn(1, out, inputs, 3, 3)
        state[f"{name}.conv.modulation.weight"] = torch.randn(inputs, WIDTH)
        state[f"{name}.conv.modulation.bias"] = around(1, inputs)
        state[f"{name}.noise.weight"] = around(0, 1)
        state[f"{name}.activate.bias"] = around(0, out)
        state[f"noises.noise_{j}"] = torch.randn(1, 1, r, r)
    for k, inputs in enumerate(CHANNELS.values()):
        name = f"to_rgbs.{k - 1}" if k else "to_rgb1"
        state[f"{name}.conv.weight"] = torch.randn(1, 3, inputs, 1, 1)
        state[f"{name}.conv.modulation.weight"] = torch.randn(inputs, WIDTH)
        state[f"{name}.conv.modulation.bias"] = around(1, inputs)
        state[f"{name}.bias"] = around(0, 1, 3, 1, 1)
    return state


def rosinality_discriminator() -> State:
    state = {"convs.0.0.weight": torch.randn(4, 3, 1, 1), "convs.0.1.bias": around(0, 4)}
    for j, r in enumerate((32, 16, 8), 1):
        here, out = CHANNELS[r], CHANNELS[r // 2]
        state[f"convs.{j}.conv1.0.weight"] = torch.randn(here, here, 3, 3)
        state[f"convs.{j}.conv1.1.bias"] = around(0, here)
        state[f"convs.{j}.conv2.0.kernel"] = taps()
        state[f"convs.{j}.conv2.1.weight"] = torch.randn(out, here, 3, 3)
        state[f"convs.{j}.conv2.2.bias"] = around(0, out)
        state[f"convs.{j}.skip.0.kernel"] = taps()
        state[f"convs.{j}.skip.1.weight"] = torch.randn(out, here, 1, 1)
    state["final_conv.0.weight"] = torch.randn(12, 13, 3, 3)
    state["final_conv.1.bias"] = around(0, 12)
    state["final_linear.0.weight"], state["final_linear.0.bias"] = (
        torch.randn(12, 192),
        around(0, 12),
    )
    state["final_linear.1.weight"], state["final_linear.1.bias"] = torch.randn(1, 12), around(0, 1)
    return state


# Operations --------------------------------------------------------------------------------------


def correlate(x: Tensor, kernel: Tensor, padding: tuple[int, int], stride: int = 1) -> Tensor:
    """Each sample with its kernel [b o i k k], inside a frame of zeros: (before, after)."""
    x = torch.nn.functional.pad(x, (*padding, *padding))
    size = kernel.shape[-1]
    windows = x.unfold(2, size, stride).unfold(3, size, stride)
    return torch.einsum("bihwkl,boikl->bohw", windows, kernel.expand(len(x), -1, -1, -1, -1))


def stuff(x: Tensor) -> Tensor:
    """Every pixel followed by a zero, on both axes."""
    stuffed = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    stuffed[:, :, ::2, ::2] = x
    return stuffed


def filtered(x: Tensor, kernel: Tensor, padding: tuple[int, int], stride: int = 1) -> Tensor:
    """Convolution of every channel with one filter."""
    flat = x.reshape(-1, 1, *x.shape[2:])
    found = correlate(flat, kernel.flip(0, 1)[None, None, None], padding, stride)
    return found.reshape(*x.shape[:2], *found.shape[2:])


def activate(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def channelwise(values: Tensor) -> Tensor:
    return values[:, None, None]


def linear(x: Tensor, weight: Tensor, bias: Tensor, rate: float = 1.0) -> Tensor:
    return x @ (weight * rate / math.sqrt(weight.shape[1])).T + bias * rate


def mapped(z: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for weight, bias in layers:
        x = activate(linear(x, weight, bias, 0.01))
    return x


def doubling(x: Tensor, kernels: Tensor, smoothing: Tensor) -> Tensor:
    """Transposed convolution of stride 2, then the filter of sum 4."""
    stuffed = stuff(x)[:, :, :-1, :-1]
    return filtered(correlate(stuffed, kernels.flip(3, 4), (2, 2)), smoothing, (1, 1))


def deviation(x: Tensor, group: int) -> Tensor:
    """Minibatch deviation as one more channel: sample i is in the group i modulo b / group."""
    result = x.new_zeros(len(x), 1, *x.shape[2:])
    groups = len(x) // group
    for i in range(groups):
        members = x[i::groups]
        result[i::groups] = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat((x, result), dim=1)


# NVlabs ------------------------------------------------------------------------------------------


def nvlabs_latents(g: State, z: Tensor) -> Tensor:
    return mapped(z, [(g[f"mapping.fc{i}.weight"], g[f"mapping.fc{i}.bias"]) for i in range(DEPTH)])


def nvlabs_images(g: State, latents: Tensor) -> Tensor:
    """Images of one latent per layer [b 8 w], with constant noise and without truncation."""

    def convolution(x: Tensor, name: str, w: Tensor) -> Tensor:
        styles = linear(w, g[f"{name}.affine.weight"], g[f"{name}.affine.bias"])
        kernels = g[f"{name}.weight"][None] * styles[:, None, :, None, None]
        kernels = kernels / (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
        if name.endswith("conv0"):
            x = doubling(x, kernels, 4 * g[f"{name}.resample_filter"])
        else:
            x = correlate(x, kernels, (1, 1))
        x = x + g[f"{name}.noise_const"] * g[f"{name}.noise_strength"]
        return activate(x + channelwise(g[f"{name}.bias"]))

    x = g["synthesis.b4.const"].expand(len(latents), -1, -1, -1)
    image, next_latent = x.new_zeros(len(latents), 3, 2, 2), 0
    for r in CHANNELS:
        block = f"synthesis.b{r}"
        for name in ("conv1",) if r == 4 else ("conv0", "conv1"):
            x = convolution(x, f"{block}.{name}", latents[:, next_latent])
            next_latent += 1
        # The next block's first convolution takes this latent again.
        weight, bias = (g[f"{block}.torgb.affine.{leaf}"] for leaf in ("weight", "bias"))
        styles = linear(latents[:, next_latent], weight, bias) / math.sqrt(len(weight))
        kernels = g[f"{block}.torgb.weight"][None] * styles[:, None, :, None, None]
        above = filtered(stuff(image), 4 * g[f"{block}.resample_filter"], (2, 1))
        image = above + correlate(x, kernels, (0, 0)) + channelwise(g[f"{block}.torgb.bias"])
    return image


def nvlabs_logits(d: State, images: Tensor, group: int) -> Tensor:
    def convolution(x: Tensor, name: str, padding: int, stride: int = 1) -> Tensor:
        weight = d[f"{name}.weight"]
        return correlate(x, weight[None] / math.sqrt(weight[0].numel()), (padding,) * 2, stride)

    def activated(x: Tensor, name: str) -> Tensor:
        return activate(x + channelwise(d[f"{name}.bias"]))

    x = activated(convolution(images, "b32.fromrgb", 0), "b32.fromrgb")
    for r in (32, 16, 8):
        smooth = filtered(x, d[f"b{r}.skip.resample_filter"], (1, 1), 2)
        skip = convolution(smooth, f"b{r}.skip", 0) * math.sqrt(0.5)
        x = activated(convolution(x, f"b{r}.conv0", 1), f"b{r}.conv0")
        smooth = filtered(x, d[f"b{r}.conv1.resample_filter"], (2, 2))
        x = activated(convolution(smooth, f"b{r}.conv1", 0, 2), f"b{r}.conv1")
        x = x * math.sqrt(0.5) + skip
    x = activated(convolution(deviation(x, group), "b4.conv", 1), "b4.conv")
    x = activate(linear(x.flatten(1), d["b4.fc.weight"], d["b4.fc.bias"]))
    return linear(x, d["b4.out.weight"], d["b4.out.bias"])


# rosinality --------------------------------------------------------------------------------------


def rosinality_latents(g: State, z: Tensor) -> Tensor:
    return mapped(z, [(g[f"style.{i + 1}.weight"], g[f"style.{i + 1}.bias"]) for i in range(DEPTH)])


def rosinality_images(g: State, latents: Tensor) -> Tensor:
    """Images of one latent per layer [b 8 w], with the stored noises and without truncation."""

    def kernels(name: str, w: Tensor, demodulate: bool) -> Tensor:
        weight = g[f"{name}.conv.weight"]
        modulation = (g[f"{name}.conv.modulation.{leaf}"] for leaf in ("weight", "bias"))
        scale = 1 / math.sqrt(weight[0, 0].numel())
        formed = scale * weight * linear(w, *modulation)[:, None, :, None, None]
        if not demodulate:
            return formed
        return formed / (formed.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()

    def styled(x: Tensor, name: str, w: Tensor, noise: int) -> Tensor:
        formed = kernels(name, w, True)
        smoothing = g.get(f"{name}.conv.blur.kernel")
        x = correlate(x, formed, (1, 1)) if smoothing is None else doubling(x, formed, smoothing)
        x = x + g[f"{name}.noise.weight"] * g[f"noises.noise_{noise}"]
        return activate(x + channelwise(g[f"{name}.activate.bias"]))

    def rgb(x: Tensor, name: str, w: Tensor) -> Tensor:
        return correlate(x, kernels(name, w, False), (0, 0)) + g[f"{name}.bias"]

    x = styled(g["input.input"].expand(len(latents), -1, -1, -1), "conv1", latents[:, 0], 0)
    image = rgb(x, "to_rgb1", latents[:, 1])
    for k in range(3):
        x = styled(x, f"convs.{2 * k}", latents[:, 2 * k + 1], 2 * k + 1)
        x = styled(x, f"convs.{2 * k + 1}", latents[:, 2 * k + 2], 2 * k + 2)
        above = filtered(stuff(image), g[f"to_rgbs.{k}.upsample.kernel"], (2, 1))
        image = above + rgb(x, f"to_rgbs.{k}", latents[:, 2 * k + 3])
    return image


def rosinality_logits(d: State, images: Tensor, group: int) -> Tensor:
    def convolution(x: Tensor, name: str, padding: int, stride: int = 1) -> Tensor:
        weight = d[f"{name}.weight"]
        return correlate(x, weight[None] / math.sqrt(weight[0].numel()), (padding,) * 2, stride)

    def activated(x: Tensor, name: str) -> Tensor:
        return activate(x + channelwise(d[f"{name}.bias"]))

    x = activated(convolution(images, "convs.0.0", 0), "convs.0.1")
    for j in (1, 2, 3):
        smooth = filtered(x, d[f"convs.{j}.skip.0.kernel"], (1, 1))
        skip = convolution(smooth, f"convs.{j}.skip.1", 0, 2)
        x = activated(convolution(x, f"convs.{j}.conv1.0", 1), f"convs.{j}.conv1.1")
        smooth = filtered(x, d[f"convs.{j}.conv2.0.kernel"], (2, 2))
        x = activated(convolution(smooth, f"convs.{j}.conv2.1", 0, 2), f"convs.{j}.conv2.2")
        x = (x + skip) / math.sqrt(2)
    x = activated(convolution(deviation(x, group), "final_conv.0", 1), "final_conv.1")
    x = activate(linear(x.flatten(1), d["final_linear.0.weight"], d["final_linear.0.bias"]))
    return linear(x, d["final_linear.1.weight"], d["final_linear.1.bias"])
