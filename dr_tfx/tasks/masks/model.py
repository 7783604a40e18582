"""The decoder of a lesion model, its targets, losses and metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.preprocessing import mask_files
from dr_tfx.statistics import pixel_counts
from dr_tfx.tasks import kind

if TYPE_CHECKING:
    from dr_tfx.tasks.masks.kind import Masks

_UNKNOWN = -1.0  # The target of a pixel of which nothing is known.
_EPSILON = 1e-7  # Probabilities nearer to 0 or 1 are taken as that near, as Keras does.
_SMOOTH = 0.5  # Pixels that keep the overlap defined where a lesion is tiny.
_MOMENTUM = 0.9  # Of BatchNorm: with Keras' .99, inference mode needs hundreds of steps.
_RARE = 0.01  # The probability that an untrained decoder gives: lesions are rare.
_ON_THE_WAY = (4, 2)  # Strides of the maps of deep supervision.


class MasksModel(kind.ModelSide):
    """A U-Net decoder: a probability for every lesion at every pixel."""

    reads = "pyramid"
    watched = ("aupr", "marked")
    shown = ("loss", "val_loss", "val_aupr")

    def __init__(self, task: "Masks"):
        self._task, self._settings = task, task.experiment.task
        self._weights = self._settings.lesion_weights or (1.0,) * len(task.lesions)

    @property
    def losses(self) -> Mapping[str, Callable[[specs.Training], keras.losses.Loss]]:
        task = self._settings

        def made(gamma: float = 0.0, alpha: float = 0.5) -> MasksLoss:
            return MasksLoss(
                self._weights,
                missed=task.missed,
                reconstruction=task.reconstruction,
                deep_supervision=task.deep_supervision,
                gamma=gamma,
                alpha=alpha,
            )

        return {
            "dice_cross_entropy": lambda _: made(),
            "dice_focal": lambda training: made(
                gamma=training.focal_gamma, alpha=training.focal_alpha
            ),
        }

    @property
    def metrics(self) -> Mapping[str, Callable[[], keras.metrics.Metric]]:
        lesions = len(self._task.lesions)
        return {"aupr": lambda: PixelAupr(lesions), "marked": lambda: MarkedPixels(lesions)}

    def outputs(self, features: Mapping[int, Any]) -> Any:
        """Return the probabilities, float32 (batch, size, size, lesions).

        With `task.reconstruction` there are three channels more, the photograph as a second decoder
        draws it from the smallest features alone; and with `task.deep_supervision`, behind these,
        the probabilities that the decoder gives at lower resolutions (Lee et al., "Deeply-
        Supervised Nets", 2015, https://arxiv.org/abs/1409.5185).

        Args:
          features: of the backbone by their height and width, each twice the one before; the
            largest are of the picture's size.
        """
        smallest, *others = sorted(features)
        x, size = features[smallest], max(features)
        on_the_way = []
        for side in others:
            # Names tell the stride, so that the same weights are for pictures of any size.
            stride = size // side
            width = min(self._settings.width * stride, self._settings.widest)
            x = keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"up_{stride}")(x)
            x = keras.layers.Concatenate(name=f"joined_{stride}")([x, features[side]])
            x = _convolved(x, width, f"{stride}a")
            x = _convolved(x, width, f"{stride}b")
            if self._settings.deep_supervision and stride in _ON_THE_WAY:
                enlarged = keras.layers.UpSampling2D(
                    stride, interpolation="bilinear", name=f"score_up_{stride}"
                )
                on_the_way.append(enlarged(self._head(f"score_{stride}")(x)))
        found = [self._head("score")(x)]
        if self._settings.reconstruction:
            found.append(self._drawn(features[smallest], [size // side for side in others]))
        found += on_the_way
        if len(found) == 1:
            return found[0]
        return keras.layers.Concatenate(dtype="float32", name="maps_and_others")(found)

    def _head(self, name: str) -> keras.layers.Layer:
        """Return what makes probabilities of the lesions of features."""
        return keras.layers.Conv2D(
            len(self._task.lesions),
            1,
            activation="sigmoid",
            bias_initializer=keras.initializers.Constant(float(np.log(_RARE / (1 - _RARE)))),
            dtype="float32",
            name=name,
        )

    def _drawn(self, x: Any, strides: Sequence[int]) -> Any:
        """Return the photograph, 0 to 1, as it is drawn from the smallest features.

        Larger features would give it away: the decoder would learn to copy.
        """
        for stride in strides:
            width = min(self._settings.width * stride, self._settings.widest)
            x = keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"drawn_up_{stride}")(x)
            x = _convolved(x, width, f"drawn_{stride}")
        head = keras.layers.Conv2D(3, 1, activation="sigmoid", dtype="float32", name="photograph")
        return head(x)

    def encode(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the share of each pixel that lesions cover, (batch, size, size, lesions).

        It is -1 where nothing is known. All examples weigh 1. With `task.reconstruction`, the
        photograph, 0 to 1, is three channels more.
        """
        names = [records.MASK_PREFIX + lesion for lesion in self._task.lesions]
        masks = tf.concat([features[name] for name in names], axis=-1)
        share = tf.cast(masks, tf.float32) / mask_files.COVERED
        targets = tf.where(masks == mask_files.UNKNOWN, _UNKNOWN, share)
        if self._settings.reconstruction:
            photograph = tf.cast(features[records.IMAGE], tf.float32) / 255
            targets = tf.concat([targets, photograph], axis=-1)
        return targets, tf.ones(tf.shape(masks)[0])

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        """Return the mean logit of all pixels and lesions, (batch,)."""
        return tf.reduce_mean(logits, axis=(1, 2, 3))

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lesions = len(self._task.lesions)
        channels = lesions + 3 * bool(self._settings.reconstruction)
        targets = np.zeros((2, 4, 4, channels), np.float32)
        targets[:, :2] = 1
        maps = len(_ON_THE_WAY) * bool(self._settings.deep_supervision)
        told = np.concatenate([targets, *[targets[..., :lesions]] * maps], axis=-1)
        good, bad = (np.abs(told - np.float32(error)) for error in (0.1, 0.9))
        return targets, good, bad


def _convolved(x: Any, width: int, name: str) -> Any:
    """Return a convolution of 3x3 with BatchNorm and ReLU."""
    x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"decoder_conv_{name}")(
        x
    )
    x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"decoder_norm_{name}")(x)
    return keras.layers.ReLU(name=f"decoder_relu_{name}")(x)


