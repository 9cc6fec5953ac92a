#include "registry.h"

namespace trinix::testing {

using namespace nn;  // NOLINT: a list of its names

namespace {

constexpr const char* kWith[] = {"without bias", "with bias"};

template <class Norm, class Options>
LayerEntry residual_norm(const std::string& name, const Options& options, double p) {
  LayerEntry entry = layer_entry<Norm>(name, options, {2, 3, options.features});
  entry.inputs.push_back(entry.inputs[0]);
  // The generator of the call is that of the entry, set back by the test.
  const auto generator = std::make_shared<Generator*>(nullptr);
  const auto make = entry.make;
  entry.make = [make, generator](const TensorOptions& tensor, Generator* g) {
    *generator = g;
    return make(tensor, g);
  };
  entry.call = [generator, p](const Module& layer, const auto& x) {
    const auto [sum, normed] = dynamic_cast<const Norm&>(layer).add_and_norm(x[0], x[1], {p, *generator});
    return sum * 0.7 + normed;
  };
  return entry;
}

/// A chain whose parts hold the parameters.
LayerEntry chain(const std::string& name, const Shape& input,
                 std::function<std::shared_ptr<Layer>(const TensorOptions&, Generator*)> make) {
  return {.name = name, .make = std::move(make), .inputs = {input}, .call = [](const Module& layer, const auto& x) {
            return dynamic_cast<const Layer&>(layer).forward(x[0]);
          }};
}

void add_activations(std::vector<LayerEntry>& list) {
  const Shape shape{4, 9};
  list.push_back(plain_entry<GELU>("GELU erf", shape, Gelu::erf));
  list.push_back(plain_entry<GELU>("GELU tanh", shape, Gelu::tanh));
  list.push_back(plain_entry<SiLU>("SiLU", shape));
  // Their gradients are computed from the result, which is rounded to its dtype: where that is 1, nothing is left.
  list.push_back(plain_entry<Tanh>("Tanh", shape));
  list.back().large = 1;
  list.push_back(plain_entry<Sigmoid>("Sigmoid", shape));
  list.back().large = 1;
  list.push_back(plain_entry<ReLU>("ReLU", shape));
  list.push_back(plain_entry<LeakyReLU>("LeakyReLU", shape, 0.2));
  list.push_back(plain_entry<ELU>("ELU", shape));
  list.push_back(plain_entry<Softplus>("Softplus", shape));
  list.push_back(plain_entry<QuickGELU>("QuickGELU", shape));
  list.push_back(plain_entry<SquaredReLU>("SquaredReLU", shape));
  list.push_back(plain_entry<Mish>("Mish", shape));
  for (const auto order : {GluOrder::gate_first, GluOrder::value_first}) {
    const GluOptions options{.input_dim = 5, .hidden_dim = 7, .bias = true, .order = order};
    const std::string suffix = order == GluOrder::gate_first ? " gate first" : " value first";
    list.push_back(layer_entry<SwiGLU>("SwiGLU" + suffix, options, {3, 5}));
    list.push_back(layer_entry<GeGLU>("GeGLU" + suffix, options, {3, 5}));
    list.push_back(layer_entry<ReGLU>("ReGLU" + suffix, options, {3, 5}));
  }
}

}  // namespace

void add_basic_layers(std::vector<LayerEntry>& list) {
  for (const bool bias : {true, false}) {
    const std::string with = std::string(" ") + kWith[bias];
    list.push_back(layer_entry<Linear>("Linear" + with,
                                       LinearOptions{.in_features = 5, .out_features = 3, .bias = bias}, {2, 4, 5}));
    list.push_back(layer_entry<LayerNorm>("LayerNorm" + with, LayerNormOptions{.features = 7, .bias = bias}, {3, 7}));
    list.push_back(layer_entry<RMSNorm>("RMSNorm" + with, RMSNormOptions{.features = 7, .bias = bias}, {3, 7}));
    list.push_back(
        layer_entry<Mlp>("Mlp" + with, FeedForwardOptions{.dim = 4, .hidden_dim = 9, .bias = bias}, {2, 3, 4}));
    list.push_back(layer_entry<FeedForward>(
        "FeedForward" + with,
        FeedForwardOptions{.dim = 4, .hidden_dim = 9, .activation = Activation::mish, .dropout = 0.3, .bias = bias},
        {2, 3, 4}));
    list.push_back(layer_entry<GatedFeedForward>(
        "GatedFeedForward" + with, FeedForwardOptions{.dim = 4, .hidden_dim = 9, .dropout = 0.3, .bias = bias},
        {2, 3, 4}));
    list.push_back(residual_norm<LayerNorm>("LayerNorm with residual" + with,
                                            LayerNormOptions{.features = 9, .bias = bias}, bias ? 0.3 : 0.0));
    list.push_back(residual_norm<RMSNorm>("RMSNorm with residual" + with, RMSNormOptions{.features = 9, .bias = bias},
                                          bias ? 0.3 : 0.0));
  }
  list.push_back(
      layer_entry<LayerNorm>("LayerNorm without parameters", LayerNormOptions{.features = 7, .affine = false}, {3, 7}));
  list.push_back(
      layer_entry<RMSNorm>("RMSNorm without parameters", RMSNormOptions{.features = 7, .weight = false}, {3, 7}));
  list.push_back(layer_entry<Dropout>("Dropout", DropoutOptions{.p = 0.4}, {4, 9}));
  add_activations(list);

  LayerEntry embedding =
      layer_entry<Embedding>("Embedding", EmbeddingOptions{.num_embeddings = 4, .embedding_dim = 3}, {});
  embedding.inputs = {};
  embedding.call = [](const Module& layer, const auto&) {
    const auto& table = dynamic_cast<const Embedding&>(layer);
    const Tensor indices = from_vector<std::int64_t>({0, 3, 1, 3, 2, 3}, {2, 3});
    return table.forward(indices.to(table.weight().device()));
  };
  list.push_back(embedding);

  list.push_back(chain("Sequential", {3, 5}, [](const TensorOptions& t, Generator* g) {
    return std::make_shared<Sequential>(
        std::make_shared<Linear>(LinearOptions{.in_features = 5, .out_features = 6, .tensor = t, .generator = g}),
        std::make_shared<Tanh>(),
        std::make_shared<Linear>(LinearOptions{.in_features = 6, .out_features = 2, .tensor = t, .generator = g}));
  }));
  list.back().large = 1;  // as Tanh
  const auto skip = [](const TensorOptions& t, Generator* g) {
    return std::make_shared<SkipConnection>(
        std::make_shared<Linear>(LinearOptions{.in_features = 6, .out_features = 6, .tensor = t, .generator = g}),
        DropoutOptions{.p = 0.3, .generator = g});
  };
  list.push_back(chain("SkipConnection", {3, 6}, skip));
  list.push_back(chain("NormedSkipConnection", {3, 6}, [skip](const TensorOptions& t, Generator* g) {
    return fuse(skip(t, g), std::make_shared<RMSNorm>(RMSNormOptions{.features = 6, .tensor = t})).layer;
  }));
  list.push_back(chain("RMSNormActivation", {3, 6}, [](const TensorOptions& t, Generator*) {
    return fuse(std::make_shared<RMSNorm>(RMSNormOptions{.features = 6, .bias = true, .tensor = t}),
                std::make_shared<Mish>())
        .layer;
  }));
  LayerEntry rope = plain_entry<RoPE>("RoPE", {2, 5, 3, 6}, RoPEOptions{.dim = 4});
  list.push_back(rope);
}

}  // namespace trinix::testing
