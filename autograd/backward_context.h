#pragma once

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include <trinix/autograd/node.h>

/// @file
/// What a backward function is given to work with.

namespace trinix {

/// What the engine wants of the gradient of one input.
enum class GradWanted : std::uint8_t {
  no,
  yes,
  in_leaf  ///< the input is a leaf, and its gradient may be added straight to the leaf's buffer
};

/// A place for the gradient of one input, to be filled by a kernel.
struct GradTarget {
  Tensor out;                                   ///< shape and dtype of the input, row-major
  bool accumulate = false;                      ///< add to what is there instead of overwriting
  std::unique_lock<std::recursive_mutex> lock;  ///< on the leaf whose buffer this is
};

/// One call of one node's backward. Recording is off while it lasts.
class BackwardContext {
 public:
  BackwardContext(Node& node, std::vector<Tensor> gradients, std::vector<GradWanted> wanted, bool last)
      : node_(node),
        gradients_(std::move(gradients)),
        wanted_(std::move(wanted)),
        given_(node.edges.size()),
        last_(last) {}

  /// Gradient of the loss with respect to output `i`, of its shape and dtype; zeros when none arrived.
  [[nodiscard]] const Tensor& grad(int i = 0);
  /// Whether a gradient arrived at output `i`.
  [[nodiscard]] bool has_grad(int i) const { return gradients_[static_cast<std::size_t>(i)].defined(); }
  /// Whether the gradient that arrived at output `i` lies row-major in memory that nobody else holds. The backward may
  /// then write over it, for example to hand it on as the gradient of an input.
  [[nodiscard]] bool may_overwrite_grad(int i = 0) const;
  /// Whether the gradient of input `i` is wanted; computing it otherwise is wasted work.
  [[nodiscard]] bool needs(int i) const { return wanted(i) != GradWanted::no; }
  [[nodiscard]] GradWanted wanted(int i) const { return wanted_[static_cast<std::size_t>(i)]; }
  /// The i-th saved tensor. @throws AutogradError when it was changed in place since.
  [[nodiscard]] const Tensor& saved(int i) const { return node_.saved[static_cast<std::size_t>(i)].unpack(node_.op()); }

  /// Whether no other backward can come through this node: what only the node has saved may then be overwritten.
  [[nodiscard]] bool is_last() const { return last_; }

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
  std::vector<GradWanted> wanted_;
  std::vector<Tensor> given_;
  bool last_;
  std::vector<const LeafNode*> handed_out_;  ///< leaves whose buffer the kernel of this call fills
};

}  // namespace trinix
