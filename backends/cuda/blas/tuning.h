#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include <trinix/backends/cuda/blas/product.h>
#include <trinix/core/backend.h>

/// @file
/// Which of cuBLASLt's candidate kernels is fastest for a product: measured once per kind of product and remembered in
/// a file under the user's cache folder. The first candidate is 5 to 6 percent slower on average over the products of a
/// GPT-2 step.

namespace trinix::cuda {

/// Scratch memory that every product of a device may use; products of a device follow one another on its stream.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};
[[nodiscard]] const Workspace& workspace_of(int device);

/// All that decides which way of making a product is best.
using ProductKey = std::array<std::int64_t, 21>;

/// Floating-point operations from which on choices are worth measuring; below, the launch dominates.
inline constexpr double kWorthTuning = 1e8;
[[nodiscard]] inline double flops_of(const Product& p) {
  return 2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k) *
         static_cast<double>(p.batch);
}

/// How many candidates to ask for: 1 when tuning is off (TRINIX_MATMUL_TUNING=0, or deterministic mode).
[[nodiscard]] int tuning_candidates();

/// Runs candidate i of a product on a stream.
using RunCandidate = std::function<void(std::size_t i, const Product& product, const Stream& stream)>;

/// The best candidate: from memory, from the file, or measured now. Measures into scratch output, never into the
/// caller's; while the stream is being captured nothing can be measured and the first candidate is used.
[[nodiscard]] std::size_t tuned_choice(const ProductKey& key, const Product& product, int device,
                                       std::size_t candidates, const RunCandidate& run);

/// The faster of two ways to the same result: 0 or 1, and 0 where it is not known and cannot be measured. Remembered
/// under `key`, which must not be that of a product.
[[nodiscard]] std::size_t tuned_way(const ProductKey& key, const Stream& stream,
                                    const std::array<std::function<void()>, 2>& ways, bool may_measure);

}  // namespace trinix::cuda
