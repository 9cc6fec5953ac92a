#pragma once

#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <trinix/core/device.h>
#include <trinix/core/dtype.h>
#include <trinix/layers/language_model.h>

/// @file
/// How much of a card's arithmetic a training run uses: the model FLOP utilisation of Chowdhery et al., "PaLM", arXiv
/// 2204.02311, appendix B.

namespace trinix::tools {

/// Floating-point operations per token of a training step: 6 N + 12 L C T for N parameters, L layers of width C, and
/// sequences of T tokens. Forward is a multiplication and an addition per parameter, backward twice that; attention
/// has 4 C T forward and 8 C T backward per layer, which counts the pairs that a causal mask leaves out.
[[nodiscard]] double flops_per_token(const nn::LanguageModel& model);

/// The data sheet's dense matrix rate of a card in TFLOP/s: without sparsity, at the power limit of its usual form.
/// Nothing for a card that is not in the table. @param card the model as the driver names it, "NVIDIA H200"
[[nodiscard]] std::optional<double> peak_tflops(std::string_view card, DType dtype);

/// "NVIDIA H200"; empty for the CPU.
[[nodiscard]] std::string card_name(Device device);

/// Work per second, from one time it is asked to the next.
class Pace {
 public:
  void start() { since_ = std::chrono::steady_clock::now(); }
  /// Of the work done since start() or since it was last asked. NaN when there was none.
  [[nodiscard]] double per_second(double work) {
    if (work == 0) return std::numeric_limits<double>::quiet_NaN();
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> took = now - since_;
    since_ = now;
    return work / took.count();
  }

 private:
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace trinix::tools
