"""Laws of `stylex.data.module`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from pictured_folders import folder, many, write
from torch import Tensor, nn

from stylex.data.datasets import FashionMNIST
from stylex.data.module import ImageDataModule
from stylex.data.steps import StepBatches
from stylex.errors import InputError


@pytest.fixture(scope="module")
def images() -> FashionMNIST:
    return FashionMNIST(split="test", resolution=32, channels=1)


def module(images: FashionMNIST, num_workers: int = 0, batch_size: int = 600) -> ImageDataModule:
    return ImageDataModule(
        train=images,
        validation=images,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=5,
        num_steps=7,
    )


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("start_step", [0, 4])
def test_the_loader_gives_the_batches_of_the_steps_from_the_start_step(
    num_workers: int, start_step: int, images: FashionMNIST
) -> None:
    data = module(images, num_workers)
    assert data.start_step == 0
    data.start_step = start_step
    loader = data.train_dataloader()
    steps = StepBatches(
        num_images=2_000, batch_size=600, seed=5, start_step=start_step, stop_step=7
    )
    assert len(loader) == 7 - start_step
    for (got, labels), indices in zip(loader, steps, strict=True):
        expected_images, expected_labels = images.batch(indices)
        assert torch.equal(got, expected_images)
        assert torch.equal(labels, expected_labels)


def test_memory_is_pinned_only_for_a_gpu(images: FashionMNIST) -> None:
    assert module(images).train_dataloader().pin_memory == torch.cuda.is_available()


def quietly(test: Callable[..., None]) -> Callable[..., None]:
    """Lets Lightning's remarks pass."""
    for remark in (
        "ignore:.*does not have many workers",
        "ignore:.*LeafSpec.*is deprecated:FutureWarning",
        "ignore:GPU available but not used",
    ):
        test = pytest.mark.filterwarnings(remark)(test)
    return test


class Recorder(LightningModule):
    """Writes down the labels of every batch it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []
        self.images: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Keeps the labels; the loss only has to have a gradient."""
        images, labels = batch
        self.seen.append(labels.cpu())
        self.images.append(images.cpu())
        return self.weight * images.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any optimiser will do."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(data: ImageDataModule) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, datamodule=data)
    return recorder


@quietly
def test_one_lightning_epoch_is_the_whole_training(images: FashionMNIST) -> None:
    data = module(images)
    recorder = fitted(data)
    expected = [labels for _, labels in data.train_dataloader()]
    assert len(recorder.seen) == 7
    assert all(torch.equal(a, b) for a, b in zip(recorder.seen, expected, strict=True))


def test_the_validation_set_is_kept(images: FashionMNIST) -> None:
    assert module(images).validation is images


def test_a_batch_larger_than_the_set_is_refused(images: FashionMNIST) -> None:
    with pytest.raises(InputError, match=r"training images \(2000\), got 2001: lower it"):
        module(images, batch_size=2_001).train_dataloader()


@pytest.mark.parametrize(
    ("form", "law"),
    [
        ({"resolution": 64, "channels": 1}, "must agree in resolution, got 32 and 64"),
        ({"resolution": 32, "channels": 3}, "must agree in channels, got 1 and 3"),
    ],
)
def test_train_and_validation_must_agree(
    form: dict[str, int], law: str, images: FashionMNIST
) -> None:
    other = FashionMNIST(split="test", **form)
    with pytest.raises(InputError, match=law):
        ImageDataModule(
            train=images, validation=other, batch_size=4, num_workers=0, seed=0, num_steps=1
        )


@quietly
def test_images_of_files_are_moved_as_bytes_and_trained_on_as_floats(tmp_path: Path) -> None:
    files = folder(write(tmp_path, many(8, "a", "b")))
    data = ImageDataModule(
        train=files, validation=files, batch_size=4, num_workers=0, seed=5, num_steps=3
    )
    steps = StepBatches(num_images=len(files), batch_size=4, seed=5, start_step=0, stop_step=3)
    assert all(images.dtype == torch.uint8 for images, _ in data.train_dataloader())
    for got, indices in zip(fitted(data).images, steps, strict=True):
        assert torch.equal(got, files.batch(indices)[0])
