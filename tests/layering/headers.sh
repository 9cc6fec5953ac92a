#!/usr/bin/env bash
# Compiles every header on its own, twice in one file: it must include what it uses, and be guarded. Headers that a user
# may include get no other include path than the library's, so one that leaks a private dependency fails here.
#
#   headers.sh COMPILER SOURCE_DIR INCLUDE_DIR [flag for backends ...]
set -euo pipefail
compiler=$1 source=$2 include=$3
shift 3
private=("$@")

check() {  # HEADER [flag ...]
  local header=$1
  shift
  printf '#include <trinix/%s>\n#include <trinix/%s>\n' "$header" "$header" |
    "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Werror "$@" -x c++ - ||
    { echo "not self-contained: $header" >&2; return 1; }
}
export -f check
export compiler

cd "$source"
public=$(find core autograd layers optim tools/lib -name '*.h' | sort)
# backends/cuda needs nvcc; its headers are compiled by the build that has it.
kernels=$(find backends -name '*.h' -not -path 'backends/cuda/*' | sort)
jobs=$(nproc 2>/dev/null || echo 2)
printf '%s\n' $public | xargs -P "$jobs" -I{} bash -c 'check "$@"' check {} -I "$include"
printf '%s\n' $kernels | xargs -P "$jobs" -I{} bash -c 'check "$@"' check {} -I "$include" "${private[@]}"
echo "$(printf '%s\n' $public $kernels | wc -l) headers"
