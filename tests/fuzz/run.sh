#!/usr/bin/env bash
# Fuzzes the readers of foreign files for some seconds: tests/fuzz/run.sh SECONDS
set -euo pipefail
seconds=${1:?usage: run.sh SECONDS}
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../build/fuzz

compiler=$(command -v clang++ || command -v clang++-14 || true)
if [ -z "$compiler" ]; then
  echo "skipped: fuzzing needs Clang with libFuzzer (Debian 12: clang libclang-rt-14-dev)"
  exit 0
fi
mkdir -p "$build"
cmake -S "$here" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" >"$build/configure.log" 2>&1 || {
  cat "$build/configure.log" >&2
  exit 1
}
cmake --build "$build"
# New inputs go to the build folder; the corpus in the tree changes only by hand.
mkdir -p "$build/found"
"$build/safetensors_fuzz" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
  -dict="$here/safetensors.dict" -artifact_prefix="$build/" "$build/found" "$here/corpus/safetensors"
