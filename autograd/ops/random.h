#pragma once

#include <trinix/core/generator.h>
#include <trinix/core/tensor.h>

/// @file
/// Random tensors and dropout. Every call draws from the given generator, or from default_generator(); the same seed
/// gives the same values on every device.

namespace trinix {

/// Uniform in [0, 1).
[[nodiscard]] Tensor rand(const Shape& shape, const TensorOptions& options = {}, Generator* generator = nullptr);
/// Normal with mean 0 and variance 1.
[[nodiscard]] Tensor randn(const Shape& shape, const TensorOptions& options = {}, Generator* generator = nullptr);
/// Integers in [low, high). @throws ConfigError for an empty range.
[[nodiscard]] Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape,
                             const TensorOptions& options = {DType::i64}, Generator* generator = nullptr);
[[nodiscard]] Tensor rand_like(const Tensor& other, Generator* generator = nullptr);
[[nodiscard]] Tensor randn_like(const Tensor& other, Generator* generator = nullptr);
/// A random order of 0 .. n-1.
[[nodiscard]] Tensor randperm(std::int64_t n, Generator* generator = nullptr);

/// Fills in place, for initialising parameters (call under NoGrad).
const Tensor& normal_(const Tensor& x, double mean = 0, double stddev = 1, Generator* generator = nullptr);
const Tensor& uniform_(const Tensor& x, double low = 0, double high = 1, Generator* generator = nullptr);

/// Sets each element to 0 with probability p and scales the others by 1 / (1 - p). The backward draws the same mask
/// again, so none is stored. p = 0 returns x itself. Srivastava et al., JMLR 15 (2014). @throws ConfigError unless 0 <=
/// p <= 1.
[[nodiscard]] Tensor dropout(const Tensor& x, double p, Generator* generator = nullptr);

}  // namespace trinix
