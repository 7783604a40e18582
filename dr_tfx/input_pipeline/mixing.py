"""Two pictures as one, with the targets of both in the same shares.

Mixup lays one through the other: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR
2018, https://arxiv.org/abs/1710.09412. CutMix puts a square of one into the other: Yun et al.,
"CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
https://arxiv.org/abs/1905.04899. The pictures are mixed in the memory of the process that trains,
before a batch is divided among devices, so that no picture's partner depends on the devices.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.dataset import records

SHARE, OTHER = (
    "mixing/share",
    "mixing/other/",
)  # Own shares; begins the names of partners' features.

_FINE = 4096  # What is behind the first digits of a draw is another draw.

Encode = Callable[[Mapping[str, tf.Tensor]], tuple[tf.Tensor, tf.Tensor]]


def mix(
    batch: Mapping[str, np.ndarray], draws: np.ndarray, spec: specs.Augmentation
) -> dict[str, np.ndarray]:
    """Return a batch in which each picture shows another one of the batch too.

    Its own share is the larger one, and may be all of it: it is drawn from the beta distribution of
    (alpha, alpha), or is the rest of that. The partners are the batch in another order. CutMix puts
    its square anywhere inside the picture; the share is what the square leaves.

    Args:
      batch: `image`, uint8 (batch, size, size, 3), and features by name, (batch, ...).
      draws: float32 (batch, 2), uniform in [0, 1): of the share, and of the partner.
      spec: its `mixup` or its `cutmix` is alpha; the larger, the more equal are the shares.

    Returns:
      The batch with the mixed pictures, the features of the partners, and SHARE, float32 (batch,).
    """
    from scipy import special  # Late, because few trainings mix.

    alpha = spec.mixup or spec.cutmix
    drawn = special.betaincinv(alpha, alpha, draws[:, 0].astype(np.float64))
    shares, partners = np.maximum(drawn, 1 - drawn), np.argsort(draws[:, 1], kind="stable")
    images = batch[records.IMAGE]
    if spec.mixup:
        mixed = np.empty_like(images)
        for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
            cv2.addWeighted(images[i], share, images[partner], 1 - share, 0, dst=mixed[i])
    else:
        mixed, size = images.copy(), images.shape[1]
        sides = (size * np.sqrt(1 - shares)).astype(int)
        shares = 1 - (sides / size) ** 2
        fine = (draws.astype(np.float64) * _FINE) % 1
        corners = (fine * (size - sides + 1)[:, None]).astype(int)
        for i, (side, (top, left)) in enumerate(zip(sides, corners, strict=True)):
            square = slice(top, top + side), slice(left, left + side)
            mixed[i][square] = images[partners[i]][square]
    others = {OTHER + name: batch[name][partners] for name in batch if name != records.IMAGE}
    return {**batch, **others, records.IMAGE: mixed, SHARE: shares.astype(np.float32)}


def targets(batch: Mapping[str, tf.Tensor], encode: Encode) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the targets of a batch and the factors of its losses, of both examples if it is mixed.

    Args:
      batch: the tensors of a batch, of `mix` or not.
      encode: `ModelSide.encode` of the kind of task.
    """
    found, factors = encode(batch)
    if SHARE not in batch:
        return found, factors
    others = {name.removeprefix(OTHER): batch[name] for name in batch if name.startswith(OTHER)}
    of_other, factors_of_other = encode(others)
    share = batch[SHARE]
    wide = tf.reshape(share, [-1, *[1] * (found.shape.rank - 1)])
    return wide * found + (1 - wide) * of_other, share * factors + (1 - share) * factors_of_other
