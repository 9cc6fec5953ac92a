#!/usr/bin/env python3
"""Writes tests/data/safetensors/: small files from the reference implementation (the Python package safetensors).

Run it with a Python that has torch and safetensors. The tests read the files, and check that the library writes the
same tensors to the same bytes.
"""
import pathlib

import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "safetensors"


def values(dtype):
    """12 values that every dtype of the library holds exactly: 0, 1, ..., 11, or their parity for booleans."""
    counting = torch.arange(12)
    return (counting % 2 == 1) if dtype == torch.bool else counting.to(dtype)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    dtypes = {
        "bool": torch.bool, "u8": torch.uint8, "i32": torch.int32, "i64": torch.int64,
        "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64,
    }
    tensors = {f"x.{name}": values(dtype).reshape(3, 4) for name, dtype in dtypes.items()}
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(2, 0, 3)
    tensors["odd"] = torch.arange(3, dtype=torch.uint8)
    tensors["special"] = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0])
    tensors["naïve \"quoted\" \\ \n"] = torch.tensor([7], dtype=torch.int32)
    save_file(tensors, OUT / "all_dtypes.safetensors", metadata={"format": "pt"})

    save_file({"w": torch.arange(6, dtype=torch.float32).reshape(2, 3)}, OUT / "no_metadata.safetensors")
    save_file({}, OUT / "no_tensors.safetensors", metadata={"format": "pt", "note": "nothing in it"})

    # Dtypes that the library does not have, beside one that it has.
    save_file({"known": torch.arange(4, dtype=torch.float32),
               "i8": torch.arange(4, dtype=torch.int8),
               "i16": torch.arange(4, dtype=torch.int16),
               "f8": torch.arange(4).to(torch.float8_e4m3fn)}, OUT / "other_dtypes.safetensors")
    for file in OUT.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
