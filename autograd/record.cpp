#include <algorithm>
#include <cmath>
#include <utility>

#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {
/// Whether a recorded in-place op changed the base after the view was taken: the view's history is then another's.
bool is_outdated_view(const Tensor& t) {
  if (!t.is_view()) return false;
  const auto now = t.base().autograd();
  return now != nullptr && !now->leaf && now != t.base_record();
}
}  // namespace

bool needs_grad(TensorList inputs) {
  if (!grad_enabled()) return false;
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const Tensor& t) { return t.defined() && (t.autograd() != nullptr || is_outdated_view(t)); });
}

void record_no_backward(const char* op, TensorList inputs) {
  if (!needs_grad(inputs)) return;
  fail<AutogradError>(op,
                      "an input requires grad, but '{}' has no backward; detach() the input or use NoGrad if its "
                      "gradient is not wanted",
                      op);
}

namespace detail {

void add_edges(const char* op, TensorList inputs, Edges& edges) {
  for (const Tensor& t : inputs) {
    Edge& edge = edges.add();
    if (!t.defined()) continue;
    const AutogradRecord* const record = t.autograd().get();
    if (is_outdated_view(t)) {
      fail<AutogradError>(op,
                          "input {} is a view whose base was changed in place by '{}' after the view was taken, so "
                          "its gradient would be wrong; take the view again",
                          edges.size() - 1, t.storage()->last_writer());
    }
    if (record == nullptr) continue;
    edge.node = record->node;
    edge.index = record->index;
  }
}

void attach(const std::shared_ptr<Node>& node, const Tensor& output, int index) {
  NodeOutput& made = node->outputs.add();
  made.shape = output.shape();
  made.dtype = output.dtype();
  made.device = output.device();
  if (!is_floating(output.dtype())) return;
  auto record = std::make_shared<AutogradRecord>();
  record->node = node;
  record->index = index;
  output.set_autograd(std::move(record));
}

void check_finite(const char* op, const char* phase, const Tensor& value) {
  if (!value.defined() || !is_floating(value.dtype())) return;
  const std::vector<double> values = value.to_doubles();
  const auto bad = std::find_if(values.begin(), values.end(), [](double v) { return !std::isfinite(v); });
  if (bad == values.end()) return;
  const char* kind = std::isnan(*bad) ? "NaN" : (*bad > 0 ? "inf" : "-inf");
  fail<AutogradError>(op, "anomaly: the {} of '{}' made {} at element {} of a tensor of shape {}", phase, op, kind,
                      bad - values.begin(), value.shape());
}

void check_in_place(const char* op, const Tensor& target, bool recorded) {
  for (int d = 0; d < target.rank(); ++d) {
    if (target.shape()[d] > 1 && target.strides()[d] == 0) {
      fail<ShapeError>(op,
                       "a tensor of shape {} with strides {} cannot be written in place: several of its elements are "
                       "one in memory; write to a clone()",
                       target.shape(), target.strides());
    }
  }
  if (!grad_enabled()) return;
  if (target.is_view() && target.autograd() == nullptr && target.base().autograd() != nullptr) {
    fail<AutogradError>(op,
                        "the target is a view that was taken under NoGrad of a tensor that requires grad; writing to "
                        "it now would change that tensor without a trace in its gradient: write under NoGrad too, or "
                        "take the view again");
  }
  if (!recorded) return;
  const auto& record = target.autograd();
  if (record != nullptr && record->leaf) {
    fail<AutogradError>(op,
                        "a leaf that requires grad cannot be changed in place while gradients are recorded; use "
                        "NoGrad if that is what you want");
  }
  if (target.is_view()) {
    fail<AutogradError>(op,
                        "writing in place to a view would cut off the gradient of its base; compute the new value "
                        "without writing in place, for example with cat() or where()");
  }
  if (!is_floating(target.dtype())) {
    fail<DtypeError>(op, "gradients cannot flow into a tensor of {}", target.dtype());
  }
}

}  // namespace detail
}  // namespace trinix
