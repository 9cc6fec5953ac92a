#include <algorithm>
#include <cmath>

#include <trinix/autograd/ops/attention_arguments.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

void check_numbers(const char* op, const AttentionOptions& options) {
  if (!(options.dropout >= 0 && options.dropout <= 1)) {
    fail<ConfigError>(op, "dropout is {}; it must be in [0, 1]", options.dropout);
  }
  if (options.scale && !std::isfinite(*options.scale)) {
    fail<ConfigError>(op, "scale is {}; it must be finite", *options.scale);
  }
  if (options.window_left < -1 || options.window_right < -1) {
    fail<ConfigError>(op, "the window is {} keys to the left and {} to the right; both must be -1 (no limit) or more",
                      options.window_left, options.window_right);
  }
}

void check_same_kind(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
  check_floating(op, q);
  for (const Tensor* t : {&k, &v}) {
    check_same_device(op, q, *t);
    if (t->dtype() != q.dtype()) {
      fail<DtypeError>(op, "q is {}, {} is {}; convert one with to()", q.dtype(), t == &k ? "k" : "v", t->dtype());
    }
  }
}

void check_heads(const char* op, const Tensor& q, const Tensor& k, int dim) {
  if (k.size(dim) == 0 || q.size(dim) % k.size(dim) != 0) {
    fail<ShapeError>(op, "{} query heads cannot share {} key heads evenly (shapes {} and {})", q.size(dim), k.size(dim),
                     q.shape(), k.shape());
  }
}

/// Slopes of shape (H) or (batch, H) as (1 or batch, H).
Tensor checked_slopes(const char* op, const Tensor& slopes, const View& q, std::int64_t batch) {
  const std::int64_t heads = q.shape[2];
  if (slopes.dtype() != DType::f32) {
    fail<DtypeError>(op, "the ALiBi slopes are {}; they must be f32", slopes.dtype());
  }
  if (slopes.device() != q.device) {
    fail<DeviceError>(op, "the ALiBi slopes are on {}, q is on {}; move them with to()", slopes.device(), q.device);
  }
  const bool shared = slopes.shape() == Shape{heads};
  if (!shared && slopes.shape() != Shape{batch, heads}) {
    fail<ShapeError>(op, "the ALiBi slopes have shape {}; it must be [{}] (heads) or [{}, {}] (batch, heads)",
                     slopes.shape(), heads, batch, heads);
  }
  if (needs_grad({slopes})) {
    fail<AutogradError>(op, "the ALiBi slopes require a gradient, but none is computed for them; detach() them");
  }
  return shared ? slopes.unsqueeze(0) : slopes;
}

/// The mask with leading dims of 1, its last two expanded to (Sq, Sk).
Tensor checked_mask(const char* op, const Tensor& mask, const View& q, const View& k) {
  if (mask.dtype() != DType::boolean && mask.dtype() != DType::f32 && mask.dtype() != q.dtype) {
    fail<DtypeError>(op, "the mask is {}; it must be bool (true: may be seen), f32 or the dtype of q, {}", mask.dtype(),
                     q.dtype);
  }
  if (mask.device() != q.device) {
    fail<DeviceError>(op, "the mask is on {}, q is on {}; move it with to()", mask.device(), q.device);
  }
  const Shape wanted{q.shape[0], q.shape[2], q.shape[1], k.shape[1]};
  bool fits = mask.rank() >= 2 && mask.rank() <= 4;
  const int missing = 4 - mask.rank();
  Shape four = Dims::filled(4, 1);
  for (int d = 0; fits && d < mask.rank(); ++d) {
    // The middle one of three dims is the batch's neighbour: there is no dim of heads.
    const int to = mask.rank() == 3 && d == 0 ? 0 : d + missing;
    four[to] = mask.size(d);
    fits = four[to] == 1 || four[to] == wanted[to];
  }
  if (!fits) {
    fail<ShapeError>(op,
                     "the mask has shape {}; for q {} and k {} it must be [{}, {}] (Sq, Sk), [{}, {}, {}] (B, Sq, Sk) "
                     "or [{}, {}, {}, {}] (B, H, Sq, Sk), where sizes of 1 are shared",
                     mask.shape(), q.shape, k.shape, wanted[2], wanted[3], wanted[0], wanted[2], wanted[3], wanted[0],
                     wanted[1], wanted[2], wanted[3]);
  }
  return mask.reshape(four).expand({four[0], four[1], wanted[2], wanted[3]});
}

/// Starts that are on the CPU are looked at.
void check_starts(const char* op, const Tensor& starts, const char* what, std::int64_t total, std::int64_t longest) {
  if (!starts.device().is_cpu()) return;
  const std::vector<std::int32_t> values = starts.to_vector<std::int32_t>();
  if (values.front() != 0 || values.back() != total) {
    fail<ConfigError>(op, "the {} starts go from {} to {}; they must go from 0 to {}, the number of {} positions", what,
                      values.front(), values.back(), total, what);
  }
  for (std::size_t n = 0; n + 1 < values.size(); ++n) {
    const std::int64_t length = std::int64_t{values[n + 1]} - values[n];
    if (length < 0) {
      fail<ConfigError>(op, "the {} starts fall from {} to {} at sequence {}; they must never fall", what, values[n],
                        values[n + 1], n);
    }
    if (length > longest) {
      fail<ConfigError>(op, "sequence {} has {} {} positions, more than the longest length given, {}", n, length, what,
                        longest);
    }
  }
}

