"""Maps by tiles: those of the whole picture, in the memory of a tile."""

import dataclasses
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx.inference import scoring, tiles
from dr_tfx.models import bundles, network, weights
from tests.helpers import ready
from tests.tasks.masks.test_masks import experiment


@pytest.mark.parametrize(
    ("tile", "size"), [(64, 128), (96, 192), (96, 224), (128, 128), (160, 1792)]
)
def test_each_pixel_is_a_mean_of_all_tiles_that_show_it(tile, size):
    starts = tiles._starts(tile, size)
    assert starts[0] == 0 and starts[-1] == size - tile
    assert [size - tile - start for start in starts[::-1]] == starts  # Those of its mirror image.
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= 0.75 * tile).all() and not (steps % 32).any()
    total = np.zeros(size)
    for start, weight in zip(starts, tiles._weights(starts, tile, size), strict=True):
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_what_the_whole_picture_gives_tiles_give_too():
    """A U-Net that sees fewer pixels around one than tiles have in common."""
    made = experiment(
        model={"backbone": "SixConvolutions", "output_stride": 4},
        task={"patch": 64, "tile": 320, "width": 4},
        recipe={"size": 512},
        views=("identity", "left_right", "rotate_90"),
    )
    tf.keras.utils.set_random_seed(3)
    trained, whole = network.build(made), network.build(made, side=512)
    for layer in trained.layers:  # Statistics as of a training, so that the maps have shapes.
        if layer.name.startswith(("norm_", "decoder_norm")):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta + 0.1, mean, variance * 0.2])
    numbers = weights.to_bytes(trained)
    weights.fill(whole, numbers)
    by_tile = network.build(made, side=320)
    weights.fill(by_tile, numbers)
    rng = np.random.default_rng(0)
    images = np.zeros((1, 512, 512, 3), np.uint8)
    images[:, 30:] = rng.integers(0, 255, (1, 482, 512, 3))

    def maps(model, settings):
        none = {"folder": None, "manifest": None, "fitted": None, "best_epoch": 1}
        more = {"precision": "float32", "libraries": {}}
        bundle = bundles.Bundle(model=model, experiment=settings, **none, **more)
        return scoring.view_scorer(bundle)(tf.constant(images)).numpy()

    task = dataclasses.replace(made.task, patch=0, tile=0)
    expected = maps(whole, dataclasses.replace(made, task=task))
    assert expected.std() > 0.01
    np.testing.assert_allclose(maps(by_tile, made), expected, atol=1e-4)


def test_memory_is_that_of_the_maps_and_of_a_tile():
    size, seen = 4096, []

    def forward(part):
        seen.append(part.shape)
        return part[..., :1] / 255

    pixels = np.zeros((1, size, size, 3), np.float32)
    tracemalloc.start()
    maps = tiles.tiled(forward, tile=512, size=size)(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert maps.shape == (1, size, size, 1) and set(map(tuple, seen)) == {(1, 512, 512, 3)}
    assert peak < 2.2 * 4 * size**2  # The maps twice, and little else.


VIEWS_OF_TILES = """
import resource
import numpy as np, tensorflow as tf
from dr_tfx.inference import scoring, tiles, views
size, pixels = 2048, np.zeros((1, 2048, 2048, 3), np.uint8)
maps = tiles.tiled(lambda part: part[..., :1] / np.float32(255), tile=512, size=size)
for count in (3, 23):
    shown = [views.VIEWS[name] for name in ("identity", *["left_right", "rotate_90"] * 11)[:count]]
    found = scoring.mean_map(shown, (tf.constant(maps(pixels)) for _ in shown))
    assert found.shape == (1, size, size, 1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_memory_is_that_of_a_few_maps_whatever_the_number_of_views():
    done = ready.run([sys.executable, "-c", VIEWS_OF_TILES])
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    assert many - few < 6 * 4 * 2048**2  # Twenty maps more would be kept otherwise.
