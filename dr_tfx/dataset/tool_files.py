"""The files by which other people's tools know a data set: TensorFlow Datasets and Croissant.

They say what the manifest says, in the words of these tools, and nothing of dr_tfx reads them. The
formats: https://www.tensorflow.org/datasets/external_tfrecord for the first, and
http://mlcommons.org/croissant/1.0 for the second. A split of TensorFlow Datasets is a sequence of
files with numbers in their names, so that it is one split and one label of ours: `train_0` and so
on, which are read together as `train_0+train_1`.
"""

import collections
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dr_tfx.dataset import manifest, records

INFO_FILE, FEATURES_FILE, CROISSANT_FILE = "dataset_info.json", "features.json", "croissant.json"
LABELS_FILES = "label-*.labels.txt"
_VERSION = "1.0.0"  # Of a data set; the tools want one.
_FEATURES = "tensorflow_datasets.core.features"
_PLAIN = re.compile(r"[\w ,.-]{1,100}")  # A column that can be a part of a file's name.


def of(data: manifest.Manifest) -> dict[str, str]:
    """Return the texts of the files, by their names, of a data set with this manifest."""
    label, names = data.dataset.label_column, data.dataset.label_names
    found = {
        INFO_FILE: _json(_info(data)),
        FEATURES_FILE: _json(_features(data)),
        CROISSANT_FILE: _json(_croissant(data)),
    }
    # The tool reads a line for each label, without spaces around it.
    if _PLAIN.fullmatch(label) and all(
        name.split("\n") == [name.strip()] != [""] for name in names
    ):
        found[LABELS_FILES.replace("*", label)] = "\n".join(names) + "\n"
    return found


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _described(data: manifest.Manifest) -> str:
    size, splits = data.dataset.recipe.size, dict.fromkeys(shard.split for shard in data.shards)
    return (
        f"{data.written:,} photographs as a network sees them, {size}x{size} pixels in RGB, with "
        f"their labels, in the splits {', '.join(splits)}. Made by dr_tfx, as "
        f"{manifest.FILE_NAME} says in full."
    )


def _info(data: manifest.Manifest) -> dict[str, Any]:
    """Return dataset_info.json: what there is of each split and label. Numbers are texts there."""
    strata = collections.defaultdict[tuple[str, int], list[manifest.Shard]](list)
    for shard in data.shards:
        strata[shard.split, shard.label].append(shard)
    return {
        "description": _described(data),
        "fileFormat": "tfrecord",
        "name": "dr_tfx",
        "splits": [
            {
                "name": f"{split.replace('-', '_')}_{label}",
                "filepathTemplate": f"{split}-{label}.tfrecord-{{SHARD_X_OF_Y}}",
                "numBytes": str(sum(shard.bytes for shard in shards)),
                "shardLengths": [str(count) for count in _lengths(shards)],
            }
            for (split, label), shards in strata.items()
        ],
        "version": _VERSION,
    }


def _lengths(shards: Sequence[manifest.Shard]) -> list[int]:
    """Return the examples of all shards that were planned; one without any has no file."""
    places = [re.fullmatch(r".*-(\d+)-of-(\d+)", shard.name) for shard in shards]
    held = {
        int(place[1]): shard.records for place, shard in zip(places, shards, strict=True) if place
    }
    (planned,) = {int(place[2]) for place in places if place}
    return [held.get(number, 0) for number in range(planned)]


def _features(data: manifest.Manifest) -> dict[str, Any]:
    """Return features.json: a tree of the names of features, parted at each slash."""
    recipe, spec = data.dataset.recipe, data.dataset
    kinds = {records.IMAGE_ENCODED: _pixels(recipe.size, 3, recipe.encoding)}
    for name in spec.masks:
        kinds[records.MASK_PREFIX + name] = _pixels(recipe.size, 1, recipe.encoding)
    for text in (records.IMAGE_FORMAT, records.IMAGE_ID, records.IMAGE_PATIENT):
        kinds[text] = {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}
    for side in (records.PHOTOGRAPH_BYTES, records.PHOTOGRAPH_WIDTH, records.PHOTOGRAPH_HEIGHT):
        kinds[side] = _tensor("int64", (), "none")
    kinds[records.LABEL_PREFIX + spec.label_column] = {
        "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(len(spec.label_names))},
    }
    tree: dict[str, Any] = {}
    for name, kind in kinds.items():
        *folders, last = name.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[last] = kind
    return _branch(tree)


def _branch(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of the tree as the tool has it."""
    inside = {
        name: part if "pythonClassName" in part else _branch(part) for name, part in tree.items()
    }
    return {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": inside},
    }


def _pixels(size: int, channels: int, encoding: str) -> dict[str, Any]:
    """Return the kind of an image or a mask, which the tool decodes to uint8."""
    if encoding == "raw":
        return _tensor("uint8", (size, size, channels), "bytes")
    shape = {"dimensions": [str(size), str(size), str(channels)]}
    return {
        "pythonClassName": f"{_FEATURES}.image_feature.Image",
        "image": {"dtype": "uint8", "encodingFormat": encoding, "shape": shape},
    }


def _tensor(dtype: str, shape: tuple[int, ...], encoding: str) -> dict[str, Any]:
    sides = {"dimensions": [str(side) for side in shape]} if shape else {}
    return {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"dtype": dtype, "encoding": encoding, "shape": sides},
    }


def _croissant(data: manifest.Manifest) -> dict[str, Any]:
    """Return croissant.json: every file with its digest, and the list of the shards."""
    text = data.to_json().encode()
    whole = (manifest.FILE_NAME, len(text), hashlib.sha256(text).hexdigest(), "application/json")
    shards = [
        (shard.name, shard.bytes, shard.sha256, "application/x-tfrecord") for shard in data.shards
    ]
    kinds = {"name": "sc:Text", "split": "sc:Text", "label": "sc:Integer", "records": "sc:Integer"}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": data.dataset.name or "dr_tfx",
        "description": _described(data),
        "version": _VERSION,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{size} B",
                "encodingFormat": encoding,
                "sha256": digest,
            }
            for name, size, digest, encoding in (whole, *shards)
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "shards",
                "name": "shards",
                "description": "The files of records: TFRecords of tf.train.Example.",
                "field": [_field(name, kind) for name, kind in kinds.items()],
            }
        ],
    }


def _field(name: str, kind: str) -> dict[str, Any]:
    """Return a column of the list of the shards, which is a part of dataset.json."""
    return {
        "@type": "cr:Field",
        "@id": f"shards/{name}",
        "name": name,
        "dataType": kind,
        "source": {
            "fileObject": {"@id": manifest.FILE_NAME},
            "extract": {"jsonPath": f"$.shards[*].{name}"},
        },
    }


# What the words of the file mean; the format wants it whole.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        word: f"cr:{word}"
        for word in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty"),
            *("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}
