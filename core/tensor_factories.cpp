#include <cmath>
#include <utility>

#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/ops/fill.h>
#include <trinix/core/tensor.h>

namespace trinix {

using detail::fail;

namespace {

TensorOptions options_like(const Tensor& t) { return {t.dtype(), t.device()}; }

/// Number of values in [start, end) at `step`, or a ConfigError.
std::int64_t range_length(const Scalar& start, const Scalar& end, const Scalar& step) {
  if (step.to_double() == 0) fail<ConfigError>("arange", "the step must not be 0");
  const bool exact = start.kind() == DType::i64 && end.kind() == DType::i64 && step.kind() == DType::i64;
  if (exact) {
    const std::int64_t s = step.to_int();
    std::int64_t span = 0;
    if (__builtin_sub_overflow(end.to_int(), start.to_int(), &span)) {
      fail<ConfigError>("arange", "the range {} to {} does not fit in 63 bits", start.to_int(), end.to_int());
    }
    if ((span > 0) != (s > 0) || span == 0) return 0;
    return s > 0 ? (span - 1) / s + 1 : (span + 1) / s + 1;
  }
  const double count = std::ceil((end.to_double() - start.to_double()) / step.to_double());
  if (!std::isfinite(count) || count > 1e15) {
    fail<ConfigError>("arange", "the range {} to {} by {} has no sensible length", start.to_double(), end.to_double(),
                      step.to_double());
  }
  return count > 0 ? static_cast<std::int64_t>(count) : 0;
}

std::int64_t checked_bytes(const char* op, std::int64_t count, DType dtype) {
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(count, static_cast<std::int64_t>(size_of(dtype)), &bytes)) {
    fail<ShapeError>(op, "{} elements of {} do not fit in 63 bits of bytes", count, dtype);
  }
  return bytes;
}

}  // namespace

Tensor empty(const Shape& shape, const TensorOptions& options) {
  const std::int64_t bytes = checked_bytes("empty", numel(shape), options.dtype);
  auto storage = std::make_shared<Storage>(static_cast<std::size_t>(bytes), options.device);
  Tensor t(std::move(storage), options.dtype, shape, contiguous_strides(shape));
  if (options.requires_grad) t.requires_grad_();
  return t;
}

Tensor zeros(const Shape& shape, const TensorOptions& options) {
  const Tensor t = empty(shape, options);
  const std::size_t bytes = static_cast<std::size_t>(t.numel()) * size_of(t.dtype());
  if (bytes > 0) backend_of(t.device()).zero(t.raw_data(), bytes, stream_of(t.device()));
  return t;
}

Tensor full(const Shape& shape, Scalar value, const TensorOptions& options) {
  const Tensor t = empty(shape, options);
  if (t.numel() > 0) run<Fill>({.out = t.raw(), .value = value}, t.device());
  return t;
}

Tensor ones(const Shape& shape, const TensorOptions& options) { return full(shape, 1, options); }

Tensor arange(Scalar start, Scalar end, Scalar step, const TensorOptions& options) {
  const Tensor t = empty({range_length(start, end, step)}, options);
  if (t.numel() > 0) run<Range>({.out = t.raw(), .start = start, .step = step}, t.device());
  return t;
}

Tensor arange(Scalar start, Scalar end, Scalar step) {
  const bool whole = start.kind() != DType::f64 && end.kind() != DType::f64 && step.kind() != DType::f64;
  return arange(start, end, step, {whole ? DType::i64 : DType::f32});
}

Tensor linspace(double start, double end, std::int64_t count, const TensorOptions& options) {
  if (count < 0) fail<ConfigError>("linspace", "{} values were asked for", count);
  const Tensor t = empty({count}, options);
  const double step = count > 1 ? (end - start) / static_cast<double>(count - 1) : 0.0;
  if (count > 0) run<Range>({.out = t.raw(), .start = start, .step = step}, t.device());
  // The last value is the end itself, not the end up to rounding.
  if (count > 1) {
    View last = t.raw();
    last.data = static_cast<char*>(last.data) + (count - 1) * static_cast<std::int64_t>(size_of(t.dtype()));
    last.shape = {1};
    run<Fill>({.out = last, .value = end}, t.device());
  }
  return t;
}

Tensor eye(std::int64_t n, std::int64_t m, const TensorOptions& options) {
  const std::int64_t columns = m < 0 ? n : m;
  const Tensor t = zeros({n, columns}, options);
  View diagonal = t.raw();
  diagonal.shape = {std::min(n, columns)};
  diagonal.strides = {columns + 1};
  if (t.numel() > 0) run<Fill>({.out = diagonal, .value = 1}, t.device());
  return t;
}

Tensor empty_like(const Tensor& other) { return empty(other.shape(), options_like(other)); }
Tensor zeros_like(const Tensor& other) { return zeros(other.shape(), options_like(other)); }
Tensor ones_like(const Tensor& other) { return ones(other.shape(), options_like(other)); }
Tensor full_like(const Tensor& other, Scalar value) { return full(other.shape(), value, options_like(other)); }

Tensor from_memory(void* data, const Shape& shape, DType dtype, Device device, std::function<void(void*)> deleter) {
  const std::int64_t n = numel(shape);
  if (data == nullptr && n > 0) fail<ShapeError>("from_memory", "null data for a tensor of shape {}", shape);
  const std::int64_t bytes = checked_bytes("from_memory", n, dtype);
  auto storage = std::make_shared<Storage>(data, static_cast<std::size_t>(bytes), device, std::move(deleter));
  return Tensor(std::move(storage), dtype, shape, contiguous_strides(shape));
}

Tensor detail::from_host(const void* values, std::size_t count, const Shape& shape, DType dtype,
                         const TensorOptions& options) {
  const std::int64_t n = numel(shape);
  if (static_cast<std::size_t>(n) != count) {
    fail<ShapeError>("from_span", "{} values were given for shape {}, which has {}", count, shape, n);
  }
  refuse_in_capture("from_span", options.device);
  Tensor t = empty(shape, {dtype, options.device});
  if (n > 0) {
    backend_of(options.device)
        .copy(t.raw_data(), options.device, values, Device::cpu(), count * size_of(dtype), stream_of(options.device));
  }
  if (options.requires_grad) t.requires_grad_();
  return t;
}

}  // namespace trinix
