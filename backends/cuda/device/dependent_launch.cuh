#pragma once

/// @file
/// For kernels that are launched early (LaunchShape::early): their blocks take the places that the kernel in front of
/// them leaves, instead of waiting for its last block and for a launch.

namespace trinix::cuda {

/// Waits for the kernels in front of this one and for what they wrote. All blocks of a kernel that may be launched
/// early call it before they touch memory; without an early launch it costs nothing.
__device__ inline void wait_for_kernels_in_front() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// The next kernel, if launched early, may take places from now on.
__device__ inline void let_next_kernel_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace trinix::cuda
