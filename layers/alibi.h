#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include <trinix/layers/module.h>

/// @file
/// Attention with linear biases (Press et al., arXiv 2108.12409): scores lose slope * distance, with a slope per head.

namespace trinix::nn {

/// The slopes of `heads` heads, (heads), f32. For a power of two: 2^(-8/heads), its square, its cube, ... Otherwise
/// those of the next smaller power of two, and then every second one of twice as many, as in the paper's code.
/// @throws ConfigError unless heads is positive.
[[nodiscard]] Tensor alibi_slopes(std::int64_t heads, Device device = {});

/// Gives attention its slopes (AttentionOptions::alibi_slopes), which is all that attention needs: no matrix is made
/// unless bias() is called. No parameters.
class ALiBi : public Module {
 public:
  /// @throws ConfigError unless heads is positive.
  explicit ALiBi(std::int64_t heads);

  /// (heads), f32; made once per device.
  [[nodiscard]] Tensor slopes(Device device = {}) const;
  /// The whole matrix -slope * |i + keys - queries - j|, (heads, queries, keys), for looking at and for attention of
  /// other makes. @throws ShapeError for a negative length.
  [[nodiscard]] Tensor bias(std::int64_t queries, std::int64_t keys, const TensorOptions& options = {}) const;
  [[nodiscard]] std::int64_t heads() const { return heads_; }

 private:
  std::int64_t heads_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<DeviceType, int>, Tensor> slopes_;
};

}  // namespace trinix::nn
