"""Tables of a user study, from the answers.csv files that the page saves.

Accuracy says whether people see what an attribute changes; words say whether they call it alike.
"""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch

from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.evaluation.tables import VALUE, Column, Row, Section, Table

NEEDED = ("participant", "kind", "from", "to", "attribute", "answer", "correct")
SAME, WORDS, SUMMARY = "same change", "words", "summary"
FILLERS = frozenset(("a", "an", "and", "in", "is", "it", "its", "of", "on", "or", "the", "to"))
CHANCE = 0.5  # of two candidates


@dataclass(frozen=True)
class Answer:
    """One answer of one person.

    Attributes:
        participant: Name, or the file's where none was given.
        attribute: Classes and coordinate, as one text.
        is_correct: Whether the right candidate was chosen; none for words.
        words: What was said to change, as a set; empty for a choice.
    """

    participant: str
    attribute: str
    is_correct: bool | None
    words: frozenset[str]


def read_answers(paths: Sequence[Path]) -> list[Answer]:
    """Reads the answers of all files.

    Raises:
        InputError: If a file is no such file, or two hold the same.
    """
    answers: list[Answer] = []
    seen: dict[bytes, Path] = {}
    for path in paths:
        try:
            content = path.read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"a study must be a readable answers.csv, got '{path}' "
                f"({type(error).__name__}); save it from the page again"
            ) from error
        if content in seen:
            raise InputError(
                f"every person's answers must be given once, got the same in '{seen[content]}' and "
                f"'{path}'; leave one out"
            )
        seen[content] = path
        try:
            answers += _parse(text, path)
        except csv.Error as error:
            raise InputError(
                f"a study must be an answers.csv of the page, got '{path}' ({error}); save it from "
                "the page again"
            ) from error
    return answers


def _parse(text: str, path: Path) -> Iterable[Answer]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"a study must be an answers.csv of the page, got '{path}' without the column "
            f"'{missing[0]}'; save it from the page again"
        )
    for row in reader:
        kind, correct = row["kind"], row["correct"]
        if kind == SUMMARY:
            continue
        is_whole = None not in row.values()
        is_known = kind == WORDS or (kind == SAME and correct in ("0", "1"))
        if not (is_whole and is_known):
            raise InputError(
                f"a study's rows must be '{SAME}' with 0 or 1, '{WORDS}' or '{SUMMARY}', got "
                f"'{kind}' with '{correct}' in line {reader.line_num} of '{path}'; save it from "
                "the page again"
            )
        yield Answer(
            row["participant"] or str(path),
            f"{row['from']} → {row['to']}: {row['attribute']}",
            correct == "1" if kind == SAME else None,
            word_set(row["answer"]) if kind == WORDS else frozenset(),
        )


def word_set(text: str) -> frozenset[str]:
    """Words in lower case, without accents, punctuation, English fillers and a plural's s."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    words = re.findall(r"\w+", kept)
    return frozenset(
        w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w
        for w in words
        if w not in FILLERS
    )


def study_section(answers: Sequence[Answer]) -> Section:
    """What the page shows of a study; answers of one person are not independent of each other."""
    people = sorted({a.participant for a in answers})
    tables = [_accuracy(answers), _participants(answers, people)]
    if any(a.is_correct is None for a in answers):
        tables.append(_words(answers))
    return Section(
        "study",
        "Do people see what an attribute changes, and call it alike?",
        f"Answers of {len(people)} people, pooled; intervals take answers for independent, so "
        "they are too narrow where few people gave many.",
        tuple(tables),
    )


def _accuracy(answers: Sequence[Answer]) -> Table:
    names = dict.fromkeys(a.attribute for a in answers if a.is_correct is not None)
    groups = {name: [a for a in answers if a.attribute == name] for name in names}
    return Table(
        "accuracy",
        "Which candidate shows the same change?",
        f"Share of right choices between two; guessing gives {CHANCE}, so an interval that holds "
        f"{CHANCE} shows nothing.",
        VALUE,
        (_row("overall", "All attributes", answers), *(_row(k, k, v) for k, v in groups.items())),
    )


def _participants(answers: Sequence[Answer], people: Sequence[str]) -> Table:
    groups = {name: [a for a in answers if a.participant == name] for name in people}
    return Table(
        "participants",
        "Person by person",
        f"Share of right choices; guessing gives {CHANCE}.",
        VALUE,
        tuple(_row(name, name, given) for name, given in groups.items()),
    )


def _row(name: str, title: str, answers: Sequence[Answer]) -> Row:
    flags = [a.is_correct for a in answers if a.is_correct is not None]
    right = share(torch.tensor(flags, dtype=torch.bool))
    return Row(name, title, "", (right,), unit="answers")


def _words(answers: Sequence[Answer]) -> Table:
    told = [a for a in answers if a.is_correct is None]
    rows = []
    for name in dict.fromkeys(a.attribute for a in told):
        sets = [a.words for a in told if a.attribute == name]
        counts = Counter(word for words in sets for word in words)
        # Ties go to the word that comes first in the alphabet.
        word = min(counts, key=lambda w: (-counts[w], w), default="")
        used = share(torch.tensor([word in words for words in sets], dtype=torch.bool))
        cells = (word, used, _overlap(combinations(sets, 2)))
        rows.append(Row(name, name, "", cells, unit="people"))
    across = (
        (a.words, b.words)
        for a, b in combinations(told, 2)
        if a.attribute != b.attribute and a.participant != b.participant
    )
    title, reading = "Different attributes", "What a common vocabulary alone gives."
    rows.append(Row("chance", title, reading, (None, None, _overlap(across)), unit="pairs"))
    return Table(
        "words",
        "What changes, in one to four words",
        "Words in lower case, without punctuation, fillers and plurals; 1 is full agreement.",
        (
            Column("word", "Word", "The one that most people used."),
            Column("share", "Share of people", "Of those asked, who used it."),
            Column(
                "overlap",
                "Overlap",
                "Jaccard index of two people's words, mean over pairs, which it counts.",
            ),
        ),
        tuple(rows),
    )


def _overlap(pairs: Iterable[tuple[frozenset[str], frozenset[str]]]) -> Estimate:
    """Mean Jaccard index; pairs share people, so there is no interval."""
    indices = [len(a & b) / len(a | b) if a | b else 0.0 for a, b in pairs]
    return Estimate(sum(indices) / len(indices) if indices else None, len(indices), None)
