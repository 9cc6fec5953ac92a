#pragma once

#include <cstddef>

#include <trinix/core/backend.h>

/// @file
/// What kernels want to know of the card. Asked once per device: the runtime's answer takes longer than a launch.

namespace trinix::cuda {

/// Number of multiprocessors of the stream's device.
[[nodiscard]] int multiprocessors(const Stream& stream);

/// Most shared memory, in bytes, that a block may ask for on this device.
[[nodiscard]] int shared_limit(Device device);

/// 10 times the major plus the minor number of the device's compute capability: 90 for Hopper.
[[nodiscard]] int compute_capability(Device device);

}  // namespace trinix::cuda
