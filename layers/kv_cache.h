#pragma once

#include <optional>
#include <utility>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Keys and values of the tokens that a decoder has seen.

namespace trinix::nn {

struct KvCacheOptions {
  std::int64_t layers = 0;
  std::int64_t batch = 1;
  std::int64_t capacity = 0;  ///< tokens
  std::int64_t heads = 0;     ///< of keys and values
  std::int64_t head_dim = 0;
  /// Of values; default head_dim. 0: there are no values, for layers that compute them from what they keep as keys.
  std::optional<std::int64_t> value_dim = {};
  TensorOptions tensor = {};
};

/// Memory for every token that can come is taken once; new tokens are written in place behind the old ones. A model
/// calls append() in each layer and then advance() once, so that a forward that throws leaves the cache as it was.
class KvCache {
 public:
  /// @throws ConfigError unless all sizes are positive (value_dim: or 0).
  explicit KvCache(const KvCacheOptions& options);

  /// Tokens held.
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t capacity() const { return options_.capacity; }
  [[nodiscard]] const KvCacheOptions& options() const { return options_; }

  /// Writes keys (batch, T, heads, head_dim) and values (batch, T, heads, value_dim) of new tokens behind the held
  /// ones, and returns views of all of both kinds, with length() + T in place of T. Without values, they are undefined.
  /// @throws ShapeError, IndexError; ConfigError when full; AutogradError when gradients are recorded, which would stop
  /// here.
  std::pair<Tensor, Tensor> append(std::int64_t layer, const Tensor& keys, const Tensor& values = {});
  /// Counts the tokens that every layer has appended.
  void advance(std::int64_t tokens);
  /// Forgets all tokens behind the first `length`. @throws ConfigError when there are fewer.
  void truncate(std::int64_t length);
  void clear() { length_ = 0; }

  /// Memory that keys and values take.
  [[nodiscard]] std::int64_t bytes() const;

 private:
  KvCacheOptions options_;
  std::int64_t length_ = 0;
  std::int64_t value_dim_ = 0;
  // (batch, heads, capacity, head_dim): what one head attends to lies together.
  std::vector<Tensor> keys_;
  std::vector<Tensor> values_;
};

}  // namespace trinix::nn
