#pragma once

#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include <trinix/autograd/backward_context.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/node.h>

/// @file
/// How a differentiable function notes what its backward needs. Everything in autograd/ops ends in one of these calls:
/// @code
/// Tensor exp(const Tensor& x) {
///   const Tensor y = empty_like(x);
///   run<Unary>({.fn = UnaryFn::exp, .x = x.raw(), .y = y.raw()}, x.device());
///   return record("exp", y, {x}, {y}, [](BackwardContext& ctx) { ctx.give(0, ctx.grad() * ctx.saved(0)); });
/// }
/// @endcode

namespace trinix {

/// What a tensor carries when gradients concern it.
struct AutogradRecord {
  std::shared_ptr<Node> node;  ///< the LeafNode of a leaf, else the op that computed the tensor
  int index = 0;               ///< which output of that op
  bool leaf = false;
  Tensor retained;  ///< gradient kept by retain_grad()
};

/// Tensors passed to a call: a braced list, or a vector where their number is only known at run time. Refers to the
/// caller's tensors, so it must not outlive the call; no handle is copied for it.
class TensorList {
 public:
  /// One tensor of a braced list.
  struct Item {
    Item(const Tensor& t) : tensor(&t) {}
    const Tensor* tensor;
  };
  /// Walks over either form.
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = Tensor;
    using difference_type = std::ptrdiff_t;
    using pointer = const Tensor*;
    using reference = const Tensor&;

    Iterator() = default;
    Iterator(const Item* items, const Tensor* tensors) : items_(items), tensors_(tensors) {}
    reference operator*() const { return items_ != nullptr ? *items_->tensor : *tensors_; }
    pointer operator->() const { return &**this; }
    Iterator& operator++() {
      items_ != nullptr ? static_cast<void>(++items_) : static_cast<void>(++tensors_);
      return *this;
    }
    Iterator operator++(int) {
      const Iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Item* items_ = nullptr;
    const Tensor* tensors_ = nullptr;
  };

  TensorList() = default;
  TensorList(std::initializer_list<Item> list) : items_(std::data(list)), size_(list.size()) {}
  TensorList(const std::vector<Tensor>& list) : tensors_(list.data()), size_(list.size()) {}

  [[nodiscard]] Iterator begin() const { return {items_, tensors_}; }
  [[nodiscard]] Iterator end() const {
    return {items_ == nullptr ? nullptr : items_ + size_, tensors_ == nullptr ? nullptr : tensors_ + size_};
  }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  const Item* items_ = nullptr;
  const Tensor* tensors_ = nullptr;
  std::size_t size_ = 0;
};

/// Whether an op on these inputs must be recorded: recording is on and at least one of them requires grad.
[[nodiscard]] bool needs_grad(TensorList inputs);

namespace detail {
/// Edges to the inputs; checks that no input is a view outdated by a write to its base.
void add_edges(const char* op, TensorList inputs, Edges& edges);
void attach(const std::shared_ptr<Node>& node, const Tensor& output, int index);
void check_finite(const char* op, const char* phase, const Tensor& value);
/// Refuses in-place writes that autograd cannot follow.
void check_in_place(const char* op, const Tensor& target, bool recorded);

template <class F>
std::shared_ptr<Node> make_node(const char* op, TensorList inputs, TensorList saved, F&& backward) {
  auto node = std::make_shared<OpNode<std::decay_t<F>>>(op, std::forward<F>(backward));
  add_edges(op, inputs, node->edges);
  node->saved.reserve(saved.size());
  for (const Tensor& t : saved) node->saved.emplace_back(t);
  return node;
}
}  // namespace detail

/// Attaches the backward to `output` when one of `inputs` requires grad and recording is on; returns `output`.
/// `saved` may hold inputs, outputs, other tensors and undefined ones; ctx.saved(i) gives them back in this order.
/// `backward` must not capture tensors that require grad, nor the output.
template <class F>
Tensor record(const char* op, Tensor output, TensorList inputs, TensorList saved, F&& backward) {
  if (AnomalyMode::enabled()) detail::check_finite(op, "forward", output);
  if (needs_grad(inputs)) {
    detail::attach(detail::make_node(op, inputs, saved, std::forward<F>(backward)), output, 0);
  }
  return output;
}

/// The same for an op with several outputs; integer outputs (indices) are passed over.
template <class F>
void record_all(const char* op, TensorList outputs, TensorList inputs, TensorList saved, F&& backward) {
  if (AnomalyMode::enabled()) {
    for (const Tensor& t : outputs) detail::check_finite(op, "forward", t);
  }
  if (!needs_grad(inputs)) return;
  const auto node = detail::make_node(op, inputs, saved, std::forward<F>(backward));
  int index = 0;
  for (const Tensor& t : outputs) detail::attach(node, t, index++);
}

/// An op without a backward: refuses an input that requires grad instead of cutting the gradient off in silence.
/// @throws AutogradError naming the op.
void record_no_backward(const char* op, TensorList inputs);

/// For an op that writes `target` in place. `write` does it; `inputs` lists `target` first when its old values matter
/// to the result. Counts the write, and makes `target` the output of the recorded op.
/// @throws AutogradError for a leaf that requires grad and for views, where gradients would be lost; nothing is written
///   then.
template <class Write, class F>
void record_in_place(const char* op, const Tensor& target, TensorList inputs, TensorList saved, Write&& write,
                     F&& backward) {
  const bool recorded = needs_grad(inputs) || needs_grad({target});
  detail::check_in_place(op, target, recorded);
  std::shared_ptr<Node> node;
  if (recorded) node = detail::make_node(op, inputs, saved, std::forward<F>(backward));
  write();
  target.storage()->mark_written(op);
  if (AnomalyMode::enabled()) detail::check_finite(op, "forward", target);
  if (recorded) detail::attach(node, target, 0);
}

}  // namespace trinix
