#include <algorithm>

#include <trinix/autograd/backward_context.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>

namespace trinix {

using detail::fail;

const Tensor& BackwardContext::grad(int i) {
  Tensor& gradient = gradients_[static_cast<std::size_t>(i)];
  if (!gradient.defined()) {
    const NodeOutput& output = node_.outputs[static_cast<std::size_t>(i)];
    gradient = zeros(output.shape, {output.dtype, output.device});
  }
  return gradient;
}

bool BackwardContext::may_overwrite_grad(int i) const {
  const Tensor& gradient = gradients_[static_cast<std::size_t>(i)];
  return gradient.defined() && gradient.is_sole_owner() && gradient.is_contiguous();
}

void BackwardContext::give(int i, const Tensor& gradient) {
  if (!needs(i)) return;
  const Edge& edge = node_.edges[static_cast<std::size_t>(i)];
  const NodeOutput& input = edge.node->outputs[static_cast<std::size_t>(edge.index)];
  if (gradient.shape() != input.shape || gradient.dtype() != input.dtype || gradient.device() != input.device) {
    fail<AutogradError>(node_.op(),
                        "the backward of '{}' gave a gradient of shape {}, {}, {} for input {} of shape {}, "
                        "{}, {}",
                        node_.op(), gradient.shape(), gradient.dtype(), gradient.device(), i, input.shape, input.dtype,
                        input.device);
  }
  given_[static_cast<std::size_t>(i)] = gradient;
}

GradTarget BackwardContext::target(int i) {
  const Edge& edge = node_.edges[static_cast<std::size_t>(i)];
  if (wanted(i) == GradWanted::in_leaf) {
    LeafNode* leaf = edge.node->as_leaf();
    // One leaf may be several inputs, and one kernel may fill all their gradients: only the first goes to the buffer.
    const bool first = std::find(handed_out_.begin(), handed_out_.end(), leaf) == handed_out_.end();
    // A leaf that another thread is writing to is not waited for, which excludes deadlock: its gradient goes through
    // a temporary instead.
    std::unique_lock lock(leaf->mutex, std::defer_lock);
    if (first && lock.try_lock()) {
      handed_out_.push_back(leaf);
      const auto [buffer, add] = leaf->open();
      return {buffer, add, std::move(lock)};
    }
  }
  const NodeOutput& input = edge.node->outputs[static_cast<std::size_t>(edge.index)];
  GradTarget target{empty(input.shape, {input.dtype, input.device}), false, {}};
  given_[static_cast<std::size_t>(i)] = target.out;
  return target;
}

}  // namespace trinix
