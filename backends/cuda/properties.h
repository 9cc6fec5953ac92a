#pragma once

#include <trinix/core/backend.h>

/// @file
/// What kernels want to know of the card.

namespace trinix::cuda {

/// Number of multiprocessors of the stream's device.
[[nodiscard]] int multiprocessors(const Stream& stream);

}  // namespace trinix::cuda
