#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <trinix/core/small_vector.h>
#include <trinix/core/tensor.h>

/// @file
/// The graph: one Node per recorded op, one LeafNode per tensor that collects a gradient.

namespace trinix {

class BackwardContext;
class Node;

class LeafNode;

/// Where the gradient of one input of an op goes: output `index` of the node that produced it. A null node means that
/// the input needs no gradient.
struct Edge {
  std::shared_ptr<Node> node;
  int index = 0;
};
using Edges = detail::SmallVector<Edge, 3>;

/// A tensor kept for the backward, without its history (so that no cycle of ownership arises), and the version that
/// its storage had then.
class SavedTensor {
 public:
  explicit SavedTensor(const Tensor& tensor);
  /// @throws AutogradError naming `op` and the op that wrote since.
  [[nodiscard]] const Tensor& unpack(const char* op) const;

 private:
  Tensor tensor_;
  std::uint32_t version_ = 0;
};

/// Hooks on one tensor, called in the order of their registration.
using Hooks = std::vector<std::pair<int, std::function<Tensor(const Tensor&)>>>;

/// What the engine knows of one output of a node.
struct NodeOutput {
  Shape shape;
  DType dtype = DType::f32;
  Device device;
  Hooks hooks;
  /// Receives the gradient of a non-leaf on which retain_grad() was called.
  std::weak_ptr<AutogradRecord> keeper;
};

/// One recorded op.
class Node {
 public:
  explicit Node(const char* op);
  /// Frees a graph of any depth without recursion.
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Reads gradients of outputs from the context and gives gradients of inputs to it.
  virtual void backward(BackwardContext& context) = 0;
  /// Drops what was saved, and hooks; afterwards a backward through this node is an error. Hooks go too because one
  /// that holds its own tensor would keep itself alive.
  virtual void release();
  /// This node as a LeafNode, or null.
  [[nodiscard]] virtual LeafNode* as_leaf() { return nullptr; }
  /// Whether the backward runs ops of which anomaly mode should name the first that fails, not this node.
  [[nodiscard]] virtual bool is_composite() const { return false; }

  [[nodiscard]] const char* op() const { return op_; }
  /// Later ops have larger numbers, so an op's inputs always have smaller ones.
  [[nodiscard]] std::uint64_t sequence() const { return sequence_; }
  [[nodiscard]] bool released() const { return released_; }

  Edges edges;
  std::vector<SavedTensor> saved;
  detail::SmallVector<NodeOutput, 1> outputs;

 private:
  const char* op_;
  std::uint64_t sequence_;
  bool released_ = false;
};

/// All nodes made from now on have at least this number.
[[nodiscard]] std::uint64_t next_node_sequence();

/// Collects the gradient of a leaf in one buffer that stays at its address: zero_grad() only marks it as stale, and the
/// next gradient overwrites it instead of being added.
class LeafNode : public Node {
 public:
  explicit LeafNode(const Tensor& leaf);
  void backward(BackwardContext& context) override;
  void release() override {}
  [[nodiscard]] LeafNode* as_leaf() override { return this; }

  /// The gradient: undefined before the first, zeros after zero_grad().
  [[nodiscard]] Tensor grad();
  /// Address of a gradient that is there and not stale, otherwise null. Takes no lock: not during a backward.
  [[nodiscard]] const void* fresh_grad() const { return stale_ || !grad_.defined() ? nullptr : grad_.raw_data(); }
  /// Copies the values to the buffer; undefined drops the buffer.
  void set_grad(const Tensor& grad);
  void zero_grad();
  /// Adds, after making the buffer if need be.
  void accumulate(const Tensor& gradient);
  /// The buffer to write to and whether to add to what is there. Call with `mutex` held. @throws CaptureError in a
  /// captured step that has not cleared the gradient: whether it adds would then depend on what ran before it.
  std::pair<Tensor, bool> open();
  /// Notes what the tensor is now: the user may have given it other data.
  void describe(const Tensor& leaf);
  /// The leaf's memory; empty when it is gone.
  [[nodiscard]] std::shared_ptr<Storage> storage() const { return storage_.lock(); }

  std::recursive_mutex mutex;

 private:
  Tensor grad_;
  bool stale_ = true;
  std::uint64_t cleared_in_ = 0;  // id of the capture in which zero_grad() was called last
  std::weak_ptr<Storage> storage_;
};

/// A recorded op whose backward is a callable.
template <class F>
class OpNode final : public Node {
 public:
  template <class G>
  OpNode(const char* op, G&& backward) : Node(op), backward_(std::forward<G>(backward)) {}
  void backward(BackwardContext& context) override { backward_(context); }

 private:
  F backward_;
};

}  // namespace trinix
