#include <algorithm>

#include <trinix/autograd/autocast.h>
#include <trinix/autograd/ops/precision.h>

namespace trinix {

namespace {

bool is_half(const Tensor& t) { return t.defined() && size_of(t.dtype()) == 2; }

/// Whether a cast to `low` changes it.
bool becomes(const Tensor& t, DType low) {
  return t.defined() && t.dtype() != low && (t.dtype() == DType::f32 || is_half(t));
}

}  // namespace

bool lowers(TensorList operands) {
  const std::optional<DType> low = Autocast::current();
  return low && std::any_of(operands.begin(), operands.end(), [&](const Tensor& t) { return becomes(t, *low); });
}

Tensor lowered(const Tensor& operand) {
  const std::optional<DType> low = Autocast::current();
  if (!low || !becomes(operand, *low)) return operand;
  return operand.requires_grad() && operand.is_leaf() ? Autocast::cast_leaf(operand) : operand.to(*low);
}

bool widens(TensorList operands) {
  return Autocast::current() && std::any_of(operands.begin(), operands.end(), is_half);
}

Tensor widened(const Tensor& operand) { return is_half(operand) ? operand.to(DType::f32) : operand; }

}  // namespace trinix
