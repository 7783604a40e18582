"""Heat maps a second, against the published function and against the backbone's own passes.

    python -m benchmarks.explanation.gradcam                 # 224 and 96 px, batches of 32
    python -m benchmarks.explanation.gradcam --sizes=512 --batch_size=8 --methods=gradcam,hirescam
    python -m benchmarks.explanation.gradcam --backbone=ResNet50V2

The published function takes one photograph after the other: a gradient tape around an eager pass of
a model with two outputs. That model is built once here, though notebooks tend to build it in each
call. The limit is one pass forward and one back through the backbone, of a whole batch in a
compiled function, with the gradients of all weights, as in a training step. "Scores alone" are the
model's forward pass. "explain" is what drtfx-explain and drtfx-predict call: maps and the mean
score over the views of test-time augmentation, of which the first takes no pass of its own.

Every contender is timed once in each of --rounds rounds, in turn, after one call to get going. The
table shows the medians, and the medians of each round's ratio to Grad-CAM in batches, which vary
less on a shared machine. The weights are random, which does not change the time. Occlusion is some
hundred times slower and is measured only if --methods names it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.dataset import manifest
from dr_tfx.explanation import explainer, gradcam
from dr_tfx.models import bundles, last_features, network

OURS = "gradcam"
VIEWS = ("identity", "left_right", "up_down", "left_right_up_down")
Once = Callable[[], int]
"""Does a contender's work once and returns the number of images."""


def bundle(backbone: str, size: int, views: tuple[str, ...]) -> bundles.Bundle:
    """Return an untrained model with the default head."""
    config = {
        "dataset": {"recipe": {"size": size}},
        "model": {"backbone": backbone, "weights": "none"},
        "evaluation": {"views": views},
    }
    experiment = tasks.from_config(config)
    keras.utils.set_random_seed(0)
    model = network.build(experiment)
    data = manifest.Manifest(
        dataset=experiment.dataset,
        fingerprint="",
        libraries={},
        rows=0,
        written=0,
        rejected={},
        counts={},
        patients={},
        shared_patients=0,
        twins=(),
        unlabelled=0,
        shards=(),
    )
    return bundles.Bundle(
        folder=Path("benchmark"),
        model=model,
        experiment=experiment,
        manifest=data,
        fitted=None,
        best_epoch=1,
        precision="float32",
        libraries={},
    )


def published(model: keras.Model, images: np.ndarray) -> Once:
    """Return the published function: one image at a time, eager, the gradient on a tape."""
    last = last_features.layer(model)
    both = keras.Model(model.inputs, [last.output, model.output])

    def one(image: np.ndarray) -> np.ndarray:
        with tf.GradientTape() as tape:
            features, predictions = both([image])
            score = predictions[:, 0]
        pooled = tf.reduce_mean(tape.gradient(score, features), axis=(0, 1, 2))
        heatmap = tf.squeeze(features[0] @ pooled[..., tf.newaxis])
        heatmap = tf.maximum(heatmap, 0) / tf.reduce_max(heatmap)
        return heatmap.numpy()

    def all_of_them() -> int:
        for image in images:
            one(image[np.newaxis])
        return len(images)

    return all_of_them


def passes(model: keras.Model, images: np.ndarray) -> dict[str, Once]:
    """Return the passes of the backbone forward and back, and of the model forward."""
    backbone = keras.Model(model.inputs, last_features.layer(model).output)
    batch = tf.constant(images)

    @tf.function
    def forward_and_back() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(backbone(batch, training=False))
        return tape.gradient(total, backbone.trainable_variables)

    @tf.function
    def forward() -> tf.Tensor:
        return model(batch, training=False)

    def both() -> int:
        forward_and_back()[0].numpy()
        return len(images)

    def scores() -> int:
        forward().numpy()
        return len(images)

    return {"backbone forward and back": both, "scores alone": scores}


def contenders(arguments: argparse.Namespace, size: int) -> dict[str, Once]:
    """Return what is measured, by name; the others are compared with the first."""
    rng = np.random.default_rng(0)
    shape = (arguments.batch_size, size, size, 3)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    pixels = images.astype(np.float32)
    plain, viewed = (bundle(arguments.backbone, size, views) for views in (VIEWS[:1], VIEWS))
    explained = tasks.of(plain.experiment).model.explained

    def counted(function: Callable[[np.ndarray], object]) -> Once:
        def once() -> int:
            function(images)
            return len(images)

        return once

    found = {}
    for method in (OURS, *(m for m in arguments.methods.split(",") if m != OURS)):
        maps = gradcam.HeatMaps(plain.model, explained=explained, method=method)
        found[f"{maps.title}, in batches"] = counted(maps)
    found["published, one by one"] = published(plain.model, pixels[: arguments.singles])
    found |= passes(plain.model, pixels)
    found["explain, 1 view"] = counted(explainer.Explainer(plain))
    found[f"explain, {len(VIEWS)} views"] = counted(explainer.Explainer(viewed))
    return found


def measure(arguments: argparse.Namespace, size: int) -> None:
    """Print the table of one size."""
    measured = contenders(arguments, size)
    for once in measured.values():
        once()
    seconds: dict[str, list[float]] = {name: [] for name in measured}  # Per image.
    for _ in range(arguments.rounds):
        for name, once in measured.items():
            start = time.perf_counter()
            images = once()
            seconds[name].append((time.perf_counter() - start) / images)
    print(
        f"{arguments.backbone}, {size} px, batches of {arguments.batch_size}, "
        f"{arguments.rounds} rounds"
    )
    print(f"{'':<28}{'images/s':>10}{'ms/image':>10}{'time to Grad-CAM':>20}")
    ours = next(iter(seconds.values()))
    for name, taken in seconds.items():
        ratio = statistics.median(t / o for t, o in zip(taken, ours, strict=True))
        median = statistics.median(taken)
        print(f"{name:<28}{1 / median:>10.1f}{1000 * median:>10.2f}{ratio:>19.2f}x", flush=True)


def main() -> None:
    """Print a table for every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="224,96", help="Pixels a side.")
    parser.add_argument("--batch_size", type=int, default=32, help="Images a batch.")
    parser.add_argument(
        "--singles", type=int, default=8, help="Images a round for the published way."
    )
    parser.add_argument("--rounds", type=int, default=9, help="Turns of each contender.")
    parser.add_argument(
        "--methods", default="gradcam,gradcam++,hirescam", help="Some of specs.METHODS."
    )
    parser.add_argument("--backbone", default="MobileNetV2", help="One of network.BACKBONES.")
    arguments = parser.parse_args()
    for size in map(int, arguments.sizes.split(",")):
        measure(arguments, size)


if __name__ == "__main__":
    main()
