"""Where golden values are written, and how."""

import pathlib
import sys

import safetensors
import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent


def save(name, tensors):
    metadata = {"format": "pt", "torch": torch.__version__, "safetensors": safetensors.__version__}
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(tensors, FOLDER / f"{name}.safetensors", metadata=metadata)
