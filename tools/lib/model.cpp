#include <optional>

#include <trinix/core/detail/fail.h>
#include <trinix/layers/gpt.h>
#include <trinix/layers/llama.h>
#include <trinix/tools/lib/model.h>

namespace trinix::tools {

namespace {

nn::QkNorm qk_norm_of(const TrainConfig& c) {
  return c.qk_norm == "rms" ? nn::QkNorm::rms : c.qk_norm == "layer" ? nn::QkNorm::layer : nn::QkNorm::none;
}

/// Of attention; a learned table is none of its business.
nn::Position position_of(const TrainConfig& c) {
  if (c.position == "rope" || (c.position == "auto" && c.model == "llama")) return nn::Position::rope;
  return c.position == "alibi" ? nn::Position::alibi : nn::Position::none;
}

std::optional<std::int64_t> window_of(const TrainConfig& c) {
  return c.window > 0 ? std::optional<std::int64_t>(c.window) : std::nullopt;
}

std::unique_ptr<nn::LanguageModel> make_gpt(const TrainConfig& c, std::int64_t vocab_size, Generator* generator) {
  return std::make_unique<nn::Gpt>(nn::GptConfig{.vocab_size = vocab_size,
                                                 .block_size = c.block,
                                                 .layers = c.layers,
                                                 .heads = c.heads,
                                                 .width = c.width,
                                                 .dropout = c.dropout,
                                                 .bias = c.bias,
                                                 .tied_head = c.tied_head,
                                                 .activation = Gelu::erf,  // as nanoGPT, whose recipes the presets are
                                                 .generator = generator,
                                                 .attention = nn::parse_attention_kind(c.attention),
                                                 .kv_heads = c.kv_heads,
                                                 .latent_dim = c.latent,
                                                 .rope_head_dim = c.rope_head_dim,
                                                 .learned_positions = c.position == "auto" || c.position == "learned",
                                                 .position = position_of(c),
                                                 .sliding_window = window_of(c),
                                                 .qk_norm = qk_norm_of(c)});
}

std::unique_ptr<nn::LanguageModel> make_llama(const TrainConfig& c, std::int64_t vocab_size, Generator* generator) {
  return std::make_unique<nn::Llama>(nn::LlamaConfig{.vocab_size = vocab_size,
                                                     .block_size = c.block,
                                                     .layers = c.layers,
                                                     .heads = c.heads,
                                                     .width = c.width,
                                                     .attention = nn::parse_attention_kind(c.attention),
                                                     .kv_heads = c.kv_heads,
                                                     .latent_dim = c.latent,
                                                     .rope_head_dim = c.rope_head_dim,
                                                     .position = position_of(c),
                                                     .sliding_window = window_of(c),
                                                     .qk_norm = qk_norm_of(c),
                                                     .attention_bias = c.bias,
                                                     .mlp_bias = c.bias,
                                                     .tied_head = c.tied_head,
                                                     .dropout = c.dropout,
                                                     .generator = generator});
}

}  // namespace

std::unique_ptr<nn::LanguageModel> make_model(const TrainConfig& config, std::int64_t vocab_size,
                                              Generator* generator) {
  return config.model == "llama" ? make_llama(config, vocab_size, generator) : make_gpt(config, vocab_size, generator);
}

std::string describe_model(const TrainConfig& c) {
  std::string more;
  const auto add = [&](const std::string& what) { more += (more.empty() ? " with " : ", ") + what; };
  if (c.attention == "gqa") add(detail::format("gqa ({} heads of keys)", c.kv_heads));
  if (c.attention == "mqa") add("mqa");
  if (c.attention == "mla") add(c.rope_head_dim > 0 ? "decoupled mla" : "mla");
  if (c.position != "auto") add(c.position == "none" ? "no positions" : c.position);
  if (c.window > 0) add(detail::format("window {}", c.window));
  if (c.qk_norm != "none") add(c.qk_norm + " norm of queries and keys");
  return c.model + more;
}

}  // namespace trinix::tools
