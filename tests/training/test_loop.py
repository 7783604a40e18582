"""A step of training: rates by layer, and whether XLA can compile it."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.models import network
from dr_tfx.training import distribution, loop, objectives
from tests.helpers import backbones, datasets


def made(backbone, decay=1.0, **changes):
    found = datasets.experiment(layer_decay=decay, optimizer="sgd", learning_rate=0.1)
    model = dataclasses.replace(
        found.model, backbone=backbone, hidden=(), dropout=(0.0,), from_scratch="as_pretrained"
    )
    return dataclasses.replace(found, model=dataclasses.replace(model, **changes))


def test_rates_fall_with_every_doubling_of_the_places_of_a_backbone():
    model = network.build(made("MobileNetV2", trainable_layers=-1, batch_norm="trainable"))
    found = {id(weight): rate for weight, rate in network.rates(model, 0.5)}
    for layer, places in (
        ("Conv1", 16),
        ("block_1_depthwise", 8),
        ("block_3_depthwise", 4),
        ("block_6_depthwise", 2),
        ("block_13_expand", 2),
        ("block_13_depthwise", 1),
        ("block_16_project", 1),
    ):
        weights = model.get_layer(layer).trainable_weights
        assert {found[id(weight)] for weight in weights} == {0.5 / places}
    assert len(found) == len(model.trainable_weights) - 2


def some_batch():
    rng = np.random.default_rng(0)
    return {
        "image": tf.constant(rng.integers(0, 256, (8, 32, 32, 3)), tf.uint8),
        "label/level": tf.constant(rng.integers(0, 3, 8)),
        "draws": tf.constant(rng.random((8, 17)), tf.float32),
    }


def test_a_part_of_a_step_is_taken_where_the_rate_is_a_part():
    batch = some_batch()
    steps = {}
    first = None
    for decay in (1.0, 0.5):
        experiment = made("PlainConvolutions", decay, output_stride=8)
        model = network.build(experiment)
        objectives.compile_model(model, experiment)
        first = model.get_weights() if first is None else first
        model.set_weights(first)
        step = loop._step_function(model, experiment)
        step(batch, tf.constant(0, tf.int64), tf.constant(0.0))
        steps[decay] = [now - was for now, was in zip(model.get_weights(), first, strict=True)]
        rates = {id(weight): rate for weight, rate in network.rates(model, decay)}
    shares = [rates.get(id(weight), 1.0) for weight in model.weights]
    assert set(shares) == {1.0, 1 / 4, 1 / 8, 1 / 16}  # Of the head, and of three sizes.
    for whole, part, share in zip(steps[1.0], steps[0.5], shares, strict=True):
        assert np.abs(whole).max() > 0
        np.testing.assert_allclose(part, share * whole, rtol=1e-4, atol=1e-7)


def test_a_step_by_xla_is_the_step_without():
    found, first = [], None
    for xla in (False, True):
        experiment = made(backbones.TINY, output_stride=8)
        changes = specs.Augmentation(rotation=0.1, brightness=0.2)
        training = dataclasses.replace(experiment.training, augmentation=changes, xla=xla)
        experiment = dataclasses.replace(experiment, training=training)
        model = network.build(experiment)
        objectives.compile_model(model, experiment)
        first = model.get_weights() if first is None else first
        model.set_weights(first)
        step = loop._step_function(model, experiment)
        arguments = (some_batch(), tf.constant(0, tf.int64), tf.constant(0.0))
        step(*arguments)
        found.append([now - was for now, was in zip(model.get_weights(), first, strict=True)])
        graph = step.get_concrete_function(*arguments).graph.as_graph_def()
        parts = [graph.node, *(part.node_def for part in graph.library.function)]
        calls = [x for x in itertools.chain(*parts) if x.op == "StatefulPartitionedCall"]
        assert any(call.attr["_XlaMustCompile"].b for call in calls) == xla
    for without, by_xla in zip(*found, strict=True):
        assert np.abs(without).max() > 0
        np.testing.assert_allclose(by_xla, without, rtol=1e-3, atol=1e-6)


def test_xla_compiles_a_step_as_a_whole_as_a_tpu_needs_it(monkeypatch):
    experiment = made(backbones.TINY, output_stride=8)
    names = {field.name for field in dataclasses.fields(specs.Augmentation)}
    on_device = names - {"horizontal_flip", "vertical_flip", "jpeg", "mixup", "cutmix"}
    changes = specs.Augmentation(**dict.fromkeys(on_device, 0.2))
    training = dataclasses.replace(experiment.training, augmentation=changes)
    experiment = dataclasses.replace(experiment, training=training)
    model = network.build(experiment)
    first, found = model.get_weights(), []
    for in_xla in (False, True):
        model.set_weights(first)
        objectives.compile_model(model, experiment)
        monkeypatch.setattr(distribution, "on_tpu", lambda _, in_xla=in_xla: in_xla)
        step = loop._step_function(model, experiment)
        if in_xla:
            step = tf.function(step.python_function, jit_compile=True, autograph=False)
        step(some_batch(), tf.constant(0, tf.int64), tf.constant(0.0))
        found.append([now - was for now, was in zip(model.get_weights(), first, strict=True)])
    for own, compiled in zip(*found, strict=True):
        assert np.abs(own).max() > 0
        np.testing.assert_allclose(own, compiled, rtol=1e-3, atol=1e-6)
