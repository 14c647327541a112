"""A Lightning trainer on the CPU that writes and prints nothing by itself, and its batches."""

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from torch.utils.data import DataLoader


def trainer(folder: Path, *callbacks: Callback) -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=[],
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )


def loader(batches: list[Any]) -> DataLoader:
    return DataLoader(batches, batch_size=None, collate_fn=tuple)
