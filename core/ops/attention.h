#pragma once

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Scaled dot-product attention (Vaswani et al., arXiv 1706.03762), computed by blocks with an online softmax so that
/// memory grows with the length and not with its square (Dao et al., arXiv 2205.14135).

namespace trinix {

/// Per batch b and query head h, with key head h / (H / Hkv):
///   s_ij = scale * q_i . k_j where j is visible to i,  p_ij = exp(s_ij - lse_i),  out_i = sum_j drop(p_ij) v_j,
/// lse_i = log(sum_j exp(s_ij)). With `causal`, j is visible to i when j <= i + Sk - Sq. A row that sees nothing has
/// out = 0 and lse = -inf, and gives no gradient.
///
/// drop keeps p_ij, times 1 / (1 - p), when the rule of core/ops/dropout.h keeps lane j % 4 of
/// philox(seed, offset + ((b H + h) Sq + i) ceil(Sk / 4) + j / 4), so that every kernel drops the same elements.
///
/// Shapes: q, dq (B, Sq, H, D); k, dk (B, Sk, Hkv, D); v, dv (B, Sk, Hkv, Dv); out, dout (B, Sq, H, Dv); any strides,
/// one dtype, none empty. lse (B, H, Sq), row-major, f32, saved for the backward. The backward recomputes p from lse:
///   dp_ij = drop(dout_i . v_j),  ds_ij = p_ij (dp_ij - dout_i . out_i),
///   dq_i = scale sum_j ds_ij k_j,  dk_j = scale sum_i ds_ij q_i,  dv_j = sum_i drop(p_ij) dout_i.
struct Attention {
  static constexpr const char* kName = "attention";
  static constexpr bool kHasReference = true;
  struct Inputs {
    View q;
    View k;
    View v;
    double scale = 1;
    bool causal = false;
    std::int64_t window_left = -1;   ///< j >= i + Sk - Sq - window_left; -1 for no limit
    std::int64_t window_right = -1;  ///< j <= i + Sk - Sq + window_right; -1 for no limit
    double dropout = 0;
    RandomState random;
  };
  struct Forward {
    Inputs in;
    View out;
    View lse;
  };
  struct Backward {
    Inputs in;
    View out;
    View lse;
    View dout;
    View dq;  ///< undefined where the gradient is not wanted, as the next two
    View dk;
    View dv;
  };
};

}  // namespace trinix
