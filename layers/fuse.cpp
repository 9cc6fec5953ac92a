#include <algorithm>
#include <optional>
#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/activation.h>
#include <trinix/layers/fuse.h>

namespace trinix::nn {

using detail::fail;

RMSNormActivation::RMSNormActivation(std::shared_ptr<RMSNorm> norm, Activation activation)
    : norm_(register_module("0", std::move(norm))), activation_(activation) {}

Tensor RMSNormActivation::forward(const Tensor& x) const { return norm_->norm_and_activate(x, activation_); }

namespace {

template <Activation kActivation>
bool is_activation(const Layer& layer) {
  return dynamic_cast<const ActivationLayer<kActivation>*>(&layer) != nullptr;
}

template <Activation... kAll>
std::optional<Activation> first_of(const Layer& layer) {
  std::optional<Activation> found;
  (void)((is_activation<kAll>(layer) && (found = kAll, true)) || ...);
  return found;
}

/// Which of the named activations a layer is.
std::optional<Activation> activation_of(const Layer& layer) {
  if (const auto* gelu = dynamic_cast<const GELU*>(&layer)) return gelu->activation();
  return first_of<Activation::relu, Activation::silu, Activation::sigmoid, Activation::tanh, Activation::softplus,
                  Activation::quick_gelu, Activation::squared_relu, Activation::mish>(layer);
}

std::shared_ptr<Layer> norm_and_activation(Chain chain) {
  const auto norm = std::dynamic_pointer_cast<RMSNorm>(chain[0]);
  const auto activation = activation_of(*chain[1]);
  if (norm == nullptr || !activation) return nullptr;
  return std::make_shared<RMSNormActivation>(norm, *activation);
}

template <class Norm>
std::shared_ptr<Layer> skip_and_norm(Chain chain) {
  const auto skip = std::dynamic_pointer_cast<SkipConnection>(chain[0]);
  const auto norm = std::dynamic_pointer_cast<Norm>(chain[1]);
  if (skip == nullptr || norm == nullptr) return nullptr;
  return std::make_shared<NormedSkipConnection<Norm>>(skip, norm);
}

}  // namespace

Fuser::Fuser() {
  patterns_.push_back({"RMSNorm + activation", 2, norm_and_activation});
  patterns_.push_back({"SkipConnection + LayerNorm", 2, skip_and_norm<LayerNorm>});
  patterns_.push_back({"SkipConnection + RMSNorm", 2, skip_and_norm<RMSNorm>});
}

void Fuser::add(FusePattern pattern) {
  if (pattern.name.empty() || pattern.length < 1 || pattern.make == nullptr) {
    fail<ConfigError>("fuse", "a pattern needs a name (now '{}'), a length (now {}) and a function", pattern.name,
                      pattern.length);
  }
  patterns_.insert(patterns_.begin(), std::move(pattern));
}

FuseResult Fuser::fuse(Chain chain) const {
  if (chain.empty()) fail<ConfigError>("fuse", "there are no layers to fuse");
  for (std::size_t i = 0; i < chain.size(); ++i) {
    if (chain[i] == nullptr) fail<ConfigError>("fuse", "layer {} of {} is null", i, chain.size());
  }
  FuseResult result;
  std::vector<std::shared_ptr<Layer>> pieces;
  for (std::size_t at = 0; at < chain.size();) {
    std::shared_ptr<Layer> best;
    const FusePattern* chosen = nullptr;
    for (const FusePattern& pattern : patterns_) {
      if (pattern.length > chain.size() - at || (chosen != nullptr && pattern.length <= chosen->length)) continue;
      if (auto made = pattern.make(chain.subspan(at, pattern.length))) {
        best = std::move(made);
        chosen = &pattern;
      }
    }
    if (chosen == nullptr) {
      pieces.push_back(chain[at++]);
      continue;
    }
    result.fused.push_back(detail::format("{} ({}-{})", chosen->name, at, at + chosen->length - 1));
    pieces.push_back(std::move(best));
    at += chosen->length;
  }
  if (pieces.size() == 1 && result.is_fused()) {
    result.layer = std::move(pieces.front());
    return result;
  }
  const auto sequence = std::make_shared<Sequential>();
  for (auto& piece : pieces) sequence->push_back(std::move(piece));
  result.layer = sequence;
  return result;
}

}  // namespace trinix::nn
