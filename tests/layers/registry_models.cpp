#include "registry.h"

namespace trinix::testing {

using namespace nn;  // NOLINT: a list of its names

namespace {

/// A model as wide as one that is trained on letters, of which errors can be measured.
template <class Config>
Config widened(Config config) {
  config.width = 32;
  config.heads = 4;
  config.mlp_width = 48;
  config.vocab_size = 31;
  config.block_size = 19;
  return config;
}

/// The loss of a text of block_size tokens.
template <class Model, class Config>
LayerEntry model_entry(const std::string& name, const Config& config) {
  LayerEntry entry{
      .name = name,
      .make =
          [config](const TensorOptions& tensor, Generator* generator) {
            Config c = config;
            c.tensor = tensor;
            c.generator = generator;
            return std::make_shared<Model>(c);
          },
      .inputs = {},
      .call =
          [](const Module& module, const auto&) {
            const auto& model = dynamic_cast<const LanguageModel&>(module);
            const Device device = module.parameters().front().device();
            const std::int64_t tokens = model.shape().block_size, vocabulary = model.shape().vocab_size;
            std::vector<std::int64_t> ids, targets;
            for (std::int64_t i = 0; i < 2 * tokens; ++i) {
              ids.push_back(i % vocabulary);  // every row of the table is used
              targets.push_back(i == 5 ? -100 : (i * i + 1) % vocabulary);
            }
            return model.loss(from_vector(ids, {2, tokens}).to(device), from_vector(targets, {2, tokens}).to(device));
          }};
  entry.is_small = config.width < 8;
  entry.is_measured = !entry.is_small;
  return entry;
}

/// A small one for finite differences, and a wide one to be measured.
template <class Model, class Config>
void add_model(std::vector<LayerEntry>& list, const std::string& name, const Config& config) {
  list.push_back(model_entry<Model>(name, config));
  list.push_back(model_entry<Model>(name + ", wide", widened(config)));
}

}  // namespace

void add_models(std::vector<LayerEntry>& list) {
  const GptConfig gpt{.vocab_size = 7, .block_size = 4, .layers = 2, .heads = 2, .width = 4};
  add_model<Gpt>(list, "Gpt", gpt);
  GptConfig loose = gpt;
  loose.dropout = 0.2;
  loose.bias = loose.tied_head = false;
  loose.activation = Gelu::erf;
  add_model<Gpt>(list, "Gpt with dropout and an untied head", loose);
  GptConfig grouped = gpt;
  grouped.attention = AttentionKind::gqa;
  grouped.kv_heads = 1;
  grouped.learned_positions = false;
  grouped.position = Position::rope;
  grouped.qk_norm = QkNorm::layer;
  add_model<Gpt>(list, "Gpt with grouped heads and rotary positions", grouped);
  GptConfig latent = gpt;
  latent.attention = AttentionKind::mla;
  latent.latent_dim = 3;
  latent.bias = false;
  latent.dropout = 0.2;
  latent.sliding_window = 2;
  add_model<Gpt>(list, "Gpt with latent attention", latent);

  const LlamaConfig llama{.vocab_size = 7, .block_size = 4, .layers = 2, .heads = 2, .width = 4, .mlp_width = 5};
  add_model<Llama>(list, "Llama", llama);
  LlamaConfig all = llama;
  all.kv_heads = 1;
  all.head_dim = 4;
  all.qk_norm = QkNorm::rms;
  all.sliding_window = 2;
  all.attention_bias = all.mlp_bias = all.tied_head = true;
  all.dropout = 0.2;
  all.gate = Glu::geglu_tanh;
  add_model<Llama>(list, "Llama with everything", all);
  LlamaConfig decoupled = llama;
  decoupled.attention = AttentionKind::mla;
  decoupled.latent_dim = 3;
  decoupled.rope_head_dim = 2;
  add_model<Llama>(list, "Llama with decoupled latent attention", decoupled);
  LlamaConfig alibi = llama;
  alibi.attention = AttentionKind::mqa;
  alibi.position = Position::alibi;
  add_model<Llama>(list, "Llama with one head of keys and ALiBi", alibi);
}

}  // namespace trinix::testing
