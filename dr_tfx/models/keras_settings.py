"""The settings of Keras that networks are built with, whatever a person's own keras.json says."""

import keras


def apply() -> None:
    """Let Keras build networks as dr_tfx means them: images (height, width, channels), in float32.

    Raises:
      ImportError: Keras was loaded with another backend before dr_tfx was.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"Keras runs on {backend!r} in this process; dr_tfx needs TensorFlow. Import dr_tfx "
            "before keras, or set the environment variable KERAS_BACKEND=tensorflow"
        )
    keras.backend.set_image_data_format("channels_last")
    keras.backend.set_floatx("float32")
    keras.backend.set_epsilon(1e-7)
