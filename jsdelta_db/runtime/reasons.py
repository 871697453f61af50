"""Reasons why a file could not be read or written: the system's words, and what helps."""

import errno
import glob
import os
import resource
import tempfile
from pathlib import Path

# What is not the fault of the name that was given; for all else the caller has its own advice.
HELP = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "see ulimit -f for how large a file may be",
    errno.EROFS: "the disk is mounted read-only: choose another place",
    errno.EMFILE: "raise ulimit -n",
    errno.ENFILE: "close other programs",
    errno.EIO: "check the disk",
    errno.EBUSY: "choose another place",
    errno.ELOOP: "remove the link",
}
PROBE = 2**16  # bytes: more than the least that SQLite needs for its log and the log's index


def explain(error: OSError, advice: str) -> str:
    """Return why a file could not be used, and what helps.

    Args:
        advice: what helps where the reason lies in the file's name or rights.
    """
    if error.errno in HELP:  # in the system's words: a library may have written its own into the error
        return f"{os.strerror(error.errno)}; {HELP[error.errno]}"
    return f"{error.strerror or error}; {advice}"


def find_fault(path: Path) -> OSError | None:
    """Return what keeps a file and those beside it from growing, by writing one; None if nothing does.

    For a library that says no more than "I/O error".
    """
    try:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        sizes = (each.stat().st_size for each in path.parent.glob(f"{glob.escape(path.name)}*"))
        if most != resource.RLIM_INFINITY and max(sizes, default=0) + PROBE > most:
            return OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None
