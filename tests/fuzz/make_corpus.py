#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/safetensors/: the seeds of safetensors_fuzz. Files that the fuzzer found stay beside them.

Names that begin with "file" are whole files, those that begin with "json" are headers around which the fuzzer builds one.
"""
import json
import pathlib
import struct

OUT = pathlib.Path(__file__).resolve().parent / "corpus" / "safetensors"


def entry(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def text(value):
    return json.dumps(value, separators=(",", ":")).encode()


def whole(header, data):
    return struct.pack("<Q", len(header)) + header + bytes(data)


JSON = {
    "empty": b"{}",
    "one": text({"w": entry()}),
    "metadata": text({"__metadata__": {"format": "pt", "note": "x"}, "w": entry()}),
    "metadata_null": text({"__metadata__": None}),
    "metadata_number": text({"__metadata__": {"a": 1}}),
    "scalar": text({"w": entry(shape=())}),
    "zero_size": text({"w": entry(shape=(2, 0, 3), end=0)}),
    "zero_then_huge": text({"w": entry(shape=(0, 2**52, 2**52), end=0)}),
    "two": text({"b": entry(begin=4, end=8), "a": entry()}),
    "many": text({f"t{i}": entry("U8", (1,), i, i + 1) for i in range(16)}),
    "bits": text({"a": entry("F4", (8,), 0, 4), "b": entry("F6_E2M3", (4,), 4, 7), "c": entry("F8_E4M3", (1,), 7, 8)}),
    "rank_12": text({"w": entry("U8", (1,) * 12, 0, 1)}),
    "extra_fields": text({"w": {"x": {"y": [1, {"z": None}], "q": []}, "n": 1.5, **entry()}}),
    "overlap": text({"a": entry(), "b": entry()}),
    "hole": text({"a": entry(begin=4, end=8)}),
    "reversed": text({"a": entry(begin=4, end=0)}),
    "overflow": text({"a": entry("U8", (2**32, 2**32), 0, 0)}),
    "overflow_bits": text({"a": entry("F64", (2**30, 2**28), 0, 0)}),
    "huge_dim": text({"a": entry("U8", (2**64 - 2,), 0, 1)}),
    "negative": text({"a": entry("U8", (-1,), 0, 1)}),
    "fraction": text({"a": entry("U8", (1.5,), 0, 1)}),
    "exponent": b'{"w":{"dtype":"U8","shape":[1e3],"data_offsets":[0,1000]}}',
    "name_twice": b'{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    "key_twice": b'{"w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    "escapes": b'{"\\u0077\\n\\"\\u00e9\\ud83d\\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    "utf8": '{"é漢😀":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.encode(),
    "bad_utf8": b'{"\xff\xc0\x80":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    "deep": b'{"w":{"x":' + b"[" * 200,
    "spaces": b' \t\n\r{ "w" : { "dtype" : "U8" , "shape" : [ 1 ] , "data_offsets" : [ 0 , 1 ] } } \n ',
    "zero_byte": b'{"a\x00":1}',
    "byte_order_mark": b"\xef\xbb\xbf{}",
    "unknown_dtype": text({"w": entry("F128", (1,), 0, 16)}),
    "not_an_object": b"[1,2]",
    "cut": b'{"w":{"dtype":"U8","sha',
}

FILES = {
    "valid": whole(text({"__metadata__": {"format": "pt"}, "w": entry("F32", (2, 3), 0, 24)}) + b"   ", 24),
    "no_tensors": whole(b"{}", 0),
    "one_short": whole(text({"w": entry()}), 3),
    "one_over": whole(text({"w": entry()}), 5),
    "too_short": b"\x02\x00\x00",
    "length_all_ones": b"\xff" * 8 + b"{}",
    "length_wraps": struct.pack("<Q", 2**64 - 8) + b"{}",
    "length_over_limit": struct.pack("<Q", 100_000_001) + b"{}",
    "length_beyond": struct.pack("<Q", 1000) + b"{}",
}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, content in JSON.items():
        (OUT / f"json_{name}").write_bytes(content)
    for name, content in FILES.items():
        (OUT / f"file_{name}").write_bytes(content)


if __name__ == "__main__":
    main()
