"""Images in a zip file, read where they lie."""

import stat
import struct
import zipfile
import zlib
from pathlib import Path

from stylex.data.limits import (
    LIMITS,
    Limits,
    check_count,
    check_names,
    check_ratio,
    check_size,
    cut,
)
from stylex.data.sources import Member, Source, is_image
from stylex.errors import InputError, shown

LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member: signature, lengths of name and extra


class Zip(Source):
    """Images in a zip file; a single folder that holds all of them is taken for the root.

    Args:
        path: The file.
        limits: What it may hold.

    Raises:
        InputError: If it is no zip file, or not safe.
    """

    def __init__(self, path: Path, limits: Limits = LIMITS) -> None:
        where = shown(str(path))
        try:
            with zipfile.ZipFile(path) as file:
                infos = file.infolist()
        except Exception as error:  # of many kinds where the file is broken
            raise InputError(
                f"root must be a whole zip file, got {where} ({shown(str(error))})"
            ) from error
        check_count(len(infos), limits, where)
        check_names((info.filename for info in infos), where)
        packed = path.stat().st_size
        for info in infos:
            _check_zipped(info, packed, limits, where)
        unpacked = sum(info.file_size for info in infos)
        check_ratio("all of it", unpacked, packed, limits, where)
        named = {info.filename.removeprefix("./"): info for info in infos if not info.is_dir()}
        base = _single_folder([name for name in named if is_image(name)])
        self._path = path
        self._places = {
            name.removeprefix(base): (
                *(info.header_offset, info.compress_size, info.file_size),
                *(info.compress_type, info.CRC),
            )
            for name, info in named.items()
            if is_image(name)
        }
        members = [
            Member(name, place[2], f"{place[4]:08x} {place[0]}")
            for name, place in self._places.items()
        ]
        parents = {str(p) for name in self._places for p in Path(name).parents} - {"."}
        super().__init__(str(path), members, frozenset(parents))

    def read(self, position: int) -> bytes:
        """Gives the bytes of one image."""
        place = self._places[self.members[position].name]
        offset, packed_size, size, method, checksum = place
        header = cut(self._path, offset, LOCAL_HEADER.size)
        signature, *lengths = LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04":
            raise ValueError("its place in the archive is wrong")
        content = cut(self._path, offset + LOCAL_HEADER.size + sum(lengths), packed_size)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-15).decompress(content, size + 1)
            except zlib.error as error:
                raise ValueError("it cannot be unpacked") from error
        if len(content) != size or zlib.crc32(content) != checksum:
            raise ValueError("its checksum in the archive is wrong")
        return content


def _check_zipped(info: zipfile.ZipInfo, packed: int, limits: Limits, where: str) -> None:
    fault = None
    if info.flag_bits & 1:
        fault = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fault = "is neither stored nor deflated"
    elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device"
    elif info.compress_size > packed:
        fault = "is longer than the archive"
    if fault:
        raise InputError(
            "the members of a zip file must be plain files and folders, got "
            f"'{shown(info.filename)}', which {fault}, in {where}; make the archive anew"
        )
    check_size(info.filename, info.file_size, limits, where)
    check_ratio(f"'{info.filename}'", info.file_size, info.compress_size, limits, where)


def _single_folder(names: list[str]) -> str:
    """The folder, with a slash, that holds all names if all lie in folders of that one folder."""
    heads = {name.partition("/")[0] for name in names}
    if len(heads) != 1 or any(name.count("/") < 2 for name in names):
        return ""
    return f"{heads.pop()}/"
