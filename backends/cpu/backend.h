#pragma once

/// @file
/// Entry of the CPU backend.

namespace trinix::cpu {

/// Makes the CPU available and registers its kernels. Called once by initialize().
void register_backend_and_kernels();

}  // namespace trinix::cpu
