#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/philox.h>
#include <trinix/layers/sampling.h>

namespace trinix::nn {

using detail::fail;

void SamplingOptions::validate() const {
  if (!(temperature >= 0) || std::isinf(temperature)) {
    fail<ConfigError>("sample", "the temperature is {}, but must be a number of at least 0", temperature);
  }
  if (top_k < 0) fail<ConfigError>("sample", "top_k is {}, but must be at least 0", top_k);
  if (!(top_p > 0 && top_p <= 1)) fail<ConfigError>("sample", "top_p is {}, but must lie in (0, 1]", top_p);
}

std::int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, Generator& generator) {
  options.validate();
  if (logits.empty()) fail<ConfigError>("sample", "there are no logits to choose from");
  if (std::any_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); })) {
    fail<ConfigError>("sample", "a logit is NaN: the model has diverged");
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (std::isinf(*best)) fail<ConfigError>("sample", "the largest logit is {}: the model has diverged", double(*best));
  if (options.temperature == 0) return best - logits.begin();

  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::size_t kept = order.size();
  if (options.top_k > 0 || options.top_p < 1) {
    if (options.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options.top_k));
    const auto likelier = [&](std::int64_t a, std::int64_t b) {
      const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
      return x != y ? x > y : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  }
  std::vector<double> weights(kept);
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    const double logit = logits[static_cast<std::size_t>(order[i])];
    weights[i] = std::exp((logit - double(*best)) / options.temperature);
    total += weights[i];
  }
  if (options.top_p < 1) {
    double sum = 0;
    std::size_t n = 0;
    while (n < kept && sum < options.top_p * total) sum += weights[n++];
    kept = n;
    total = sum;
  }
  const RandomState random = generator.reserve(1);
  double left = uniform_from_bits(philox(random.seed, random.offset).x[0]) * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[kept - 1];  // rounding alone leads here
}

}  // namespace trinix::nn
