#pragma once

#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Scaled dot-product attention (Vaswani et al., arXiv 1706.03762), computed by blocks with an online softmax so that
/// memory grows with the length and not with its square (Dao et al., arXiv 2205.14135).

namespace trinix {

/// Per batch b and query head h, with key head h / (H / Hkv):
///   s_ij = scale * q_i . k_j - slope_bh |i + Sk - Sq - j| + mask_bhij where j is visible to i,
///   p_ij = exp(s_ij - lse_i),  out_i = sum_j drop(p_ij) v_j,
/// lse_i = log(sum_j exp(s_ij)). With `causal`, j is visible to i when j <= i + Sk - Sq; a window and a boolean mask
/// hide more, and so does a floating mask where it is -inf. A hidden pair takes no part, whatever its query, key, value
/// and mask hold: NaN in a key does not reach the rows that do not see it, nor NaN in a query the gradients of keys
/// that it does not see. A row that sees nothing (or only scores of -inf) has out = 0 and lse = -inf, and gives no
/// gradient.
///
/// drop keeps p_ij, times 1 / (1 - p), when the rule of core/ops/dropout.h keeps lane j % 4 of
/// philox(seed, offset + ((b H + h) Sq + i) ceil(Sk / 4) + j / 4), so that every kernel drops the same elements.
///
/// Shapes: q, dq (B, Sq, H, D); k, dk (B, Sk, Hkv, D); v, dv (B, Sk, Hkv, Dv); out, dout (B, Sq, H, Dv); any strides,
/// one dtype, none empty. lse, dlse (B, H, Sq), row-major, f32 (f64 for f64), lse saved for the backward. The backward
/// recomputes p from lse:
///   dp_ij = drop(dout_i . v_j),  ds_ij = p_ij (dp_ij - dout_i . out_i + dlse_i),
///   dq_i = scale sum_j ds_ij k_j,  dk_j = scale sum_i ds_ij q_i,  dv_j = sum_i drop(p_ij) dout_i,  dmask = ds.
///
/// Sequences of several lengths: with `query_starts` and `key_starts`, q is (1, total, H, D), k and v likewise, lse
/// (1, H, total). Sequence n has the queries [query_starts[n], query_starts[n + 1]) and the keys likewise, and takes
/// the place of batch n: its own lengths stand for Sq and Sk in the visibility and the bias, the longest ones in the
/// dropout's counter. No mask then.
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
    View alibi;              ///< slopes (B, H), f32, stride 0 along B where they are shared; undefined: none
    View mask;               ///< (B, H, Sq, Sk), stride 0 where shared; bool: false hides; q's dtype or f32: added
    bool mask_grad = false;  ///< the backward will be asked for dmask
    bool lse_grad = false;   ///< the backward may be given dlse
    View query_starts;       ///< (sequences + 1), i32, row-major, from 0 to total; undefined: one length for all
    View key_starts;         ///< defined where query_starts is
    std::int64_t longest_query = 0;  ///< of all sequences; only with query_starts, as the next
    std::int64_t longest_key = 0;
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
    View dq;  ///< undefined where the gradient is not wanted, as all that follow
    View dk;
    View dv;
    View dlse;   ///< the gradient of lse; undefined: zeros
    View dmask;  ///< (B or 1, H or 1, Sq, Sk), row-major, f32 (f64 for f64), zeros at first; a dim of 1 is summed over
  };
};

}  // namespace trinix