class MasksLoss(keras.losses.Loss):
    """The sum of two losses, each the mean over the lesions by their weights.

    One is cross entropy over the pixels that are known, with the factor |target -
    probability|^gamma of the focal loss of soft targets (Li et al. 2020,
    https://arxiv.org/abs/2006.04388), and alpha on lesions, 1 - alpha on others.

    The other is 1 - Dice (Milletari et al. 2016, https://arxiv.org/abs/1606.04797) of those lesions
    that a photograph has: what it does not have has no overlap, and cross entropy keeps it empty.
    Where missed and false pixels do not weigh alike, it is the index of Tversky (Salehi et al.
    2017, https://arxiv.org/abs/1706.05721).

    Channels behind those of the lesions are a photograph, whose mean absolute error is added, and
    further maps of the lesions, of whose losses the mean is.
    """

    def __init__(
        self,
        weights: tuple[float, ...],
        *,
        missed: float = 0.5,
        gamma: float = 0.0,
        alpha: float = 0.5,
        reconstruction: float = 0.0,
        deep_supervision: float = 0.0,
        name: str = "masks_loss",
    ):
        super().__init__(name=name)
        self._weights, self._missed = weights, missed
        self._gamma, self._alpha = gamma, alpha
        self._reconstruction, self._deep_supervision = reconstruction, deep_supervision

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Return the loss of each example, float32 (batch,).

        Args:
          y_true: (batch, h, w, lesions): the shares that lesions cover, below 0 where not known;
            and behind them the photograph, if it is drawn.
          y_pred: (batch, h, w, lesions), probabilities; likewise, and the further maps.
        """
        lesions = len(self._weights)
        loss, at = self._of_lesions(y_true[..., :lesions], y_pred[..., :lesions]), lesions
        if self._reconstruction:
            drawn = tf.abs(y_true[..., at : at + 3] - y_pred[..., at : at + 3])
            loss += self._reconstruction * tf.reduce_mean(drawn, axis=(1, 2, 3))
            at += 3
        if self._deep_supervision:
            others = [
                self._of_lesions(y_true[..., :lesions], y_pred[..., k : k + lesions])
                for k in range(at, y_pred.shape[-1], lesions)
            ]
            loss += self._deep_supervision * tf.add_n(others) / len(others)
        return loss

    def _of_lesions(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Return the sum of both losses of each example, float32 (batch,)."""
        target, known = tf.maximum(y_true, 0.0), tf.cast(y_true >= 0, tf.float32)
        given = tf.clip_by_value(y_pred, _EPSILON, 1 - _EPSILON)
        on, off = 2 * self._alpha * target, 2 * (1 - self._alpha) * (1 - target)
        entropy = -(on * tf.math.log(given) + off * tf.math.log(1 - given))
        if self._gamma:
            entropy *= tf.abs(target - given) ** self._gamma
        pixels = tf.reduce_sum(known, axis=(1, 2))
        mean = tf.math.divide_no_nan(tf.reduce_sum(entropy * known, axis=(1, 2)), pixels)
        covered = tf.reduce_sum(target * known, axis=(1, 2))
        both = tf.reduce_sum(target * given * known, axis=(1, 2))
        marked = tf.reduce_sum(given * known, axis=(1, 2))
        errors = self._missed * (covered - both) + (1 - self._missed) * (marked - both)
        overlap = (both + _SMOOTH) / (both + errors + _SMOOTH)
        of_lesion = mean + tf.where(covered > 0, 1 - overlap, 0.0)
        weights = tf.constant(self._weights, tf.float32)
        return tf.reduce_sum(of_lesion * weights, axis=1) / tf.reduce_sum(weights)


