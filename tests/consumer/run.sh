#!/usr/bin/env bash
# Uses the library as a stranger would: installed and moved elsewhere, static and shared, through CMake and pkg-config,
# and as a subdirectory. Usage: tests/consumer/run.sh BUILD_DIR
set -euo pipefail
build=$(cd "${1:?usage: run.sh BUILD_DIR}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
jobs=$(nproc)

say() { echo "consumer: $*"; }
fail() {
  echo "consumer: FAILED: $*" >&2
  exit 1
}
quietly() { # shows what a command printed only when it fails
  "$@" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fail "$*"
  }
}

install_and_move() { # BUILD PREFIX: the library must not mind that its folder has moved
  quietly cmake --install "$1" --prefix "$work/first-place"
  mv "$work/first-place" "$2"
  if grep -rIl -e "$work/first-place" -e "$1" "$2"; then fail "these installed files name the folder of the build"; fi
}

check_commands() { # FOLDER: nothing of our own flags may reach the consumer
  local bad
  if bad=$(grep '"command"' "$1/compile_commands.json" | grep -v -e '/trinix.dir/' -e 'trinix_' |
    grep -oE -e '-(march|mtune|mprefer|mavx)[^ ]*|-fopenmp[^ ]*|-ffast-math|-D[A-Z_a-z]*(FMT|Eigen|EIGEN)[^ ]*|[^ ]*(eigen3|nlohmann)'); then
    fail "flags of the library reached the consumer: $bad"
  fi
}

use_package() { # NAME PREFIX
  quietly cmake -S "$here" -B "$work/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" \
    -DTRINIX_FROM=package -DCMAKE_PREFIX_PATH="$2" -DTRINIX_COMPONENTS=tools
  quietly cmake --build "$work/$1"
  check_commands "$work/$1"
  "$work/$1/train" || fail "$1: the program that trains a network"
  "$work/$1/errors" || fail "$1: the program that catches an error"
  "$work/$1/with_tools" || fail "$1: the program that uses trinix::tools"
}

use_pkg_config() { # NAME PREFIX RUN_PATH
  command -v pkg-config >"$work/log" || {
    say "skipped: pkg-config is not installed"
    return
  }
  local file flags
  file=$(find "$2" -name trinix.pc)
  flags=$(PKG_CONFIG_PATH=$(dirname "$file") pkg-config --cflags --libs trinix)
  # shellcheck disable=SC2086
  quietly "$compiler" -std=c++20 "$here/train.cpp" -o "$work/$1" $flags -Wl,-rpath,"$3"
  "$work/$1" || fail "$1"
}

say "the example in README.md is the program that is tested"
diff <(sed -n '/^```cpp$/,/^```$/p' "$source/README.md" | sed '1d;$d') <(sed 1d "$here/train.cpp") ||
  fail "README.md and tests/consumer/train.cpp differ"

say "static: install, move, find_package"
prefix=$work/static
install_and_move "$build" "$prefix"
use_package package-static "$prefix"
"$prefix/bin/trinix" --version
if cmake -S "$here" -B "$work/future" -DTRINIX_FROM=package -DCMAKE_PREFIX_PATH="$prefix" -DTRINIX_COMPONENTS=nonsense \
  >"$work/log" 2>&1; then fail "a component that does not exist was found"; fi
say "static: pkg-config"
use_pkg_config pkg-config-static "$prefix" "$prefix/lib"

say "every installed header is complete and needs no private package"
(cd "$prefix/include" && find trinix -name '*.h' -printf '#include <%p>\n') >"$work/headers.cpp"
quietly "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I "$prefix/include" "$work/headers.cpp"
if grep -rnE '#include *[<"](Eigen|fmt|nlohmann|CLI|omp\.h|cuda)' "$prefix/include"; then
  fail "an installed header includes a private package"
fi

# One more build of the library serves three checks: as a subdirectory, shared, and without any of its own defaults
# (no -march, no optimisation, which also keeps it short).
say "shared: FetchContent"
quietly cmake -S "$here" -B "$work/fetch" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DBUILD_SHARED_LIBS=ON -DTRINIX_FROM=fetch -DTRINIX_SOURCE="$source" -DTRINIX_INSTALL=ON \
  -DTRINIX_CUDA=OFF -DTRINIX_BATCH=8
quietly cmake --build "$work/fetch" --parallel "$jobs"
check_commands "$work/fetch"
"$work/fetch/train" || fail "FetchContent"
"$work/fetch/errors" || fail "FetchContent: an error of the library was not caught by its type"
say "shared: install, move, pkg-config"
prefix=$work/shared
install_and_move "$work/fetch" "$prefix"
library=$(find "$prefix" -name 'libtrinix.so')
use_pkg_config pkg-config-shared "$prefix" "$(dirname "$library")"
foreign=$(nm -DC --defined-only "$library" | cut -d' ' -f3- |
  grep -vE '^(vtable|VTT|typeinfo|typeinfo name|guard variable) for trinix::|^(non-)?virtual thunk to trinix::|^trinix::' || true)
if [ -n "$foreign" ]; then fail "libtrinix.so exports symbols that are not its own: $(head -5 <<<"$foreign")"; fi
if ldd "$library" | grep -E 'fmt|CLI'; then fail "libtrinix.so needs a private package at run time"; fi

say "add_subdirectory: configures beside the consumer's own targets"
quietly cmake -S "$here" -B "$work/subdirectory" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" \
  -DTRINIX_FROM=subdirectory -DTRINIX_SOURCE="$source" -DTRINIX_CUDA=OFF
check_commands "$work/subdirectory"
say "passed"
