#include <limits>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/attention_reference.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/linalg.h>
#include <trinix/autograd/ops/reduce.h>
#include <trinix/autograd/ops/softmax.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/ops/dropout.h>

// Dims are (B, Hkv, H / Hkv, Sq, Sk) throughout: the heads that share a key head form a dim of their own, along which
// k and v broadcast.

namespace trinix {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Positions of the queries along the diagonal of the keys, and how many of either count, where lengths differ.
struct Positions {
  Tensor diagonal;  ///< i + Sk - Sq, (Sq, 1) or (B, 1, 1, Sq, 1)
  Tensor absent;    ///< pairs of which one lies behind the end of its sequence; undefined: none
};

Positions positions_of_batch(std::int64_t queries, std::int64_t keys, Device device) {
  return {(arange(queries, {DType::i64, device}) + (keys - queries)).unsqueeze(1), {}};
}

/// Integer division of a row of starts (n + 1) into first positions and lengths, (n, 1).
struct Lengths {
  explicit Lengths(const Tensor& starts) {
    const Tensor wide = starts.to(DType::i64);
    const std::int64_t n = wide.size(0) - 1;
    first = wide.narrow(0, 0, n).unsqueeze(1);
    ends = wide.narrow(0, 1, n).unsqueeze(1);
    length = ends - first;
  }
  Tensor first, ends, length;
};

Positions positions_of_sequences(const Lengths& queries, const Lengths& keys, std::int64_t longest_query,
                                 std::int64_t longest_key) {
  const std::int64_t n = queries.length.size(0);
  const TensorOptions index{DType::i64, queries.length.device()};
  const auto five = [&](const Tensor& lengths) { return lengths.reshape({n, 1, 1, 1, 1}); };
  const Tensor i = arange(longest_query, index).unsqueeze(1);
  return {i + five(keys.length - queries.length),
          logical_or(i >= five(queries.length), arange(longest_key, index) >= five(keys.length))};
}

/// A bias (B or 1, H or 1, ...) with the dim of heads taken apart.
Tensor by_key_head(const Tensor& bias, std::int64_t key_heads) {
  Shape shape = bias.shape();
  const std::int64_t heads = shape[1];
  Shape apart{shape[0], heads == 1 ? 1 : key_heads, heads == 1 ? 1 : heads / key_heads};
  for (int d = 2; d < shape.size(); ++d) apart.push_back(shape[d]);
  return bias.reshape(apart);
}

/// Which pairs are hidden, of a shape that broadcasts to that of the scores; undefined: none.
Tensor hidden_pairs(const Positions& positions, const Tensor& mask, std::int64_t keys, const Attention::Inputs& in) {
  Tensor hidden = positions.absent;
  const auto hide = [&](const Tensor& more) { hidden = hidden.defined() ? logical_or(hidden, more) : more; };
  const Tensor key = arange(keys, {DType::i64, in.q.device});
  const std::int64_t right = in.causal ? 0 : in.window_right;
  if (right >= 0) hide(key > positions.diagonal + right);
  if (in.window_left >= 0) hide(key < positions.diagonal - in.window_left);
  if (mask.defined()) hide(mask.dtype() == DType::boolean ? logical_not(mask) : mask == -kInfinity);
  return hidden;
}

/// The factors 1 / (1 - p) and 0 of the dropout. Every row begins with a fresh block of four numbers: that of a dropout
/// over rows padded to a multiple of four.
Tensor dropout_factors(const Shape& shape, DType dtype, const Attention::Inputs& in) {
  Shape padded = shape;
  padded[4] = (shape[4] + 3) / 4 * 4;
  const Tensor factors = ones(padded, {dtype, in.q.device});
  run<Dropout>({.x = factors.raw(), .y = factors.raw(), .p = in.dropout, .state = in.random}, factors.device());
  return factors.narrow(-1, 0, shape[4]);
}

/// x with zeros for what is not finite, which keeps 0 * inf out of products; such elements get no gradient.
Tensor finite_part(const Tensor& x) { return masked_fill(x, logical_not(isfinite(x)), 0); }

/// NaN for the rows (along the last dim) of x that are not finite, else 0. Added to the scores, where those of hidden
/// pairs are overwritten.
Tensor row_poison(const Tensor& x, DType dtype) {
  const NoGrad no_grad;
  const Tensor bad = any(logical_not(isfinite(x)), {-1});
  return masked_fill(zeros(bad.shape(), {dtype, x.device()}), bad, kNaN);
}

/// What the values that are not finite make of the rows that see them, else 0. p value without it is their finite part.
Tensor value_poison(const Tensor& p, const Tensor& value, const Tensor& hidden) {
  const NoGrad no_grad;
  const Tensor seen = logical_not(hidden).to(DType::f32);
  const Tensor hits = matmul(seen, logical_not(isfinite(value)).to(DType::f32));
  const Tensor raw = matmul(p.detach(), value.detach());
  return where(hits > 0, raw, zeros({}, {raw.dtype(), raw.device()}));
}

/// q (B, Sq, H, D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv).
AttentionResult attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionExtras& extras,
                       const Positions& positions, const Attention::Inputs& in, bool lse_wanted) {
  const std::int64_t batch = q.size(0);
  const std::int64_t queries = q.size(1);
  const std::int64_t keys = k.size(1);
  const std::int64_t heads = q.size(2);
  const std::int64_t key_heads = k.size(2);
  const DType wide = compute_type(q.dtype());
  const Tensor mask = extras.mask.defined() ? by_key_head(extras.mask, key_heads) : Tensor();
  const Tensor hidden = hidden_pairs(positions, mask, keys, in);
  const Tensor grouped = q.reshape({batch, queries, key_heads, heads / key_heads, q.size(3)});
  const Tensor query = grouped.permute({0, 2, 3, 1, 4});
  const Tensor key = k.permute({0, 2, 1, 3}).unsqueeze(2);
  const Tensor value = v.permute({0, 2, 1, 3}).unsqueeze(2);
  Tensor scores;
  if (hidden.defined()) {
    scores = matmul(finite_part(query) * in.scale, finite_part(key).transpose(-1, -2)).to(wide);
    scores = scores + row_poison(query, wide).unsqueeze(-1) + row_poison(key, wide).unsqueeze(-2);
  } else {
    scores = matmul(query * in.scale, key.transpose(-1, -2)).to(wide);
  }
  if (extras.alibi.defined()) {
    const Tensor key_index = arange(keys, {DType::i64, q.device()});
    const Tensor distance = abs((positions.diagonal - key_index).to(wide));
    scores = scores - by_key_head(extras.alibi, key_heads).unsqueeze(-1).unsqueeze(-1) * distance;
  }
  if (mask.defined() && mask.dtype() != DType::boolean) scores = scores + mask;
  if (hidden.defined()) scores = masked_fill(scores, hidden, -kInfinity);
  Tensor p = softmax(scores, -1, Kernel::reference).to(q.dtype());
  if (hidden.defined()) p = masked_fill(p, hidden, 0);  // NaN, too, in a row that sees NaN
  if (in.dropout > 0) p = p * dropout_factors(p.shape(), p.dtype(), in);
  AttentionResult result;
  const Tensor out =
      hidden.defined() ? matmul(p, finite_part(value)) + value_poison(p, value, hidden) : matmul(p, value);
  result.out = out.permute({0, 3, 1, 2, 4}).reshape({batch, queries, heads, v.size(3)});
  if (lse_wanted) result.lse = logsumexp(scores, {-1}).reshape({batch, heads, queries});
  return result;
}

