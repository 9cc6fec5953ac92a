#include <trinix/autograd/ops/random.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/dropout.h>

namespace trinix::nn {

Dropout::Dropout(const DropoutOptions& options) : options_(options) {
  if (!(options.p >= 0 && options.p <= 1)) {
    detail::fail<ConfigError>("Dropout", "p is a probability, so {} is not between 0 and 1", options.p);
  }
}

Tensor Dropout::forward(const Tensor& x) const {
  return is_training() && options_.p > 0 ? dropout(x, options_.p, options_.generator) : x;
}

}  // namespace trinix::nn
