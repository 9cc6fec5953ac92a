#include <atomic>

#include <trinix/autograd/node.h>
#include <trinix/autograd/record.h>
#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>

namespace trinix {

namespace {

std::atomic<std::uint64_t> sequence_counter{1};

/// Nodes whose last owner is being destroyed on this thread.
thread_local std::vector<std::shared_ptr<Node>>* doomed = nullptr;

}  // namespace

SavedTensor::SavedTensor(const Tensor& tensor) {
  if (!tensor.defined()) return;
  version_ = tensor.storage()->version();
  tensor_ = Tensor(tensor.storage(), tensor.dtype(), tensor.shape(), tensor.strides(), tensor.offset());
}

const Tensor& SavedTensor::unpack(const char* op) const {
  if (tensor_.defined() && tensor_.storage()->version() != version_) {
    detail::fail<AutogradError>(
        "backward",
        "a tensor of shape {} saved by '{}' for its backward was changed in place by '{}' since; use the "
        "form that is not in place, or clone() first",
        tensor_.shape(), op, tensor_.storage()->last_writer());
  }
  return tensor_;
}

std::uint64_t next_node_sequence() { return sequence_counter.load(std::memory_order_relaxed); }

Node::Node(const char* op) : op_(op), sequence_(sequence_counter.fetch_add(1, std::memory_order_relaxed)) {}

Node::~Node() {
  // Dropping the last edge to a node destroys that node, and so on: a long graph would overflow the stack. The
  // outermost destructor collects what the inner ones let go of and frees it in a loop.
  std::vector<std::shared_ptr<Node>> local;
  const bool outermost = doomed == nullptr;
  if (outermost) doomed = &local;
  for (Edge& edge : edges) {
    // One that others hold, such as a parameter's, need not be collected.
    if (edge.node.use_count() == 1) doomed->push_back(std::move(edge.node));
    edge.node.reset();
  }
  if (!outermost) return;
  while (!local.empty()) {
    const std::shared_ptr<Node> last = std::move(local.back());
    local.pop_back();
  }
  doomed = nullptr;
}

void Node::release() {
  saved.clear();
  for (NodeOutput& output : outputs) output.hooks.clear();
  released_ = true;
}

LeafNode::LeafNode(const Tensor& leaf) : Node("leaf") {
  outputs.push_back({});
  describe(leaf);
}

void LeafNode::describe(const Tensor& leaf) {
  NodeOutput& output = outputs[0];
  output.shape = leaf.shape();
  output.dtype = leaf.dtype();
  output.device = leaf.device();
  storage_ = leaf.storage();
}

void LeafNode::backward(BackwardContext& context) { accumulate(context.grad()); }

Tensor LeafNode::grad() {
  const std::lock_guard lock(mutex);
  if (grad_.defined() && stale_) {
    const std::size_t bytes = static_cast<std::size_t>(grad_.numel()) * size_of(grad_.dtype());
    if (bytes > 0) backend_of(grad_.device()).zero(grad_.raw_data(), bytes, stream_of(grad_.device()));
    stale_ = false;
  }
  return grad_;
}

void LeafNode::set_grad(const Tensor& grad) {
  const std::lock_guard lock(mutex);
  if (!grad.defined()) {
    grad_ = Tensor();
    stale_ = true;
    return;
  }
  // A copy, so that the buffer stays where it is and nobody else writes to it.
  const Tensor buffer = open().first;
  if (buffer.numel() > 0) run<Copy>({.from = grad.raw(), .to = buffer.raw()}, buffer.device());
}

void LeafNode::zero_grad() {
  const std::lock_guard lock(mutex);
  stale_ = true;
  if (const Capture* capture = Capture::current()) cleared_in_ = capture->id();
}

std::pair<Tensor, bool> LeafNode::open() {
  if (!grad_.defined()) {
    grad_ = empty(outputs[0].shape, {outputs[0].dtype, outputs[0].device});
    stale_ = true;
  }
  if (Capture* capture = Capture::current()) {
    if (capture->id() != cleared_in_) {
      detail::fail<CaptureError>("backward",
                                 "the captured step adds to the gradient of a leaf of shape {} that it has not "
                                 "cleared; call zero_grad() within the step, before the backward",
                                 outputs[0].shape);
    }
    capture->keep(grad_.storage());
  }
  return {grad_, !std::exchange(stale_, false)};
}

void LeafNode::accumulate(const Tensor& gradient) {
  const std::lock_guard lock(mutex);
  const auto [buffer, add] = open();
  if (buffer.numel() == 0) return;
  run<Copy>({.from = gradient.raw(), .to = buffer.raw(), .accumulate = add}, buffer.device());
}

}  // namespace trinix
