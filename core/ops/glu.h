#pragma once

#include <cstdint>

#include <trinix/core/kernel.h>
#include <trinix/core/view.h>

/// @file
/// Gated linear units (Dauphin et al., arXiv 1612.08083; the variants of Shazeer, arXiv 2002.05202), behind the
/// projections.

namespace trinix {

/// Names the activation of the gate; formulas at UnaryFn (core/ops/elementwise.h).
enum class Glu : std::uint8_t {
  swiglu,      ///< silu
  geglu_erf,   ///< gelu, exact
  geglu_tanh,  ///< gelu, tanh form
  reglu,       ///< relu
};

/// y = act(gate) * value; dgate = dy * value * act'(gate), dvalue = dy * act(gate). One shape, one floating-point
/// dtype, any strides: gate and value may be the halves of one packed tensor, as may dgate and dvalue. The backward
/// computes the activation again, so nothing is saved but the inputs.
struct GatedUnit {
  static constexpr const char* kName = "glu";
  static constexpr bool kHasReference = true;
  struct Forward {
    Glu kind;
    View gate;
    View value;
    View y;
  };
  struct Backward {
    Glu kind;
    View gate;
    View value;
    View dy;
    View dgate;  ///< undefined where it is not wanted, as the next; not both are
    View dvalue;
  };
};

}  // namespace trinix