@keras.saving.register_keras_serializable(package="dr_tfx")
class PixelAupr(keras.metrics.Metric):
    """Mean over the lesions of the area under precision and recall of all known pixels.

    It is that of `pixel_counts`, over all examples since the last reset. Lesions that no pixel has
    are left out; NaN if there is none at all.
    """

    def __init__(self, lesions: int, name: str = "aupr", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.lesions = lesions
        # float32 whatever the policy: float16 cannot count pixels.
        self.counts = self.add_weight(
            name="counts",
            shape=(2, lesions * pixel_counts.FINE),
            initializer="zeros",
            dtype="float32",
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        del sample_weight  # A pixel counts as one, whatever its example weighs.
        y_true, y_pred = y_true[..., : self.lesions], y_pred[..., : self.lesions]
        wanted = tf.cast(y_true, tf.float32)
        known = tf.cast(wanted >= 0, tf.float32)
        lesion = tf.maximum(wanted, 0.0)
        steps = _steps(tf.cast(y_pred, tf.float32))
        places = steps + pixel_counts.FINE * tf.range(self.lesions)
        amounts = tf.stack([lesion * known, (1 - lesion) * known], axis=-1)
        found = tf.math.unsorted_segment_sum(
            tf.reshape(amounts, [-1, 2]),
            tf.reshape(places, [-1]),
            self.lesions * pixel_counts.FINE,
        )
        self.counts.assign_add(tf.transpose(found))

    def result(self) -> tf.Tensor:
        """The mean area so far, a float32 scalar."""
        counts = tf.reshape(tf.convert_to_tensor(self.counts), [2, self.lesions, -1])
        lesion, other = tf.unstack(counts)
        found = tf.cumsum(lesion, axis=1, reverse=True)
        called = found + tf.cumsum(other, axis=1, reverse=True)
        precision = tf.math.divide_no_nan(found, called)
        area = tf.reduce_sum(precision * tf.math.divide_no_nan(lesion, found[:, :1]), axis=1)
        there = tf.cast(found[:, 0] > 0, tf.float32)
        return tf.reduce_sum(area * there) / tf.reduce_sum(there)

    def reset_state(self) -> None:
        # Keras 2's own assigns a scalar.
        self.counts.assign(tf.zeros(self.counts.shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lesions": self.lesions}


def _steps(probability: tf.Tensor) -> tf.Tensor:
    """Return the fine step of `pixel_counts` that each probability is in, int32 of any shape."""
    values = tf.clip_by_value(probability, _EPSILON, 1 - _EPSILON)
    cuts = tf.floor(pixel_counts.LOGIT_CUTS * tf.math.log(values / (1 - values)))
    far = float(pixel_counts.FARTHEST)
    below = tf.clip_by_value(cuts, -far - 1, far) + far + 1
    equal = tf.clip_by_value(tf.floor(values * pixel_counts.BINS), 0, pixel_counts.BINS - 1)
    return tf.cast(equal + below, tf.int32)


@keras.saving.register_keras_serializable(package="dr_tfx")
class MarkedPixels(keras.metrics.Mean):
    """Share of pixels and lesions that are marked at .5; near 0 or 1 the model has collapsed."""

    def __init__(self, lesions: int, name: str = "marked", dtype: Any = "float32"):
        super().__init__(name=name, dtype=dtype)
        self.lesions = lesions

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        del y_true, sample_weight
        marked = tf.cast(tf.cast(y_pred[..., : self.lesions], tf.float32) >= 0.5, tf.float32)
        return super().update_state(tf.reduce_mean(marked, axis=(1, 2, 3)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lesions": self.lesions}
