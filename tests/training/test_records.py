"""metrics.csv: every row whole, and those that a resumed run writes again dropped."""

import csv
from pathlib import Path

import pytest

from stylex.training.records import Records, trim_metrics


def test_a_run_that_goes_on_drops_the_metrics_from_its_step_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("a,step,b\n1.0,0,\n2.0,50,3.0\n4.0,99,\n5.0,100,6.0\n7.0,150,\n")

    trim_metrics(path, 100)

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"a": "1.0", "step": "0", "b": ""},
        {"a": "2.0", "step": "50", "b": "3.0"},
        {"a": "4.0", "step": "99", "b": ""},
    ]


def test_a_run_without_metrics_has_none_to_drop(tmp_path: Path) -> None:
    trim_metrics(tmp_path / "metrics.csv", 100)

    assert list(tmp_path.iterdir()) == []


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_the_disk_at_once_and_a_new_column_joins_the_others(tmp_path: Path) -> None:
    records = Records(tmp_path, 0)

    records.log_metrics({"b": 0.5}, 0)
    assert rows(tmp_path / "metrics.csv") == [{"b": "0.5", "step": "0"}]
    records.log_metrics({"a": 2.0}, 3)
    records.log_metrics({"b": 1.5}, 4)

    assert rows(tmp_path / "metrics.csv") == [
        {"a": "", "b": "0.5", "step": "0"},
        {"a": "2.0", "b": "", "step": "3"},
        {"a": "", "b": "1.5", "step": "4"},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_last_row_that_was_cut_off_is_none(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(("a,step\n1.0,7\n2.0,1234\n")[:-cut])

    records = Records(tmp_path, 2000)
    records.log_metrics({"a": 3.0}, 2000)

    assert [row["step"] for row in rows(path)] == ["7", "2000"]


def test_a_run_that_goes_on_leaves_the_same_bytes_as_one_in_one_go(tmp_path: Path) -> None:
    for folder, stops in (("whole", []), ("parts", [4, 6])):
        (tmp_path / folder).mkdir()
        records = Records(tmp_path / folder, 0)
        for stop in (*stops, None):
            first = 0 if not stops or stop == 4 else 2 if stop == 6 else 5
            records = Records(tmp_path / folder, first)
            for step in range(first, stop or 8):
                records.log_metrics({"loss": step / 3}, step)
                if step % 3 == 0:
                    records.log_metrics({"validation": step / 7}, step)

    one, other = ((tmp_path / name / "metrics.csv").read_bytes() for name in ("whole", "parts"))
    assert one == other


def test_the_old_file_stays_until_a_rewritten_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(tmp_path, 0)
    records.log_metrics({"a": 1.0}, 0)
    before = (tmp_path / "metrics.csv").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", killed)
    with pytest.raises(KeyboardInterrupt):
        records.log_metrics({"b": 1.0}, 1)

    assert (tmp_path / "metrics.csv").read_bytes() == before
