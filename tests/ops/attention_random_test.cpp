#include "attention_naive.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <sstream>

#include <trinix/core/philox.h>

/// Random configurations of attention, results and all gradients, against the definition in f64: every kernel's error
/// is at most twice that of the composed form in the same dtype.

namespace trinix::testing {
namespace {

/// Small whole numbers, a function of the seed.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : seed_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + philox(seed_, count_++).x[0] % static_cast<std::uint32_t>(high - low + 1);
  }
  bool one_in(std::int64_t n) { return between(1, n) == 1; }

 private:
  std::uint64_t seed_;
  std::uint64_t count_ = 0;
};

enum class RandomMask { none, boolean, own, f32 };
enum class Placement { contiguous, heads_first, packed };

struct Config {
  DType dtype;
  Placement placement;
  std::int64_t batch, queries, keys, key_heads, group, depth, value_depth;
  RandomMask mask;
  Shape mask_shape;
  bool with_lse;
  NaiveAttention options;  ///< without a mask's values

  [[nodiscard]] std::int64_t heads() const { return key_heads * group; }
  [[nodiscard]] bool several() const { return !options.query_starts.empty(); }
  [[nodiscard]] std::string text() const {
    std::ostringstream text;
    text << name(dtype) << " placement " << static_cast<int>(placement) << " B " << batch << " Sq " << queries << " Sk "
         << keys << " Hkv " << key_heads << " x " << group << " D " << depth << " Dv " << value_depth
         << (options.causal ? " causal" : "") << " window " << options.left << ", " << options.right << " dropout "
         << options.dropout << " slopes " << options.slopes.size() << " mask " << static_cast<int>(mask) << ' '
         << mask_shape.to_string() << (with_lse ? " lse" : "") << (several() ? " several" : "");
    return text.str();
  }
};

/// Starts of `count` sequences, some of them empty.
std::vector<std::int64_t> draw_starts(Draw& d, std::int64_t count, std::int64_t longest) {
  std::vector<std::int64_t> starts{0};
  for (std::int64_t n = 0; n < count; ++n) {
    starts.push_back(starts.back() + (d.one_in(6) ? 0 : d.between(1, longest)));
  }
  if (starts.back() == 0) starts.back() = 1;
  return starts;
}

Config draw_config(std::uint64_t seed) {
  Draw d(seed);
  Config c{};
  constexpr DType dtypes[] = {DType::f32, DType::bf16, DType::f16, DType::f64};
  c.dtype = dtypes[d.between(0, 9) % 4];
  c.placement = static_cast<Placement>(d.between(0, 2));
  const bool long_rows = d.one_in(8);  // several blocks of any kernel
  c.batch = d.between(1, 3);
  c.queries = d.one_in(4) ? d.between(1, 3) : d.between(1, long_rows ? 150 : 40);
  c.keys = d.one_in(3) ? c.queries : d.between(1, long_rows ? 330 : 40);
  c.key_heads = d.between(1, 2);
  c.group = d.one_in(2) ? 1 : d.between(2, 3);
  // A small part of the head dims that are allowed, so that the definition stays quick; tensor cores want multiples.
  c.depth = d.one_in(3) ? d.between(1, 30) : 8 * d.between(1, 5);
  c.value_depth = d.one_in(3) ? 8 * d.between(1, 4) : c.depth;
  if (d.one_in(20)) c.depth = c.value_depth = 256;
  if (c.placement == Placement::packed) {
    c.keys = c.queries;
    c.value_depth = c.depth;
  }
  NaiveAttention& o = c.options;
  o.seed = seed;
  o.causal = d.one_in(3);
  o.left = d.one_in(4) ? d.between(0, 30) : -1;
  o.right = d.one_in(4) ? d.between(0, 20) : -1;
  o.dropout = d.one_in(3) ? 0.05 * static_cast<double>(d.between(1, 10)) : 0;
  if (d.one_in(4)) o.scale = 0.1 * static_cast<double>(d.between(1, 10));
  c.with_lse = d.one_in(3);
  if (c.placement != Placement::packed && d.one_in(4)) {
    o.query_starts = draw_starts(d, c.batch, c.queries);
    o.key_starts = draw_starts(d, c.batch, c.keys);
  }
  if (d.one_in(3)) {
    const std::int64_t count = c.heads() * (d.one_in(2) ? 1 : c.batch);
    for (std::int64_t h = 0; h < count; ++h) o.slopes.push_back(0.03125 * static_cast<double>(d.between(0, 16)));
  }
  c.mask = c.several() ? RandomMask::none : static_cast<RandomMask>(std::max<std::int64_t>(0, d.between(-3, 3)));
  if (c.mask != RandomMask::none) {
    const std::int64_t b = d.one_in(2) ? 1 : c.batch;
    const std::int64_t h = d.one_in(2) ? 1 : c.heads();
    c.mask_shape = {b, h, c.queries, c.keys};
  }
  return c;
}

