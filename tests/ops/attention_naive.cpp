#include "attention_naive.h"

#include <cmath>
#include <limits>

#include <trinix/core/ops/dropout.h>
#include <trinix/core/philox.h>

namespace trinix::testing {

namespace {

/// A row of pairs: what becomes of one query of one head.
struct Row {
  std::vector<double> score;   ///< -inf where hidden
  std::vector<double> factor;  ///< of the dropout
};

/// The sizes of one problem, and where things lie.
class Problem {
 public:
  Problem(const NaiveAttention& options, const Array& q, const Array& k, const Array& v)
      : options_(options), q_(q), k_(k), v_(v), several_(!options.query_starts.empty()) {
    const int h = several_ ? 1 : 2;
    heads_ = q.size(h);
    key_heads_ = k.size(h);
    depth_ = q.size(h + 1);
    value_depth_ = v.size(h + 1);
    sequences_ = several_ ? static_cast<std::int64_t>(options.query_starts.size()) - 1 : q.size(0);
    for (std::int64_t n = 0; n < sequences_; ++n) {
      longest_query_ = std::max(longest_query_, queries(n));
      longest_key_ = std::max(longest_key_, keys(n));
    }
    scale_ = options.scale.value_or(1 / std::sqrt(static_cast<double>(depth_)));
  }

  NaiveAttention::Result run(const Array& dout, const Array& dlse) {
    NaiveAttention::Result r;
    Shape out = q_.shape;
    out[out.size() - 1] = value_depth_;
    r.out = zeros(out);
    r.lse = zeros(several_ ? Shape{heads_, q_.size(0)} : Shape{sequences_, heads_, q_.size(1)});
    r.dq = zeros(q_.shape);
    r.dk = zeros(k_.shape);
    r.dv = zeros(v_.shape);
    r.dmask = zeros(options_.mask.shape);
    for (std::int64_t n = 0; n < sequences_; ++n) {
      for (std::int64_t h = 0; h < heads_; ++h) {
        for (std::int64_t i = 0; i < queries(n); ++i) attend(n, h, i, dout, dlse, r);
      }
    }
    return r;
  }

 private:
  static Array zeros(const Shape& shape) {
    return {shape, std::vector<double>(static_cast<std::size_t>(numel(shape)), 0.0)};
  }

  [[nodiscard]] std::int64_t first(const std::vector<std::int64_t>& starts, std::int64_t n, const Array& x) const {
    return several_ ? starts[static_cast<std::size_t>(n)] : n * x.size(1);
  }
  [[nodiscard]] std::int64_t length(const std::vector<std::int64_t>& starts, std::int64_t n, const Array& x) const {
    return several_ ? first(starts, n + 1, x) - first(starts, n, x) : x.size(1);
  }
  [[nodiscard]] std::int64_t queries(std::int64_t n) const { return length(options_.query_starts, n, q_); }
  [[nodiscard]] std::int64_t keys(std::int64_t n) const { return length(options_.key_starts, n, k_); }
  /// Place of the first component.
  [[nodiscard]] std::size_t query_at(std::int64_t n, std::int64_t i, std::int64_t h, std::int64_t depth) const {
    return static_cast<std::size_t>(((first(options_.query_starts, n, q_) + i) * heads_ + h) * depth);
  }
  [[nodiscard]] std::size_t key_at(std::int64_t n, std::int64_t j, std::int64_t h, std::int64_t depth) const {
    const std::int64_t hk = h / (heads_ / key_heads_);
    return static_cast<std::size_t>(((first(options_.key_starts, n, k_) + j) * key_heads_ + hk) * depth);
  }
  [[nodiscard]] std::size_t mask_at(std::int64_t n, std::int64_t h, std::int64_t i, std::int64_t j) const {
    const Array& m = options_.mask;
    return static_cast<std::size_t>(
        (((m.size(0) == 1 ? 0 : n) * m.size(1) + (m.size(1) == 1 ? 0 : h)) * m.size(2) + i) * m.size(3) + j);
  }

  [[nodiscard]] bool hides(std::int64_t n, std::int64_t h, std::int64_t i, std::int64_t j) const {
    const std::int64_t diagonal = i + keys(n) - queries(n);
    const std::int64_t right = options_.causal ? 0 : options_.right;
    if (right >= 0 && j > diagonal + right) return true;
    if (options_.left >= 0 && j < diagonal - options_.left) return true;
    return !options_.mask.values.empty() && options_.mask[mask_at(n, h, i, j)] == -kInfinity;
  }

