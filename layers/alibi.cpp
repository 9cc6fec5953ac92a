#include <cmath>
#include <vector>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/alibi.h>

namespace trinix::nn {

using detail::fail;

Tensor alibi_slopes(std::int64_t heads, Device device) {
  if (heads < 1) fail<ConfigError>("alibi_slopes", "the number of heads is {}; it must be positive", heads);
  std::int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  std::vector<float> slopes;
  for (std::int64_t h = 0; h < heads; ++h) {
    // Behind the first `power`, the odd powers of the root of their ratio.
    const double exponent = h < power ? static_cast<double>(h + 1) : static_cast<double>(h - power) + 0.5;
    slopes.push_back(static_cast<float>(std::exp2(-8 * exponent / static_cast<double>(power))));
  }
  return from_vector(slopes, {.device = device});
}

ALiBi::ALiBi(std::int64_t heads) : heads_(heads) {
  if (heads < 1) fail<ConfigError>("ALiBi", "the number of heads is {}; it must be positive", heads);
}

Tensor ALiBi::slopes(Device device) const {
  const std::lock_guard lock(mutex_);
  Tensor& kept = slopes_[{device.type, device.index}];
  if (!kept.defined()) kept = alibi_slopes(heads_, device);
  return kept;
}

Tensor ALiBi::bias(std::int64_t queries, std::int64_t keys, const TensorOptions& options) const {
  if (queries < 0 || keys < 0) {
    fail<ShapeError>("ALiBi", "a bias of {} queries and {} keys was asked for; neither can be negative", queries, keys);
  }
  const TensorOptions index{DType::i64, options.device};
  const Tensor place = (arange(queries, index) + (keys - queries)).unsqueeze(1);
  const Tensor distance = abs(place - arange(keys, index)).to(DType::f32);
  return (slopes(options.device).reshape({heads_, 1, 1}) * -distance).to(options.dtype);
}

}  // namespace trinix::nn
