// What optimizers of every kind do alike.
#include <trinix/optim/optimizer.h>

namespace trinix::optim {

std::vector<Tensor> Optimizer::parameters() const {
  std::vector<Tensor> all;
  for (const NamedTensor& p : named_parameters()) all.push_back(p.tensor);
  return all;
}

std::vector<std::string> Optimizer::without_grad() const {
  std::vector<std::string> names;
  for (const NamedTensor& p : named_parameters()) {
    if (!p.tensor.grad().defined()) names.push_back(p.name);
  }
  return names;
}

std::vector<NamedTensor> unnamed(const std::vector<Tensor>& parameters) {
  std::vector<NamedTensor> named;
  for (const Tensor& t : parameters) named.push_back({"", t});
  return named;
}

}  // namespace trinix::optim
