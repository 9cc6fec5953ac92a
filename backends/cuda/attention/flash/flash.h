#pragma once

#include <trinix/backends/cuda/attention/attention.h>

/// @file
/// Attention for Hopper (sm_90a): one warpgroup of a block fetches tiles by the copy engine, the others multiply by
/// wgmma. After "FlashAttention-3" (Shah et al., arXiv 2407.08608), by the brief that docs/attention.md tells of.

namespace trinix::cuda {

inline constexpr std::int64_t kFlashBackwardDepth = 128;  ///< most columns of a head, for the backward

/// Columns that the kernels compute with, up to 128.
[[nodiscard]] constexpr int flash_width(std::int64_t depth) { return depth <= 64 ? 64 : depth <= 96 ? 96 : 128; }

/// Columns of a head in what the backward adds dq up in.
[[nodiscard]] constexpr int flash_sum_width(std::int64_t depth) { return depth <= 64 ? 64 : 128; }

/// Whether the backward, too, has a kernel here; else that of the other family takes its place. Rows behind the end of
/// one of several sequences belong to another one, whose NaN would get in.
[[nodiscard]] inline bool flash_has_backward(const Attention::Inputs& in) {
  return !in.query_starts.defined && in.q.size(3) <= kFlashBackwardDepth && in.v.size(3) <= kFlashBackwardDepth;
}

// Each file forward_*.cu, backward_*.cu holds one element type.
/// @tparam kWidth, kValueWidth 64, 96 or 128, both the same; 192 and 128; 256 and 256
template <class T, int kWidth, int kValueWidth>
void run_flash_forward(const AttentionForwardTask& task, const Stream& stream);
/// After run_backward_rows(), by which `task.suspect` is set: dk, dv, and dq by way of dq_sum, in no fixed order.
template <class T, int kWidth>
void run_flash_backward(const AttentionBackwardTask& task, const Stream& stream);

}  // namespace trinix::cuda
