#pragma once

/// @file
/// Page-locked host memory and events of CUDA, for core/pinned_buffer.h.

namespace trinix::cuda {

void register_pinned();

}  // namespace trinix::cuda
