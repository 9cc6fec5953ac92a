#pragma once

/// @file
/// Entry of the CUDA backend.

namespace trinix::cuda {

/// Makes CUDA available and registers its kernels; costs nothing on a machine without a driver. Called once by
/// initialize().
void register_backend_and_kernels();

}  // namespace trinix::cuda