struct Operands {
  std::vector<Tensor> leaves;  ///< q, k, v, and the mask where it is floating
  Tensor visible;              ///< the mask where it is boolean
  Tensor dout, dlse;
};

Tensor uniform(const Shape& shape, std::uint64_t seed, double low, double high) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed, low, high), shape);
}

/// What the configuration asks for, rounded to its dtype, on the CPU.
Operands draw_operands(const Config& c, std::uint64_t seed) {
  const auto shape_of = [&](std::int64_t length, const std::vector<std::int64_t>& starts, std::int64_t heads,
                            std::int64_t depth) -> Shape {
    if (c.several()) return {starts.back(), heads, depth};
    return {c.batch, length, heads, depth};
  };
  const NaiveAttention& o = c.options;
  Operands x;
  x.leaves = {uniform(shape_of(c.queries, o.query_starts, c.heads(), c.depth), 10 * seed, -2, 2).to(c.dtype),
              uniform(shape_of(c.keys, o.key_starts, c.key_heads, c.depth), 10 * seed + 1, -2, 2).to(c.dtype),
              uniform(shape_of(c.keys, o.key_starts, c.key_heads, c.value_depth), 10 * seed + 2, -2, 2).to(c.dtype)};
  x.dout = uniform(shape_of(c.queries, o.query_starts, c.heads(), c.value_depth), 10 * seed + 3, -1, 1).to(c.dtype);
  const DType wide = c.dtype == DType::f64 ? DType::f64 : DType::f32;
  if (c.with_lse) {
    const Shape shape = c.several() ? Shape{c.heads(), o.query_starts.back()} : Shape{c.batch, c.heads(), c.queries};
    x.dlse = uniform(shape, 10 * seed + 4, -1, 1).to(wide);
  }
  if (c.mask == RandomMask::none) return x;
  std::vector<double> values = random_values(static_cast<std::size_t>(numel(c.mask_shape)), 10 * seed + 5, -2, 2);
  for (double& v : values) {
    if (v > 1) v = -kInfinity;
  }
  const Tensor mask = from_vector(values, c.mask_shape);
  if (c.mask == RandomMask::boolean) {
    x.visible = mask > -kInfinity;
  } else {
    x.leaves.push_back(mask.to(c.mask == RandomMask::f32 ? DType::f32 : c.dtype));
  }
  return x;
}

/// The operands where the configuration wants them to lie.
std::vector<Tensor> placed(const Config& c, const std::vector<Tensor>& values, Device device) {
  std::vector<Tensor> list;
  for (const Tensor& t : values) list.push_back(t.to(device));
  if (c.placement == Placement::packed) {
    const Tensor whole = cat({values[0], values[1], values[2]}, 2).to(device);
    list[0] = whole.narrow(2, 0, c.heads()).detach();
    list[1] = whole.narrow(2, c.heads(), c.key_heads).detach();
    list[2] = whole.narrow(2, c.heads() + c.key_heads, c.key_heads).detach();
  } else if (c.placement == Placement::heads_first) {
    for (std::size_t i = 0; i < 3; ++i) {
      const int length = list[i].rank() - 3;
      list[i] = list[i].transpose(length, length + 1).contiguous().transpose(length, length + 1).detach();
    }
  }
  return list;
}

using Values = std::vector<std::vector<double>>;

/// out, lse, then the gradients of the leaves.
Values run(const Config& c, const Operands& x, Kernel kernel, Device device) {
  std::vector<Tensor> leaves = placed(c, x.leaves, device);
  for (Tensor& t : leaves) t.requires_grad_();
  Generator generator(c.options.seed);
  AttentionOptions options{.causal = c.options.causal,
                           .window_left = c.options.left,
                           .window_right = c.options.right,
                           .dropout = c.options.dropout,
                           .scale = c.options.scale,
                           .kernel = kernel,
                           .generator = &generator};
  const std::vector<double>& slopes = c.options.slopes;
  if (!slopes.empty()) {
    const Tensor flat = from_vector(std::vector<float>(slopes.begin(), slopes.end()));
    const bool shared = flat.numel() == c.heads();
    options.alibi_slopes = (shared ? flat : flat.reshape({c.batch, c.heads()})).to(device);
  }
  if (x.visible.defined()) options.mask = x.visible.to(device);
  if (leaves.size() > 3) options.mask = leaves[3];
  AttentionResult result;
  if (c.several()) {
    const auto starts = [&](const std::vector<std::int64_t>& s) {
      return from_vector(std::vector<std::int32_t>(s.begin(), s.end())).to(device);
    };
    std::int64_t longest_query = 0, longest_key = 0;
    for (std::size_t n = 0; n + 1 < c.options.query_starts.size(); ++n) {
      longest_query = std::max(longest_query, c.options.query_starts[n + 1] - c.options.query_starts[n]);
      longest_key = std::max(longest_key, c.options.key_starts[n + 1] - c.options.key_starts[n]);
    }
    result = attention_varlen_with_lse(leaves[0], leaves[1], leaves[2], starts(c.options.query_starts),
                                       starts(c.options.key_starts), longest_query, longest_key, options);
  } else {
    result = attention_with_lse(leaves[0], leaves[1], leaves[2], options);
  }
  note_kernels_run();
  Values values = {result.out.to_doubles(), result.lse.to_doubles()};
  Tensor loss = sum(result.out * x.dout.to(device));
  if (c.with_lse) {
    // -inf of a row that sees nothing is no part of a loss.
    const Tensor lse = masked_fill(result.lse, isinf(result.lse), 0);
    loss = loss.to(lse.dtype()) + sum(lse * x.dlse.to(device));
  }
  for (const Tensor& g : grad(loss, leaves)) values.push_back(g.to_doubles());
  return values;
}