/// Sequences side by side as a batch padded to the longest: x (total, ...) -> (n, longest, ...). What is behind the end
/// of a sequence repeats an element of x.
Tensor pad_sequences(const Tensor& x, const Lengths& lengths, std::int64_t longest) {
  const TensorOptions index{DType::i64, x.device()};
  const Tensor at = arange(longest, index);
  const Tensor from = where(at < lengths.length, lengths.first + at, zeros({}, index));
  Shape shape = x.shape();
  shape[0] = longest;
  Shape padded{from.size(0)};
  for (const std::int64_t n : shape) padded.push_back(n);
  return index_select(x, 0, from.flatten()).reshape(padded);
}

/// The other way: x (n, longest, ...) -> (total, ...).
Tensor join_sequences(const Tensor& x, const Lengths& lengths, std::int64_t total) {
  const Tensor position = arange(total, {DType::i64, x.device()});
  const Tensor sequence = sum(position >= lengths.ends, {0});
  const Tensor local = position - index_select(lengths.first.flatten(), 0, sequence);
  return index_select(x.flatten(0, 1), 0, sequence * x.size(1) + local);
}

AttentionResult attend_sequences(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionExtras& extras,
                                 const Attention::Inputs& in, bool lse_wanted) {
  const Lengths queries(extras.starts.query);
  const Lengths keys(extras.starts.key);
  const std::int64_t longest_query = in.longest_query;
  const std::int64_t longest_key = in.longest_key;
  const AttentionResult padded =
      attend(pad_sequences(q.squeeze({0}), queries, longest_query), pad_sequences(k.squeeze({0}), keys, longest_key),
             pad_sequences(v.squeeze({0}), keys, longest_key), extras,
             positions_of_sequences(queries, keys, longest_query, longest_key), in, lse_wanted);
  AttentionResult result{join_sequences(padded.out, queries, q.size(1)).unsqueeze(0), {}};
  if (lse_wanted) {
    const Tensor lse = join_sequences(padded.lse.transpose(1, 2), queries, q.size(1));
    result.lse = lse.transpose(0, 1).unsqueeze(0);
  }
  return result;
}

}  // namespace

AttentionResult attention_reference(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionExtras& extras,
                                    const Attention::Inputs& in, bool lse_wanted) {
  if (in.query_starts.defined) return attend_sequences(q, k, v, extras, in, lse_wanted);
  return attend(q, k, v, extras, positions_of_batch(q.size(1), k.size(1), q.device()), in, lse_wanted);
}

}  // namespace trinix
