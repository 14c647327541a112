"""The README's lines for one's own classifier and folder, as they stand there, in few steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


def lines() -> str:
    section = (ROOT / "README.md").read_text().split("## Your classifier, your folder")[1]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[0]


def write_photographs(folder: Path) -> None:
    """Two classes of 40 pictures of noise, around a darker and a lighter grey."""
    random = torch.Generator().manual_seed(0)
    for k, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True)
        for i in range(40):
            noise = torch.randint(60, (48, 40, 3), generator=random) + 60 + 90 * k
            Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / name / f"{i}.png")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning")
def test_the_readmes_lines_lead_from_a_folder_to_a_page_in_under_15(tmp_path: Path) -> None:
    for name in ("stylex", "configs", "train.py", "search.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_photographs(tmp_path / "photos")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    with torch.no_grad():
        network[4].weight.mul_(20)
    torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save(tmp_path / "mine.pt")
    script = lines()
    assert len(script.splitlines()) < 15
    short = script.replace(
        "output_dir=runs/mine",
        "training.num_steps=2 data.batch_size=4 \\\n output_dir=runs/mine",
        1,
    )
    short = short.replace(
        "output_dir=found", "search.num_images=8 report.sweep=false output_dir=found"
    )

    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", short],  # the doctor warns of the untrained classifier: no -e
        cwd=tmp_path,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        timeout=400,
    )

    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "found" / "index.html").is_file()
    assert "corrupt: none" in done.stdout
    assert "accuracy of each class" in done.stdout
