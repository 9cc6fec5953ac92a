#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/glu.h>

namespace trinix::nn {

GatedLinearUnit::GatedLinearUnit(Glu kind, const GluOptions& o) : kind_(kind), order_(o.order), kernel_(o.kernel) {
  if (o.input_dim < 1 || o.hidden_dim < 1) {
    detail::fail<ConfigError>("GatedLinearUnit", "input_dim {} and hidden_dim {} must be positive", o.input_dim,
                              o.hidden_dim);
  }
  projection_ = register_module("proj", std::make_shared<Linear>(LinearOptions{.in_features = o.input_dim,
                                                                               .out_features = 2 * o.hidden_dim,
                                                                               .bias = o.bias,
                                                                               .init_std = o.init_std,
                                                                               .tensor = o.tensor,
                                                                               .generator = o.generator}));
}

Tensor GatedLinearUnit::forward(const Tensor& x) const { return glu(projection_->forward(x), kind_, order_, kernel_); }

}  // namespace trinix::nn
