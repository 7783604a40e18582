"""The contenders of `benchmarks.input_pipeline.loader`, one file each.

Every contender is held to the same: endless batches of 64, shuffled, both classes equally often,
float32 pixels 0..255 in the host's memory, and with augmentation a flip left-right, a flip up-down
and a brightness factor of 0.9 to 1.1, drawn anew for every image. In all else, each is written as
its own documentation advises for speed, with whole batches at once wherever there is a way.

To add a contender, write a file with a `CONTENDER` and add it to the tuple below.
"""

from benchmarks.input_pipeline.contenders import (
    float32_by_numpy,
    float32_by_tf_data,
    grain_array_record,
    keras_image_folder,
    mosaicml_streaming,
    ours,
    ours_by_tf_data,
    tf_data_by_hand,
    torch_batches,
    torch_examples,
    uint8_in_memory,
    webdataset_tar,
)

CONTENDERS = {
    module.CONTENDER.name: module.CONTENDER
    for module in (
        float32_by_numpy,
        float32_by_tf_data,
        uint8_in_memory,
        keras_image_folder,
        torch_examples,
        torch_batches,
        webdataset_tar,
        grain_array_record,
        mosaicml_streaming,
        tf_data_by_hand,
        ours_by_tf_data,
        ours,
    )
}
