#include <unordered_map>
#include <utility>

#include <trinix/autograd/autocast.h>
#include <trinix/autograd/record.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

namespace {

thread_local Autocast* innermost = nullptr;

/// The cast of a leaf that several graphs share: a backward through one of them must not use it up.
class CastNode final : public Node {
 public:
  explicit CastNode(DType from) : Node("autocast"), from_(from) {}
  void backward(BackwardContext& context) override { context.give(0, context.grad().to(from_)); }
  void release() override {}

 private:
  DType from_;
};

Tensor recorded_cast(const Tensor& leaf, DType dtype) {
  const Tensor y = [&] {
    const NoGrad no_grad;
    return leaf.to(dtype);
  }();
  if (AnomalyMode::enabled()) detail::check_finite("autocast", "forward", y);
  if (!needs_grad({leaf})) return y;
  const auto node = std::make_shared<CastNode>(leaf.dtype());
  detail::add_edges("autocast", {leaf}, node->edges);
  detail::attach(node, y, 0);
  return y;
}

}  // namespace

/// What a scope has cast so far.
class Autocast::Casts {
 public:
  Tensor find(const Tensor& leaf, DType dtype) {
    Entry& entry = entries_[leaf.autograd().get()];
    const Moment now = moment(leaf);
    if (!entry.cast.defined() || entry.made != now) entry = {leaf, recorded_cast(leaf, dtype), now};
    return entry.cast;
  }

 private:
  /// What a cast depends on. One made in a captured step belongs to it: a replay makes it anew, and only there.
  struct Moment {
    const Storage* storage = nullptr;
    std::uint32_t version = 0;
    bool recorded = false;
    std::uint64_t capture = 0;

    friend bool operator==(const Moment&, const Moment&) = default;
  };
  struct Entry {
    Tensor leaf;  // keeps the key from being used for another
    Tensor cast;
    Moment made;
  };

  static Moment moment(const Tensor& leaf) {
    const Capture* const capture = Capture::current();
    return {leaf.storage().get(), leaf.storage()->version(), grad_enabled(), capture == nullptr ? 0 : capture->id()};
  }

  std::unordered_map<const AutogradRecord*, Entry> entries_;
};

Autocast::Autocast(DType dtype) : dtype_(dtype), casts_(std::make_unique<Casts>()) {
  if (dtype != DType::bf16 && dtype != DType::f16) {
    detail::fail<DtypeError>("autocast", "the low dtype must be bf16 or f16, not {}", dtype);
  }
  outer_ = std::exchange(innermost, this);
}

Autocast::~Autocast() { innermost = outer_; }

std::optional<DType> Autocast::current() {
  return innermost == nullptr ? std::nullopt : std::optional<DType>(innermost->dtype_);
}

Tensor Autocast::cast_leaf(const Tensor& leaf) { return innermost->casts_->find(leaf, innermost->dtype_); }

NoAutocast::NoAutocast() : outer_(std::exchange(innermost, nullptr)) {}
NoAutocast::~NoAutocast() { innermost = outer_; }

}  // namespace trinix