  [[nodiscard]] Row row_of(std::int64_t n, std::int64_t h, std::int64_t i) const {
    Row row;
    for (std::int64_t j = 0; j < keys(n); ++j) {
      const double* q = &q_[query_at(n, i, h, depth_)];
      const double* k = &k_[key_at(n, j, h, depth_)];
      double s = 0;
      for (std::int64_t c = 0; c < depth_; ++c) s += q[c] * k[c];
      s *= scale_;
      if (!options_.slopes.empty()) {
        const bool shared = static_cast<std::int64_t>(options_.slopes.size()) == heads_;
        const double slope = options_.slopes[static_cast<std::size_t>((shared ? 0 : n) * heads_ + h)];
        s -= slope * std::abs(static_cast<double>(i + keys(n) - queries(n) - j));
      }
      if (!options_.mask.values.empty()) s += options_.mask[mask_at(n, h, i, j)];
      row.score.push_back(hides(n, h, i, j) ? -kInfinity : s);
      const std::int64_t block = ((n * heads_ + h) * longest_query_ + i) * ((longest_key_ + 3) / 4) + j / 4;
      const std::uint32_t bits = philox(options_.seed, static_cast<std::uint64_t>(block)).x[j % 4];
      const bool keeps = options_.dropout == 0 || dropout_keeps(bits, dropout_threshold(options_.dropout));
      row.factor.push_back(keeps ? dropout_scale(options_.dropout) : 0);
    }
    return row;
  }

  void attend(std::int64_t n, std::int64_t h, std::int64_t i, const Array& dout, const Array& dlse,
              NaiveAttention::Result& r) const {
    const Row row = row_of(n, h, i);
    const std::size_t lse_at = static_cast<std::size_t>(
        several_ ? h * q_.size(0) + first(options_.query_starts, n, q_) + i : (n * heads_ + h) * q_.size(1) + i);
    double max = -kInfinity;
    for (const double s : row.score) max = std::max(max, s);
    r.lse[lse_at] = -kInfinity;
    if (max == -kInfinity) return;
    double sum = 0;
    for (const double s : row.score) sum += std::exp(s - max);
    r.lse[lse_at] = max + std::log(sum);
    const std::size_t out_at = query_at(n, i, h, value_depth_);
    std::vector<double> p, dp;
    double delta = dlse.values.empty() ? 0 : -dlse[lse_at];
    for (std::int64_t j = 0; j < keys(n); ++j) {
      const auto at = static_cast<std::size_t>(j);
      p.push_back(std::exp(row.score[at] - max) / sum);
      dp.push_back(0);
      if (row.score[at] == -kInfinity) continue;
      const std::size_t value_at = key_at(n, j, h, value_depth_);
      for (std::size_t c = 0; c < static_cast<std::size_t>(value_depth_); ++c) {
        const double value = v_[value_at + c];
        const double direction = dout.values.empty() ? 0 : dout[out_at + c];
        r.out[out_at + c] += p[at] * row.factor[at] * value;
        r.dv[value_at + c] += p[at] * row.factor[at] * direction;
        dp[at] += row.factor[at] * direction * value;
      }
      delta += p[at] * dp[at];
    }
    for (std::int64_t j = 0; j < keys(n); ++j) {
      const auto at = static_cast<std::size_t>(j);
      if (row.score[at] == -kInfinity) continue;
      const double ds = p[at] * (dp[at] - delta);
      if (!options_.mask.values.empty()) r.dmask[mask_at(n, h, i, j)] += ds;
      const std::size_t q = query_at(n, i, h, depth_), k = key_at(n, j, h, depth_);
      for (std::size_t c = 0; c < static_cast<std::size_t>(depth_); ++c) {
        r.dq[q + c] += ds * scale_ * k_[k + c];
        r.dk[k + c] += ds * scale_ * q_[q + c];
      }
    }
  }

  const NaiveAttention& options_;
  const Array &q_, &k_, &v_;
  bool several_;
  std::int64_t heads_ = 0, key_heads_ = 0, depth_ = 0, value_depth_ = 0, sequences_ = 0;
  std::int64_t longest_query_ = 0, longest_key_ = 0;
  double scale_ = 1;
};

}  // namespace

NaiveAttention::Result NaiveAttention::run(const Array& q, const Array& k, const Array& v, const Array& dout,
                                           const Array& dlse) const {
  return Problem(*this, q, k, v).run(dout, dlse);
}

Array added_mask(const Shape& shape, const std::vector<bool>& visible) {
  Array mask{shape, {}};
  for (const bool sees : visible) mask.values.push_back(sees ? 0 : -kInfinity);
  return mask;
}

}  // namespace trinix::testing