Values exact(const Config& c, const Operands& x) {
  NaiveAttention options = c.options;
  if (x.visible.defined()) options.mask = added_mask(c.mask_shape, x.visible.to_vector<bool>());
  if (x.leaves.size() > 3) options.mask = to_array(x.leaves[3]);
  const auto r = options.run(to_array(x.leaves[0]), to_array(x.leaves[1]), to_array(x.leaves[2]), to_array(x.dout),
                             x.dlse.defined() ? to_array(x.dlse) : Array{});
  Values values = {r.out.values, r.lse.values, r.dq.values, r.dk.values, r.dv.values};
  if (x.leaves.size() > 3) values.push_back(r.dmask.values);
  return values;
}

double norm_of(const std::vector<double>& x) {
  double squares = 0;
  for (const double v : x) squares += std::isfinite(v) ? v * v : 0;
  return std::sqrt(squares);
}

/// || a - b ||; infinite when infinities or NaN are not in the same places.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> difference(a.size(), 0.0);
  if (a.size() != b.size()) return kInfinity;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return kInfinity;
    difference[i] = a[i] - b[i];
  }
  return norm_of(difference);
}

double unit_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-53;
    case DType::f32:
      return 0x1p-24;
    case DType::bf16:
      return 0x1p-9;
    default:
      return 0x1p-12;
  }
}

TEST(AttentionConfigurations, EveryKernelIsAsExactAsTheComposedForm) {
  int by_kernels = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Config c = draw_config(seed);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
    const Operands x = draw_operands(c, seed);
    const Values expected = exact(c, x);
    const char* names[] = {"out", "lse", "dq", "dk", "dv", "dmask"};
    // What nobody does better without keeping more than out and lse: results are rounded to their dtype; p is
    // exp(s - lse) of scores and lse that are rounded to f32, each to a unit of its size; and a gradient of scores is a
    // difference of terms as large as dv's, one of which comes from out as it was rounded.
    double largest = 0;
    for (const double lse : expected[1]) largest = std::max(largest, std::isfinite(lse) ? std::abs(lse) : 0);
    const double p_error = (4 + 2 * largest) * unit_of(c.dtype == DType::f64 ? DType::f64 : DType::f32);
    const auto floor_of = [&](std::size_t i) {
      const double unit = unit_of(i == 1 && c.dtype != DType::f64 ? DType::f32 : c.dtype);
      const bool of_scores = i == 2 || i == 3 || i == 5;
      const double stored_mask = i == 5 && c.mask == RandomMask::f32 ? unit_of(DType::f32) * norm_of(expected[i]) : 0;
      return (of_scores ? (p_error + 4 * unit) * (norm_of(expected[i]) + norm_of(expected[4]))
                        : (p_error + unit) * norm_of(expected[i])) +
             stored_mask;
    };
    for (const Device device : test_devices()) {
      const Values composed = run(c, x, Kernel::reference, device);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double limit = 20 * (floor_of(i) + unit_of(c.dtype) * norm_of(expected[i]));
        EXPECT_LE(distance(composed[i], expected[i]), limit) << names[i] << ", composed, " << device.to_string();
      }
      for (const Kernel kernel : {Kernel::fused, Kernel::flash}) {
        Values got;
        try {
          got = run(c, x, kernel, device);
        } catch (const KernelUnavailable&) {
          EXPECT_TRUE(kernel == Kernel::fused || c.dtype == DType::f64 || !device.is_cpu());
          continue;
        }
        ++by_kernels;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          const double limit = std::max(2 * distance(composed[i], expected[i]), floor_of(i));
          EXPECT_LE(distance(got[i], expected[i]), limit)
              << names[i] << ", " << name(kernel) << ", " << device.to_string();
        }
      }
    }
  }
  EXPECT_GT(by_kernels, 200);
}

}  // namespace
}  // namespace trinix::testing
