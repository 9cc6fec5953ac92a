#pragma once

#include <memory>
#include <utility>
#include <variant>

#include <trinix/layers/alibi.h>
#include <trinix/layers/module.h>
#include <trinix/layers/rope.h>

/// @file
/// How attention learns the order of tokens.

namespace trinix::nn {

/// Where the tokens of one call stand.
struct TokenPlaces {
  std::int64_t first = 0;  ///< position of the first token; the others follow
  Tensor ids = {};         ///< (T) or (B, T), i64 or i32: a position for each instead
};

/// The base of every method. One of your own overrides what it does, and is passed as AttentionLayerOptions::position;
/// parameters that it registers are trained with the layer's.
class PositionMethod : public Module {
 public:
  /// Queries (B, Tq, H, D) and keys (B, Tk, Hkv, D) with their positions in them. Keys come here once, on their way
  /// into the cache.
  [[nodiscard]] virtual std::pair<Tensor, Tensor> forward(const Tensor& q, const Tensor& k,
                                                          const TokenPlaces& /*q_places*/,
                                                          const TokenPlaces& /*k_places*/) const {
    return {q, k};
  }
  /// The same in place on the queries and keys of qkv (B, T, (heads + 2 kv_heads) * D). @returns false, and does
  /// nothing, when the method does not work like that: then forward() is called.
  virtual bool apply_packed_(const Tensor& /*qkv*/, std::int64_t /*heads*/, std::int64_t /*kv_heads*/,
                             const TokenPlaces& /*places*/) const {
    return false;
  }
  /// Slopes of a bias that falls with distance (heads), f32; undefined: none. @see AttentionOptions::alibi_slopes
  [[nodiscard]] virtual Tensor slopes(const TokenPlaces& /*places*/, Device /*device*/) const { return {}; }
  /// Added to the scores of the last `queries` of `keys` tokens: (queries, keys), (B, queries, keys) or
  /// (B | 1, H | 1, queries, keys), with a gradient if it requires one; undefined: none.
  [[nodiscard]] virtual Tensor bias(std::int64_t /*queries*/, std::int64_t /*keys*/,
                                    const TensorOptions& /*like*/) const {
    return {};
  }
};

/// The methods with a name.
enum class Position : std::uint8_t {
  none,
  rope,  ///< RoPE over whole heads, with the layer's rope_base and max_seq_len
  alibi  ///< ALiBi
};

/// A method by name, a RoPE or ALiBi with options of its own (layers may share one), or a method of the user's.
using PositionChoice =
    std::variant<Position, std::shared_ptr<RoPE>, std::shared_ptr<ALiBi>, std::shared_ptr<PositionMethod>>;

struct PositionSizes {
  std::int64_t heads = 0;
  std::int64_t dim = 0;  ///< columns of a head
  std::int64_t max_positions = 0;
  double rope_base = 10000;
};

/// The module that was chosen; null for Position::none. @throws ConfigError as RoPE and ALiBi.
[[nodiscard]] std::shared_ptr<PositionMethod> make_position(const PositionChoice& choice, const PositionSizes& sizes);

}  // namespace trinix::nn
