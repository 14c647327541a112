"""Laws of labels, groups, classes and splits that tables and folders give to images."""

from pathlib import Path
from typing import Any

import pytest
from pictured_folders import SPLITS, folder, labelled_paths, many, paths, write

from stylex.artifacts import check_apart
from stylex.errors import InputError

FLAT = [f"{i:03}.png" for i in range(30)]


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(path: Path, names: list[str], *columns: Any, header: str = "file,label") -> Path:
    """A CSV with the names and functions of a row's number in the other columns."""
    cells = [",".join([name, *(str(c(i)) for c in columns)]) for i, name in enumerate(names)]
    return table(path, header, *cells)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write(tmp_path / "flat", FLAT)


def parity(i: int) -> str:
    return ("even", "odd")[i % 2]


def test_a_table_labels_images_wherever_they_lie(flat: Path, tmp_path: Path) -> None:
    write(flat, ["deep/er/x.png"])
    csv = rows(tmp_path / "l.csv", [*FLAT, "./deep/er/x.png"], parity)
    found = labelled_paths(flat, labels=csv)
    assert found == {name: parity(i) for i, name in enumerate([*FLAT, "deep/er/x.png"])}


def test_images_without_a_row_are_left_out_and_counted_in_the_log(
    flat: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    csv = rows(tmp_path / "l.csv", FLAT[:20], parity)
    with caplog.at_level("INFO", "stylex"):
        assert set(labelled_paths(flat, labels=str(csv))) == set(FLAT[:20])
    assert any("10 of 30 images" in text and "have no row" in text for text in caplog.messages)


def test_columns_may_have_other_names_and_a_byte_order_mark_is_none_of_them(
    flat: Path, tmp_path: Path
) -> None:
    csv = rows(tmp_path / "l.csv", FLAT, parity, header="\ufeffimage_id, Young ")
    found = labelled_paths(flat, labels=csv, columns={"file": "image_id", "label": "Young"})
    assert set(found.values()) == {"even", "odd"}


def test_whole_numbers_of_a_table_are_ordered_by_value_and_folders_by_name(tmp_path: Path) -> None:
    numbers = ["2", "10", "-1"]
    write(tmp_path / "a", many(3, *numbers))
    names = many(3, *numbers)
    csv = rows(tmp_path / "l.csv", names, lambda i: numbers[i // 3])
    assert folder(tmp_path / "a", labels=csv).class_names == ("-1", "2", "10")
    assert folder(tmp_path / "a").class_names == ("-1", "10", "2")


@pytest.mark.parametrize(
    ("classes", "names", "taken"),
    [
        (["dog", "cat"], ("dog", "cat"), {"a_cat": None, "cat": "cat", "dog": "dog"}),
        (
            {"feline": "*cat", "other": "*"},
            ("feline", "other"),
            {"a_cat": "feline", "cat": "feline", "dog": "other"},
        ),
        (
            {"pet": ["cat", "dog"], "wild": "a_*"},
            ("pet", "wild"),
            {"a_cat": "wild", "cat": "pet", "dog": "pet"},
        ),
    ],
)
def test_classes_are_chosen_and_joined_by_patterns_of_which_the_first_wins(
    classes: Any, names: tuple[str, ...], taken: dict[str, str | None], tmp_path: Path
) -> None:
    write(tmp_path, many(4, *taken))
    (tmp_path / "empty").mkdir()  # no class, so that it may be
    assert folder(tmp_path, classes=classes).class_names == names
    for path, name in labelled_paths(tmp_path, classes=classes).items():
        assert taken[path.split("/")[0]] == name
    kept = {path.split("/")[0] for path in labelled_paths(tmp_path, classes=classes)}
    assert kept == {label for label, name in taken.items() if name}


def test_numbers_in_a_configuration_are_labels(flat: Path, tmp_path: Path) -> None:
    csv = rows(tmp_path / "l.csv", FLAT, lambda i: (-1, 1)[i % 2])
    found = folder(flat, labels=csv, classes={"young": 1, "old": -1})
    assert found.class_names == ("young", "old")
    assert folder(flat, labels=csv, classes=[1, -1]).class_names == ("1", "-1")


@pytest.mark.parametrize(
    ("classes", "law"),
    [
        (["a", "c"], "got none for 'c'; the nearest of 2 labels is"),
        (["a"], "at least two classes, each one once, got a;"),
        (["a", "a"], "at least two classes, each one once, got a, a;"),
        ({"x": "*", "y": "b"}, "must have images, got none for 'y'"),
        ("cat", r"must be labels, \[cat,dog\], or patterns with names, .* got cat"),
        ({"x": "a", "y": [["b"]]}, "must be labels, .*, or patterns with names"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes: Any, law: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=law):
        folder(write(tmp_path, many(3, "a", "b")), classes=classes)


# Splits that are said


def test_folders_that_are_splits_keep_their_images_and_the_third_is_taken_out_of_train(
    tmp_path: Path,
) -> None:
    train, test = many(20, "training/cat", "training/dog"), many(5, "val/cat", "val/dog")
    write(tmp_path, [*train, *test, "readme.png", "other/cat/1.png"])
    splits = {"train": "training", "test": "val"}
    parts = {split: paths(tmp_path, split=split, splits=splits) for split in SPLITS}
    assert parts["test"] == test
    assert sorted(parts["train"] + parts["validation"]) == train
    assert len(parts["validation"]) == 4  # a tenth of each class
    assert folder(tmp_path, splits=splits).class_names == ("cat", "dog")


def test_a_table_may_say_the_split(flat: Path, tmp_path: Path) -> None:
    said = [("train", "train", "test", "validation")[i % 4] for i in range(30)]
    csv = rows(
        tmp_path / "l.csv", FLAT, lambda i: i // 15, lambda i: said[i], header="file,label,split"
    )
    for split in SPLITS:
        assert paths(flat, split=split, labels=csv) == [
            name for name, s in zip(FLAT, said, strict=True) if s == split
        ]
    unused = {"split": None}
    assert paths(flat, labels=csv, columns=unused) != paths(flat, labels=csv)


@pytest.mark.parametrize(
    ("splits", "law"),
    [
        ({"test": "val"}, "must name a folder for train and may .* got {'test': 'val'};"),
        ({"train": "a", "val": "b"}, "got {'train': 'a', 'val': 'b'}; give for instance"),
        ({"train": ""}, "must name a folder for train"),
        ({"train": "x", "test": "y"}, "two sub-folders, one a class, got 0 in x, y of"),
        ({"train": "*", "test": "a"}, "must be folders apart, got 'a/.*' in train and test"),
    ],
)
def test_splits_that_cannot_be_are_refused(
    splits: dict[str, str], law: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=law):
        folder(write(tmp_path, many(3, "a/x", "b/x")), splits=splits)


def test_splits_must_be_said_once_and_have_train(flat: Path, tmp_path: Path) -> None:
    header = "file,label,split"
    csv = rows(tmp_path / "l.csv", FLAT, parity, lambda _: "test", header=header)
    with pytest.raises(InputError, match="must have train among them, got test alone"):
        folder(flat, labels=csv)
    with pytest.raises(InputError, match="splits must be said once"):
        folder(flat, labels=csv, splits={"train": "a"})


# Groups


def test_a_group_lies_within_one_split_and_shares_are_met(tmp_path: Path) -> None:
    names = [f"{i:03}.png" for i in range(300)]
    write(tmp_path / "flat", names)
    groups = [f"patient {i * i % 61}" for i in range(300)]
    labels = ["sick" if int(group.split()[1]) % 3 else "healthy" for group in groups]
    csv = rows(
        tmp_path / "l.csv",
        names,
        lambda i: labels[i],
        lambda i: groups[i],
        header="file,label,patient",
    )
    columns = {"group": "patient"}
    where: dict[str, set[str]] = {}
    for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        part = folder(tmp_path / "flat", split=split, labels=csv, columns=columns)
        for path, group in zip(part.paths, part.groups, strict=True):
            assert group == groups[names.index(path)]
            where.setdefault(group, set()).add(split)
        for k, name in enumerate(part.class_names):
            own, whole = (part.labels == k).sum().item(), labels.count(name)
            assert own == pytest.approx(share * whole, abs=6)  # about one patient
    assert all(len(splits) == 1 for splits in where.values())
    other = paths(tmp_path / "flat", labels=csv, columns=columns, seed=1)
    assert other != paths(tmp_path / "flat", labels=csv, columns=columns)


def test_groups_of_some_images_alone_are_refused(flat: Path, tmp_path: Path) -> None:
    csv = rows(
        tmp_path / "l.csv",
        FLAT,
        parity,
        lambda i: "one" if i < 10 else "",
        header="file,label,group",
    )
    message = (
        "each image must have a group where some have one, got none for 20 of 30 in "
        ".*, the first of them '010.png'; fill the column"
    )
    with pytest.raises(InputError, match=message):
        folder(flat, labels=csv)
    assert len(folder(flat, labels=csv, columns={"group": None})) > 0
    empty = rows(tmp_path / "e.csv", FLAT, parity, lambda _: "", header="file,label,group")
    assert len(folder(flat, labels=empty)) > 0


@pytest.mark.parametrize("header", ["Group", "GROUP", "groups"])
def test_a_column_that_is_nearly_called_group_is_not_passed_over(
    header: str, flat: Path, tmp_path: Path
) -> None:
    csv = rows(
        tmp_path / "l.csv", FLAT, parity, lambda i: f"p{i % 9}", header=f"file,label,{header}"
    )
    with pytest.raises(
        InputError, match=rf"got '{header}' in .*; give data.columns.group={header}"
    ):
        folder(flat, labels=csv)
    assert any(folder(flat, labels=csv, columns={"group": header}).groups)
    assert not any(folder(flat, labels=csv, columns={"group": None}).groups)


def test_too_few_groups_to_divide_are_said(flat: Path, tmp_path: Path) -> None:
    csv = rows(tmp_path / "l.csv", FLAT, parity, lambda _: "p", header="file,label,group")
    with pytest.raises(InputError, match="all images are of 1 groups, which are not divided; give"):
        folder(flat, labels=csv, split="test")


def test_a_group_in_two_splits_is_refused_by_its_name(flat: Path, tmp_path: Path) -> None:
    said = ["test" if i == 7 else "train" for i in range(30)]
    csv = rows(
        tmp_path / "l.csv",
        FLAT,
        parity,
        lambda i: f"p{i // 5}",
        lambda i: said[i],
        header="file,label,group,split",
    )
    law = r"within one split, got 'p1' in train \('005.png'\) and test \('007.png'\)"
    with pytest.raises(InputError, match=law):
        folder(flat, labels=csv)


def test_a_group_in_two_folders_that_are_splits_is_refused(tmp_path: Path) -> None:
    names = many(6, "train", "val")
    write(tmp_path / "a", names)
    csv = rows(tmp_path / "l.csv", names, parity, lambda i: f"p{i % 6}", header="file,label,group")
    with pytest.raises(InputError, match="within one split, got 'p0' in train"):
        folder(tmp_path / "a", labels=csv, splits={"train": "train", "test": "val"})


# Tables that cannot be


@pytest.mark.parametrize(
    ("lines", "law"),
    [
        (
            ["file,class", "000.png,a"],
            r"must have the column 'label' \(label\), got file, class in",
        ),
        ([""], "must have the column 'file' .*, got no line in"),
        (["file,label"], "must have rows of images, got none"),
        (["file,label", "x.png,a"], "got 'x.png' in line 2 of"),
        (["file,label", "00.png,a"], r"did you mean '0\d\d.png'\?"),
        (["file,label", "../flat/000.png,a"], "got '../flat/000.png' in line 2"),
        (["file,label", "000.png,a", "000.png,b"], "another of '000.png' in line 3"),
        (
            ["file,label", "000.png,  "],
            "a label must not be empty, got none for '000.png' in line 2",
        ),
        (["file,label", "000.png"], "a label must not be empty, got none for '000.png'"),
        (["file,label,split", "000.png,a,val"], "train, validation or test, got 'val' in line 2"),
        (["file,label,split", "000.png,a,"], "train, validation or test, got '' in line 2"),
        (["file,label,label", "000.png,a,b"], "must be there once, got 'label' 2 times"),
        (["file,label", '000.png,"a'], "must be a CSV file, got unexpected end of data"),
        (["file,label", "000.png,a"], "at least two classes, each one once, got a;"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_one_sentence(
    lines: list[str], law: str, flat: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=law) as caught:
        folder(flat, labels=table(tmp_path / "l.csv", *lines))
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read_is_refused(flat: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("file,label\n000.png,Käfer\n".encode("latin-1"))
    (tmp_path / "null.csv").write_bytes(b"file,label\n\0")
    for name, law in (
        ("latin.csv", r"in UTF-8, got another encoding in .*latin.csv' \(byte 20\)"),
        ("null.csv", "must be a CSV file|a PNG, JPEG, WebP, TIFF or BMP file below"),
        ("gone.csv", r"gone.csv' \(No such file or directory\); correct the path"),
    ):
        with pytest.raises(InputError, match=law):
            folder(flat, labels=tmp_path / name)


@pytest.mark.parametrize("key", ["group", "split"])
def test_a_column_that_is_named_must_be_there(key: str, flat: Path, tmp_path: Path) -> None:
    csv = rows(tmp_path / "l.csv", FLAT, parity)
    folder(flat, labels=csv)
    with pytest.raises(InputError, match=rf"must have the column 'Patient' \({key}\)"):
        folder(flat, labels=csv, columns={key: "Patient"})
    with pytest.raises(InputError, match="must name file, label, group, split, got 'grup'"):
        folder(flat, labels=csv, columns={"grup": "Patient"})


@pytest.mark.parametrize(
    "name", ['=HYPERLINK("http:x")', "two\nlines", 'a"quote', "\u202etfel", "a,b", "Ünï"]
)
def test_names_are_data(name: str, tmp_path: Path) -> None:
    import csv

    names = [f"{name}/{i}.png" for i in range(5)] + [f"{name.upper()}x/{i}.PNG" for i in range(5)]
    write(tmp_path / "root", names)
    assert set(folder(tmp_path / "root").class_names) == {name, f"{name.upper()}x"}
    path = tmp_path / "l.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("file", "label"),
                *((n, f"{name}/slash" if i % 2 else "b") for i, n in enumerate(names)),
            ]
        )
    assert set(folder(tmp_path / "root", labels=path).class_names) == {"b", f"{name}/slash"}
    (tmp_path / "root" / names[0]).write_bytes(b"broken")
    with pytest.raises(InputError) as caught:
        folder(tmp_path / "root")
    assert str(caught.value).isprintable()


def test_folders_that_look_like_splits_are_no_classes_unless_splits_says_what_they_are(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        [f"{split}/{k}/{i}.png" for split in ("train", "test") for k in "ab" for i in "123"],
    )
    with pytest.raises(InputError, match="data.splits must say which .* got test, train in"):
        folder(tmp_path)
    assert folder(tmp_path, splits={"train": "train", "test": "test"}).class_names == ("a", "b")


def test_results_may_not_land_among_the_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    check_apart(tmp_path / "images2", str(tmp_path / "images"))
    for inside in (tmp_path / "images", tmp_path / "images" / "runs"):
        with pytest.raises(
            InputError, match="output_dir must lie outside the folder of the images"
        ):
            check_apart(inside, str(tmp_path / "images"))
