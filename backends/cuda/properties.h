#pragma once

#include <cstddef>

#include <trinix/core/backend.h>

/// @file
/// What kernels want to know of the card.

namespace trinix::cuda {

/// Number of multiprocessors of the stream's device.
[[nodiscard]] int multiprocessors(const Stream& stream);

/// Bytes of shared memory that one block may ask for on the stream's device; a multiprocessor has little more.
[[nodiscard]] std::size_t shared_memory(const Stream& stream);

}  // namespace trinix::cuda
