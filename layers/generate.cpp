#include <algorithm>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/generate.h>

namespace trinix::nn {

namespace {

/// Logits for the token behind `tokens`. @param cache null: none
std::vector<float> next_logits(const LanguageModel& model, std::span<const std::int64_t> tokens, KvCache* cache) {
  const Device device = model.parameters().front().device();
  const Tensor ids = from_span(tokens, {1, static_cast<std::int64_t>(tokens.size())}, {.device = device});
  return model.forward(ids, {.cache = cache, .last_only = true}).to(DType::f32).to_vector<float>();
}

}  // namespace

std::vector<std::int64_t> generate(LanguageModel& model, const std::vector<std::int64_t>& prompt,
                                   const GenerateOptions& o) {
  if (prompt.empty()) {
    detail::fail<ConfigError>("generate", "the prompt is empty: give at least one token to start from");
  }
  if (o.max_new_tokens < 0) {
    detail::fail<ConfigError>("generate", "max_new_tokens is {}, but must be at least 0", o.max_new_tokens);
  }
  o.sampling.validate();
  const NoGrad no_grad;
  const EvalScope eval(model);
  Generator& generator = o.generator != nullptr ? *o.generator : default_generator();

  const auto block = static_cast<std::size_t>(model.shape().block_size);
  const auto wanted = prompt.size() + static_cast<std::size_t>(o.max_new_tokens);
  KvCache cache = model.make_cache(1, static_cast<std::int64_t>(std::min(block, wanted)));
  std::vector<std::int64_t> tokens = prompt;
  tokens.reserve(wanted);
  while (tokens.size() < wanted) {
    std::span<const std::int64_t> input(tokens);
    if (input.size() > block) input = input.last(block);
    auto cached = static_cast<std::size_t>(cache.length());
    if (!o.use_cache || tokens.size() > block) {
      cache.clear();  // beyond the block every position has shifted
      cached = 0;
    }
    const auto logits = next_logits(model, input.subspan(cached), o.use_cache ? &cache : nullptr);
    tokens.push_back(sample_token(logits, o.sampling, generator));
    const bool goes_on = o.on_token == nullptr || o.on_token(tokens.back());
    if (!goes_on || (o.stop_token && tokens.back() == *o.stop_token)) break;
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()};
}

}  // namespace trinix::nn
