"""The layouts of the published domains, with tiny generated pictures in place of theirs."""

import csv
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SPECIES = ("lion", "cheetah", "leopard", "tiger")
PLANTS = ("Apple", "Cherry_(including_sour)", "Tomato", "Corn_(maize)")
DISEASES = ("scab", "Black_rot", "Late_blight", "Common_rust_", "Powdery_mildew", "Leaf_Mold")


def draw(file: Path, tone: int, mode: str = "RGB", size: tuple[int, int] = (40, 34)) -> None:
    """Writes a picture that depends on its name and tone alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(f"{file.parent.name}/{file.name}".encode()) + tone
    pixels = np.random.default_rng(seed).integers(0, 40, (size[1], size[0], len(mode)))
    pixels = (pixels + 5 * (tone % 40)).astype(np.uint8)
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(file)


def table(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes a CSV with a header."""
    listed = list(rows)
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)


def afhq(root: Path) -> None:
    """AFHQ's folders, the third class included."""
    for part, count in (("train", 12), ("val", 4)):
        for tone, name in enumerate(("cat", "dog", "wild")):
            for i in range(count):
                draw(root / part / name / f"flickr_{name}_{i:06d}.jpg", 10 * tone)


def afhq_wild(root: Path) -> None:
    """The same, and a table of species, in which a fox is not asked for."""
    afhq(root)
    rows = []
    for tone, name in enumerate((*SPECIES, "fox")):
        for i in range(8):
            path = f"train/wild/flickr_wild_1{tone}{i:04d}.jpg"
            draw(root / path, tone)
            rows.append({"file": path, "label": name})
    table(root / "labels.csv", rows)


def faces(root: Path) -> None:
    """Numbered faces with two attributes of CelebA."""
    rows = []
    for i in range(24):
        path = f"{i // 10 * 10:05d}/{i:05d}.png"
        draw(root / path, i)
        rows.append({"image_id": path, "Male": 1 - i // 2 % 2 * 2, "Young": 1 - i % 2 * 2})
    table(root / "labels.csv", rows)


def plant_village(root: Path) -> None:
    """38 folders, 12 of them of healthy plants."""
    healthy = [f"Plant{i}___healthy" for i in range(12)]
    sick = [f"{PLANTS[i % 4]}{i}___{DISEASES[i % 6]}" for i in range(26)]
    for tone, name in enumerate((*healthy, *sick)):
        for i in range(2):
            draw(root / name / f"{tone}-{i}.JPG", tone)


def retina(root: Path) -> None:
    """Two eyes of each patient, graded 0 to 2."""
    rows = []
    for patient in range(24):
        for eye in ("left", "right"):
            draw(root / f"{patient}_{eye}.png", patient, size=(64, 48))
            rows.append({"file": f"{patient}_{eye}.png", "label": patient % 3, "patient": patient})
    table(root / "labels.csv", rows)


def cub(root: Path) -> None:
    """200 numbered folders."""
    for species in range(200):
        for i in range(3):
            draw(root / f"{species + 1:03d}.Bird_{species}" / f"Bird_{i}.jpg", species, size=(8, 9))


def solar_cells(root: Path) -> None:
    """The folder of elpv-dataset, its table without a header; unsure cells included."""
    lines = []
    for i in range(40):
        path = f"images/cell{i:04d}.png"
        draw(root / path, i, mode="L", size=(30, 30))
        probability = (0.0, 1.0, 0.3333333333333333, 0.6666666666666666)[i % 4]
        lines.append(f"{path}  {probability:<20} {'mono' if i % 8 < 4 else 'poly'}\n")
    (root / "labels.csv").write_text("".join(lines))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "afhq_cat_dog": afhq,
    "afhq_wild": afhq_wild,
    "ffhq_age": faces,
    "ffhq_gender": faces,
    "plant_village": plant_village,
    "retina_dme": retina,
    "cub_200": cub,
    "elpv": solar_cells,
}
