#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/autograd/grad_mode.h>
#include <trinix/core/error.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/module.h>
#include <trinix/layers/sequential.h>

namespace trinix::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names_of(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> names;
  for (const auto& t : tensors) names.push_back(t.name);
  return names;
}

std::vector<std::string> names_of(const StateDict& state) {
  std::vector<std::string> names;
  for (const auto& t : state) names.push_back(t.name);
  return names;
}

/// Text of the ConfigError that `f` throws.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

class Leaf : public Module {
 public:
  explicit Leaf(double start) {
    a = register_parameter("a", full({2, 3}, start));
    count = register_buffer("count", zeros({1}, {DType::i64}));
    scratch = register_buffer("scratch", zeros({4}), {.persistent = false});
  }
  Tensor a, count, scratch;
};

/// Two leaves, and a parameter tied to one of theirs.
class Tree : public Module {
 public:
  Tree() {
    own = register_parameter("own", full({5}, 7.0));
    left = register_module("left", std::make_shared<Leaf>(1.0));
    right = register_module("right", std::make_shared<Leaf>(2.0));
    register_parameter("tied", left->a);
  }
  Tensor own;
  std::shared_ptr<Leaf> left, right;
};

TEST(Module, ListsTensorsByPathInOrderOfRegistration) {
  Tree tree;
  EXPECT_THAT(names_of(tree.named_parameters()), ElementsAre("own", "tied", "right.a"));
  EXPECT_THAT(names_of(tree.named_buffers()),
              ElementsAre("left.count", "left.scratch", "right.count", "right.scratch"));
  EXPECT_THAT(names_of(tree.state_dict()),
              ElementsAre("own", "tied", "left.a", "left.count", "right.a", "right.count"));
  EXPECT_EQ(tree.num_parameters(), 5 + 6 + 6);
  std::vector<std::string> modules;
  for (const auto& [path, module] : tree.named_modules()) modules.push_back(path);
  EXPECT_THAT(modules, ElementsAre("", "left", "right"));
}

TEST(Module, ParametersAreTrainedUnlessToldOtherwise) {
  Tree tree;
  for (const Tensor& p : tree.parameters()) EXPECT_TRUE(p.requires_grad());
  Module other;
  EXPECT_FALSE(other.register_parameter("frozen", zeros({2}), false).requires_grad());
  tree.requires_grad_(false);
  for (const Tensor& p : tree.parameters()) EXPECT_FALSE(p.requires_grad());
}

TEST(Module, RefusesBadNamesAndTensors) {
  Module m;
  m.register_parameter("w", zeros({2}));
  m.register_buffer("b", zeros({2}));
  m.register_module("c", std::make_shared<Module>());
  EXPECT_THAT(error_of([&] { m.register_buffer("w", zeros({1})); }), HasSubstr("'w' is taken already by a parameter"));
  EXPECT_THAT(error_of([&] { m.register_parameter("b", zeros({1})); }), HasSubstr("'b' is taken already by a buffer"));
  EXPECT_THAT(error_of([&] { m.register_parameter("c", zeros({1})); }),
              HasSubstr("'c' is taken already by a submodule"));
  EXPECT_THAT(error_of([&] { m.register_parameter("x.y", zeros({1})); }), HasSubstr("'x.y' holds a dot"));
  EXPECT_THAT(error_of([&] { m.register_parameter("", zeros({1})); }), HasSubstr("must have a name"));
  EXPECT_THAT(error_of([&] { m.register_parameter("n", Tensor()); }), HasSubstr("'n' is undefined"));
  EXPECT_THAT(error_of([&] { m.register_module("n", std::shared_ptr<Module>()); }), HasSubstr("'n' is null"));
  EXPECT_THAT(error_of([&] { m.register_parameter("t", zeros({2, 3}).transpose(0, 1)); }), HasSubstr("row-major"));
  EXPECT_THROW(m.register_parameter("i", zeros({2}, {DType::i64})), DtypeError);
  auto self = std::make_shared<Module>();
  EXPECT_THAT(error_of([&] { self->register_module("me", self); }), HasSubstr("contains the module"));
}

TEST(Module, ModesReachEverythingAndAreRestored) {
  Tree tree;
  EXPECT_TRUE(tree.left->is_training());
  tree.eval();
  EXPECT_FALSE(tree.left->is_training());
  tree.train();
  tree.right->eval();
  {
    const EvalScope scope(tree);
    EXPECT_FALSE(tree.is_training() || tree.left->is_training() || tree.right->is_training());
  }
  EXPECT_TRUE(tree.is_training());
  EXPECT_TRUE(tree.left->is_training());
  EXPECT_FALSE(tree.right->is_training());
}

