"""PNG folders as transfer benchmarks write them."""

from PIL import Image


def write_png(path, planes):
    """Write one image, uint8 ``(c, h, w)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = planes.shape[0] == 1
    Image.fromarray(planes[0] if grey else planes.transpose(1, 2, 0).copy()).save(path)


def write_folder(folder, arrays, *, clean="clean", adv="adv", header="name,label,target", names="{:03}.png"):
    """Write uint8 samples as a folder of PNGs with ``labels.csv`` in the order of the samples."""
    lines = [header]
    for i in range(len(arrays["label"])):
        # Backwards, so that the order is that of the table and not of the names.
        name = names.format(len(arrays["label"]) - i)
        write_png(folder / clean / name, arrays["x"][i])
        write_png(folder / adv / name, arrays["x_adv"][i])
        lines.append(",".join(str(each) for each in (name, arrays["label"][i], arrays["target_label"][i])))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder
