"""Download the zips of MovieLens, checked."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from .editions import EDITIONS, GROUPLENS, MIRROR, DataError, DownloadError, edition_name
from .places import data_folder


def download(name, *, folder=None, checksum=None, sources=None, verbose=True):
    """Download a MovieLens zip, unless it is there already; return its path.

    Parameters
    ----------
    name : str
        As in `load_movielens`.
    folder : path-like, optional
        Where to put it; `data_folder` where it is None.
    checksum : str, optional
        "md5:…" or "sha256:…". The published one is built in for all but "latest" and "latest-small",
        which change; for those it must be given.
    sources : sequence of str, optional
        Base URLs to try in this order. The default is GroupLens, then, for 100k to 20m, the copy of the
        Recommenders project at Hugging Face, which has to have the same checksum.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DownloadError
        Where every source failed. It says what each answered, and how to do it by hand.
    DataError
        Where a file that is there already has another checksum.
    ValueError
        Where the name is unknown, or the checksum is.

    Notes
    -----
    The file gets its name only when it is complete and its checksum is right. TLS certificates are
    always verified.
    """
    import pooch

    key = edition_name(name)
    edition = EDITIONS[key]
    folder = data_folder() if folder is None else Path(folder)
    target = folder / f"ml-{key}.zip"
    expected = _checksum(checksum) if checksum is not None else edition.checksum
    if target.exists():
        if expected is not None:
            algorithm, digest = expected.split(":")
            found = pooch.file_hash(str(target), alg=algorithm)
            if found != digest:
                raise DataError(
                    f"{target}: {algorithm} is {found}; expected {digest}: the file is incomplete or another "
                    "release; delete it and try again, or pass path= to read it as it is"
                )
        return target
    if expected is None:
        raise ValueError(
            f"checksum: got None; expected one for {key!r}, which changes from time to time: take it from "
            f'{GROUPLENS}ml-{key}.zip.md5 and pass checksum="md5:…"'
        )
    if sources is None:
        sources = (GROUPLENS, MIRROR) if edition.mirrored else (GROUPLENS,)
    answers = []
    for base in sources:
        url = f"{base.rstrip('/')}/{target.name}"
        try:
            pooch.retrieve(
                url,
                known_hash=expected,
                fname=target.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=verbose, timeout=30),
            )
            return target
        except (
            OSError,
            ValueError,
        ) as error:  # those of requests are OSErrors, a wrong checksum a ValueError
            answers.append(f"  {url}\n    {type(error).__name__}: {error}")
    raise DownloadError(
        f"{target.name} could not be downloaded:\n" + "\n".join(answers) + "\n"
        f"By hand: get {target.name} from https://grouplens.org/datasets/movielens/ with a browser and put "
        f"it at {target}, or anywhere, and pass path= with the place; then call again."
    )


def _checksum(text):
    algorithm, _, digest = str(text).strip().lower().rpartition(":")
    algorithm = algorithm or {32: "md5", 64: "sha256"}.get(len(digest), "")
    if algorithm not in hashlib.algorithms_available or not re.fullmatch(r"[0-9a-f]+", digest):
        raise ValueError(f'checksum: got {text!r}; expected "md5:" or "sha256:" and the hexadecimal digest')
    return f"{algorithm}:{digest}"
