#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <trinix/core/ops/activation.h>
#include <trinix/layers/module.h>
#include <trinix/layers/norm.h>
#include <trinix/layers/sequential.h>
#include <trinix/layers/skip_connection.h>

/// @file
/// Putting layers that stand in a row together where one kernel does their work.

namespace trinix::nn {

/// activation(norm(x)) in one pass, with nothing kept in between (rms_norm_activation()). Holds the norm as "0".
class RMSNormActivation : public Layer {
 public:
  /// @throws ConfigError for a norm that is null.
  RMSNormActivation(std::shared_ptr<RMSNorm> norm, Activation activation);
  [[nodiscard]] Tensor forward(const Tensor& x) const override;

 private:
  std::shared_ptr<RMSNorm> norm_;
  Activation activation_;
};

/// norm(x + dropout(branch(x))), the addition and the dropout done by the norm's kernel. Holds the connection as "0"
/// and the norm as "1". Norm is LayerNorm or RMSNorm.
template <class Norm>
class NormedSkipConnection : public Layer {
 public:
  NormedSkipConnection(std::shared_ptr<SkipConnection> skip, std::shared_ptr<Norm> norm)
      : skip_(register_module("0", std::move(skip))), norm_(register_module("1", std::move(norm))) {}

  [[nodiscard]] Tensor forward(const Tensor& x) const override {
    const DropoutOptions& dropout = skip_->dropout();
    const double p = skip_->is_training() ? dropout.p : 0;
    return norm_->add_and_norm(x, skip_->branch().forward(x), {p, dropout.generator}).second;
  }

 private:
  std::shared_ptr<SkipConnection> skip_;
  std::shared_ptr<Norm> norm_;
};

using Chain = std::span<const std::shared_ptr<Layer>>;

/// A row of layers that one layer can stand for.
struct FusePattern {
  std::string name;        ///< for the report, "RMSNorm + activation"
  std::size_t length = 0;  ///< how many layers it takes
  /// The one layer, which should share the parameters of the given ones; null when these are not of its kind.
  std::function<std::shared_ptr<Layer>(Chain)> make;
};

/// What became of a chain.
struct FuseResult {
  std::shared_ptr<Layer> layer;    ///< the fused layer where one does everything, else a Sequential of the pieces
  std::vector<std::string> fused;  ///< for each fused piece its pattern and place: "RMSNorm + activation (0-1)"
  [[nodiscard]] bool is_fused() const { return !fused.empty(); }
  [[nodiscard]] Tensor operator()(const Tensor& x) const { return layer->forward(x); }
};

/// Knows the patterns. Those that come with the library are the pairs for which there is a kernel: RMSNorm before any
/// Activation, and a SkipConnection before LayerNorm or RMSNorm.
class Fuser {
 public:
  Fuser();

  /// Adds a pattern of your own; it is tried before all that are there. @throws ConfigError without a name, a length of
  ///   at least 1, or a function.
  void add(FusePattern pattern);
  [[nodiscard]] const std::vector<FusePattern>& patterns() const { return patterns_; }

  /// Goes through the chain from the front and takes, at each place, the longest pattern that fits. The result shares
  /// the chain's parameters and computes what the chain does, up to rounding.
  /// @throws ConfigError for an empty chain or a layer that is null.
  [[nodiscard]] FuseResult fuse(Chain chain) const;

 private:
  std::vector<FusePattern> patterns_;
};

/// Fuser().fuse() of the given layers: fuse(norm, mish).
template <class... Layers>
[[nodiscard]] FuseResult fuse(const std::shared_ptr<Layers>&... layers) {
  const std::vector<std::shared_ptr<Layer>> chain = {layers...};
  return Fuser().fuse(chain);
}

}  // namespace trinix::nn
