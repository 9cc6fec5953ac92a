// The members of Tensor that concern gradients. They are declared in core/tensor.h because users expect them there;
// core itself calls none of them but set_grad().
#include <atomic>
#include <utility>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

LeafNode* leaf_of(const Tensor& t) {
  const auto& record = t.autograd();
  return record != nullptr && record->leaf ? static_cast<LeafNode*>(record->node.get()) : nullptr;
}

NodeOutput& output_of(const Tensor& t, const char* op) {
  const auto& record = t.autograd();
  if (record == nullptr) fail<AutogradError>(op, "the tensor does not require grad");
  return record->node->outputs[static_cast<std::size_t>(record->index)];
}

}  // namespace

bool Tensor::requires_grad() const { return autograd() != nullptr; }

bool Tensor::is_leaf() const { return autograd() == nullptr || autograd()->leaf; }

Tensor& Tensor::requires_grad_(bool value) {
  if (!is_leaf()) {
    if (value) return *this;
    fail<AutogradError>("requires_grad_", "only a leaf can stop requiring grad; use detach() on a computed tensor");
  }
  if (!value) {
    set_autograd(nullptr);
  } else if (autograd() == nullptr) {
    if (!is_floating(dtype())) {
      fail<DtypeError>("requires_grad_", "a tensor of {} cannot require grad: only floating-point tensors can",
                       dtype());
    }
    auto record = std::make_shared<AutogradRecord>();
    record->node = std::make_shared<LeafNode>(*this);
    record->leaf = true;
    set_autograd(std::move(record));
  }
  return *this;
}

Tensor Tensor::grad() const {
  if (autograd() == nullptr) return {};
  LeafNode* leaf = leaf_of(*this);
  return leaf != nullptr ? leaf->grad() : autograd()->retained;
}

void Tensor::set_grad(const Tensor& grad) const {
  LeafNode* leaf = leaf_of(*this);
  if (leaf == nullptr) fail<AutogradError>("set_grad", "only a leaf that requires grad has a gradient to set");
  if (grad.defined()) {
    if (grad.shape() != shape()) {
      fail<ShapeError>("set_grad", "the gradient has shape {}, the tensor {}", grad.shape(), shape());
    }
    if (grad.dtype() != dtype()) {
      fail<DtypeError>("set_grad", "the gradient is {}, the tensor {}", grad.dtype(), dtype());
    }
    if (grad.device() != device()) {
      fail<DeviceError>("set_grad", "the gradient is on {}, the tensor on {}", grad.device(), device());
    }
  }
  leaf->describe(*this);  // set_data() calls this too
  leaf->set_grad(grad);
}

void Tensor::zero_grad() const {
  if (LeafNode* leaf = leaf_of(*this)) leaf->zero_grad();
}

Tensor Tensor::detach() const { return Tensor(storage(), dtype(), shape(), strides(), offset()); }

void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  trinix::backward(std::span(this, 1), std::span(&gradient, 1), {.retain_graph = retain_graph});
}

void Tensor::retain_grad() const {
  NodeOutput& output = output_of(*this, "retain_grad");
  if (!is_leaf()) output.keeper = autograd();
}

int Tensor::register_hook(std::function<Tensor(const Tensor&)> hook) const {
  static std::atomic<int> next{1};
  const int id = next.fetch_add(1);
  output_of(*this, "register_hook").hooks.emplace_back(id, std::move(hook));
  return id;
}

void Tensor::remove_hook(int id) const {
  std::erase_if(output_of(*this, "remove_hook").hooks, [&](const auto& entry) { return entry.first == id; });
}

}  // namespace trinix