TEST(Module, ConversionKeepsHandlesAndLeavesIntegersAlone) {
  Tree tree;
  const Tensor handle = tree.right->a;
  const Tensor tied = tree.left->a;
  tree.right->a.set_grad(ones({2, 3}));
  tree.to(DType::f64);
  EXPECT_EQ(handle.dtype(), DType::f64);
  EXPECT_EQ(tied.dtype(), DType::f64);
  EXPECT_EQ(tree.left->count.dtype(), DType::i64);
  EXPECT_EQ(tree.left->scratch.dtype(), DType::f64);
  EXPECT_FALSE(handle.grad().defined());
  EXPECT_TRUE(handle.requires_grad());
  EXPECT_EQ(handle.to_doubles(), std::vector<double>(6, 2.0));
  EXPECT_THAT(names_of(tree.named_parameters()), ElementsAre("own", "tied", "right.a"));
  EXPECT_THROW(tree.to(DType::i64), DtypeError);
}

TEST(Module, ConversionToTheSameDtypeKeepsGradients) {
  Tree tree;
  tree.right->a.set_grad(ones({2, 3}));
  tree.to(DType::f32);
  EXPECT_TRUE(tree.right->a.grad().defined());
  tree.zero_grad();
  EXPECT_EQ(tree.right->a.grad().to_doubles(), std::vector<double>(6, 0.0));
}

TEST(LoadStateDict, RoundTrip) {
  Tree from, to;
  const NoGrad no_grad;
  from.own.copy_(arange(0, 5, 1, {DType::f32}).detach());
  from.right->count.copy_(full({1}, 41, {DType::i64}));
  to.left->a.copy_(full({2, 3}, -1.0));
  const LoadReport report = to.load_state_dict(from.state_dict());
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
  const StateDict a = from.state_dict(), b = to.state_dict();
  for (const auto& [name, tensor] : a) EXPECT_EQ(tensor.to_doubles(), b.at(name).to_doubles()) << name;
  EXPECT_NE(a.at("own").storage(), b.at("own").storage());
}

TEST(LoadStateDict, OneErrorListsEverythingAndNothingIsLoaded) {
  Tree tree;
  StateDict state{{"own", zeros({6})},
                  {"left.a", zeros({2, 3})},
                  {"left.count", zeros({1}, {DType::f32})},
                  {"right.b", zeros({1})}};
  const std::string text = error_of([&] { tree.load_state_dict(state); });
  EXPECT_EQ(text,
            "[load_state_dict] the state does not fit the module, and nothing was loaded:\n"
            "  missing: right.a, right.count\n"
            "  unexpected: right.b\n"
            "  mismatched: own is [5] in the module and [6] in the state, "
            "left.count is i64 in the module and f32 in the state");
  EXPECT_EQ(tree.left->a.to_doubles(), std::vector<double>(6, 1.0));
}

TEST(LoadStateDict, NotStrictReportsWhatIsMissing) {
  Tree tree;
  const LoadReport report = tree.load_state_dict({{"own", zeros({5})}, {"extra", zeros({1})}}, false);
  EXPECT_THAT(report.missing, ElementsAre("tied", "left.a", "left.count", "right.a", "right.count"));
  EXPECT_THAT(report.unexpected, ElementsAre("extra"));
  EXPECT_EQ(tree.own.to_doubles(), std::vector<double>(5, 0.0));
  EXPECT_THAT(error_of([&] { tree.load_state_dict({{"own", zeros({1})}}, false); }), HasSubstr("own is [5]"));
}

TEST(LoadStateDict, OneNameOfATiedParameterIsEnough) {
  Tree tree;
  StateDict state;
  for (const auto& [name, tensor] : Tree().state_dict()) {
    if (name != "tied") state.insert(name, tensor);
  }
  EXPECT_TRUE(tree.load_state_dict(state).missing.empty());
  state.insert("tied", full({2, 3}, 9.0));
  EXPECT_THAT(error_of([&] { tree.load_state_dict(state); }), HasSubstr("tied to another parameter"));
}

TEST(LoadStateDict, ConvertsWithinFloatingPoint) {
  Tree tree;
  StateDict state;
  for (const auto& [name, tensor] : tree.state_dict().clone()) {
    state.insert(name, is_floating(tensor.dtype()) ? full(tensor.shape(), 0.5, {DType::f64}) : tensor);
  }
  tree.load_state_dict(state);
  EXPECT_EQ(tree.own.dtype(), DType::f32);
  EXPECT_EQ(tree.own.to_doubles(), std::vector<double>(5, 0.5));
}

TEST(StateDict, FindsByNameAndRefusesRepeats) {
  StateDict state{{"a", zeros({1})}, {"b", ones({1})}};
  EXPECT_EQ(state.size(), 2U);
  EXPECT_EQ(state.at("b").item<float>(), 1);
  EXPECT_EQ(state.find("c"), nullptr);
  EXPECT_THAT(error_of([&] { (void)state.at("c"); }), HasSubstr("no tensor named 'c'"));
  EXPECT_THAT(error_of([&] { state.insert("a", zeros({1})); }), HasSubstr("'a' is taken"));
  EXPECT_THAT(error_of([&] { state.insert("d", Tensor()); }), HasSubstr("'d' is an undefined tensor"));
}

}  // namespace
}  // namespace trinix::nn
