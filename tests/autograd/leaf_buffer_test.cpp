// The gradient of a leaf: one buffer that stays where it is; zero_grad, set_grad, set_data.
#include "support/errors.h"
#include "support/values.h"

#include <gtest/gtest.h>

#include <trinix/autograd/engine.h>
#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops.h>

namespace trinix {
namespace {

using namespace trinix::testing;

TEST(LeafBuffer, AddressNeverChanges) {
  const Tensor x = leaf({1, 2});
  sum(x * x).backward();
  const void* address = x.grad().raw_data();
  for (int i = 0; i < 3; ++i) {
    sum(x * x).backward();
    EXPECT_EQ(x.grad().raw_data(), address);
    x.zero_grad();
    sum(x * 3).backward();
    EXPECT_EQ(x.grad().raw_data(), address);
    x.set_grad(constant({7, 8}));
    EXPECT_EQ(x.grad().raw_data(), address);
  }
  EXPECT_EQ(grad_of(x), (Floats{7, 8}));
}

TEST(LeafBuffer, AddressOfAMatmulWeight) {
  // Products write straight to the buffer.
  const Tensor x = ones({4, 3});
  const Tensor w = ones({5, 3}, {.requires_grad = true});
  sum(linear(x, w)).backward();
  const void* address = w.grad().raw_data();
  sum(linear(x, w)).backward();
  EXPECT_EQ(w.grad().raw_data(), address);
  EXPECT_EQ(grad_of(w), Floats(15, 8.0f));
  w.zero_grad();
  sum(linear(x, w)).backward();
  EXPECT_EQ(w.grad().raw_data(), address);
  EXPECT_EQ(grad_of(w), Floats(15, 4.0f));
}

TEST(LeafBuffer, UndefinedBeforeTheFirstGradient) {
  const Tensor x = leaf({1, 2});
  EXPECT_FALSE(x.grad().defined());
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
}

TEST(LeafBuffer, ZeroGradReadsAsZerosAndStartsAnew) {
  const Tensor x = leaf({1, 2});
  sum(x * 3).backward();
  x.zero_grad();
  EXPECT_EQ(grad_of(x), (Floats{0, 0}));
  x.zero_grad();
  sum(x * 5).backward();
  EXPECT_EQ(grad_of(x), (Floats{5, 5}));
  sum(x * 5).backward();
  EXPECT_EQ(grad_of(x), (Floats{10, 10}));
}

TEST(LeafBuffer, ZeroGradWithoutReadingOverwrites) {
  const Tensor x = leaf({1, 2});
  sum(x * 3).backward();
  x.zero_grad();
  sum(x * x).backward();  // two contributions after the reset: the first overwrites, the second adds
  EXPECT_EQ(grad_of(x), (Floats{2, 4}));
}

TEST(LeafBuffer, SetGradCopies) {
  const Tensor x = leaf({1, 2});
  const Tensor mine = constant({5, 6});
  x.set_grad(mine);
  sum(x * 1).backward();
  EXPECT_EQ(grad_of(x), (Floats{6, 7}));
  EXPECT_EQ(floats(mine), (Floats{5, 6}));
  x.set_grad(ones({1}).expand({2}));  // a gradient whose elements share memory
  sum(x * x).backward();
  EXPECT_EQ(grad_of(x), (Floats{3, 5}));
  x.set_grad({});
  EXPECT_FALSE(x.grad().defined());
}

TEST(LeafBuffer, SetGradChecks) {
  const Tensor x = leaf({1, 2});
  EXPECT_EQ(message_of<ShapeError>([&] { x.set_grad(ones({3})); }),
            "[set_grad] the gradient has shape [3], the tensor [2]");
  EXPECT_EQ(message_of<DtypeError>([&] { x.set_grad(ones({2}, {DType::f64})); }),
            "[set_grad] the gradient is f64, the tensor f32");
  EXPECT_EQ(message_of<AutogradError>([&] { (x * 2).set_grad(ones({2})); }),
            "[set_grad] only a leaf that requires grad has a gradient to set");
  EXPECT_THROW(constant({1, 2}).set_grad(ones({2})), AutogradError);
}

TEST(LeafBuffer, RowMajorWhateverTheLeafIs) {
  Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3}).transpose(0, 1).detach();
  x.requires_grad_();
  sum(x * x).backward();
  EXPECT_TRUE(x.grad().is_contiguous());
  EXPECT_EQ(grad_of(x), (Floats{2, 8, 4, 10, 6, 12}));
  x.zero_grad();
  EXPECT_EQ(grad_of(x), Floats(6, 0.0f));
}

TEST(LeafBuffer, NewDataDropsTheGradientAndTakesItsShape) {
  const Tensor x = leaf({1, 2});
  sum(x * x).backward();
  x.set_data(full({3}, 2, {DType::f64}));
  EXPECT_TRUE(x.requires_grad());
  EXPECT_FALSE(x.grad().defined());
  sum(x * x).backward();
  EXPECT_EQ(x.grad().dtype(), DType::f64);
  EXPECT_EQ(x.grad().to_doubles(), (std::vector<double>{4, 4, 4}));
}

TEST(LeafBuffer, CopiesOfTheHandleShareIt) {
  const Tensor x = leaf({1, 2});
  const Tensor same = x;
  sum(same * 2).backward();
  EXPECT_EQ(grad_of(x), (Floats{2, 2}));
  EXPECT_FALSE(x.detach().grad().defined());
}

}  // namespace
}  // namespace trinix
