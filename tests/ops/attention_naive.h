#pragma once

#include "op_case.h"

/// @file
/// Attention and its gradients by the definition, in double precision, a pair of positions at a time. Shares no code
/// with the library but the random numbers and the rule of dropout.

namespace trinix::testing {

/// The options of attention; by default a batch without any.
struct NaiveAttention {
  bool causal = false;
  std::int64_t left = -1;
  std::int64_t right = -1;
  double dropout = 0;
  std::uint64_t seed = 11;  ///< of a generator that nothing was drawn from
  std::optional<double> scale = {};
  std::vector<double> slopes = {};              ///< (H) or (B, H); empty: none
  Array mask = {};                              ///< (B or 1, H or 1, Sq, Sk), added; -inf hides; without values: none
  std::vector<std::int64_t> query_starts = {};  ///< empty: a batch
  std::vector<std::int64_t> key_starts = {};

  struct Result {
    Array out, lse, dq, dk, dv, dmask;
  };
  /// q (B, Sq, H, D), k and v likewise; (total, H, D) with starts. The gradients are those of <dout, out> + <dlse,
  /// lse>; a direction without values counts as zeros.
  [[nodiscard]] Result run(const Array& q, const Array& k, const Array& v, const Array& dout = {},
                           const Array& dlse = {}) const;
};

/// A boolean mask as one that is added.
[[nodiscard]] Array added_mask(const Shape& shape, const std::vector<bool>& visible);

}  // namespace trinix::testing
