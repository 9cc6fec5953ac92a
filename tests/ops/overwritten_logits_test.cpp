// Cross-entropy whose gradient takes the place of the logits.
#include "naive.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

using Reduction = CrossEntropyOptions::Reduction;

class OverwrittenLogits : public OnDevice {
 protected:
  /// Loss and gradient of logits with these values, given the gradient of the loss.
  static std::pair<std::vector<double>, std::vector<double>> differentiate(const Tensor& values, const Tensor& targets,
                                                                           CrossEntropyOptions options, double dloss,
                                                                           bool overwrite) {
    Tensor leaf = values.detach().clone().requires_grad_();
    options.overwrite_logits = overwrite;
    const Tensor loss = cross_entropy(leaf.clone(), targets, options);
    loss.backward(full(loss.shape(), dloss, {loss.dtype()}));
    return {loss.to_doubles(), leaf.grad().to_doubles()};
  }

  static Tensor logits(const Shape& shape, DType dtype) {
    return from_vector(random_values(static_cast<std::size_t>(numel(shape)), 17, -8, 8), shape).to(dtype);
  }
  /// Every third target is 1, which tests take for ignore_index.
  static Tensor targets(std::int64_t rows, std::int64_t classes) {
    std::vector<std::int64_t> t;
    for (std::int64_t i = 0; i < rows; ++i) t.push_back(i % 3 == 2 ? 1 : (i * 7919 + 3) % classes);
    return from_vector(t);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, OverwrittenLogits, ::testing::ValuesIn(test_devices()), device_name);

TEST_P(OverwrittenLogits, HoldTheVeryGradientThatTheBackwardComputes) {
  // Rows of one warp and of a block, that start at every alignment, and that do not fit into shared memory.
  for (const Shape& shape :
       {Shape{9, 11}, Shape{17, 65}, Shape{5, 2500}, Shape{9, 50257}, Shape{3, 50304}, Shape{2, 128257}, Shape{1, 1}}) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
        for (const double smoothing : {0.0, 0.1}) {
          if (shape[1] > 3000 && (reduction == Reduction::sum || dtype == DType::f16)) continue;
          SCOPED_TRACE(shape.to_string() + " " + std::string(name(dtype)) + " " + std::to_string(smoothing));
          const Tensor x = logits(shape, dtype);
          const CrossEntropyOptions options{.ignore_index = 1, .label_smoothing = smoothing, .reduction = reduction};
          const Tensor t = targets(shape[0], shape[1]);
          const auto apart = differentiate(x, t, options, 1, false);
          const auto in_place = differentiate(x, t, options, 1, true);
          EXPECT_EQ(in_place.first, apart.first);
          EXPECT_EQ(in_place.second, apart.second);
        }
      }
    }
  }
}

TEST_P(OverwrittenLogits, AgreeWithTheCpuInF64) {
  for (const Shape& shape : {Shape{9, 65}, Shape{5, 2500}, Shape{4, 50257}}) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      for (const double smoothing : {0.0, 0.1}) {
        SCOPED_TRACE(shape.to_string() + " " + std::string(name(dtype)) + " " + std::to_string(smoothing));
        const Tensor x = logits(shape, dtype);
        const Tensor t = targets(shape[0], shape[1]);
        const CrossEntropyOptions options{.ignore_index = 1, .label_smoothing = smoothing};
        const auto got = differentiate(x, t, options, 1, true);
        const double tolerance = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 2e-6 : 1e-2;
        Tensor leaf = x.to(Device::cpu()).to(DType::f64).requires_grad_();
        const Tensor loss = cross_entropy(leaf, t.to(Device::cpu()), options, Kernel::reference);
        loss.backward();
        EXPECT_LE(relative_error(got.first, loss.to_doubles()), std::min(tolerance, 1e-5));
        EXPECT_LE(relative_error(got.second, leaf.grad().to_doubles()), tolerance);
      }
    }
  }
}

TEST_P(OverwrittenLogits, AreScaledByTheGradientOfTheLoss) {
  const Tensor x = logits({6, 2600}, DType::f32);
  const Tensor t = targets(6, 2600);
  for (const Reduction reduction : {Reduction::mean, Reduction::none}) {
    const CrossEntropyOptions options{.reduction = reduction};
    const auto one = differentiate(x, t, options, 1, true).second;
    auto half = one;
    for (double& g : half) g *= 0.5;
    EXPECT_EQ(differentiate(x, t, options, 0.5, true).second, half);
  }
  // Rows of their own factors, 1 among them.
  Tensor leaf = x.detach().clone().requires_grad_();
  const Tensor factors = from_vector<float>({1, 2, 0, -1, 1, 4});
  const CrossEntropyOptions options{.reduction = Reduction::none, .overwrite_logits = true};
  cross_entropy(leaf.clone(), t, options).backward(factors);
  auto expected = differentiate(x, t, options, 1, true).second;
  const std::vector<double> f = factors.to_doubles();
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= f[i / 2600];
  EXPECT_EQ(leaf.grad().to_doubles(), expected);
}

