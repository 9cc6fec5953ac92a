#pragma once

#include <trinix/backends/cuda/gradient_arguments.h>
#include <trinix/core/ops/update.h>

/// @file
/// The kernels behind core/ops/update.h, each kind compiled in a file of its own.

namespace trinix::cuda {

/// Storage types of a tensor: parameter, gradient, and how the parameter is written.
enum class UpdateTypes : std::uint8_t {
  f64,
  f32,
  f32_narrow,  // bf16 gradient
  bf16,
  bf16_master,
  bf16_stochastic,
  bf16_wide,  // f32 gradient
  bf16_wide_master,
  bf16_wide_stochastic,
  f16,
  f16_master,
  f16_wide,
  f16_wide_master,
};

/// A piece of one tensor.
struct UpdateRow {
  void* param;
  const void* grad;
  void* state[3];
  void* master;
  std::int64_t random;
  std::int32_t count;
  std::int32_t rule;
  UpdateTypes types;
  bool vectors;  // all addresses allow vector access
};

/// Block b works on the rows [first_row[b], first_row[b + 1]); on row b alone when first_row is null.
struct UpdateTable {
  const UpdateRow* rows;
  const std::int32_t* first_row;
  std::int64_t blocks;
};

/// What the kernels take besides the table.
struct UpdateArguments {
  const UpdateFactors* factors;
  GradientArguments gradient;
  long long* skipped;  // may be null
  bool wide;           // f64
  bool bf16_first;     // the first state is bf16
};

inline constexpr int kUpdateThreads = 256;
/// Blocks that share a multiprocessor. Each thread has one vector of every array under way, 64 bytes for AdamW in f32;
/// 1024 threads thus keep 64 KB under way, twice what hides the latency of memory, so that a block may come or go
/// without a gap.
[[nodiscard]] TRINIX_HOST_DEVICE constexpr int update_blocks(UpdateKind kind, bool wide) {
  if (wide) return 2;
  return kind == UpdateKind::amsgrad ? 3 : 4;
}

template <UpdateKind kKind>
void launch_update(const UpdateTable& table, const UpdateArguments& args, const Stream& stream);

extern template void launch_update<UpdateKind::adam>(const UpdateTable&, const UpdateArguments&, const Stream&);
extern template void launch_update<UpdateKind::amsgrad>(const UpdateTable&, const UpdateArguments&, const Stream&);
extern template void launch_update<UpdateKind::lion>(const UpdateTable&, const UpdateArguments&, const Stream&);
extern template void launch_update<UpdateKind::momentum>(const UpdateTable&, const UpdateArguments&, const Stream&);
extern template void launch_update<UpdateKind::plain>(const UpdateTable&, const UpdateArguments&, const Stream&);

}  // namespace trinix::cuda
