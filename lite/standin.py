"""``python -m lite.standin``: MobileNetV2 with random weights, 224×224, as a stand-in for real work in timings.

The four models here answer in microseconds, where a call's fixed costs count as much as its arithmetic. This one has 300
million multiplications, as a model on a device may. Nothing is downloaded: its weights are random, so its answers mean
nothing, but its layers, its sizes and its speed are MobileNetV2's. It lies apart from the models, below ``artifacts/standin``.
"""

from __future__ import annotations

import os
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.bring import bring
from lite.build import build
from models.artifacts import artifacts_root, fingerprint, is_current, write_json, write_whole
from models.errors import run_cli

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.bundle import Export

NAME = "mobilenet_v2"
VARIANTS = ("float32", "int8")
SIZE = 224  # pixels, both ways
IMAGES = 16  # for the BatchNorm statistics, the calibration and the comparison; more only take longer
COARSE = 7  # pixels of the random pictures before they are enlarged: pictures have large areas, noise has not
SPREAD = 3.0  # standard deviation of a logit over the images, so that they get different classes
SEED = 20


def standin_root() -> Path:
    return artifacts_root() / "standin"


def make_standin() -> Export:
    """The stand-in as an Export below ``artifacts/standin``, converted to ``VARIANTS``; made where it is out of date."""
    root = standin_root()
    keras_file, images = root / f"{NAME}.keras", root / f"{NAME}.npz"
    made_from = fingerprint([Path(__file__)], extra=metadata.version("keras"))
    stamp = keras_file.with_suffix(".json")  # says what both were made from
    if not (is_current(stamp, made_from) and keras_file.is_file() and images.is_file()):
        print("standin: building MobileNetV2 with random weights", flush=True)
        stamp.unlink(missing_ok=True)
        _save(keras_file, images)
        write_json(stamp, {"made_from": made_from})
    print("standin: its export", flush=True)
    export = bring(keras_file, name=NAME, root=root, inputs_npz=images)
    build(root, models=[NAME], variants=VARIANTS)
    return export


def _save(keras_file: Path, images: Path) -> None:
    import keras

    keras.utils.set_random_seed(SEED)
    pictures = random_pictures(IMAGES)
    model = keras.applications.MobileNetV2(weights=None, input_tensor=keras.Input((SIZE, SIZE, 3), name="image"))
    _settle(model, pictures)
    with write_whole(keras_file) as temporary:
        model.save(temporary.with_suffix(".keras"))
        os.replace(temporary.with_suffix(".keras"), temporary)
    with write_whole(images) as temporary, temporary.open("wb") as file:
        np.savez(file, image=pictures)


def random_pictures(count: int) -> NDArray:
    """Smooth random pictures, float32 [count, 224, 224, 3] in -1 … 1, MobileNetV2's range; each with its own contrast."""
    import tensorflow as tf

    generator = np.random.default_rng(SEED)
    coarse = generator.standard_normal((count, COARSE, COARSE, 3))
    coarse = coarse * generator.uniform(0.2, 1, (count, 1, 1, 1)) + generator.uniform(-0.5, 0.5, (count, 1, 1, 3))
    return np.clip(tf.image.resize(coarse.astype(np.float32), (SIZE, SIZE)).numpy(), -1, 1)


def _settle(model, pictures: NDArray) -> None:
    """Give BatchNorm the statistics of ``pictures``, and the classifier's logits a spread over them.

    Without the first, 52 layers of random weights shrink every picture to the same answer; without the second, all
    classes have the same probability.
    """
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # what is seen last is what counts
    model(pictures, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    features = keras.Model(model.input, model.layers[-2].output)(pictures).numpy()
    kernel, _ = model.layers[-1].get_weights()
    logits = features @ kernel
    scale = SPREAD / logits.std(axis=0).mean()
    model.layers[-1].set_weights([kernel * scale, -logits.mean(axis=0) * scale])


def main() -> None:
    started = time.monotonic()
    export = make_standin()
    print(f"standin: {export.lite('int8').parent}, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    run_cli(main)
