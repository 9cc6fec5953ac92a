// Every parameter of every layer gets a gradient, and the right one: by finite differences in f64.
#include "registry.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace trinix::testing {
namespace {

using nn::Module;

constexpr TensorOptions kF64{DType::f64};

/// An entry brought to life, with a call that does not depend on earlier ones.
struct Subject {
  explicit Subject(const LayerEntry& entry) : call_(entry.call) {
    module = entry.make(kF64, &generator);
    shake(*module, generator);
    for (const Shape& shape : entry.inputs) inputs.push_back(randn(shape, kF64, &generator).requires_grad_());
  }

  [[nodiscard]] Tensor call() {
    generator.manual_seed(9);  // the same dropout mask every time
    return call_(*module, inputs);
  }

  Generator generator{5};
  std::shared_ptr<Module> module;
  std::vector<Tensor> inputs;

 private:
  std::function<Tensor(const Module&, const std::vector<Tensor>&)> call_;
};

TEST(LayerGradients, EveryParameterAndInputByFiniteDifferences) {
  for (const LayerEntry& entry : layer_registry()) {
    if (!entry.is_small) continue;
    SCOPED_TRACE(entry.name);
    Subject subject(entry);
    std::vector<Tensor> leaves = subject.inputs;
    for (const Tensor& p : subject.module->parameters()) leaves.push_back(p);
    const GradcheckReport report = gradcheck([&](const auto&) { return subject.call(); }, leaves);
    EXPECT_TRUE(report.ok) << report.message;
  }
}

TEST(LayerGradients, NoneIsMissingOrZero) {
  for (const LayerEntry& entry : layer_registry()) {
    SCOPED_TRACE(entry.name);
    Subject subject(entry);
    const Tensor y = subject.call();
    // Weights, so that a sum that a normalisation keeps constant does not hide a gradient.
    sum(y * randn(y.shape(), kF64, &subject.generator)).backward();
    const auto expect_gradient = [](const std::string& name, const Tensor& t) {
      ASSERT_TRUE(t.grad().defined()) << name;
      EXPECT_GT(max(abs(t.grad())).item<double>(), 1e-6) << name;
    };
    for (std::size_t i = 0; i < subject.inputs.size(); ++i) {
      expect_gradient("input " + std::to_string(i), subject.inputs[i]);
    }
    for (const auto& [name, p] : subject.module->named_parameters()) expect_gradient(name, p);
  }
}

/// "Linear" for a trinix::nn::Linear, by its line in summary().
std::set<std::string> classes_in(const Module& module) {
  std::set<std::string> found;
  std::istringstream table(nn::summary(module));
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string name, type;
    if (words >> name >> type) found.insert(type.substr(0, type.find('<')));
  }
  return found;
}

/// Name and base of every class that the headers of layers/ declare.
std::map<std::string, std::string> declared_classes() {
  const auto folder = std::filesystem::path(TRINIX_TEST_DATA) / ".." / ".." / "layers";
  const std::regex declaration(R"(class (\w+)(?: final)? : public (\w+))");
  std::map<std::string, std::string> bases;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    if (file.path().extension() != ".h") continue;
    std::ifstream in(file.path());
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    for (std::sregex_iterator i(text.begin(), text.end(), declaration), end; i != end; ++i) bases[(*i)[1]] = (*i)[2];
  }
  return bases;
}

TEST(LayerGradients, EveryLayerOfTheLibraryIsInTheRegistry) {
  const auto bases = declared_classes();
  std::set<std::string> seen;
  for (const LayerEntry& entry : layer_registry()) {
    Generator generator(1);
    seen.merge(classes_in(*entry.make(kF64, &generator)));
  }
  // Classes that nothing is made of directly, and the slopes of ALiBi, which attention holds where it is used.
  const std::set<std::string> only_bases = {"Layer",         "AttentionLayer",  "PositionMethod",
                                            "LanguageModel", "ActivationLayer", "GatedLinearUnit"};
  std::size_t layers = 0;
  for (const auto& [name, base] : bases) {
    std::string root = base;
    while (root != "Module" && bases.contains(root)) root = bases.at(root);
    if (root != "Module" || only_bases.contains(name)) continue;
    ++layers;
    EXPECT_TRUE(seen.contains(name)) << name << " has no entry in tests/layers/registry_*.cpp";
  }
  EXPECT_GT(layers, 35U) << "the search for classes finds too few";
}

}  // namespace
}  // namespace trinix::testing
