"""The figures of the validation split after an epoch: those that choose the best one are exact."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.input_pipeline import in_order
from dr_tfx.training import distribution, objectives


class Validation:
    """One pass over the validation split after every epoch.

    Loss and metrics are its own, so that the unfinished sums of the training stay untouched. What
    `ModelSide.exact` computes takes the place of the metric of the same name: a figure such as the
    area under a curve needs all outputs at once, and from a histogram of them it is far off where
    they lie close together, as they do in the first epochs.
    """

    def __init__(
        self, judge: keras.Model, experiment: specs.Experiment, examples: in_order.Targets
    ) -> None:
        """Trace nothing yet.

        Args:
          judge: the model whose weights are judged; the devices of its strategy compute it.
          experiment: the settings of the run, which name the loss and the metrics.
          examples: batches of images and targets, read anew in every pass.
        """
        self._examples, self._exact = examples, tasks.of(experiment).model.exact
        self._metrics = objectives.metrics(experiment)
        loss = objectives.loss(experiment)
        first = next(iter(examples))  # The last one may be smaller, for which nothing is traced.
        most = len(first[0])
        signature = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in first]

        @tf.function(input_signature=signature, autograph=False)
        def look(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = distribution.outputs(judge, images, most)
            for metric in self._metrics:
                metric.update_state(targets, outputs)
            return outputs, loss(targets, outputs)

        self._look = look

    def figures(self, ended: Callable[[], bool]) -> dict[str, float] | None:
        """Return the loss and every metric by its name, or None if `ended` said so meanwhile.

        Args:
          ended: asked after every batch whether the pass has to end.
        """
        for metric in self._metrics:
            metric.reset_state()
        targets, outputs, losses, sizes = [], [], [], []
        for images, wanted in self._examples:
            given, loss = self._look(images, wanted)
            losses.append(float(loss))
            sizes.append(len(given))
            if self._exact:
                targets.append(wanted.numpy())
                outputs.append(given.numpy())
            if ended():
                return None
        found = {"loss": float(np.average(losses, weights=sizes))}
        found |= {metric.name: float(metric.result()) for metric in self._metrics}
        if self._exact and np.isfinite(found["loss"]):
            wanted, given = np.concatenate(targets), np.concatenate(outputs)
            found |= {name: figure(wanted, given) for name, figure in self._exact.items()}
        return found
