#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include <trinix/autograd/node.h>

/// @file
/// What a backward function is given to work with.

namespace trinix {

/// A place for the gradient of one input, to be filled by a kernel.
struct GradTarget {
  Tensor out;                                   ///< shape and dtype of the input, row-major
  bool accumulate = false;                      ///< add to what is there instead of overwriting
  std::unique_lock<std::recursive_mutex> lock;  ///< on the leaf whose buffer this is
};

/// One call of one node's backward. Recording is off while it lasts.
class BackwardContext {
 public:
  BackwardContext(Node& node, std::vector<Tensor> gradients, std::vector<bool> needed, bool into_leaves)
      : node_(node),
        gradients_(std::move(gradients)),
        needed_(std::move(needed)),
        into_leaves_(into_leaves),
        given_(node.edges.size()) {}

  /// Gradient of the loss with respect to output `i`, of its shape and dtype; zeros when none arrived.
  [[nodiscard]] const Tensor& grad(int i = 0);
  /// Whether a gradient arrived at output `i`.
  [[nodiscard]] bool has_grad(int i) const { return gradients_[static_cast<std::size_t>(i)].defined(); }
  /// Whether the gradient of input `i` is wanted; computing it otherwise is wasted work.
  [[nodiscard]] bool needs(int i) const { return needed_[static_cast<std::size_t>(i)]; }
  /// The i-th saved tensor. @throws AutogradError when it was changed in place since.
  [[nodiscard]] const Tensor& saved(int i) const { return node_.saved[static_cast<std::size_t>(i)].unpack(node_.op()); }

  /// Hands over the gradient of input `i`. Does nothing when it is not wanted.
  void give(int i, const Tensor& gradient);
  /// Where a kernel shall put the gradient of input `i`: the leaf's own buffer when that is possible, which saves a
  /// temporary and a pass over it. The gradient counts as given. Call only when needs(i).
  [[nodiscard]] GradTarget target(int i);

  /// For the engine.
  [[nodiscard]] std::vector<Tensor>& given() { return given_; }

 private:
  Node& node_;
  std::vector<Tensor> gradients_;
  std::vector<bool> needed_;
  bool into_leaves_;
  std::vector<Tensor> given_;
};

}  // namespace trinix
