#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/tools/lib/batch_loader.h>
#include <trinix/tools/lib/evaluate.h>

namespace trinix::tools {

double evaluate(nn::LanguageModel& model, const DataSet& data, Split split, const EvaluateOptions& options) {
  const nn::EvalScope eval(model);
  const NoGrad no_grad;
  const Device device = model.parameters().front().device();
  BatchLoader loader(data, options.rows, options.block, device);
  const Tensor sum = zeros({}, {DType::f64, device});
  const auto add_loss = [&](double weight) {
    const Tensor loss = model.loss(loader.batch().inputs, loader.batch().targets).to(DType::f64);
    add_(sum, weight == 1 ? loss : loss * weight);
  };
  double weights = 0;
  if (options.iters > 0) {
    for (std::int64_t i = 0; i < options.iters; ++i) {
      loader.load_random(split, options.seed, static_cast<std::uint64_t>(i * options.rows));
      add_loss(1);
    }
    weights = static_cast<double>(options.iters);
  } else {
    const std::int64_t batches = data.sequential_batches(split, options.block, options.rows);
    for (std::int64_t i = 0; i < batches; ++i) {
      const auto real = static_cast<double>(loader.load_sequential(split, i));
      add_loss(real);
      weights += real;
    }
  }
  return sum.item<double>() / weights;
}

}  // namespace trinix::tools
