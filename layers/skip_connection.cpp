#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/skip_connection.h>

namespace trinix::nn {

SkipConnection::SkipConnection(std::shared_ptr<Layer> branch, const DropoutOptions& dropout)
    : dropout_(dropout), branch_(register_module("branch", std::move(branch))) {
  if (!(dropout.p >= 0 && dropout.p <= 1)) {
    detail::fail<ConfigError>("SkipConnection", "dropout is a probability, so {} is not between 0 and 1", dropout.p);
  }
}

Tensor SkipConnection::forward(const Tensor& x) const {
  const Tensor y = branch_->forward(x);
  return x + (is_training() && dropout_.p > 0 ? trinix::dropout(y, dropout_.p, dropout_.generator) : y);
}

}  // namespace trinix::nn
