// The kernels behind the optimizers; their behaviour over many steps is tested in tests/optim.
#include "op_case.h"

#include <cmath>
#include <gtest/gtest.h>

#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/core/ops/grad_scale.h>
#include <trinix/core/ops/moving_average.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/muon.h>

namespace trinix::testing {
namespace {

TEST(OptimizerOps, AdamWMakesTheStepOfItsFormula) {
  const auto values = random_values(1037, 1);
  const auto gradient = random_values(1037, 2);
  for (const Device device : test_devices()) {
    Tensor p = from_vector(values).to(device).requires_grad_();
    p.set_grad(from_vector(gradient).to(device));
    optim::AdamW adamw(std::vector<Tensor>{p}, {.lr = 0.01, .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.3});
    std::vector<double> expected = values, m(values.size()), v(values.size());
    for (int step = 1; step <= 3; ++step) {
      adamw.step({.grad_scale = 0.5});
      note_kernels_run();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double g = 0.5 * gradient[i];
        m[i] = 0.8 * m[i] + 0.2 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        const double m_hat = m[i] / (1 - std::pow(0.8, step));
        const double v_hat = v[i] / (1 - std::pow(0.95, step));
        expected[i] -= 0.01 * 0.3 * expected[i] + 0.01 * m_hat / (std::sqrt(v_hat) + 1e-6);
      }
    }
    EXPECT_LT(relative_error(p.to_doubles(), expected), 1e-12);
  }
}

TEST(OptimizerOps, MuonMovesAlongTheOrthogonalisedMomentum) {
  const std::int64_t rows = 30, cols = 44;
  const auto values = random_values(static_cast<std::size_t>(rows * cols), 1);
  for (const Device device : test_devices()) {
    Tensor p = from_vector(values, {rows, cols}).to(device).requires_grad_();
    optim::Muon muon(std::vector<Tensor>{p}, {.lr = 0.1, .weight_decay = 0.3, .scale = optim::MuonScale::spectral});
    Tensor expected = p.detach().clone(), m = zeros_like(expected);
    for (int step = 1; step <= 3; ++step) {
      const auto seed = static_cast<std::uint64_t>(1 + step);
      const Tensor g = from_vector(random_values(static_cast<std::size_t>(rows * cols), seed), {rows, cols}).to(device);
      p.set_grad(g);
      muon.step({.grad_scale = 0.5});
      note_kernels_run();
      const NoGrad no_grad;
      m = m * 0.95 + g * (0.5 * 0.05);
      const Tensor direction = optim::newton_schulz(m * 0.95 + g * (0.5 * 0.05), {.kernel = Kernel::reference});
      expected = expected * (1 - 0.1 * 0.3) - direction * (0.1 * std::sqrt(30.0 / 44.0));
    }
    EXPECT_LT(relative_error(p.to_doubles(), expected.to_doubles()), 1e-11);
  }
}

TEST(OptimizerOps, NewtonSchulzOfEveryKernelIsTheComposedOne) {
  // Rows and columns of multiples of 8, which the kernel that computes symmetric products by half takes: one to three
  // of its tiles of 128, the last of them partly filled, wide and tall; on a card enough matrices for its tiles of 192,
  // too.
  const std::vector<std::pair<DType, double>> tolerances = {
      {DType::f32, 1e-3}, {DType::bf16, 0.05}, {DType::f16, 0.01}};
  const auto steps = optim::newton_schulz_steps(optim::NewtonSchulzCoefficients::quintic, 5);
  for (const Device device : test_devices()) {
    for (const auto& [dtype, tolerance] : tolerances) {
      std::vector<Shape> shapes = {{2, 136, 200}, {2, 200, 136}, {3, 64, 64}, {1, 264, 328}};
      if (device.is_cuda()) shapes.insert(shapes.end(), {{70, 200, 264}, {70, 264, 200}});
      for (const Shape& shape : shapes) {
        const auto values = random_values(static_cast<std::size_t>(numel(shape)), 1);
        // Of norm 1 each, as the kernels take them.
        const Tensor raw = from_vector(values, shape);
        const Tensor x = (raw / sqrt(sum(raw * raw, {1, 2}, true))).to(dtype).to(device);
        const Tensor work =
            empty({2 * shape[0] * std::min(shape[1], shape[2]) * std::min(shape[1], shape[2])}, {dtype, device});
        const Tensor composed = empty_like(x);
        optim::newton_schulz_(x.clone(), composed, work, {.kernel = Kernel::reference});
        for (const Impl<NewtonSchulz>& impl : KernelTable<NewtonSchulz>::instance().impls(device.type)) {
          const Tensor start = x.clone(), y = empty_like(x);
          const NewtonSchulz::Forward args{.x = start.raw(), .out = y.raw(), .work = work.raw(), .steps = steps};
          if (impl.why_not != nullptr && impl.why_not(args, false) != nullptr) continue;
          impl.forward(args, stream_of(device));
          detail::note_kernel(NewtonSchulz::kName, impl.name);
          note_kernels_run();
          EXPECT_LT(relative_error(y.to_doubles(), composed.to_doubles()), tolerance)
              << impl.name << " " << name(dtype) << " " << shape.to_string();
        }
      }
    }
  }
}

TEST(OptimizerOps, TheGradientNormSpansAllTensors) {
  for (const Device device : test_devices()) {
    std::vector<Tensor> parameters;
    double squares = 0;
    for (const std::int64_t n : {1, 33, 5000}) {
      const auto gradient = random_values(static_cast<std::size_t>(n), static_cast<std::uint64_t>(n));
      for (const double g : gradient) squares += g * g;
      parameters.push_back(zeros({n}, {DType::f64, device, true}));
      parameters.back().set_grad(from_vector(gradient).to(device));
    }
    EXPECT_NEAR(optim::grad_norm(parameters), std::sqrt(squares), 1e-12 * std::sqrt(squares));
    note_kernels_run();
  }
}

TEST(OptimizerOps, TheAverageMovesByItsWeight) {
  const auto values = random_values(5003, 1), start = random_values(5003, 2);
  for (const Device device : test_devices()) {
    const Tensor value = from_vector(values).to(device), average = from_vector(start).to(device);
    const MovingAverageItem item{{value.raw_data(), value.numel(), DType::f64},
                                 {average.raw_data(), average.numel(), DType::f64}};
    run<MovingAverage>({.items = std::span(&item, 1), .weight = 0.25}, device);
    note_kernels_run();
    std::vector<double> expected = start;
    for (std::size_t i = 0; i < values.size(); ++i) expected[i] += 0.25 * (values[i] - start[i]);
    EXPECT_LT(relative_error(average.to_doubles(), expected), 1e-15);
  }
}

TEST(OptimizerOps, TheScaleOfALossGrowsAndBacksOff) {
  for (const Device device : test_devices()) {
    const Tensor scale = from_vector<float>({8, 0.125F}).to(device), counts = zeros({2}, {DType::i64, device});
    const auto after = [&](double norm) {
      const Tensor n = full({}, norm, {DType::f64, device});
      run<GradScale>({.norm = n.raw(),
                      .scale = scale.raw(),
                      .counts = counts.raw(),
                      .rule = {.growth = 4, .backoff = 0.25, .interval = 2}},
                     device);
      note_kernels_run();
      auto all = scale.to_doubles();
      for (const std::int64_t count : counts.to_vector<std::int64_t>()) all.push_back(static_cast<double>(count));
      return all;
    };
    using Numbers = std::vector<double>;
    EXPECT_EQ(after(1), (Numbers{8, 0.125, 1, 0}));
    EXPECT_EQ(after(INFINITY), (Numbers{2, 0.5, 0, 1}));
    EXPECT_EQ(after(NAN), (Numbers{0.5, 2, 0, 2}));
    EXPECT_EQ(after(0), (Numbers{0.5, 2, 1, 0}));
    EXPECT_EQ(after(1e300), (Numbers{2, 0.5, 0, 0}));
  }
}

}  // namespace
}  // namespace trinix::testing
