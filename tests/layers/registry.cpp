#include "registry.h"

#include <ostream>

namespace trinix::testing {

std::vector<LayerEntry> layer_registry() {
  std::vector<LayerEntry> list;
  add_basic_layers(list);
  add_attention_layers(list);
  add_models(list);
  return list;
}

void PrintTo(const LayerEntry& entry, std::ostream* out) { *out << entry.name; }

void shake(const nn::Module& module, Generator& generator) {
  const NoGrad no_grad;
  for (const Tensor& p : module.parameters()) {
    add_(p, randn(p.shape(), {DType::f64}, &generator).to(p.dtype()).to(p.device()) * 0.3);
  }
}

}  // namespace trinix::testing
