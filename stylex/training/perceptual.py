"""Perceptual distance of two images: the frozen classifier's own features, or LPIPS."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.training.losses import perceptual_distance
from stylex.types import Images

KINDS = ("classifier", "lpips", "none")


class PerceptualDistance(nn.Module):
    """Distance of images in [-1, 1]; no image is rescaled by its own range."""

    def __init__(self, kind: str, classifier: FrozenClassifier) -> None:
        """Chooses the features.

        Args:
            kind: `classifier` takes its `feature_layers`; `lpips` takes AlexNet through
                torchmetrics, whose weights must be on disk; `none` always gives 0.
            classifier: The classifier under explanation.

        Raises:
            InputError: If the features are not to be had.
        """
        super().__init__()
        self.kind = kind
        if kind not in KINDS:
            raise InputError(f"training.perceptual must be classifier, lpips or none, got '{kind}'")
        if kind == "classifier" and not classifier.feature_layers:
            raise InputError(
                "training.perceptual=classifier needs classifier.feature_layers, got an empty "
                "list; "
                "name some layers or give training.perceptual=none"
            )
        # In a list, so that the weights stay out of the module's state.
        self._lpips = [_load_lpips()] if kind == "lpips" else []

    def forward(
        self,
        original: Images,
        generated: Images,
        original_features: Sequence[Float[Tensor, "b ..."]],
        generated_features: Sequence[Float[Tensor, "b ..."]],
    ) -> Float[Tensor, ""]:
        """Mean distance over the batch.

        Args:
            original: Real images.
            generated: Their reconstructions.
            original_features: The classifier's features of `original`.
            generated_features: The classifier's features of `generated`.
        """
        if self.kind == "classifier":
            return perceptual_distance(original_features, generated_features)
        if self.kind == "lpips":
            network = self._lpips[0].to(original.device)
            three = (x.expand(-1, 3, -1, -1).clamp(-1, 1) for x in (original, generated))
            return network(*three).mean()
        return original.new_zeros(())


def _load_lpips() -> nn.Module:
    """AlexNet LPIPS from torchmetrics, only if nothing has to be downloaded."""
    from pathlib import Path

    import torch

    cached = Path(torch.hub.get_dir()) / "checkpoints"
    if not list(cached.glob("alexnet-owt-*.pth")):
        raise InputError(
            "training.perceptual=lpips needs torchvision's AlexNet weights on disk, got no "
            "alexnet-owt-*.pth in "
            f"'{cached}'; put the file there or give training.perceptual=classifier"
        )
    try:
        from torchmetrics.functional.image.lpips import _LPIPS
    except ImportError as error:
        raise InputError(
            "training.perceptual=lpips needs torchmetrics, got none; pip install 'stylex[lpips]'"
        ) from error
    return _LPIPS(pretrained=True, net="alex").eval().requires_grad_(False)
