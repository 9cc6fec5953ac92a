#pragma once

#include <string>

#include <trinix/core/device.h>

/// @file
/// Which cards this binary has code for.

namespace trinix::cuda {

/// "sm_80, sm_90a, ...", as given to the compiler.
[[nodiscard]] std::string compiled_architectures();

/// @throws DeviceError naming the card and the compiled architectures when no kernel of this binary runs on it.
void check_has_code(int index);

/// Whether this card is a Hopper and this binary has code for its own instructions (sm_90a).
[[nodiscard]] bool has_hopper_code(Device device);

/// Whether kernels may start before the one in front of them has ended: the card can (compute capability 9.0), and the
/// code that it runs was compiled for such cards, else it would not wait (device/dependent_launch.cuh).
[[nodiscard]] bool launches_early(Device device);

}  // namespace trinix::cuda
