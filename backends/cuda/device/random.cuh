#pragma once

#include <cstdint>

#include <trinix/core/generator.h>

/// @file
/// Where a kernel's random numbers begin.

namespace trinix::cuda {

/// The offset to draw from. In a captured step it moves on with every replay, so it is known on the card only.
__device__ inline std::uint64_t random_offset(const RandomState& state) {
  return state.offset + (state.extra != nullptr ? *state.extra : 0);
}

}  // namespace trinix::cuda
