#pragma once

#include <trinix/backends/cuda/attention/scores.cuh>

/// @file
/// One row of the output, pair by pair. For rows that turned out not finite: hidden pairs, which a tile multiplies by
/// 0, are not touched here, so NaN in a value reaches only those who see it.

namespace trinix::cuda {

/// Query i of head h in sequence b, and its keys.
template <class T>
class PlainRow {
 public:
  __device__ PlainRow(const AttentionForwardTask& task, const Sequence& l, int b, int h, int i)
      : task_(task), p_(task.problem), l_(l), b_(b), h_(h), i_(i), slope2_(slope_of(p_, b, h)) {
    q_ = queries_of<T>(p_.q, l, b, h) + i * p_.q.row;
    k_ = keys_of<T>(p_.k, l, b, h / p_.group);
    v_ = keys_of<T>(p_.v, l, b, h / p_.group);
  }

  /// Computes and stores the row by the 32 lanes of a warp, each of which has kColumns of the output's columns.
  template <int kColumns>
  __device__ void store(float* lse) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int first = max(0, i_ + l_.first_offset);
    const int end = min(l_.keys, i_ + l_.last_offset + 1);
    float max = -INFINITY;
    for (int j = first + lane; j < end; j += kWarp) max = larger(max, score(j));
    for (int apart = 16; apart > 0; apart /= 2) max = larger(max, __shfl_xor_sync(0xffffffffU, max, apart));
    const DropRule rule(p_);
    const std::uint64_t random_row = rule.row(p_, b_, h_, i_);
    float sum = 0;
    float out[kColumns] = {};
    for (int tile = first; tile < end; tile += kWarp) {
      const int j = tile + lane;
      const float s = j < end ? score(j) : -INFINITY;
      float probability = s == -INFINITY ? 0.0F : exp2f(s - max);
      sum += probability;
      if (p_.drops && (rule.four(random_row + j / 4) >> (j % 4) & 1U) == 0) probability = 0;
      const unsigned seen = __ballot_sync(0xffffffffU, s != -INFINITY);
      for (int t = 0; t < kWarp; ++t) {
        const float weight = __shfl_sync(0xffffffffU, probability, t);
        if ((seen >> t & 1U) == 0) continue;
        for (int c = 0; c < kColumns; ++c) {
          const int column = lane * kColumns + c;
          if (column < p_.value_depth) out[c] += weight * widen(v_[(tile + t) * p_.v.row + column]);
        }
      }
    }
    for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, apart);
    T* const to = const_cast<T*>(queries_of<T>(task_.out, l_, b_, h_)) + i_ * task_.out.row;
    for (int c = 0; c < kColumns; ++c) {
      const int column = lane * kColumns + c;
      if (column >= p_.value_depth) continue;
      to[column * task_.out.element] = narrow_to<T>(sum == 0 ? 0.0F : out[c] * p_.keep_scale / sum);
    }
    if (lane == 0) *lse = sum == 0 ? -INFINITY : max * 0.6931471805599453F + logf(sum);
  }

 private:
  /// NaN, unlike fmaxf, wins.
  __device__ static float larger(float a, float b) { return a != a || a > b ? a : b; }

  /// The exponent of two of key j, which lies within the window; -inf where a mask hides it.
  __device__ float score(int j) const {
    float dot = 0;
    for (int d = 0; d < p_.depth; ++d) dot += widen(q_[d]) * widen(k_[j * p_.k.row + d]);
    float one = dot * p_.scale_log2;
    if (p_.alibi != nullptr) one -= slope2_ * fabsf(static_cast<float>(i_ + l_.keys - l_.queries - j));
    if (p_.mask.data == nullptr) return one;
    const auto element = [&]<class M>(const M* mask) {
      return mask[b_ * p_.mask.batch + h_ * p_.mask.head + i_ * p_.mask.row + j * p_.mask.key];
    };
    switch (p_.mask.dtype) {
      case DType::boolean:
        return masked(one, element(static_cast<const bool*>(p_.mask.data)));
      case DType::f32:
        return masked(one, element(static_cast<const float*>(p_.mask.data)));
      case DType::bf16:
        return masked(one, element(static_cast<const bfloat16*>(p_.mask.data)));
      default:
        return masked(one, element(static_cast<const float16*>(p_.mask.data)));
    }
  }

  const AttentionForwardTask& task_;
  const AttentionProblem& p_;
  const Sequence& l_;
  int b_, h_, i_;
  float slope2_;
  const T* q_;
  const T* k_;
  const T* v_;
};

}  // namespace trinix::cuda
