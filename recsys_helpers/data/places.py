"""Where data lies: the folder for downloads, the embedded sample, and the files in a folder or a zip."""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from pathlib import Path

from .editions import EDITIONS, RATING_FILES, DataError

PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY_DATA = PACKAGE.parent / "data"
BLOCK = 8 << 20  # bytes that are parsed at a time


def data_folder():
    """Where downloads and caches go.

    The folder named by the environment variable RECSYS_DATA; else data/cache of the repository, if the
    package is run from there; else the user's cache folder.
    """
    if os.environ.get("RECSYS_DATA"):
        return Path(os.environ["RECSYS_DATA"]).expanduser()
    if (REPOSITORY_DATA / "ml-latest-small").is_dir():
        return REPOSITORY_DATA / "cache"
    import pooch

    return Path(pooch.os_cache("recsys_helpers"))


def embedded():
    for folder in (REPOSITORY_DATA / "ml-latest-small", PACKAGE / "_data" / "ml-latest-small"):
        if folder.is_dir():
            return folder
    raise DataError(
        f"{REPOSITORY_DATA / 'ml-latest-small'}: the data that comes with the package is missing; "
        "clone the repository or install the package again"
    )


def repository_file(name):
    """A file of the repository that the installed package carries, too.

    Parameters
    ----------
    name : str
        Its path in the repository: a benchmark's results, ``"benchmarks/results/als.json"``, the figures
        of the literature, or the model of the page "Try it".

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        When neither the repository nor the package has it.
    """
    for folder in (PACKAGE.parent, PACKAGE / "_data"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name!r} is neither in the repository of the book nor in the installed package")


# What zipfile and its decompressors raise on damaged, encrypted or unknown content.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


class Files:
    """The files of a data set, in a folder or in a zip, which is read without unpacking it.

    The path of the file of ratings stands for it and those beside it.
    """

    def __init__(self, path, key):
        self.path = Path(path).expanduser()
        self.key = key
        self.zip = None
        self.one_folder = False
        if self.path.is_file() and self.path.name in RATING_FILES.values():
            own = RATING_FILES[EDITIONS[key].layout]
            if self.path.name != own:
                raise DataError(
                    f"{self.path}: ml-{key} has its ratings in {own}; pass the name of the data set that "
                    f"this file belongs to, or read it as any table: load_ratings({str(self.path)!r})"
                )
            self.path, self.one_folder = self.path.parent, True
        if not self.path.exists():
            own = RATING_FILES[EDITIONS[key].layout]
            raise DataError(
                f"{self.path}: no such file or folder; expected the folder or zip of ml-{key}, or its {own}"
            )
        if self.path.is_dir():
            return
        try:
            self.zip = zipfile.ZipFile(self.path)
        except DAMAGE as error:
            raise DataError(
                f"{self.path}: not a readable zip ({error}); the download was cut short or this is another "
                "kind of file: download it again, or pass the folder with the unpacked files; load_ratings "
                "reads tables of any other name"
            ) from None
        for member in self.zip.namelist():
            parts = member.replace("\\", "/").split("/")
            if parts[0] == "" or ".." in parts or ":" in parts[0]:
                self.zip.close()
                raise DataError(
                    f"{self.path}: member {member!r} points outside of the zip's own folder; "
                    "a MovieLens zip has none such: get a fresh copy from grouplens.org"
                )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.zip is not None:
            self.zip.close()

    def find(self, name):
        """The file's path or the member's name, at the top or one folder down; None where there is none."""
        if self.zip is None:
            top = self.path / name
            below = () if self.one_folder else self.path.glob(f"*/{name}")
            found = [top] if top.is_file() else sorted(p for p in below if p.is_file())
        else:
            found = [
                member
                for member in self.zip.namelist()
                # Some programs of Windows write backslashes.
                if (parts := member.replace("\\", "/").split("/"))[-1] == name
                and len(parts) < 3
                and parts[0] != "__MACOSX"
            ]
        if len(found) > 1:
            raise DataError(
                f"{self.path}: holds {name} {len(found)} times ({found[0]}, {found[1]}, …); "
                "pass the folder that holds the one you mean"
            )
        return found[0] if found else None

    def need(self, name):
        found = self.find(name)
        if found is None:
            own = RATING_FILES[EDITIONS[self.key].layout]
            others = [file for file in RATING_FILES.values() if file != own and self.find(file)]
            hint = (
                f"it holds {others[0]}: pass the name of that data set"
                if others
                else "download the zip again"
            )
            raise DataError(f"{self.path}: has no {name}, which ml-{self.key} needs; {hint}")
        return found

    def label(self, name):
        """How errors call the file."""
        found = self.need(name)
        return str(found) if self.zip is None else f"{self.path}: {found}"

    def blocks(self, name):
        """The content in pieces of about `BLOCK` bytes that end where a line does.

        The zip's own checksum of the file is verified on the way.
        """
        found = self.need(name)
        rest = b""
        with self._open(found) as stream:
            while True:
                try:
                    block = stream.read(BLOCK)
                except DAMAGE as error:
                    raise self._damaged(name, error) from None
                if not block:
                    break
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield rest + block[:cut]
                    rest = b""
                rest += block[cut:]
        if rest:
            yield rest

    def _open(self, found):
        if self.zip is None:
            return open(found, "rb", buffering=0)
        try:
            return self.zip.open(found)
        except DAMAGE as error:
            raise self._damaged(Path(found).name, error) from None

    def _damaged(self, name, error):
        return DataError(f"{self.label(name)}: cannot be read ({error}); it is damaged: download it again")

    def text(self, name, encoding):
        content = b"".join(self.blocks(name))
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{self.label(name)}, line {line}: is not {encoding} text ({error.reason}); "
                f"expected the encoding of ml-{self.key} as published"
            ) from None

    def size(self, name):
        found = self.need(name)
        return found.stat().st_size if self.zip is None else self.zip.getinfo(found).file_size
