#include "attention_configuration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include <trinix/core/philox.h>

namespace trinix::testing {

namespace {

using Mask = AttentionConfig::Mask;
using Placement = AttentionConfig::Placement;

/// Starts of `count` sequences, some of them empty.
std::vector<std::int64_t> draw_starts(Draw& d, std::int64_t count, std::int64_t longest) {
  std::vector<std::int64_t> starts{0};
  for (std::int64_t n = 0; n < count; ++n) {
    starts.push_back(starts.back() + (d.one_in(6) ? 0 : d.between(1, longest)));
  }
  if (starts.back() == 0) starts.back() = 1;
  return starts;
}

std::int64_t longest_of(const std::vector<std::int64_t>& starts) {
  std::int64_t longest = 0;
  for (std::size_t n = 0; n + 1 < starts.size(); ++n) longest = std::max(longest, starts[n + 1] - starts[n]);
  return longest;
}

Tensor uniform(const Shape& shape, std::uint64_t seed, double low, double high) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed, low, high), shape);
}

/// The operands where the configuration wants them to lie.
std::vector<Tensor> placed(const AttentionConfig& c, const std::vector<Tensor>& values, Device device) {
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

/// Equal bits asked for, or not, until the end of the scope.
class DeterministicScope {
 public:
  explicit DeterministicScope(bool on) { set_deterministic(on); }
  ~DeterministicScope() { set_deterministic(false); }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;
};

}  // namespace

std::int64_t Draw::between(std::int64_t low, std::int64_t high) {
  return low + philox(seed_, count_++).x[0] % static_cast<std::uint32_t>(high - low + 1);
}

std::string AttentionConfig::text() const {
  std::ostringstream text;
  text << name(dtype) << " placement " << static_cast<int>(placement) << " B " << batch << " Sq " << queries << " Sk "
       << keys << " Hkv " << key_heads << " x " << group << " D " << depth << " Dv " << value_depth
       << (options.causal ? " causal" : "") << " window " << options.left << ", " << options.right << " dropout "
       << options.dropout << " scale " << options.scale.value_or(0) << " slopes " << options.slopes.size() << " mask "
       << static_cast<int>(mask) << ' ' << mask_shape.to_string() << (with_lse ? " lse" : "")
       << (deterministic ? " deterministic" : "");
  for (const auto* starts : {&options.query_starts, &options.key_starts}) {
    if (!starts->empty()) text << " starts";
    for (const std::int64_t start : *starts) text << ' ' << start;
  }
  return text.str();
}

void draw_attention_options(Draw& d, std::uint64_t seed, AttentionConfig& c, std::int64_t longest_left,
                            std::int64_t longest_right) {
  if (c.placement == Placement::packed) {
    c.keys = c.queries;
    c.value_depth = c.depth;
  }
  NaiveAttention& o = c.options;
  o.seed = seed;
  o.causal = d.one_in(3);
  o.left = d.one_in(4) ? d.between(0, longest_left) : -1;
  o.right = d.one_in(4) ? d.between(0, longest_right) : -1;
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
  c.mask = c.several() ? Mask::none : static_cast<Mask>(std::max<std::int64_t>(0, d.between(-3, 3)));
  if (c.mask != Mask::none) {
    const std::int64_t b = d.one_in(2) ? 1 : c.batch;
    const std::int64_t h = d.one_in(2) ? 1 : c.heads();
    c.mask_shape = {b, h, c.queries, c.keys};
  }
}

AttentionOperands AttentionOperands::to(DType dtype) const {
  AttentionOperands x;
  for (const Tensor& t : leaves) x.leaves.push_back(t.to(dtype));
  x.visible = visible;
  x.dout = dout.to(dtype);
  if (dlse.defined()) x.dlse = dlse.to(dtype);
  return x;
}

AttentionOperands draw_attention_operands(const AttentionConfig& c, std::uint64_t seed) {
  const auto shape_of = [&](std::int64_t length, const std::vector<std::int64_t>& starts, std::int64_t heads,
                            std::int64_t depth) -> Shape {
    if (c.several()) return {starts.back(), heads, depth};
    return {c.batch, length, heads, depth};
  };
  const NaiveAttention& o = c.options;
  AttentionOperands x;
  x.leaves = {uniform(shape_of(c.queries, o.query_starts, c.heads(), c.depth), 10 * seed, -2, 2).to(c.dtype),
              uniform(shape_of(c.keys, o.key_starts, c.key_heads, c.depth), 10 * seed + 1, -2, 2).to(c.dtype),
              uniform(shape_of(c.keys, o.key_starts, c.key_heads, c.value_depth), 10 * seed + 2, -2, 2).to(c.dtype)};
  x.dout = uniform(shape_of(c.queries, o.query_starts, c.heads(), c.value_depth), 10 * seed + 3, -1, 1).to(c.dtype);
  const DType wide = c.dtype == DType::f64 ? DType::f64 : DType::f32;
  if (c.with_lse) {
    const Shape shape = c.several() ? Shape{c.heads(), o.query_starts.back()} : Shape{c.batch, c.heads(), c.queries};
    x.dlse = uniform(shape, 10 * seed + 4, -1, 1).to(wide);
  }
  if (c.mask == Mask::none) return x;
  std::vector<double> values = random_values(static_cast<std::size_t>(numel(c.mask_shape)), 10 * seed + 5, -2, 2);
  for (double& v : values) {
    if (v > 1) v = -kInfinity;
  }
  const Tensor mask = from_vector(values, c.mask_shape);
  if (c.mask == Mask::boolean) {
    x.visible = mask > -kInfinity;
  } else {
    x.leaves.push_back(mask.to(c.mask == Mask::f32 ? DType::f32 : c.dtype));
  }
  return x;
}

