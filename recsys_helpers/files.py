"""Writing files so that they appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path, mode="wb", **options):
    """A file to write to, which takes its name when all is written.

    The bytes go to a draft beside `path`, are flushed to the disk, and the draft is renamed:
    whoever opens `path` meanwhile finds the old file or none. On any error the draft goes away.

    Parameters
    ----------
    path : str or Path
        Its folder is made if it does not exist.
    mode, **options
        As for `open`.

    Yields
    ------
    file
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; a saved file follows the user's own rule.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(draft, 0o666 & ~mask)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(draft)
        raise
