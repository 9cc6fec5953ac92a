#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include <trinix/trinix.h>

/// @file
/// Every layer of the library, ready to be built and called. A new layer gets an entry here, and with it the tests of
/// gradients and of precision; a test fails when it has none.

namespace trinix::testing {

struct LayerEntry {
  std::string name;
  std::function<std::shared_ptr<nn::Module>(const TensorOptions&, Generator*)> make;
  /// Shapes of the floating-point inputs, all of which get gradients.
  std::vector<Shape> inputs;
  /// A result that depends on every input and parameter. The generator is set back before each call.
  std::function<Tensor(const nn::Module&, const std::vector<Tensor>&)> call;
  /// Few enough values for finite differences.
  bool is_small = true;
  /// Enough values for errors to be compared: in a handful of numbers chance decides whose rounding is better.
  bool is_measured = true;
  /// Standard deviation of inputs that count as large. Attention's are smaller: its scores grow with their square, and
  /// a softmax that picks one key turns rounding into another pick.
  double large = 30;
};

[[nodiscard]] std::vector<LayerEntry> layer_registry();
/// For GoogleTest, which would print bytes.
void PrintTo(const LayerEntry& entry, std::ostream* out);

// The parts of it, by file.
void add_basic_layers(std::vector<LayerEntry>& list);
void add_attention_layers(std::vector<LayerEntry>& list);
void add_models(std::vector<LayerEntry>& list);

/// An entry for a layer with an options struct and one input.
template <class L, class Options>
LayerEntry layer_entry(const std::string& name, Options options, const Shape& input) {
  return {.name = name,
          .make =
              [options](const TensorOptions& tensor, Generator* generator) {
                Options o = options;
                if constexpr (requires { o.tensor; }) o.tensor = tensor;
                if constexpr (requires { o.generator; }) o.generator = generator;
                return std::make_shared<L>(o);
              },
          .inputs = {input},
          .call = [](const nn::Module& layer, const auto& x) { return dynamic_cast<const L&>(layer).forward(x[0]); }};
}

/// An entry for a layer without parameters and options that matter here.
template <class L, class... Args>
LayerEntry plain_entry(const std::string& name, const Shape& input, Args... args) {
  return {.name = name,
          .make = [=](const TensorOptions&, Generator*) { return std::make_shared<L>(args...); },
          .inputs = {input},
          .call = [](const nn::Module& layer, const auto& x) { return dynamic_cast<const L&>(layer).forward(x[0]); }};
}

/// Moves the values of parameters away from the ones and zeros of initialisation, where mistakes hide.
void shake(const nn::Module& module, Generator& generator);

}  // namespace trinix::testing
