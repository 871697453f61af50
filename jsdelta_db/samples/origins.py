"""Origins of images: of which split they are, and why another than the attacked one matters."""

from jsdelta_db.store.image_keys import Keys, count_by_split

SPLITS = {  # SEEN_SPLITS, and why it matters
    "baseline": "on which ρ and temperatures are measured: JSΔ is not independent of them",
    "train": "which every model has seen: they say little about images that are new to them",
}
NO_SPLIT = "on which no model was measured: do contrast, size and preprocessing fit?"


def remark_on_split(split: str, n: int, total: int) -> str:
    """Return a line on images of a split that models have seen or are measured on."""
    return f"{_count(n, total)} of the {split} split, {SPLITS[split]}"


def remark_on_images(keys: Keys, dataset: str) -> list[str]:
    """Return a line for each split but the attacked one that some images are of, and for those of none."""
    counts, total = count_by_split(keys), len(keys)
    lines = [remark_on_split(name, counts[name], total) for name in SPLITS if counts[name]]
    if counts[""]:
        lines.append(f"{_count(counts[''], total)} of no split of {dataset!r}, {NO_SPLIT}")
    return lines


def _count(n: int, total: int) -> str:
    if total == 1:
        return "the one image is"
    return f"all {total} images are" if n == total else f"{n} of {total} images {'is' if n == 1 else 'are'}"
