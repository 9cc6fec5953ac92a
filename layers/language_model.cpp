#include <trinix/autograd/ops/loss.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/language_model.h>

namespace trinix::nn {

using detail::fail;

Tensor LanguageModel::forward(const Tensor& ids, const LanguageModelCall& call) const {
  if (ids.rank() != 2 || ids.numel() == 0) {
    fail<ShapeError>(name_, "token ids must be (batch, tokens) with at least one of each, got {}", ids.shape());
  }
  const std::int64_t tokens = ids.size(1);
  const std::int64_t start = call.cache == nullptr ? 0 : call.cache->length();
  if (start + tokens > shape_.block_size) {
    fail<ShapeError>(name_, "{} tokens behind {} cached ones exceed the block size of {}", tokens, start,
                     shape_.block_size);
  }
  Residual stream{embed(ids, start), {}};
  for (std::int64_t i = 0; i < shape_.layers; ++i) stream = run_block(i, stream, call.cache);
  if (call.cache != nullptr) call.cache->advance(tokens);
  if (call.last_only) {
    stream.x = stream.x.narrow(1, tokens - 1, 1);
    stream.branch = stream.branch.narrow(1, tokens - 1, 1);
  }
  return head(stream);
}

Tensor LanguageModel::loss(const Tensor& ids, const Tensor& targets) const {
  // Nobody else sees the logits, which are the largest tensor of a step: their gradient may take their place.
  const Tensor logits = forward(ids);
  // The gradient of a mean over many tokens is too small for f16 before the scale of the loss has multiplied it, and an
  // overwriting kernel rounds it first.
  return cross_entropy(logits, targets, {.overwrite_logits = logits.dtype() != DType::f16});
}

KvCache LanguageModel::make_cache(std::int64_t batch, std::int64_t capacity) const {
  KvCacheOptions sizes = cache_options();
  sizes.layers = shape_.layers;
  sizes.batch = batch;
  sizes.capacity = capacity == 0 ? shape_.block_size : capacity;
  const Tensor parameter = parameters().front();
  sizes.tensor = {parameter.dtype(), parameter.device()};
  return KvCache(sizes);
}

}  // namespace trinix::nn
