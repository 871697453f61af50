"""Files of a source, copied to where a workspace's rows expect them."""

from collections.abc import Iterable, Iterator

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.conflicts import Pair, is_other_file
from jsdelta_db.exchange.source import Source
from jsdelta_db.runtime.files import copy_verified, sha256_of_file
from jsdelta_db.workbench.workbench import Workbench


def find_missing(bench: Workbench, pairs: Iterable[tuple[str | None, str | None]]) -> Iterator[Pair]:
    """Yield the files that the workspace lacks, or does not have whole."""
    for uri, sha256 in pairs:
        if uri is not None and sha256 is not None and sha256_of_file(bench.locate(uri)) != sha256:
            yield uri, sha256


def copy_files(bench: Workbench, source: Source, pairs: Iterable[Pair]) -> int:
    """Copy files into the workspace; return how many.

    Raises:
        StoreError: a row of this store names another file at such a path.
        CheckpointError: the source's file is missing or altered.
    """
    count = 0
    for uri, sha256 in pairs:
        with bench.store.reading() as connection:
            if is_other_file(connection, uri, sha256):
                raise StoreError(
                    f"file {bench.locate(uri)} belongs to another row here than in {source.title}; "
                    "import into a store of its own: jsdelta --workspace FOLDER db import …"
                )
        copy_verified(source.locate(uri), bench.locate(uri), sha256)
        count += 1
    return count
