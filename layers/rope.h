#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <trinix/autograd/ops/rope.h>
#include <trinix/layers/module.h>

/// @file
/// Rotary position embedding as a module: it makes the tables of angles and keeps them per device.

namespace trinix::nn {

/// How a model that was trained on short sequences is stretched to longer ones. The formulas are those that the names
/// stand for in Hugging Face configurations (transformers, modeling_rope_utils).
enum class RoPEScaling : std::uint8_t {
  none,
  linear,       ///< positions divided by `factor`; Chen et al., arXiv 2306.15595
  dynamic_ntk,  ///< the base grows with the length beyond original_max_positions
  yarn,         ///< Peng et al., arXiv 2309.00071
  llama3        ///< Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp between
};

struct RoPEOptions {
  std::int64_t dim = 0;               ///< columns of a head that are turned: even, at most head_dim
  std::int64_t max_positions = 2048;  ///< positions 0 .. max_positions-1 can be asked for
  double base = 10000;
  RopeLayout layout = RopeLayout::half;
  RoPEScaling scaling = RoPEScaling::none;
  double factor = 1;                                        ///< of the scaling, at least 1
  std::optional<std::int64_t> original_max_positions = {};  ///< of the training; default max_positions
  std::optional<double> attention_factor = {};              ///< YaRN: factor of cos and sin; default 0.1 ln(factor) + 1
  double beta_fast = 32;                                    ///< YaRN: turns over the training length from which on
                                                            ///  frequencies are kept
  double beta_slow = 1;                                     ///< YaRN: turns below which they are divided by `factor`
  double low_freq_factor = 1;                               ///< Llama 3: as beta_slow
  double high_freq_factor = 4;                              ///< Llama 3: as beta_fast
  KernelChoice kernel = {};
};

/// Which positions the tokens have.
struct RoPEPositions {
  std::int64_t first = 0;  ///< of the first token; the others follow
  Tensor ids = {};         ///< of each token instead, (S) or (B, S), i64 or i32
  /// With `ids`, for dynamic NTK: the length of the sequence, which sets the base; default max_positions.
  std::optional<std::int64_t> length = {};
};

/// Turns queries and keys by angles that grow with their position, so that their product depends on the distance: Su et
/// al., arXiv 2104.09864. Column pair i of `dim` turns by position * base^(-2i/dim), unless scaled. No parameters and
/// no state. Angles are computed in f64 and their cosines and sines kept in f32, whatever the dtype of the module
/// around it.
class RoPE : public Layer {
 public:
  /// @throws ConfigError for an odd dim and for options out of range.
  explicit RoPE(const RoPEOptions& options);

  /// x (B, S, H, D) with D >= dim, turned by positions 0 .. S-1 (or others).
  /// @throws as rope() of autograd/ops/rope.h; IndexError naming max_positions for a position that is too large.
  [[nodiscard]] Tensor forward(const Tensor& x) const override { return forward(x, {}); }
  [[nodiscard]] Tensor forward(const Tensor& x, const RoPEPositions& positions) const;
  /// Both of them, which may differ in heads and agree in batch and length.
  [[nodiscard]] std::pair<Tensor, Tensor> rotate(const Tensor& q, const Tensor& k,
                                                 const RoPEPositions& positions = {}) const;
  /// In place on the query and key heads of qkv (B, S, (heads + 2 kv_heads) * D); see rope_packed_().
  const Tensor& apply_packed_(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                              const RoPEPositions& positions = {}) const;

  /// Cosines and sines, (at least `length`, dim/2) each, f32: made when first needed, and again when they must grow.
  /// @throws IndexError for a length beyond max_positions.
  [[nodiscard]] std::pair<Tensor, Tensor> tables(std::int64_t length, Device device = {}) const;
  /// Angle per position of each pair, in radians, for sequences of `length` (which only dynamic NTK heeds).
  [[nodiscard]] std::vector<double> frequencies(std::int64_t length) const;
  /// The factor of cosines and sines; 1 but for YaRN.
  [[nodiscard]] double attention_factor() const { return attention_factor_; }
  [[nodiscard]] const RoPEOptions& options() const { return options_; }

 private:
  struct Tables {
    Tensor cos;
    Tensor sin;
    std::int64_t length = 0;  ///< for which the frequencies were computed
  };

  [[nodiscard]] RopeOptions call_options(const RoPEPositions& positions) const;
  [[nodiscard]] std::pair<Tensor, Tensor> tables_for(const Tensor& x, const RoPEPositions& positions) const;
  [[nodiscard]] Tables make_tables(std::int64_t rows, std::int64_t length, Device device) const;

  RoPEOptions options_;
  std::int64_t original_max_positions_;
  double attention_factor_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<DeviceType, int>, Tables> tables_;
};

}  // namespace trinix::nn
