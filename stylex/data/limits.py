"""What an archive may hold, and how its bytes are read.

An archive may come from anyone. All its members are looked at before the first is read, and one
that is not safe or not plain makes the whole archive be refused. Nothing is extracted to disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stylex.data.sources import check_name
from stylex.errors import InputError, shown


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        members: Files and folders.
        member_bytes: Of one member, unpacked.
        ratio: Of unpacked to packed bytes, of a member and of the whole archive; images hardly
            shrink, so that more is a bomb.
        free_bytes: Unpacked bytes to which the ratio does not apply.
    """

    members: int = 5_000_000
    member_bytes: int = 2**28
    ratio: int = 100
    free_bytes: int = 2**20


LIMITS = Limits()


def check_count(count: int, limits: Limits, where: str) -> None:
    """Refuses an archive of too many members.

    Raises:
        InputError: If there are more than the limit.
    """
    if count > limits.members:
        raise InputError(
            f"an archive may have at most {limits.members} members, got {count} in {where}; "
            "unpack it to a folder"
        )


def check_names(names: Iterator[str], where: str) -> None:
    """Refuses paths out of an archive, and two members of one name.

    Raises:
        InputError: If there is one.
    """
    seen = set()
    for name in names:
        check_name(name, where)
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or "\0" in name:
            raise InputError(
                "the members of an archive must have paths inside it, got "
                f"'{shown(name)}' in {where}; make the archive anew"
            )
        place = "/".join(part for part in parts if part not in ("", "."))
        if place in seen and not name.endswith("/"):
            raise InputError(
                f"the members of an archive must have names of their own, got '{shown(name)}' "
                f"twice in {where}; make the archive anew"
            )
        seen.add(place)


def check_size(name: str, size: int, limits: Limits, where: str) -> None:
    """Refuses a member of too many bytes.

    Raises:
        InputError: If it has more than the limit.
    """
    if size > limits.member_bytes:
        raise InputError(
            f"a member of an archive may have at most {limits.member_bytes} bytes, got {size} in "
            f"'{shown(name)}' of {where}; remove it"
        )


def check_ratio(name: str, size: int, packed: int, limits: Limits, where: str) -> None:
    """Refuses what unpacks to far more bytes than it has.

    Args:
        name: Of a member, or words for all of them.
        size: Bytes, unpacked.
        packed: Bytes in the archive.
        limits: See there.
        where: The archive, for the error's sentence.

    Raises:
        InputError: If the ratio is above the limit.
    """
    if size > limits.free_bytes and size > limits.ratio * packed:
        raise InputError(
            f"an archive may unpack to at most {limits.ratio} times its bytes, got {size} from "
            f"{packed} for {shown(name)} in {where}: it looks like a bomb"
        )


def cut(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a file; each call opens it anew, so that processes do not share a position.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it ends before them.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) != size:
        raise ValueError("the archive ends before it does")
    return content