AttentionValues run_attention(const AttentionConfig& c, const AttentionOperands& x, Kernel kernel, Device device,
                              std::string* used) {
  std::optional<HangWatch> watch;
  if (!device.is_cpu()) watch.emplace(std::string(name(kernel)) + ", " + c.text());
  const DeterministicScope scope(c.deterministic);
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
    result = attention_varlen_with_lse(leaves[0], leaves[1], leaves[2], starts(c.options.query_starts),
                                       starts(c.options.key_starts), longest_of(c.options.query_starts),
                                       longest_of(c.options.key_starts), options);
  } else {
    result = attention_with_lse(leaves[0], leaves[1], leaves[2], options);
  }
  note_kernels_run();
  if (used != nullptr) *used = last_kernel("attention");
  AttentionValues values = {result.out.to_doubles(), result.lse.to_doubles()};
  Tensor loss = sum(result.out * x.dout.to(device));
  if (c.with_lse) {
    // -inf of a row that sees nothing is no part of a loss.
    const Tensor lse = masked_fill(result.lse, isinf(result.lse), 0);
    loss = loss.to(lse.dtype()) + sum(lse * x.dlse.to(device));
  }
  for (const Tensor& g : grad(loss, leaves)) values.push_back(g.to_doubles());
  return values;
}

AttentionValues exact_attention(const AttentionConfig& c, const AttentionOperands& x) {
  NaiveAttention options = c.options;
  if (x.visible.defined()) options.mask = added_mask(c.mask_shape, x.visible.to_vector<bool>());
  if (x.leaves.size() > 3) options.mask = to_array(x.leaves[3]);
  const auto r = options.run(to_array(x.leaves[0]), to_array(x.leaves[1]), to_array(x.leaves[2]), to_array(x.dout),
                             x.dlse.defined() ? to_array(x.dlse) : Array{});
  AttentionValues values = {r.out.values, r.lse.values, r.dq.values, r.dk.values, r.dv.values};
  if (x.leaves.size() > 3) values.push_back(r.dmask.values);
  return values;
}

double norm_of(const std::vector<double>& x) {
  double squares = 0;
  for (const double v : x) squares += std::isfinite(v) ? v * v : 0;
  return std::sqrt(squares);
}

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

double attention_error_floor(const AttentionConfig& c, const AttentionValues& exact, std::size_t i) {
  // Results are rounded to their dtype; p is exp(s - lse) of scores and lse that are rounded to f32, each to a unit of
  // its size; and a gradient of scores is a difference of terms as large as dv's, one of which comes from out as it was
  // rounded. That of queries and keys is that difference times scale and a key or query, whose length is about sqrt(D):
  // 1 at the default scale, more at a larger one, even where the exact difference is 0 as for a single key.
  double largest = 0;
  for (const double lse : exact[1]) largest = std::max(largest, std::isfinite(lse) ? std::abs(lse) : 0);
  const double p_error = (4 + 2 * largest) * unit_of(c.dtype == DType::f64 ? DType::f64 : DType::f32);
  const double unit = unit_of(i == 1 && c.dtype != DType::f64 ? DType::f32 : c.dtype);
  const bool of_scores = i == 2 || i == 3 || i == 5;
  const double stored_mask = i == 5 && c.mask == Mask::f32 ? unit_of(DType::f32) * norm_of(exact[i]) : 0;
  const double larger_scale =
      i == 5 ? 1 : std::max(1.0, std::abs(c.options.scale.value_or(0)) * std::sqrt(static_cast<double>(c.depth)));
  return (of_scores ? (p_error + 4 * unit) * (norm_of(exact[i]) + larger_scale * norm_of(exact[4]))
                    : (p_error + unit) * norm_of(exact[i])) +
         stored_mask;
}

bool has_flash(Device device) {
  if (device.is_cpu()) return true;
  static const bool found = [&] {
    const Tensor x = zeros({1, 1, 1, 8}, {DType::bf16, device});
    try {
      static_cast<void>(scaled_dot_product_attention(x, x, x, {.kernel = Kernel::flash}));
    } catch (const KernelUnavailable&) {
      return false;
    }
    return true;
  }();
  return found;
}

std::vector<TiledKernel> tiled_kernels() {
  std::vector<TiledKernel> kernels;
  for (const Device device : test_devices()) {
    if (!device.is_cpu()) kernels.push_back({device, Kernel::fused});
    if (has_flash(device)) kernels.push_back({device, Kernel::flash});
  }
  return kernels;
}

std::string tiled_kernel_name(const ::testing::TestParamInfo<TiledKernel>& info) {
  return std::string(name(info.param.kernel)) + (info.param.device.is_cpu() ? "_cpu" : "_cuda");
}

void OnTiledKernel::SetUp() {
  const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  if (!device().is_cpu()) watch_.emplace(std::string(test->test_suite_name()) + '.' + test->name());
}

}  // namespace trinix::testing
