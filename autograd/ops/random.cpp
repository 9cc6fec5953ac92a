#include <cmath>
#include <numeric>

#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/random.h>
#include <trinix/core/random_math.h>

namespace trinix {

using detail::fail;

namespace {

Generator& chosen(Generator* generator) { return generator != nullptr ? *generator : default_generator(); }

/// Draws over all of `t`, claiming one number per element.
void draw(const Tensor& t, Random::Forward args, Generator* generator) {
  args.state = chosen(generator).reserve(static_cast<std::uint64_t>(t.numel()));
  args.out = t.raw();
  if (t.numel() > 0) run<Random>(args, t.device());
}

Tensor drawn(const char* op, RandomFn fn, const Shape& shape, const TensorOptions& options, Generator* generator) {
  Tensor t = empty(shape, {options.dtype, options.device});
  check_floating(op, t);
  draw(t, {.fn = fn, .out = {}, .state = {}}, generator);
  if (options.requires_grad) t.requires_grad_();
  return t;
}

/// Writes over x; the gradient of what it held ends here.
const Tensor& draw_in_place(const char* op, const Tensor& x, const Random::Forward& args, Generator* generator) {
  check_floating(op, x);
  record_in_place(
      op, x, {}, {}, [&] { draw(x, args, generator); }, [](BackwardContext&) {});
  return x;
}

}  // namespace

Tensor rand(const Shape& shape, const TensorOptions& options, Generator* generator) {
  return drawn("rand", RandomFn::uniform, shape, options, generator);
}

Tensor randn(const Shape& shape, const TensorOptions& options, Generator* generator) {
  return drawn("randn", RandomFn::normal, shape, options, generator);
}

Tensor rand_like(const Tensor& other, Generator* generator) {
  return drawn("rand_like", RandomFn::uniform, other.shape(), {other.dtype(), other.device()}, generator);
}

Tensor randn_like(const Tensor& other, Generator* generator) {
  return drawn("randn_like", RandomFn::normal, other.shape(), {other.dtype(), other.device()}, generator);
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, const TensorOptions& options,
               Generator* generator) {
  if (low >= high) fail<ConfigError>("randint", "the range from {} to {} (excluded) is empty", low, high);
  if (!is_integral(options.dtype)) {
    fail<DtypeError>("randint", "makes integers, got {}; ask for i64, i32 or u8, and convert with to()", options.dtype);
  }
  const bool fits = options.dtype == DType::i64 ||
                    (options.dtype == DType::i32 && low >= INT32_MIN && high - 1 <= INT32_MAX) ||
                    (options.dtype == DType::u8 && low >= 0 && high - 1 <= UINT8_MAX);
  if (!fits) fail<ConfigError>("randint", "the range from {} to {} does not fit in {}", low, high, options.dtype);
  const Tensor t = empty(shape, {options.dtype, options.device});
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  draw(t, {.fn = RandomFn::integer, .out = {}, .state = {}, .integer_low = low, .range = range}, generator);
  if (options.requires_grad) fail<DtypeError>("randint", "integers collect no gradient; drop requires_grad");
  return t;
}

Tensor randperm(std::int64_t n, Generator* generator) {
  if (n < 0) fail<ConfigError>("randperm", "{} elements were asked for", n);
  const Tensor order = empty({n}, {DType::i64});
  auto* p = order.data<std::int64_t>();
  std::iota(p, p + n, std::int64_t{0});
  // Fisher and Yates' shuffle from the back; draw i decides about place i. Sequential, so on the host by nature.
  const RandomState state = chosen(generator).reserve(static_cast<std::uint64_t>(n));
  RandomWords words{};
  for (std::int64_t i = n - 1; i > 0; --i) {
    const auto u = static_cast<std::uint64_t>(i);
    if (i == n - 1 || u % 4 == 3) words = random_words64(state, u / 4);
    std::swap(p[i], p[integer_from_bits(words.x[u % 4], u + 1)]);
  }
  return order;
}

const Tensor& normal_(const Tensor& x, double mean, double stddev, Generator* generator) {
  if (!std::isfinite(mean) || !std::isfinite(stddev) || stddev < 0) {
    fail<ConfigError>("normal_", "mean {} and standard deviation {} make no distribution", mean, stddev);
  }
  return draw_in_place("normal_", x, {.fn = RandomFn::normal, .out = {}, .state = {}, .low = mean, .high = stddev},
                       generator);
}

const Tensor& uniform_(const Tensor& x, double low, double high, Generator* generator) {
  if (!std::isfinite(low) || !std::isfinite(high) || low > high) {
    fail<ConfigError>("uniform_", "the range from {} to {} is empty", low, high);
  }
  return draw_in_place("uniform_", x, {.fn = RandomFn::uniform, .out = {}, .state = {}, .low = low, .high = high},
                       generator);
}

}  // namespace trinix
