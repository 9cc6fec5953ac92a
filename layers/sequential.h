#pragma once

#include <memory>
#include <string>
#include <vector>

#include <trinix/layers/module.h>

/// @file
/// Layers one after another.

namespace trinix::nn {

/// Applies its layers in order. They are named "0", "1", ...
class Sequential : public Layer {
 public:
  Sequential() = default;
  template <class... Layers>
  explicit Sequential(std::shared_ptr<Layers>... layers) {
    (push_back(std::move(layers)), ...);
  }

  void push_back(std::shared_ptr<Layer> layer) {
    layers_.push_back(register_module(std::to_string(layers_.size()), std::move(layer)));
  }
  [[nodiscard]] std::size_t size() const { return layers_.size(); }

  [[nodiscard]] Tensor forward(const Tensor& x) const override {
    Tensor y = x;
    for (const auto& layer : layers_) y = layer->forward(y);
    return y;
  }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
};

}  // namespace trinix::nn
