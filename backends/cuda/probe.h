#pragma once

#include <string>

/// @file
/// Which cards this binary has code for.

namespace trinix::cuda {

/// "sm_80, sm_90a, ...", as given to the compiler.
[[nodiscard]] std::string compiled_architectures();

/// @throws DeviceError naming the card and the compiled architectures when no kernel of this binary runs on it.
void check_has_code(int index);

}  // namespace trinix::cuda
