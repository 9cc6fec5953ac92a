// Normalisation at the edges: no rows, constant and zero rows, NaN, large norms, any number of threads, mistakes.
#include "naive_norm.h"
#include "support/errors.h"

#include <gtest/gtest.h>
#include <limits>

#include <trinix/autograd/step_graph.h>

namespace trinix::testing {
namespace {

/// The ops here by name: {y, and the sum where there is one}.
struct NamedNorm {
  const char* name;
  Centre about;
  Tensor (*call)(const Tensor& x, const Tensor& weight, const Tensor& bias);
};
constexpr NamedNorm kNorms[] = {
    {"layer_norm", Centre::mean,
     [](const Tensor& x, const Tensor& w, const Tensor& b) { return layer_norm(x, w, b, kEps); }},
    {"rms_norm", Centre::zero,
     [](const Tensor& x, const Tensor& w, const Tensor& b) { return rms_norm(x, w, b, kEps); }},
    {"add_layer_norm", Centre::mean,
     [](const Tensor& x, const Tensor& w, const Tensor& b) {
       return add_layer_norm(x, zeros_like(x), w, b, kEps).second;
     }},
    {"add_rms_norm", Centre::zero,
     [](const Tensor& x, const Tensor& w, const Tensor& b) {
       return add_rms_norm(x, zeros_like(x), w, b, kEps).second;
     }},
};

class NormEdgesOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, NormEdgesOnDevice, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(NormEdgesOnDevice, NoRowsGiveZeroGradients) {
  for (const NamedNorm& norm : kNorms) {
    SCOPED_TRACE(norm.name);
    Tensor weight = ones({4}).requires_grad_();
    Tensor bias = ones({4}).requires_grad_();
    const Tensor y = norm.call(zeros({0, 4}), weight, bias);
    y.backward(ones_like(y));
    EXPECT_EQ(weight.grad().to_doubles(), std::vector<double>(4, 0));
    EXPECT_EQ(bias.grad().to_doubles(), std::vector<double>(4, 0));
  }
}

TEST_P(NormEdgesOnDevice, NoColumnsGiveNothing) {
  for (const NamedNorm& norm : kNorms) EXPECT_EQ(norm.call(zeros({3, 0}), {}, {}).shape(), (Shape{3, 0})) << norm.name;
}

TEST_P(NormEdgesOnDevice, AConstantRowGivesTheBiasAndALargeOffsetKeepsItsDigits) {
  const Tensor bias = from_vector<float>({1, 2, 3, 4});
  EXPECT_EQ(layer_norm(full({1, 4}, 7.0F), ones({4}), bias).to_vector<float>(), (std::vector<float>{1, 2, 3, 4}));
  // With the one-pass formula the variance of these would be lost.
  const std::vector<float> y = layer_norm(from_vector<float>({10000, 10001, 10002, 10003}, {1, 4})).to_vector<float>();
  const double sd = std::sqrt(1.25 + kEps);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(y[static_cast<std::size_t>(i)], (i - 1.5) / sd, 1e-5);
}

TEST_P(NormEdgesOnDevice, AZeroRowGivesTheBiasAndAFiniteGradient) {
  for (const NamedNorm& norm : kNorms) {
    for (const std::int64_t columns : {24, 1301}) {
      SCOPED_TRACE(norm.name);
      Tensor x = zeros({2, columns}).requires_grad_();
      const Tensor bias = full({columns}, 0.5F);
      const Tensor y = norm.call(x, ones({columns}), bias);
      EXPECT_EQ(y.to_doubles(), std::vector<double>(static_cast<std::size_t>(2 * columns), 0.5));
      y.backward(ones_like(y));
      for (const double g : x.grad().to_doubles()) ASSERT_TRUE(std::isfinite(g));
    }
  }
}

TEST_P(NormEdgesOnDevice, NanAndInfinityStayInTheirRow) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const NamedNorm& norm : kNorms) {
    for (const std::int64_t columns : {40, 1304, 2501}) {
      for (const float bad : {kNan, kInfinity}) {
        SCOPED_TRACE(norm.name);
        const auto n = static_cast<std::size_t>(columns);
        std::vector<double> values = random_values(3 * n, 5);
        values[n + 3] = static_cast<double>(bad);
        Tensor x = from_vector(values, {3, columns}).to(DType::f32).requires_grad_();
        const Tensor y = norm.call(x, ones({columns}), {});
        sum(square(y)).backward();
        const auto out = y.to_doubles(), gradient = x.grad().to_doubles();
        for (std::size_t i = 0; i < 3 * n; ++i) {
          const bool bad_row = i / n == 1;
          ASSERT_TRUE(bad_row || (std::isfinite(out[i]) && std::isfinite(gradient[i]))) << i;
        }
        EXPECT_TRUE(std::isnan(out[n + 3]));
      }
    }
  }
}

