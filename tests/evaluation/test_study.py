"""A study's tables, against counts by hand."""

from pathlib import Path

import pytest
import torch

from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.evaluation.study import Answer, read_answers, study_section, word_set
from stylex.evaluation.tables import Cell, Table

HEADER = (
    "participant,question,kind,from,to,attribute,candidate_a,candidate_b,answer,correct,seconds,"
    "accuracy,interval_low,interval_high,answers"
)


def same(participant: str, attribute: str, correct: int) -> str:
    return f"{participant},1,same change,Coat,Bag,{attribute},{attribute},other,A,{correct},2.5,,,,"


def words(participant: str, attribute: str, answer: str) -> str:
    return f"{participant},2,words,Coat,Bag,{attribute},,,{answer},,4.0,,,,"


def write(path: Path, *rows: str) -> Path:
    summary = "Ada,,summary,,,,,,,1,,0.5000,0.0945,0.9055,2"
    path.write_text("\n".join([HEADER, *rows, summary]) + "\n")
    return path


def answers_of(tmp_path: Path) -> list[Answer]:
    """Three people: the handle is seen by two of three, the strap by all."""
    ada = write(
        tmp_path / "ada.csv",
        *(same("Ada", "handle", 1), same("Ada", "strap", 1)),
        *(words("Ada", "handle", "The Handles"), words("Ada", "strap", "a strap")),
    )
    bob = write(
        tmp_path / "bob.csv",
        *(same("Bob", "handle", 0), same("Bob", "strap", 1)),
        *(words("Bob", "handle", '"big, handle"'), words("Bob", "strap", "a belt")),
    )
    eve = write(
        tmp_path / "eve.csv",
        *(same("", "handle", 1), words("", "handle", "shape")),
    )
    return read_answers([ada, bob, eve])


def cells(table: Table) -> dict[str, tuple[Cell, ...]]:
    return {row.name: row.cells for row in table.rows}


def shared(right: int, total: int) -> Estimate:
    return share(torch.arange(total) < right)


def test_accuracy_is_pooled_and_given_by_attribute_and_person(tmp_path: Path) -> None:
    accuracy, participants, _ = study_section(answers_of(tmp_path)).tables
    assert cells(accuracy) == {
        "overall": (shared(4, 5),),
        "Coat → Bag: handle": (shared(2, 3),),
        "Coat → Bag: strap": (shared(2, 2),),
    }
    nameless = str(tmp_path / "eve.csv")
    assert cells(participants) == {
        "Ada": (shared(2, 2),),
        "Bob": (shared(1, 2),),
        nameless: (shared(1, 1),),
    }
    assert "0.5" in accuracy.reading


def test_agreement_is_the_share_of_the_commonest_word_and_the_overlap_of_pairs(
    tmp_path: Path,
) -> None:
    *_, told = study_section(answers_of(tmp_path)).tables
    found = cells(told)
    # {handle}, {big, handle}, {shape}: indices 1/2, 0 and 0.
    assert found["Coat → Bag: handle"] == ("handle", shared(2, 3), Estimate(1 / 6, 3, None))
    # {strap} and {belt}: the alphabet decides.
    assert found["Coat → Bag: strap"] == ("belt", shared(1, 2), Estimate(0.0, 1, None))
    # Another person on another attribute: Ada's handle with Bob's strap, and so on, 4 pairs.
    assert found["chance"] == (None, None, Estimate(0.0, 4, None))


def test_a_common_vocabulary_shows_in_the_row_of_chance(tmp_path: Path) -> None:
    rows = [words(p, a, "shape") for p in ("Ada", "Bob") for a in ("handle", "strap")]
    *_, told = study_section(read_answers([write(tmp_path / "a.csv", *rows)])).tables
    assert cells(told)["chance"][2] == Estimate(1.0, 2, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Handles", {"handle"}),
        ("dress, shorter!", {"dress", "shorter"}),
        ('\'=a "short" dress', {"short", "dress"}),
        ("Élan of the gas", {"elan", "gas"}),
        ("the", set()),
    ],
)
def test_words_are_compared_in_a_simple_form(text: str, expected: set[str]) -> None:
    assert word_set(text) == expected


def test_a_study_without_words_or_choices_has_no_figure_for_them(tmp_path: Path) -> None:
    only_choices = read_answers([write(tmp_path / "a.csv", same("Ada", "handle", 1))])
    assert [t.name for t in study_section(only_choices).tables] == ["accuracy", "participants"]
    only_words = read_answers([write(tmp_path / "b.csv", words("Ada", "handle", "x"))])
    accuracy, *_ = study_section(only_words).tables
    assert cells(accuracy) == {"overall": (Estimate(None, 0, None),)}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a,b\n1,2\n", "answers.csv of the page, got .* without the column 'participant'"),
        (b"", "without the column 'participant'"),
        (b"\xff\xfe\x00", "must be a readable answers.csv"),
        (f"{HEADER}\nAda,1,drawing,A,B,c,,,x,,,,,,".encode(), "got 'drawing' with '' in line 2"),
        (f"{HEADER}\nAda,1,same change,A,B,c,,,x,yes,,,,,".encode(), "with 'yes' in line 2"),
        (f"{HEADER}\nAda,1,words,A,B".encode(), "in line 2"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "answers.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=match):
        read_answers([path])


def test_a_missing_file_and_one_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a readable answers.csv"):
        read_answers([tmp_path / "answers.csv"])
    paths = [write(tmp_path / name, same("Ada", "handle", 1)) for name in ("a.csv", "b.csv")]
    with pytest.raises(InputError, match=r"given once, got the same in '.*a\.csv' and '.*b\.csv'"):
        read_answers(paths)
