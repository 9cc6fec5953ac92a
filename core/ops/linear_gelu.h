#pragma once

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// LinearGelu: what lies between the input of a transformer's MLP and its second linear layer, there and back.

namespace trinix {

/// With z = x w^T + bias and gelu in the tanh form (Hendrycks and Gimpel, arXiv 1606.08415):
///
///     forward:   pre = z,  y = gelu(z)
///     backward:  dpre = (dout next) * gelu'(pre),  dbias = the sums of dpre's columns
///
/// The backward begins behind the linear layer that follows, so that a backend can make the product of that layer's
/// gradient, the derivative and the sums in one pass: x (M, K), w (N, K), y and pre and dpre (M, N), bias and dbias (N)
/// or undefined, next (P, N) the weight of the following layer, dout (M, P) the gradient of its result. All of one
/// dtype and row-major without gaps. Saved is pre; the products are summed in f32 or wider. Composed reference:
/// linear(gelu(linear(x, w, bias)), next).
struct LinearGelu {
  static constexpr const char* kName = "linear_gelu";
  static constexpr bool kHasReference = true;
  struct Forward {
    View x;
    View w;
    View bias;
    View pre;
    View y;
  };
  struct Backward {
    View dout;
    View next;
    View pre;
    View dpre;
    View dbias;  ///< undefined where there is no bias or its gradient is not wanted
    bool accumulate_dbias = false;
  };
};

}  // namespace trinix