/// Activations of trained models: norms of 1e4, with a few channels far above the others.
TEST_P(NormEdgesOnDevice, LargeNormsAndOutliersKeepTheirDigits) {
  for (const NamedNorm& norm : kNorms) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(norm.name);
      constexpr std::int64_t rows = 5, columns = 520;
      std::vector<double> values = random_values(rows * columns, 6, -1e3, 1e3);
      for (std::size_t row = 0; row < rows; ++row) values[row * columns + 17 * row] = row % 2 == 0 ? 1e4 : -1e4;
      Tensor x = from_vector(values, {rows, columns}).to(dtype).requires_grad_();
      const Tensor y = norm.call(x, ones({columns}, {dtype}), {});
      const Array exact = naive_norm(to_array(x), norm.about, nullptr, nullptr, kEps);
      const double tolerance = dtype == DType::f32 ? 1e-6 : dtype == DType::bf16 ? 3e-3 : 4e-4;
      EXPECT_LT(relative_error(y.to_doubles(), exact.values), tolerance);
      const Tensor direction = from_vector(random_values(rows * columns, 7), {rows, columns});
      const auto gradient = [&](const Tensor& leaf) {
        return grad(norm.call(leaf, ones({columns}, {leaf.dtype()}), {}), {leaf}, direction.to(leaf.dtype()))[0]
            .to_doubles();
      };
      const Tensor wide = x.detach().to(DType::f64).requires_grad_();
      EXPECT_LT(relative_error(gradient(x), gradient(wide)), 3 * tolerance);
    }
  }
}

/// On cards where a kernel may start before the one in front of it has ended: it must still see all that came before.
TEST_P(NormEdgesOnDevice, ManyInARowAndReplayedGiveWhatTheyGiveOneByOne) {
  for (const std::int64_t columns : {64, 1000, 1024, 5120}) {
    SCOPED_TRACE(columns);
    Tensor x = from_vector(random_values(static_cast<std::size_t>(300 * columns), 8), {300, columns})
                   .to(DType::bf16)
                   .requires_grad_();
    Tensor w = full({columns}, 1.25, {DType::bf16}).requires_grad_(), b = zeros({columns}, {DType::bf16});
    const auto chain = [&](bool one_by_one) {
      Tensor y = x;
      for (int i = 0; i < 8; ++i) {
        if (i % 4 == 3) static_cast<void>(zeros({columns}));  // and something that is no kernel
        const Tensor z = i % 3 == 0 ? layer_norm(y, w, b) : i % 3 == 1 ? rms_norm(y, w) : add_rms_norm(y, x, w).second;
        y = i % 2 == 0 ? z * 3.0 : z;  // an ordinary kernel in between, here and there
        if (one_by_one) synchronize(y.device());
      }
      const std::vector<Tensor> gradients = grad(y, {x, w}, ones_like(y));
      return std::vector<Tensor>{y.detach(), gradients[0], gradients[1]};
    };
    const auto values = [](const std::vector<Tensor>& of) {
      std::vector<std::vector<double>> all;
      for (const Tensor& t : of) all.push_back(t.to_doubles());
      return all;
    };
    const auto expected = values(chain(true));
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(values(chain(false)) == expected) << "run " << i;
    StepGraph graph(x.device(), [&](const std::vector<Tensor>&) { return chain(false); });
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(values(graph()) == expected) << "step " << i;
  }
}

