"""Configuration hashes: equal for equal configurations, so that a run is found again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def config_hash(configuration: Mapping[str, Any], parents: Sequence[str]) -> str:
    """Hash a canonical configuration and the uids of what it builds on (sha256, 64 hex digits)."""
    canonical = json.dumps(
        [dict(configuration), list(parents)], sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
