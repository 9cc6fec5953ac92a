#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/rope.h>

namespace trinix::nn {

using detail::fail;

namespace {

double wave_length(double frequency) { return 2 * std::numbers::pi / frequency; }

void scale_llama3(std::vector<double>& frequencies, const RoPEOptions& o, double trained) {
  for (double& f : frequencies) {
    const double turns = trained / wave_length(f);
    // 0 below low_freq_factor turns over the training length, 1 from high_freq_factor turns on.
    const double kept = std::clamp((turns - o.low_freq_factor) / (o.high_freq_factor - o.low_freq_factor), 0.0, 1.0);
    f = (1 - kept) * f / o.factor + kept * f;
  }
}

/// The pair whose frequency makes `turns` turns over the training length; YaRN's equation for i, solved.
double pair_of(double turns, const RoPEOptions& o, double trained) {
  return static_cast<double>(o.dim) * std::log(trained / (turns * 2 * std::numbers::pi)) / (2 * std::log(o.base));
}

void scale_yarn(std::vector<double>& frequencies, const RoPEOptions& o, double trained) {
  const double low = std::max(std::floor(pair_of(o.beta_fast, o, trained)), 0.0);
  double high = std::min(std::ceil(pair_of(o.beta_slow, o, trained)), static_cast<double>(o.dim - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double divided = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= divided / o.factor + (1 - divided);
  }
}

void check_scaling(const RoPEOptions& o) {
  if (o.scaling == RoPEScaling::none) return;
  if (!(o.factor >= 1) || !std::isfinite(o.factor)) {
    fail<ConfigError>("RoPE", "the factor of the scaling is {}; it must be at least 1", o.factor);
  }
  if (o.original_max_positions && *o.original_max_positions < 1) {
    fail<ConfigError>("RoPE", "original_max_positions is {}; it must be positive", *o.original_max_positions);
  }
  if (o.scaling == RoPEScaling::dynamic_ntk && o.dim <= 2) {
    fail<ConfigError>("RoPE", "dynamic NTK scaling needs a dim above 2, got {}", o.dim);
  }
  if (o.scaling == RoPEScaling::llama3 && !(o.low_freq_factor > 0 && o.high_freq_factor > o.low_freq_factor)) {
    fail<ConfigError>("RoPE", "low_freq_factor {} must be positive and below high_freq_factor {}", o.low_freq_factor,
                      o.high_freq_factor);
  }
  if (o.scaling == RoPEScaling::yarn && !(o.beta_slow > 0 && o.beta_fast >= o.beta_slow)) {
    fail<ConfigError>("RoPE", "beta_slow {} must be positive and not above beta_fast {}", o.beta_slow, o.beta_fast);
  }
}

}  // namespace

RoPE::RoPE(const RoPEOptions& o)
    : options_(o), original_max_positions_(o.original_max_positions.value_or(o.max_positions)), attention_factor_(1) {
  if (o.dim < 2 || o.dim % 2 != 0) {
    fail<ConfigError>("RoPE", "dim is {}; columns are turned in pairs, so it must be even and positive", o.dim);
  }
  if (o.max_positions < 1) fail<ConfigError>("RoPE", "max_positions is {}; it must be positive", o.max_positions);
  if (!(o.base > 1) || !std::isfinite(o.base)) fail<ConfigError>("RoPE", "base is {}; it must be above 1", o.base);
  check_scaling(o);
  if (o.scaling == RoPEScaling::yarn) attention_factor_ = o.attention_factor.value_or(0.1 * std::log(o.factor) + 1);
}

std::vector<double> RoPE::frequencies(std::int64_t length) const {
  const auto dim = static_cast<double>(options_.dim);
  const auto trained = static_cast<double>(original_max_positions_);
  double base = options_.base;
  if (options_.scaling == RoPEScaling::dynamic_ntk) {
    const double stretch = static_cast<double>(std::max(length, original_max_positions_)) / trained;
    base *= std::pow(options_.factor * stretch - (options_.factor - 1), dim / (dim - 2));
  }
  std::vector<double> result(static_cast<std::size_t>(options_.dim / 2));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = std::pow(base, -2 * static_cast<double>(i) / dim);
  if (options_.scaling == RoPEScaling::linear) {
    for (double& f : result) f /= options_.factor;
  } else if (options_.scaling == RoPEScaling::yarn) {
    scale_yarn(result, options_, trained);
  } else if (options_.scaling == RoPEScaling::llama3) {
    scale_llama3(result, options_, trained);
  }
  return result;
}

RoPE::Tables RoPE::make_tables(std::int64_t rows, std::int64_t length, Device device) const {
  const std::vector<double> angle = frequencies(length);
  std::vector<float> cos, sin;
  cos.reserve(angle.size() * static_cast<std::size_t>(rows));
  sin.reserve(cos.capacity());
  for (std::int64_t p = 0; p < rows; ++p) {
    for (const double a : angle) {
      cos.push_back(static_cast<float>(attention_factor_ * std::cos(static_cast<double>(p) * a)));
      sin.push_back(static_cast<float>(attention_factor_ * std::sin(static_cast<double>(p) * a)));
    }
  }
  const Shape shape{rows, options_.dim / 2};
  return {from_vector(cos, shape, {.device = device}), from_vector(sin, shape, {.device = device}), length};
}

std::pair<Tensor, Tensor> RoPE::tables(std::int64_t length, Device device) const {
  if (length < 0 || length > options_.max_positions) {
    fail<IndexError>("RoPE", "{} positions are needed, but max_positions is {}", length, options_.max_positions);
  }
  const std::lock_guard lock(mutex_);
  Tables& kept = tables_[{device.type, device.index}];
  // Frequencies that hang on the length hold for that length alone; others for every shorter one too.
  const bool by_length = options_.scaling == RoPEScaling::dynamic_ntk;
  const std::int64_t heeded = by_length ? std::max(length, original_max_positions_) : 0;
  if (!kept.cos.defined() || kept.cos.size(0) < length || kept.length != heeded) {
    // Doubled, so that generation token by token makes few tables.
    const std::int64_t doubled = kept.cos.defined() ? 2 * kept.cos.size(0) : 0;
    kept = make_tables(std::min(std::max(length, doubled), options_.max_positions), heeded, device);
  }
  return {kept.cos, kept.sin};
}

std::pair<Tensor, Tensor> RoPE::tables_for(const Tensor& x, const RoPEPositions& positions) const {
  if (x.rank() < 2) fail<ShapeError>("RoPE", "the input must be (batch, length, ...), got {}", x.shape());
  // Nobody looks at ids, which may lie on a card: any position may be among them.
  if (positions.ids.defined()) return tables(positions.length.value_or(options_.max_positions), x.device());
  if (positions.first < 0) fail<IndexError>("RoPE", "the first position is {}; it cannot be negative", positions.first);
  return tables(positions.first + x.size(1), x.device());
}

RopeOptions RoPE::call_options(const RoPEPositions& positions) const {
  return {.layout = options_.layout,
          .first_position = positions.first,
          .positions = positions.ids,
          .kernel = options_.kernel};
}

Tensor RoPE::forward(const Tensor& x, const RoPEPositions& positions) const {
  const auto [cos, sin] = tables_for(x, positions);
  return rope(x, cos, sin, call_options(positions));
}

std::pair<Tensor, Tensor> RoPE::rotate(const Tensor& q, const Tensor& k, const RoPEPositions& positions) const {
  return {forward(q, positions), forward(k, positions)};
}

const Tensor& RoPE::apply_packed_(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads,
                                  const RoPEPositions& positions) const {
  const auto [cos, sin] = tables_for(qkv, positions);
  return rope_packed_(qkv, heads, kv_heads, cos, sin, call_options(positions));
}

}  // namespace trinix::nn
