#include <span>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/philox.h>
#include <trinix/tools/lib/evaluate.h>

namespace trinix::tools {

namespace {

CounterBits philox_bits(std::uint64_t seed) {
  return [seed](std::uint64_t position) {
    const PhiloxBlock block = philox(seed, position);
    return static_cast<std::uint64_t>(block.x[0]) << 32 | block.x[1];
  };
}

std::span<std::int32_t> ids_of(const Tensor& t) {
  return {t.data<std::int32_t>(), static_cast<std::size_t>(t.numel())};
}

Batch empty_batch(std::int64_t rows, std::int64_t block) {
  return {empty({rows, block}, {DType::i32}), empty({rows, block}, {DType::i32})};
}

double mean_loss(const nn::Gpt& model, const Batch& batch, Device device) {
  return model.loss(batch.inputs.to(device), batch.targets.to(device)).item<double>();
}

}  // namespace

Batch random_batch(const DataSet& data, Split split, std::int64_t rows, std::int64_t block, std::uint64_t seed,
                   std::uint64_t position, Device device) {
  const Batch host = empty_batch(rows, block);
  data.random_batch<std::int32_t>(split, block, philox_bits(seed), position, ids_of(host.inputs), ids_of(host.targets));
  return {host.inputs.to(device), host.targets.to(device)};
}

double evaluate(nn::Gpt& model, const DataSet& data, Split split, const EvaluateOptions& options) {
  const nn::EvalScope eval(model);
  const NoGrad no_grad;
  const Device device = model.parameters().front().device();
  double sum = 0;
  if (options.iters > 0) {
    for (std::int64_t i = 0; i < options.iters; ++i) {
      const auto position = static_cast<std::uint64_t>(i * options.rows);
      sum += mean_loss(model, random_batch(data, split, options.rows, options.block, options.seed, position, device),
                       device);
    }
    return sum / static_cast<double>(options.iters);
  }
  std::int64_t targets = 0;
  const std::int64_t batches = data.sequential_batches(split, options.block, options.rows);
  for (std::int64_t i = 0; i < batches; ++i) {
    const Batch batch = empty_batch(options.rows, options.block);
    const std::int64_t real =
        data.sequential_batch<std::int32_t>(split, options.block, i, ids_of(batch.inputs), ids_of(batch.targets));
    sum += mean_loss(model, batch, device) * static_cast<double>(real);
    targets += real;
  }
  return sum / static_cast<double>(targets);
}

}  // namespace trinix::tools
