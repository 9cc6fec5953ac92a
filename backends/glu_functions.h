#pragma once

#include <trinix/backends/activation_functions.h>
#include <trinix/core/ops/glu.h>

/// @file
/// From a Glu at run time to the struct of its activation in activation_functions.h, whose both() gives value and
/// slope.

namespace trinix::fn {

template <class M, class F>
constexpr void visit_gate(Glu kind, F&& f) {
  switch (kind) {
    case Glu::swiglu:
      return f.template operator()<Silu<M>>();
    case Glu::geglu_erf:
      return f.template operator()<GeluErf<M>>();
    case Glu::geglu_tanh:
      return f.template operator()<GeluTanh<M>>();
    case Glu::reglu:
      return f.template operator()<Relu>();
  }
}

}  // namespace trinix::fn
