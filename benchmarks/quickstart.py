"""Time and memory of ``jsdelta quickstart`` in an empty workspace."""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MACHINE = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Run it once and print."""
    jsdelta = str(Path(sys.executable).with_name("jsdelta"))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [jsdelta, "--workspace", folder, "quickstart"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
        )
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "wall_s": round(wall, 1),
                "cpu_s": round(used.ru_utime + used.ru_stime, 1),
                "peak_memory_mb": round(used.ru_maxrss / 1024),
                "machine": MACHINE,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
