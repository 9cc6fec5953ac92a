#pragma once

#include <cstdint>

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Rotary position embedding (Su et al., arXiv 2104.09864), from tables of cosines and sines.

namespace trinix {

/// Which two columns of a head are turned together, for R rotated columns.
enum class RopeLayout : std::uint8_t {
  half,        ///< (i, i + R/2), "rotate half": Hugging Face, GPT-NeoX
  interleaved  ///< (2i, 2i + 1): the paper, Meta's Llama files, GGUF
};

/// For every pair (a, b) = i of the token at position p: a' = a cos[p, i] - b sin[p, i], b' = b cos[p, i] + a sin[p,
/// i]. The columns from R on are copied. `inverse` takes -sin, which is the transposed map, and so the backward.
///
/// from, to (B, S, H, D), one floating-point dtype, any strides; `to` may be the very view `from`, and the columns from
/// R on are then left alone. cos, sin (P, R/2), f32, row-major, R <= D. Computed in f32, or in f64 for f64.
struct Rope {
  static constexpr const char* kName = "rope";
  static constexpr bool kHasReference = true;
  struct Rotation {
    View from;
    View to;
    View cos;
    View sin;
    View positions;                   ///< (B, S), i64 or i32, any strides; undefined: first_position, and so on
    std::int64_t first_position = 0;  ///< of the first token; first_position + S <= P
    RopeLayout layout = RopeLayout::half;
    bool inverse = false;
  };
  using Forward = Rotation;
  /// Of dy into dx. The cosine and sine of a position that is not in the table (late errors, core/ops/check_index.h)
  /// read as 0, here and in the forward.
  using Backward = Rotation;
};

}  // namespace trinix
