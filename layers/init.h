#pragma once

#include <cstdint>

#include <trinix/core/generator.h>
#include <trinix/core/tensor.h>

/// @file
/// Initial values for parameters, by the names that PyTorch gave them. Each overwrites a tensor in place, records
/// nothing, and returns it; random ones draw from the given generator, or from default_generator(), the same values on
/// every device.

namespace trinix::nn::init {

/// How many values flow into and out of one output of a weight (out, in, ...): in and out, times the size of the dims
/// behind them (the receptive field of a convolution).
struct Fans {
  std::int64_t in = 0;
  std::int64_t out = 0;
};
/// @throws ShapeError for fewer than two dims.
[[nodiscard]] Fans fans(const Tensor& weight);

/// What follows a weight; decides by how much its values must be larger to keep the variance.
enum class Nonlinearity : std::uint8_t { linear, sigmoid, tanh, relu, leaky_relu, selu };

/// The factor that goes with it: 1, 1, 5/3, sqrt(2), sqrt(2 / (1 + slope^2)), 3/4.
[[nodiscard]] double gain(Nonlinearity nonlinearity, double negative_slope = 0.01);

/// U(low, high). @throws ConfigError unless low <= high.
const Tensor& uniform_(const Tensor& x, double low = 0, double high = 1, Generator* generator = nullptr);
/// N(mean, std^2). @throws ConfigError for a negative std, here and below.
const Tensor& normal_(const Tensor& x, double mean = 0, double std = 1, Generator* generator = nullptr);
/// N(mean, std^2) cut off outside [low, high]: the inverse of its distribution function at uniform numbers.
/// @throws ConfigError unless low < high.
const Tensor& trunc_normal_(const Tensor& x, double mean = 0, double std = 1, double low = -2, double high = 2,
                            Generator* generator = nullptr);
const Tensor& constant_(const Tensor& x, double value);
const Tensor& zeros_(const Tensor& x);
const Tensor& ones_(const Tensor& x);

/// U(-a, a) with a = gain sqrt(6 / (in + out)). Glorot and Bengio, AISTATS 2010.
const Tensor& xavier_uniform_(const Tensor& weight, double gain = 1, Generator* generator = nullptr);
/// N(0, gain^2 2 / (in + out)).
const Tensor& xavier_normal_(const Tensor& weight, double gain = 1, Generator* generator = nullptr);

enum class FanMode : std::uint8_t { in, out };

struct KaimingOptions {
  double negative_slope = 0;   ///< of the leaky ReLU that follows
  FanMode mode = FanMode::in;  ///< keep the variance on the way forward, or on the way back
  Nonlinearity nonlinearity = Nonlinearity::leaky_relu;
};

/// U(-a, a) with a = gain sqrt(3 / fan). He et al., arXiv 1502.01852.
const Tensor& kaiming_uniform_(const Tensor& weight, const KaimingOptions& options = {},
                               Generator* generator = nullptr);
/// N(0, gain^2 / fan).
const Tensor& kaiming_normal_(const Tensor& weight, const KaimingOptions& options = {}, Generator* generator = nullptr);

/// `gain` times a matrix with orthonormal rows or columns, whichever are fewer, all equally likely; dims behind the
/// first are seen as one. Saxe et al., arXiv 1312.6120. @throws ShapeError for fewer than two dims.
const Tensor& orthogonal_(const Tensor& weight, double gain = 1, Generator* generator = nullptr);

}  // namespace trinix::nn::init
