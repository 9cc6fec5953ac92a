#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <trinix/core/half.h>
#include <trinix/core/ops/update.h>

/// @file
/// The arithmetic of core/ops/update.h for one element, on every device.

namespace trinix {

namespace internal {

// On the card, where multiplication and addition are joined is written out: left to the compiler it differs between
// vectors and single elements, and so would the bits. On the CPU it is left to the compiler, which knows whether there
// is an instruction for it.
template <class C>
TRINIX_HOST_DEVICE inline C multiply_add(C a, C b, C c) {
#if defined(__CUDA_ARCH__)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class C>
TRINIX_HOST_DEVICE inline C product(C a, C b) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<C, float>) {
    return __fmul_rn(a, b);
  } else {
    return __dmul_rn(a, b);
  }
#else
  return a * b;
#endif
}

template <class C>
TRINIX_HOST_DEVICE inline C square_root(C x) {
#if defined(__CUDA_ARCH__)
  return sqrt(x);
#else
  return std::sqrt(x);
#endif
}

}  // namespace internal

/// UpdateFactors in the type of the arithmetic, with the factor and the bound of the gradient.
template <class C>
struct UpdateNumbers {
  C decay, l2, scale, bound, step_size, root_scale, eps, beta1, gain1, beta2, gain2, of_grad, of_mean;

  TRINIX_HOST_DEVICE UpdateNumbers(const UpdateFactors& f, double factor, double clip_value)
      : decay(static_cast<C>(f.decay)),
        l2(static_cast<C>(f.l2)),
        scale(static_cast<C>(f.sign * factor)),
        bound(static_cast<C>(clip_value)),
        step_size(static_cast<C>(f.step_size)),
        root_scale(static_cast<C>(f.root_scale)),
        eps(static_cast<C>(f.eps)),
        beta1(static_cast<C>(f.beta1)),
        gain1(static_cast<C>(f.gain1)),
        beta2(static_cast<C>(f.beta2)),
        gain2(static_cast<C>(f.gain2)),
        of_grad(static_cast<C>(f.of_grad)),
        of_mean(static_cast<C>(f.of_mean)) {}

  /// A gradient scaled and bounded; NaN stays NaN.
  TRINIX_HOST_DEVICE C bounded(C raw) const {
    const C g = internal::product(raw, scale);
    const C below = g > bound ? bound : g;
    return below < -bound ? -bound : below;
  }
};

/// The parameter after the update; advances states[0 .. states_of(kKind)).
template <UpdateKind kKind, class C>
TRINIX_HOST_DEVICE inline C updated(const UpdateNumbers<C>& n, C param, C raw_grad, C* states) {
  using internal::multiply_add;
  using internal::product;
  const C g = multiply_add(n.l2, param, n.bounded(raw_grad));
  if constexpr (kKind == UpdateKind::adam || kKind == UpdateKind::amsgrad) {
    const C mean = multiply_add(n.gain1, g - states[0], states[0]);
    const C square = multiply_add(product(n.gain2, g), g, product(n.beta2, states[1]));
    states[0] = mean;
    states[1] = square;
    C under_root = square;
    if constexpr (kKind == UpdateKind::amsgrad) {
      under_root = states[2] > square ? states[2] : square;
      states[2] = under_root;
    }
    const C denominator = multiply_add(internal::square_root(under_root), n.root_scale, n.eps);
    return multiply_add(param, n.decay, -(product(n.step_size, mean) / denominator));
  } else if constexpr (kKind == UpdateKind::lion) {
    const C direction = multiply_add(n.beta1, states[0], product(n.gain1, g));
    states[0] = multiply_add(n.beta2, states[0], product(n.gain2, g));
    const C change = direction > 0 ? n.step_size : (direction < 0 ? -n.step_size : product(direction, n.step_size));
    return multiply_add(param, n.decay, -change);  // a direction of 0 is no change, NaN stays NaN
  } else if constexpr (kKind == UpdateKind::momentum) {
    states[0] = multiply_add(n.beta1, states[0], product(n.gain1, g));
    const C direction = multiply_add(n.of_mean, states[0], product(n.of_grad, g));
    return multiply_add(param, n.decay, -product(n.step_size, direction));
  } else {
    return multiply_add(param, n.decay, -product(n.step_size, g));
  }
}

/// The bits of a bf16: `value` rounded up or down by 16 random bits, see UpdateItem.
TRINIX_HOST_DEVICE inline std::uint16_t stochastic_bf16(float value, std::uint32_t random) {
#if defined(__CUDA_ARCH__)
  const std::uint32_t bits = __float_as_uint(value);
#else
  const auto bits = std::bit_cast<std::uint32_t>(value);
#endif
  const bool finite = (bits & 0x7f800000U) != 0x7f800000U;
  const std::uint32_t special = (bits & 0x007fffffU) != 0 ? (bits >> 16) | 0x0040U : bits >> 16;  // a NaN stays one
  return static_cast<std::uint16_t>(finite ? (bits + (random & 0xffffU)) >> 16 : special);
}

}  // namespace trinix
