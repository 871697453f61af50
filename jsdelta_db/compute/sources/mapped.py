"""Arrays inside a .npz, mapped into memory or read in order, so that no file has to fit into memory."""

import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LOCAL_HEADER = 30  # bytes before the name, in a zip file
LENGTHS = 26  # where the lengths of name and extra field stand in it


@dataclass(frozen=True, slots=True)
class Header:
    """An array's shape and type, and how many bytes of its member come before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    size: int


def read_header(member: IO[bytes]) -> Header:
    """Read the header of a .npy.

    Raises:
        ValueError: it is none, or its values are Python objects.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return Header(shape, dtype, is_fortran, member.tell())


def map_array(path: Path, name: str) -> NDArray[Any]:
    """Return an array of an uncompressed .npz without reading it; writing to it leaves the file alone.

    Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", section 4.3.7.

    Raises:
        KeyError: there is no such array.
        ValueError: it is compressed, or cut short.
    """
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as member:
            header = read_header(member)
    if info.compress_type != zipfile.ZIP_STORED or header.is_fortran:
        raise ValueError(f"{name} is compressed or in Fortran's order")
    with path.open("rb") as file:
        file.seek(info.header_offset + LENGTHS)
        lengths = file.read(4)
    before = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    offset = info.header_offset + LOCAL_HEADER + before + header.size
    return np.memmap(path, dtype=header.dtype, mode="c", offset=offset, shape=header.shape)


class ArrayStream:
    """Rows of an array in a .npz, compressed or not, read from front to back.

    Going back is possible but, in a compressed file, starts at its front.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Open the array.

        Raises:
            KeyError, ValueError, OSError, zipfile.BadZipFile: there is no such array.
        """
        self._archive = zipfile.ZipFile(path)
        try:
            self._member = self._archive.open(f"{name}.npy")
            self.header = read_header(self._member)
            if self.header.is_fortran:
                raise ValueError(f"{name} is in Fortran's order; save it with numpy.ascontiguousarray")
        except BaseException:
            self._archive.close()
            raise

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return some rows.

        Raises:
            ValueError, OSError, zipfile.BadZipFile: the file is cut short or damaged.
        """
        shape, dtype = (stop - start, *self.header.shape[1:]), self.header.dtype
        size = int(np.prod(self.header.shape[1:], dtype=np.int64)) * dtype.itemsize
        self._member.seek(self.header.size + start * size)
        content = self._member.read((stop - start) * size)
        if len(content) != (stop - start) * size:
            raise ValueError("it is cut short")
        return np.frombuffer(content, dtype).reshape(shape)

    def __del__(self) -> None:
        with suppress(Exception):
            self._archive.close()
