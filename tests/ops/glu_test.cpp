#include "op_case.h"
#include "support/errors.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace trinix::testing {
namespace {

double gate_of(Glu kind, double x) {
  switch (kind) {
    case Glu::swiglu:
      return x / (1 + std::exp(-x));
    case Glu::geglu_erf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Glu::geglu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Glu::reglu:
      break;
  }
  return std::max(x, 0.0);
}

struct Kind {
  const char* name;
  Glu kind;
};
constexpr Kind kKinds[] = {
    {"swiglu", Glu::swiglu}, {"geglu_erf", Glu::geglu_erf}, {"geglu_tanh", Glu::geglu_tanh}, {"reglu", Glu::reglu}};

/// Away from the kink of relu, where a finite difference sees both sides.
void off_zero(std::size_t, std::vector<double>& values) {
  for (double& v : values) {
    if (std::fabs(v) < 0.05) v += 0.1;
  }
}

Array packed_reference(const Array& x, Glu kind, bool gate_first) {
  Array y{x.shape, {}};
  const auto n = static_cast<std::size_t>(x.size(-1) / 2);
  y.shape[y.shape.size() - 1] /= 2;
  for (std::size_t row = 0; n > 0 && row < x.values.size() / (2 * n); ++row) {
    for (std::size_t i = 0; i < n; ++i) {
      const double first = x[row * 2 * n + i];
      const double second = x[row * 2 * n + n + i];
      y.values.push_back(gate_first ? gate_of(kind, first) * second : first * gate_of(kind, second));
    }
  }
  return y;
}

std::vector<OpCase> glu_cases() {
  std::vector<OpCase> list;
  for (const Kind& k : kKinds) {
    const Glu kind = k.kind;
    for (const bool gate_first : {true, false}) {
      const GluOrder order = gate_first ? GluOrder::gate_first : GluOrder::value_first;
      OpCase c{.name = std::string(k.name) + (gate_first ? "_packed" : "_packed_value_first"),
               .inputs = {{2, 3, 38}},
               .function = [kind, order](const auto& x, KernelChoice choice) { return glu(x[0], kind, order, choice); },
               .reference = [kind, gate_first](const auto& x) { return packed_reference(x[0], kind, gate_first); },
               .low = -4,
               .high = 4,
               .has_kernels = true,
               .prepare = off_zero};
      list.push_back(c);
      c.name += "_wide";  // whole vectors, several blocks
      c.inputs = {{3, 80}};
      list.push_back(c);
    }
    OpCase c{.name = std::string(k.name) + "_split",
             .inputs = {{2, 37}, {2, 37}},
             .function = [kind](const auto& x, KernelChoice choice) { return glu(x[0], x[1], kind, choice); },
             .reference =
                 [kind](const auto& x) {
                   Array y = x[1];
                   for (std::size_t i = 0; i < y.values.size(); ++i) y[i] *= gate_of(kind, x[0][i]);
                   return y;
                 },
             .low = -4,
             .high = 4,
             .has_kernels = true,
             .prepare = off_zero};
    list.push_back(c);
    c.name += "_of_nothing";
    c.inputs = {{0, 8}, {0, 8}};
    c.layouts = {Layout::contiguous};
    list.push_back(c);
  }
  return list;
}

class GluOps : public ::testing::TestWithParam<OpCase> {};
TEST_P(GluOps, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, GluOps, ::testing::ValuesIn(glu_cases()),
                         [](const auto& info) { return info.param.name; });

class GluOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, GluOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(GluOnDevice, SaturatesToItsLimits) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    for (const Kind& k : kKinds) {
      for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
        SCOPED_TRACE(std::string(k.name) + " " + std::string(name(dtype)) + " " + std::string(name(kernel)));
        const std::vector<double> gates = {-kInfinity, -1e4, 1e4, kInfinity};
        Tensor gate = from_vector(gates).to(dtype).requires_grad_();
        Tensor value = full({4}, 2, {dtype}).requires_grad_();
        const Tensor y = glu(gate, value, k.kind, kernel);
        y.backward(ones_like(y));
        const double big = gate.to_doubles()[2];  // as rounded to the dtype
        EXPECT_EQ(relative_error(y.to_doubles(), {0, 0, 2 * big, kInfinity}), 0) << y;
        EXPECT_EQ(relative_error(gate.grad().to_doubles(), {0, 0, 2, 2}), 0) << gate.grad();
        EXPECT_EQ(relative_error(value.grad().to_doubles(), {0, 0, big, kInfinity}), 0) << value.grad();
      }
    }
  }
}