TEST(NormEdges, ResultsDoNotDependOnTheNumberOfThreads) {
  const auto results = [](int threads) {
    set_num_threads(threads);
    std::vector<float> all;
    for (const auto& [rows, columns] : {std::pair{2000, 64}, {300, 1001}}) {
      for (const NamedNorm& norm : kNorms) {
        Tensor w = ones({columns}).requires_grad_(), b = zeros({columns}).requires_grad_();
        Tensor x = from_vector(random_values(static_cast<std::size_t>(rows * columns), 5), {rows, columns})
                       .to(DType::f32)
                       .requires_grad_();
        const Tensor y = norm.call(x, w, b);
        sum(square(y)).backward();
        for (const Tensor& t : {y, x.grad(), w.grad(), b.grad()}) {
          const auto values = t.to_vector<float>();
          all.insert(all.end(), values.begin(), values.end());
        }
      }
      Generator g(2);
      Tensor x = from_vector(random_values(static_cast<std::size_t>(rows * columns), 5), {rows, columns})
                     .to(DType::f32)
                     .requires_grad_();
      Tensor branch = (x.detach() * 0.5).requires_grad_();
      Tensor w = ones({columns}).requires_grad_();
      sum(square(add_rms_norm(x, branch, w, {}, kEps, {}, {.p = 0.3, .generator = &g}).second)).backward();
      sum(square(rms_norm_activation(x, w, {}, Activation::silu))).backward();
      for (const Tensor& t : {x.grad(), branch.grad(), w.grad()}) {
        const auto values = t.to_vector<float>();
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    set_num_threads(0);
    return all;
  };
  EXPECT_EQ(results(1), results(3));
}

TEST(NormEdges, MistakesAreExplained) {
  EXPECT_EQ(message_of<ShapeError>([] {
              (void)layer_norm(zeros({2, 3}), zeros({4}));
            }),
            "[layer_norm] the weight has shape [4], but the last dim of the input of shape [2, 3] asks for [3]");
  EXPECT_EQ(message_of<DtypeError>([] {
              (void)layer_norm(zeros({2, 3}), {}, zeros({3}, {DType::f64}));
            }),
            "[layer_norm] the input is f32, but the bias is f64; convert one with to()");
  EXPECT_EQ(message_of<DtypeError>([] {
              (void)layer_norm(zeros({2, 3}, {DType::i64}));
            }),
            "[layer_norm] takes floating-point tensors, got i64 of shape [2, 3]; convert it with to()");
  EXPECT_EQ(message_of<ShapeError>([] {
              (void)add_layer_norm(zeros({2, 3}), zeros({3}));
            }),
            "[add_layer_norm] x has shape [2, 3], the branch [3]; they must be equal");
  EXPECT_EQ(message_of<ShapeError>([] {
              (void)rms_norm(zeros({2, 3}), zeros({3, 1}));
            }),
            "[rms_norm] the weight has shape [3, 1], but the last dim of the input of shape [2, 3] asks for [3]");
  EXPECT_EQ(message_of<ShapeError>([] { (void)rms_norm(zeros({})); }),
            "[rms_norm] the input has no dims; the last dim is normalised, so give it one");
  EXPECT_EQ(message_of<DtypeError>([] {
              (void)add_rms_norm(zeros({2, 3}), zeros({2, 3}, {DType::f64}));
            }),
            "[add_rms_norm] x is f32, the branch f64; convert one with to()");
  EXPECT_EQ(message_of<ConfigError>([] {
              (void)add_rms_norm(zeros({2, 3}), zeros({2, 3}), {}, {}, 1e-6, {}, {.p = 2});
            }),
            "[add_rms_norm] the probability of dropping must be between 0 and 1, got 2");
  EXPECT_EQ(message_of<ShapeError>([] {
              (void)rms_norm_activation(zeros({2, 3}), {}, zeros({2}), Activation::silu);
            }),
            "[rms_norm_activation] the bias has shape [2], but the last dim of the input of shape [2, 3] asks for [3]");
}

}  // namespace
}  // namespace trinix::testing
