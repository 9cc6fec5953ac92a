// The same seed gives the same random numbers on every device, to the last bit.
#include "op_case.h"

#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

class RandomParity : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, RandomParity, ::testing::ValuesIn(test_devices()), device_name);

constexpr DType kFloating[] = {DType::f64, DType::f32, DType::bf16, DType::f16};

/// make(device, generator) on the CPU and on the device under test, from one state; both must leave the same state.
template <class F>
void expect_equal_streams(Device device, F make) {
  Generator a(77), b(77);
  for (Generator* g : {&a, &b}) g->set_state({77, (std::uint64_t{1} << 32) - 5});  // the counter's upper half matters
  for (int call = 0; call < 2; ++call) {
    const Tensor expected = make(Device::cpu(), a);
    const Tensor got = make(device, b);
    EXPECT_EQ(got.device(), device);
    EXPECT_EQ(got.to_doubles(), expected.to_doubles());
  }
  EXPECT_EQ(a.state().offset, b.state().offset);
}

TEST_P(RandomParity, FloatingPoint) {
  for (const DType dtype : kFloating) {
    for (const std::int64_t n : {1, 2, 3, 5, 8, 1021, 70001}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(n));
      expect_equal_streams(device(), [&](Device d, Generator& g) { return trinix::rand({n}, {dtype, d}, &g); });
      expect_equal_streams(device(), [&](Device d, Generator& g) { return trinix::randn({n}, {dtype, d}, &g); });
      expect_equal_streams(device(), [&](Device d, Generator& g) {
        return normal_(trinix::empty({n}, {dtype, d}), 0.3, 1.7, &g);
      });
      expect_equal_streams(device(), [&](Device d, Generator& g) {
        return uniform_(trinix::empty({n}, {dtype, d}), -0.7, 2.9, &g);
      });
    }
  }
}

TEST_P(RandomParity, Integers) {
  for (const DType dtype : {DType::i64, DType::i32, DType::u8}) {
    for (const std::int64_t n : {1, 7, 16, 4099}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(n));
      expect_equal_streams(device(), [&](Device d, Generator& g) {
        return trinix::randint(3, 251, {n}, {dtype, d}, &g);
      });
    }
  }
  expect_equal_streams(device(), [&](Device d, Generator& g) {
    return trinix::randint(INT64_MIN, INT64_MAX, {501}, {DType::i64, d}, &g) / 4096;  // exact as a double
  });
}

TEST_P(RandomParity, AnyStridesAndUnalignedBeginnings) {
  for (const DType dtype : kFloating) {
    expect_equal_streams(device(), [&](Device d, Generator& g) {
      return normal_(trinix::empty({50, 70}, {dtype, d}).transpose(0, 1), 0, 1, &g);
    });
    expect_equal_streams(device(), [&](Device d, Generator& g) {
      return uniform_(trinix::empty({30, 4, 11}, {dtype, d}).slice(2, 1, 11, 3), 0, 1, &g);
    });
    expect_equal_streams(device(), [&](Device d, Generator& g) {
      return uniform_(trinix::empty({4001}, {dtype, d}).narrow(0, 1, 3999), 0, 1, &g);
    });
  }
}

TEST_P(RandomParity, DropoutMasks) {
  for (const DType dtype : kFloating) {
    const Tensor values = trinix::from_vector(random_values(97 * 61, 5), {97, 61}).to(dtype);
    for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::sliced}) {
      expect_equal_streams(device(), [&](Device d, Generator& g) {
        const Tensor x = make_tensor(values.to_doubles(), values.shape(), dtype, layout, d);
        return dropout(x, 0.37, &g);
      });
    }
    expect_equal_streams(device(), [&](Device d, Generator& g) {
      Tensor x = values.to(d).clone().requires_grad_();
      const Tensor y = dropout(x, 0.37, &g);
      y.backward(ones_like(y), /*retain_graph=*/true);
      y.backward(ones_like(y));  // adds to what is there
      return x.grad();
    });
  }
}

}  // namespace
}  // namespace trinix::testing
