// Every layer on every device, in every dtype, with every kernel: results and gradients against the composed reference
// in f64, with errors at most twice those of the composed reference in the same dtype.
#include "registry.h"
#include "support/on_device.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <set>

namespace trinix::testing {
namespace {

using nn::Module;

/// ||a - b||^2, infinite where a is not finite.
double squared_distance(const Tensor& a, const std::vector<double>& b) {
  const std::vector<double> values = a.to_doubles();
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (!std::isfinite(values[i])) return std::numeric_limits<double>::infinity();
    sum += (values[i] - b[i]) * (values[i] - b[i]);
  }
  return sum;
}

/// What no result need be nearer to the truth than: one rounding in 16 bits; in f32 what an elementwise function may
/// err by. In f64 the composed reference is what others are compared with, and has no error of its own.
double rounding(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-12;
    case DType::f32:
      return std::ldexp(1, -21);
    case DType::f16:
      return std::ldexp(1, -11);
    default:
      return std::ldexp(1, -8);
  }
}

/// The result, then the gradients of inputs and parameters.
struct Outcome {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
};

class Run {
 public:
  Run(const LayerEntry& entry, std::uint64_t seed, double scale) : entry_(entry), values_(seed) {
    module_ = entry.make({DType::f64}, &generator_);
    shake(*module_, values_);
    for (const Shape& shape : entry.inputs) inputs_.push_back(randn(shape, {DType::f64}, &values_) * scale);
  }

  /// Rounds all values to the dtype; what is measured afterwards begins from equal values in every dtype.
  void round_to(DType dtype) {
    for (const Tensor& p : module_->parameters()) p.detach().copy_(p.detach().to(dtype));
    for (Tensor& x : inputs_) x = x.to(dtype).to(DType::f64);
    upstream_ = {};
    dtype_ = dtype;
  }

  [[nodiscard]] Outcome measure(Device device, DType dtype, KernelChoice kernel) {
    Generator generator(9);
    const auto module = entry_.make({DType::f32}, &generator);
    module->load_state_dict(module_->state_dict());
    module->to(dtype);
    module->to(device);
    std::vector<Tensor> inputs;
    for (const Tensor& x : inputs_) inputs.push_back(x.to(dtype).to(device).clone().requires_grad_());
    generator.manual_seed(9);
    const KernelScope scope(kernel);
    const Tensor y = entry_.call(*module, inputs);
    if (!upstream_.defined()) {
      upstream_ = randn(y.shape(), {DType::f64}, &values_).to(dtype_).to(DType::f64);
      if (upstream_.numel() == 1) upstream_ = ones_like(upstream_);  // of a loss
    }
    y.backward(upstream_.to(y.dtype()).to(device));
    Outcome outcome{{"result"}, {y.detach()}};
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      outcome.names.push_back("gradient of input " + std::to_string(i));
      outcome.tensors.push_back(inputs[i].grad());
    }
    for (const auto& [name, p] : module->named_parameters()) {
      outcome.names.push_back("gradient of " + name);
      outcome.tensors.push_back(p.grad());
    }
    return outcome;
  }

 private:
  const LayerEntry& entry_;
  Generator values_;
  Generator generator_{1};
  std::shared_ptr<Module> module_;
  std::vector<Tensor> inputs_;
  Tensor upstream_;
  DType dtype_ = DType::f64;
};

/// Relative error of each tensor, by the Frobenius norm over several draws of all values: one draw of a small tensor
/// may meet the truth by chance.
class Errors {
 public:
  void add(const Outcome& outcome, const std::vector<std::vector<double>>& exact) {
    distances_.resize(exact.size());
    magnitudes_.resize(exact.size());
    names_ = outcome.names;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      ASSERT_TRUE(outcome.tensors[i].defined()) << names_[i];
      distances_[i] += squared_distance(outcome.tensors[i], exact[i]);
      for (const double v : exact[i]) magnitudes_[i] += v * v;
    }
  }

  void expect_at_most_twice(const Errors& reference, double rounding) const {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      EXPECT_LE(relative(i), std::max(2 * reference.relative(i), rounding)) << names_[i];
    }
  }

 private:
  [[nodiscard]] double relative(std::size_t i) const { return std::sqrt(distances_[i] / magnitudes_[i]); }

  std::vector<std::string> names_;
  std::vector<double> distances_;
  std::vector<double> magnitudes_;
};

