#include <algorithm>
#include <filesystem>
#include <memory>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/generate.h>
#include <trinix/layers/language_model.h>
#include <trinix/optim/ema.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/model.h>
#include <trinix/tools/lib/optimization.h>
#include <trinix/tools/lib/utf8.h>
#include <trinix/tools/lib/write_text.h>

namespace trinix::tools {

namespace {

/// Bytes of the character that begins with this byte.
std::size_t expected_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
}

/// Length of the part that ends with a whole character; bytes that can never become one count as whole.
std::size_t complete_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = utf8::decode(text, at).length;
    if (length == 0 && text.size() - at < expected_length(text[at])) return at;
    at += std::max<std::size_t>(length, 1);
  }
  return at;
}

/// With the optimizer's file where it holds the moving average of the weights, which is what was evaluated.
Checkpoint load_best(const std::filesystem::path& run) {
  const std::filesystem::path best = run / "checkpoints" / kBestCheckpoint;
  Checkpoint checkpoint = std::filesystem::exists(best) ? load_checkpoint(best, /*with_optimizer=*/false)
                                                        : load_newest_checkpoint(run, /*with_optimizer=*/false);
  return checkpoint.state.config.ema == 0 ? checkpoint : load_checkpoint(checkpoint.folder, /*with_optimizer=*/true);
}

}  // namespace

std::string write_text(const SampleConfig& config, const std::function<bool(std::string_view)>& on_text) {
  validate(config);
  const Device device = Device::parse(config.device);
  static_cast<void>(backend_of(device));  // a device that is not there is an error before anything is read
  const Checkpoint checkpoint = load_best(config.run);
  const TrainerState& state = checkpoint.state;
  if (state.tokenizer == nullptr) {
    detail::fail<ConfigError>("sample",
                              "run '{}' was trained on token ids without a tokenizer, so there is no text to "
                              "write",
                              config.run);
  }
  const std::unique_ptr<nn::LanguageModel> model = make_model(state.config, state.vocab_size);
  model->load_state_dict(checkpoint.model);
  if (state.config.ema > 0) {
    optim::Ema ema(model->named_parameters(), state.config.ema);
    ema.load_state_dict(part_of_state(checkpoint.optimizer, kEmaState));
    ema.copy_to_parameters();
  }
  model->to(device);
  std::vector<std::int64_t> prompt;
  for (const std::int32_t id : state.tokenizer->encode(config.prompt)) prompt.push_back(id);
  Generator generator(static_cast<std::uint64_t>(config.seed));
  std::string all;
  std::string pending;  // bytes that do not make a whole character yet
  const auto on_token = [&](std::int64_t id) {
    const std::int32_t one[] = {static_cast<std::int32_t>(id)};
    pending += state.tokenizer->decode(one);
    const std::size_t whole = complete_prefix(pending);
    const std::string ready = pending.substr(0, whole);
    pending.erase(0, whole);
    all += ready;
    return !on_text || ready.empty() || on_text(ready);
  };
  static_cast<void>(
      nn::generate(*model, prompt,
                   {.max_new_tokens = config.tokens,
                    .sampling = {.temperature = config.temperature, .top_k = config.top_k, .top_p = config.top_p},
                    .generator = &generator,
                    .on_token = on_token}));
  if (!pending.empty() && on_text) on_text(pending);
  return all + pending;
}

}  // namespace trinix::tools