/// Where the random numbers of one call come from.
RandomState reserve(const Attention::Inputs& in, Generator* generator) {
  if (in.dropout == 0) return {};
  const bool several = in.query_starts.defined;
  const std::int64_t queries = several ? in.longest_query : in.q.size(1);
  const std::int64_t keys = several ? in.longest_key : in.k.size(1);
  const std::int64_t blocks = attention_batch(in) * in.q.size(2) * queries * ((keys + 3) / 4);
  Generator& from = generator != nullptr ? *generator : default_generator();
  return from.reserve(static_cast<std::uint64_t>(blocks) * 4);
}

}  // namespace

void check_attention_operands(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
  check_same_kind(op, q, k, v);
  if (q.rank() != 4 || k.rank() != 4 || v.rank() != 4) {
    fail<ShapeError>(op, "q, k and v must be (batch, length, heads, depth), got {}, {} and {}", q.shape(), k.shape(),
                     v.shape());
  }
  if (q.size(0) != k.size(0) || q.size(3) != k.size(3) || k.size(0) != v.size(0) || k.size(1) != v.size(1) ||
      k.size(2) != v.size(2)) {
    fail<ShapeError>(op, "shapes {}, {} and {} do not fit: q (B, Sq, H, D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv)",
                     q.shape(), k.shape(), v.shape());
  }
  check_heads(op, q, k, 2);
}

void check_attention_sequences(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                               const SequenceStarts& starts) {
  check_same_kind(op, q, k, v);
  if (q.rank() != 3 || k.rank() != 3 || v.rank() != 3) {
    fail<ShapeError>(op, "q, k and v must be (total, heads, depth), got {}, {} and {}", q.shape(), k.shape(),
                     v.shape());
  }
  if (q.size(2) != k.size(2) || k.size(0) != v.size(0) || k.size(1) != v.size(1)) {
    fail<ShapeError>(op, "shapes {}, {} and {} do not fit: q (total, H, D), k (total, Hkv, D), v (total, Hkv, Dv)",
                     q.shape(), k.shape(), v.shape());
  }
  check_heads(op, q, k, 1);
  for (const Tensor* t : {&starts.query, &starts.key}) {
    const char* what = t == &starts.query ? "query" : "key";
    check_same_device(op, q, *t);
    if (t->dtype() != DType::i32) {
      fail<DtypeError>(op, "the {} starts are {}; they must be i32", what, t->dtype());
    }
    if (t->rank() != 1 || t->numel() == 0) {
      fail<ShapeError>(op, "the {} starts have shape {}; it must be [sequences + 1]", what, t->shape());
    }
  }
  if (starts.query.numel() != starts.key.numel()) {
    fail<ShapeError>(op, "there are {} query starts and {} key starts; both must be one more than the sequences",
                     starts.query.numel(), starts.key.numel());
  }
  if (starts.longest_query < 0 || starts.longest_key < 0) {
    fail<ConfigError>(op, "the longest lengths are {} queries and {} keys; neither can be negative",
                      starts.longest_query, starts.longest_key);
  }
  check_starts(op, starts.query, "query", q.size(0), starts.longest_query);
  check_starts(op, starts.key, "key", k.size(0), starts.longest_key);
}

AttentionExtras attention_extras(const char* op, const View& q, const View& k, const AttentionOptions& options,
                                 const SequenceStarts& starts) {
  check_numbers(op, options);
  AttentionExtras extras{.alibi = {}, .mask = {}, .starts = starts};
  const bool several = starts.query.defined();
  if (options.alibi_slopes.defined()) {
    const std::int64_t batch = several ? starts.query.numel() - 1 : q.shape[0];
    extras.alibi = checked_slopes(op, options.alibi_slopes, q, batch);
  }
  if (options.mask.defined()) {
    if (several) fail<ConfigError>(op, "sequences of several lengths take no mask");
    extras.mask = checked_mask(op, options.mask, q, k);
  }
  if (several) {
    extras.starts.query = starts.query.contiguous();
    extras.starts.key = starts.key.contiguous();
  }
  return extras;
}

std::int64_t attention_batch(const Attention::Inputs& in) {
  return in.query_starts.defined ? in.query_starts.size(0) - 1 : in.q.size(0);
}

Attention::Inputs attention_inputs(const View& q, const View& k, const View& v, const AttentionOptions& options,
                                   const AttentionExtras& extras) {
  Attention::Inputs in{.q = q, .k = k, .v = v};
  in.scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(q.size(3), 1))));
  in.causal = options.causal;
  in.window_left = options.window_left;
  in.window_right = options.window_right;
  in.dropout = options.dropout;
  if (extras.starts.query.defined()) {
    in.query_starts = extras.starts.query.raw();
    in.key_starts = extras.starts.key.raw();
    in.longest_query = extras.starts.longest_query;
    in.longest_key = extras.starts.longest_key;
  }
  if (extras.alibi.defined()) in.alibi = broadcast_view(extras.alibi, {attention_batch(in), q.size(2)});
  if (extras.mask.defined()) {
    in.mask = broadcast_view(extras.mask, {q.size(0), q.size(2), q.size(1), k.size(1)});
    in.mask_grad = needs_grad({extras.mask});
  }
  in.random = reserve(in, options.generator);
  return in;
}

}  // namespace trinix