TEST_P(GluOnDevice, NanStaysNan) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Kind& k : kKinds) {
    const Tensor y = glu(full({37}, nan, {DType::bf16}), ones({37}, {DType::bf16}), k.kind);
    for (const double v : y.to_doubles()) EXPECT_TRUE(std::isnan(v)) << k.name;
  }
}

TEST_P(GluOnDevice, AClosedGateStopsAnInfiniteGradient) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::string(name(kernel)));
      Tensor gate = full({37}, -1, {dtype}).requires_grad_();
      const Tensor value = full({37}, 2, {dtype});
      glu(gate, value, Glu::reglu, kernel).backward(full({37}, kInfinity, {dtype}));
      EXPECT_EQ(gate.grad().to_doubles(), std::vector<double>(37, 0));
    }
  }
}

TEST_P(GluOnDevice, NanOfAGateReachesItsGradient) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    for (const Kind& k : kKinds) {
      SCOPED_TRACE(std::string(k.name) + " " + std::string(name(dtype)));
      Tensor gate = full({37}, nan, {dtype}).requires_grad_();
      Tensor value = ones({37}, {dtype}).requires_grad_();
      const Tensor y = glu(gate, value, k.kind);
      y.backward(ones_like(y));
      for (const double d : gate.grad().to_doubles()) EXPECT_TRUE(std::isnan(d)) << d;
      for (const double d : value.grad().to_doubles()) EXPECT_TRUE(std::isnan(d)) << d;
    }
  }
}

TEST_P(GluOnDevice, OnlyTheWantedGradientIsMade) {
  for (const Kind& k : kKinds) {
    const Tensor x = randn({5, 33});
    Tensor leaf = randn({5, 33}).requires_grad_();
    sum(glu(leaf, x, k.kind)).backward();
    const Tensor as_gate = leaf.grad().clone();
    Tensor both = leaf.detach().clone().requires_grad_(), other = x.clone().requires_grad_();
    sum(glu(both, other, k.kind)).backward();
    EXPECT_EQ(as_gate.to_doubles(), both.grad().to_doubles());
    leaf.zero_grad();
    sum(glu(x, leaf, k.kind)).backward();
    Tensor value = leaf.detach().clone().requires_grad_(), gate = x.clone().requires_grad_();
    sum(glu(gate, value, k.kind)).backward();
    EXPECT_EQ(leaf.grad().to_doubles(), value.grad().to_doubles());
  }
}

TEST(GluErrors, NameShapesAndDtypes) {
  const Tensor x = ones({2, 3});
  EXPECT_EQ(message_of<ShapeError>([&] { static_cast<void>(glu(x, Glu::swiglu)); }),
            "[glu] the last dim of shape [2, 3] cannot be split into a gate and a value of one size");
  EXPECT_EQ(message_of<ShapeError>([&] {
              static_cast<void>(glu(x, ones({2, 4}), Glu::reglu));
            }),
            "[glu] the gate has shape [2, 3], the value [2, 4]; they must be equal");
  EXPECT_EQ(message_of<DtypeError>([&] { static_cast<void>(glu(x, x.to(DType::f64), Glu::reglu)); }),
            "[glu] the gate is f32, the value f64; convert one with to()");
  EXPECT_NE(message_of<DtypeError>([&] { static_cast<void>(glu(arange(4), Glu::reglu)); }).find("[glu]"),
            std::string::npos);
  EXPECT_NE(message_of<KernelUnavailable>([&] {
              static_cast<void>(glu(ones({2, 4}), Glu::reglu, GluOrder::gate_first, Kernel::flash));
            }).find("[glu]"),
            std::string::npos);
}

}  // namespace
}  // namespace trinix::testing