TEST_P(OverwrittenLogits, GiveTheirMemoryToTheGradient) {
  Tensor leaf = logits({4, 65}, DType::f32).requires_grad_();
  Tensor x = leaf.clone();
  x.retain_grad();
  cross_entropy(x, targets(4, 65), {.overwrite_logits = true}).backward();
  EXPECT_EQ(x.grad().to_doubles(), leaf.grad().to_doubles());
  EXPECT_EQ(x.to_doubles(), leaf.grad().to_doubles());
}

TEST_P(OverwrittenLogits, InAnotherOrderOfMemoryAreCopiedFirst) {
  Tensor leaf = logits({65, 4}, DType::f32).requires_grad_();
  const Tensor x = leaf.clone();
  const auto before = x.to_doubles();
  cross_entropy(x.transpose(0, 1), targets(4, 65), {.overwrite_logits = true}).backward();
  EXPECT_EQ(x.to_doubles(), before);
  Tensor other = leaf.detach().clone().requires_grad_();
  cross_entropy(other.transpose(0, 1), targets(4, 65)).backward();
  EXPECT_EQ(leaf.grad().to_doubles(), other.grad().to_doubles());
}

TEST_P(OverwrittenLogits, StayWhenNoGradientIsWanted) {
  const Tensor x = logits({4, 65}, DType::f32);
  const auto before = x.to_doubles();
  const Tensor loss = cross_entropy(x, targets(4, 65), {.overwrite_logits = true});
  EXPECT_EQ(x.to_doubles(), before);
  EXPECT_EQ(loss.item<float>(), cross_entropy(x, targets(4, 65)).item<float>());
  Tensor leaf = x.detach().clone().requires_grad_();
  {
    const NoGrad no_grad;
    static_cast<void>(cross_entropy(leaf, targets(4, 65), {.overwrite_logits = true}));
  }
  EXPECT_EQ(leaf.to_doubles(), before);
}

TEST_P(OverwrittenLogits, AreMissedByWhoeverSavedThem) {
  Tensor leaf = logits({4, 65}, DType::f32).requires_grad_();
  const Tensor x = softmax(leaf, -1);  // saves its result
  const Tensor loss = cross_entropy(x, targets(4, 65), {.overwrite_logits = true});
  EXPECT_EQ(message_of<AutogradError>([&] { loss.backward(); }),
            "[backward] a tensor of shape [4, 65] saved by 'softmax' for its backward was changed in place by "
            "'cross_entropy' since; use the form that is not in place, or clone() first");
}

TEST_P(OverwrittenLogits, ServeManyBackwardsThatKeepTheGraph) {
  Tensor leaf = logits({4, 65}, DType::f32).requires_grad_();
  const Tensor loss = cross_entropy(leaf.clone(), targets(4, 65), {.overwrite_logits = true});
  loss.backward(full({}, 2), /*retain_graph=*/true);
  auto expected = leaf.grad().to_doubles();
  for (double& g : expected) g *= 2;
  loss.backward(full({}, 2));
  EXPECT_EQ(leaf.grad().to_doubles(), expected);
  EXPECT_THROW(loss.backward(), AutogradError);
}

TEST_P(OverwrittenLogits, MustNotBeALeaf) {
  Tensor leaf = logits({4, 65}, DType::f32).requires_grad_();
  EXPECT_EQ(message_of<AutogradError>(
                [&] { static_cast<void>(cross_entropy(leaf, targets(4, 65), {.overwrite_logits = true})); }),
            "[cross_entropy] overwrite_logits was asked for logits that are a leaf of shape [4, 65]: their gradient "
            "would take the place of their values; leave the option out");
}

TEST_P(OverwrittenLogits, OfNoRows) {
  Tensor leaf = zeros({0, 5}).requires_grad_();
  const Tensor loss = cross_entropy(leaf.clone(), zeros({0}, {DType::i64}), {.overwrite_logits = true});
  EXPECT_EQ(loss.item<float>(), 0);
  loss.backward();
  EXPECT_EQ(leaf.grad().shape(), Shape({0, 5}));
}

}  // namespace
}  // namespace trinix::testing