/// The composed reference, the kernels that are chosen by themselves, and each family where an op has more than one.
std::vector<Kernel> kernels_of(Device device) {
  std::map<std::string, std::set<Kernel>> families;
  for (const KernelInfo& k : list_kernels()) {
    if (k.device == device.type) families[k.op].insert(k.kind);
  }
  const bool choice = std::any_of(families.begin(), families.end(), [](const auto& f) { return f.second.size() > 1; });
  if (!choice) return {Kernel::reference, Kernel::automatic};
  return {Kernel::reference, Kernel::automatic, Kernel::fused, Kernel::flash};
}

/// How many draws it takes to know errors well enough to compare them. An error that is estimated from n independent
/// numbers is itself uncertain by 1 / sqrt(2 n), and the quotient of two by 1 / sqrt(n): with n = 64 twice the error is
/// more than five standard deviations away from the same error. The numbers of one draw depend on one another, so where
/// a tensor has few of them it is the draws that count. Four draws of a bias of four numbers made 0.0165 of an error
/// that is 0.049, and of another kernel's, which is 0.047, they made 0.042.
int draws_for(const LayerEntry& entry) {
  constexpr std::int64_t kNumbers = 256, kMostDraws = 64;
  Generator generator(1);
  std::int64_t fewest = kNumbers;
  for (const Tensor& p : entry.make({DType::f32}, &generator)->parameters()) fewest = std::min(fewest, p.numel());
  for (const Shape& shape : entry.inputs) fewest = std::min(fewest, numel(shape));
  const std::int64_t least = entry.is_small ? 12 : 4;
  return static_cast<int>(std::clamp(kNumbers / std::max<std::int64_t>(fewest, 1), least, kMostDraws));
}

void check(const LayerEntry& entry, DType dtype, double scale) {
  struct Measured {
    Device device;
    Kernel kernel;
    Errors errors;
  };
  std::vector<Measured> all;
  for (const Device device : test_devices()) {
    for (const Kernel kernel : kernels_of(device)) all.push_back({device, kernel, {}});
  }
  const int draws = dtype == DType::f64 ? 1 : draws_for(entry);
  for (int draw = 0; draw < draws; ++draw) {
    Run run(entry, static_cast<std::uint64_t>(draw), scale);
    run.round_to(dtype);
    std::vector<std::vector<double>> exact;
    for (const Tensor& t : run.measure(Device::cpu(), DType::f64, Kernel::reference).tensors) {
      exact.push_back(t.to_doubles());
    }
    for (Measured& m : all) m.errors.add(run.measure(m.device, dtype, {m.kernel, OnUnavailable::fallback}), exact);
  }
  const Errors* reference = nullptr;
  for (const Measured& m : all) {
    SCOPED_TRACE(m.device.to_string() + " " + std::string(name(dtype)) + " " + std::string(name(m.kernel)));
    if (m.kernel == Kernel::reference) reference = &m.errors;
    m.errors.expect_at_most_twice(*reference, rounding(dtype));
  }
}

class Precision : public ::testing::TestWithParam<LayerEntry> {};

TEST_P(Precision, AtMostTwiceTheErrorOfTheComposedReference) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) check(GetParam(), dtype, 1);
}

/// Activations as large as residual streams get them.
TEST_P(Precision, WithLargeInputs) {
  if (GetParam().inputs.empty()) return;  // there is nothing to enlarge
  for (const DType dtype : {DType::f32, DType::bf16}) check(GetParam(), dtype, GetParam().large);
}

std::vector<LayerEntry> measured_layers() {
  std::vector<LayerEntry> list = layer_registry();
  std::erase_if(list, [](const LayerEntry& entry) { return !entry.is_measured; });
  return list;
}

INSTANTIATE_TEST_SUITE_P(Layers, Precision, ::testing::ValuesIn(measured_layers()), [](const auto& info) {
  std::string name;
  for (const char c : info.param.name) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
});

}  // namespace
}  // namespace trinix::testing
