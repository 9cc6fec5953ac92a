#include <trinix/autograd/ops/operands.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/dropout.h>

namespace trinix {

namespace {

/// p = 1: nothing is kept. Its own case because no 32-bit threshold drops everything.
Tensor all_dropped(const Tensor& x) {
  return record("dropout", zeros_like(x), {x}, {}, [](BackwardContext& ctx) { ctx.give(0, zeros_like(ctx.grad())); });
}

}  // namespace

Tensor dropout(const Tensor& x, double p, Generator* generator) {
  check_floating("dropout", x);
  if (!(p >= 0 && p <= 1)) {
    detail::fail<ConfigError>("dropout", "the probability of dropping must be between 0 and 1, got {}", p);
  }
  if (p == 0) return x;
  if (p == 1) return all_dropped(x);
  Generator& source = generator != nullptr ? *generator : default_generator();
  const RandomState state = source.reserve(static_cast<std::uint64_t>(x.numel()));
  const Tensor y = empty_like(x);
  const Dropout::Forward args{.x = x.raw(), .y = y.raw(), .p = p, .state = state};
  const auto* impl = KernelTable<Dropout>::instance().select(args, x.device(), needs_grad({x}));
  if (x.numel() > 0) impl->forward(args, stream_of(x.device()));
  return record("dropout", y, {x}, {}, [impl, p, state](BackwardContext& ctx) {
    const Tensor& dy = ctx.grad();
    const GradTarget dx = ctx.target(0);
    if (dy.numel() == 0) return;
    impl->backward({.dy = dy.raw(), .dx = dx.out.raw(), .p = p, .state = state, .accumulate = dx.accumulate},
                   stream_of(dy.device()));
  });
}

}  // namespace trinix
