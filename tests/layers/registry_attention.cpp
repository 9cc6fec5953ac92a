#include "registry.h"

namespace trinix::testing {

using namespace nn;  // NOLINT: a list of its names

namespace {

/// Position with learned vectors, as a user may write it.
class AddedPositions : public PositionMethod {
 public:
  AddedPositions(std::int64_t dim, const TensorOptions& options, Generator* generator) {
    vectors_ = register_parameter("vectors", randn({16, 1, dim}, options, generator));
  }
  [[nodiscard]] std::pair<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const TokenPlaces& q_places,
                                                  const TokenPlaces& k_places) const override {
    return {q + vectors_.narrow(0, q_places.first, q.size(1)), k + vectors_.narrow(0, k_places.first, k.size(1))};
  }

 private:
  Tensor vectors_;
};

/// Self-attention of 7 tokens, with every option somewhere.
template <class L>
LayerEntry small(const std::string& name, const AttentionLayerOptions& options) {
  LayerEntry entry = layer_entry<L>(name, options, {2, 7, options.embed_dim});
  entry.is_measured = false;
  return entry;
}

/// 19 tokens, no multiple of any tile, for heads as wide as in practice.
template <class L>
LayerEntry wide(const std::string& name, AttentionLayerOptions options) {
  options.bias = false;
  LayerEntry entry = layer_entry<L>(name, options, {2, 19, options.embed_dim});
  entry.is_small = false;
  entry.large = 2;
  return entry;
}

AttentionLayerOptions with(AttentionLayerOptions options, void (*change)(AttentionLayerOptions&)) {
  change(options);
  return options;
}

void add_small(std::vector<LayerEntry>& list) {
  // A bias of keys moves all scores of a query alike: it has a gradient only where positions or a zero key set some
  // apart.
  const AttentionLayerOptions basic{.embed_dim = 6, .num_heads = 3, .causal = true};
  list.push_back(small<MultiHeadAttention>("MultiHeadAttention without bias", with(basic, [](auto& o) {
                                             o.bias = false;
                                             o.causal = false;
                                             o.sliding_window = 2;
                                           })));
  list.push_back(small<MultiHeadAttention>("MultiHeadAttention rope", with(basic, [](auto& o) {
                                             o.position = Position::rope;
                                             o.qk_norm = QkNorm::layer;
                                             o.head_dim = 4;
                                           })));
  list.push_back(small<MultiHeadAttention>("MultiHeadAttention zero key, dropout", with(basic, [](auto& o) {
                                             o.add_zero_attn = true;
                                             o.dropout = 0.3;
                                             o.batch_first = false;
                                           })));
  list.push_back(small<GroupedQueryAttention>("GroupedQueryAttention", with(basic, [](auto& o) {
                                                o.num_heads = 4;
                                                o.num_kv_heads = 2;
                                                o.head_dim = 4;
                                                o.position = Position::rope;
                                                o.qk_norm = QkNorm::rms;
                                              })));
  list.push_back(small<MultiQueryAttention>("MultiQueryAttention alibi", with(basic, [](auto& o) {
                                              o.position = Position::alibi;
                                              o.bias = false;
                                              o.dropout = 0.2;
                                            })));
  for (const bool dropout : {false, true}) {
    const std::string suffix = dropout ? " dropout" : "";
    AttentionLayerOptions o = basic;
    o.dropout = dropout ? 0.3 : 0;
    list.push_back(small<MultiHeadSelfAttention>("MultiHeadSelfAttention" + suffix, o));
    list.push_back(small<CausalSelfAttention>("CausalSelfAttention" + suffix, o));
    o.position = dropout ? Position::alibi : Position::rope;
    o.num_heads = 4;
    o.head_dim = 2;
    o.num_kv_heads = 2;
    list.push_back(small<MultiHeadSelfAttention>("MultiHeadSelfAttention grouped, placed" + suffix, o));
    o.num_kv_heads = 0;
    o.position = Position::rope;
    o.latent_dim = 3;
    list.push_back(small<MultiHeadLatentAttention>("MultiHeadLatentAttention" + suffix, o));
    o.rope_head_dim = 2;
    o.value_head_dim = 3;
    o.query_latent_dim = dropout ? 3 : 0;
    list.push_back(small<MultiHeadLatentAttention>("MultiHeadLatentAttention decoupled" + suffix, o));
  }
  LayerEntry cross = small<MultiHeadAttention>("MultiHeadAttention cross", with(basic, [](auto& o) {
                                                 o.causal = false;
                                                 o.kdim = 5;
                                                 o.vdim = 4;
                                                 o.bias = false;
                                               }));
  cross.inputs = {{2, 3, 6}, {2, 7, 5}, {2, 7, 4}};
  cross.call = [](const Module& layer, const auto& x) {
    const Tensor mask = from_vector<bool>({true, true, false, true, true, false, true}).unsqueeze(0).expand({3, 7});
    return dynamic_cast<const MultiHeadAttention&>(layer).forward(x[0], x[1], x[2], {.mask = mask.to(x[0].device())});
  };
  list.push_back(cross);
  LayerEntry own = small<MultiHeadAttention>("MultiHeadAttention own positions", basic);
  own.make = [basic](const TensorOptions& tensor, Generator* g) {
    AttentionLayerOptions o = basic;
    o.bias = false;
    o.tensor = tensor;
    o.generator = g;
    o.position = std::make_shared<AddedPositions>(2, tensor, g);
    return std::make_shared<MultiHeadAttention>(o);
  };
  list.push_back(own);
}

void add_wide(std::vector<LayerEntry>& list) {
  for (const std::int64_t depth : {40, 64, 80, 96, 128, 192, 256}) {
    const std::string suffix = " of " + std::to_string(depth);
    const AttentionLayerOptions basic{
        .embed_dim = 16, .num_heads = 2, .head_dim = depth, .causal = true, .position = Position::rope};
    list.push_back(wide<MultiHeadAttention>("MultiHeadAttention" + suffix, basic));
    list.push_back(wide<MultiHeadSelfAttention>("MultiHeadSelfAttention" + suffix, basic));
    list.push_back(wide<MultiQueryAttention>("MultiQueryAttention" + suffix, with(basic, [](auto& o) {
                                               o.position = Position::alibi;
                                               o.sliding_window = 5;
                                             })));
    AttentionLayerOptions grouped = basic;
    grouped.num_heads = 4;
    grouped.num_kv_heads = 2;
    grouped.qk_norm = QkNorm::rms;
    list.push_back(wide<GroupedQueryAttention>("GroupedQueryAttention" + suffix, grouped));
  }
  const AttentionLayerOptions latent{
      .embed_dim = 16, .num_heads = 2, .head_dim = 64, .causal = true, .position = Position::rope};
  list.push_back(wide<MultiHeadLatentAttention>("MultiHeadLatentAttention of 64", latent));
  // DeepSeek's sizes of a head: 128 + 64 columns of keys, 128 of values.
  list.push_back(wide<MultiHeadLatentAttention>("MultiHeadLatentAttention of 128 + 64", with(latent, [](auto& o) {
                                                  o.head_dim = 128;
                                                  o.rope_head_dim = 64;
                                                  o.value_head_dim = 128;
                                                  o.latent_dim = 32;
                                                })));
}

/// The options that wide heads do not have above.
void add_wide_options(std::vector<LayerEntry>& list) {
  const AttentionLayerOptions basic{.embed_dim = 16, .num_heads = 2, .head_dim = 64};
  list.push_back(wide<MultiHeadAttention>("MultiHeadAttention with a window to both sides", with(basic, [](auto& o) {
                                            o.sliding_window = 4;
                                            o.qk_norm = QkNorm::layer;
                                            o.position = Position::rope;
                                          })));
  list.push_back(wide<MultiHeadAttention>("MultiHeadAttention with a zero key and dropout", with(basic, [](auto& o) {
                                            o.add_zero_attn = true;
                                            o.dropout = 0.3;
                                            o.causal = true;
                                          })));
  list.push_back(wide<MultiHeadSelfAttention>("MultiHeadSelfAttention with dropout", with(basic, [](auto& o) {
                                                o.dropout = 0.3;
                                                o.num_heads = 4;
                                                o.num_kv_heads = 2;
                                                o.position = Position::alibi;
                                                o.causal = true;
                                              })));
  LayerEntry cross = wide<MultiHeadAttention>("MultiHeadAttention with a mask to another sequence", basic);
  cross.inputs = {{2, 11, 16}, {2, 19, 16}, {2, 19, 16}};
  cross.call = [](const Module& layer, const auto& x) {
    const Tensor mask = (arange(19) != 3).unsqueeze(0).expand({11, 19});
    return dynamic_cast<const MultiHeadAttention&>(layer).forward(x[0], x[1], x[2], {.mask = mask.to(x[0].device())});
  };
  list.push_back(cross);
}

}  // namespace

void add_attention_layers(std::vector<LayerEntry>& list) {
  add_small(list);
  add_wide(list);
  add_wide_options(list);
}

}  // namespace trinix::testing
