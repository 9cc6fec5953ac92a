#include "naive.h"

#include <cmath>
#include <gtest/gtest.h>

namespace trinix::testing {
namespace {

/// Any numbers will do as tables: the op does not ask whether they are cosines.
struct TableValues {
  std::vector<float> cos;
  std::vector<float> sin;
};
TableValues table_values(std::int64_t positions, std::int64_t pairs) {
  TableValues t;
  for (std::int64_t i = 0; i < positions * pairs; ++i) {
    t.cos.push_back(static_cast<float>(std::cos(0.37 * static_cast<double>(i))));
    t.sin.push_back(static_cast<float>(std::sin(0.37 * static_cast<double>(i))));
  }
  return t;
}

struct Case {
  const char* name;
  Shape shape;         ///< (B, S, H, D)
  std::int64_t pairs;  ///< rotated columns / 2
  RopeLayout layout = RopeLayout::half;
  std::int64_t first = 0;
  std::vector<std::int64_t> positions = {};  ///< (S) or (B, S)
};

const Case kCases[] = {
    {"half", {2, 3, 3, 8}, 4},
    {"interleaved", {2, 3, 3, 8}, 4, RopeLayout::interleaved},
    {"half_wide", {1, 2, 5, 32}, 16, RopeLayout::half, 2},
    {"interleaved_wide", {1, 1, 9, 32}, 16, RopeLayout::interleaved, 4},
    {"partial", {1, 2, 2, 48}, 16},
    {"partial_interleaved", {1, 2, 3, 40}, 8, RopeLayout::interleaved},
    {"odd_tail", {1, 3, 2, 7}, 3, RopeLayout::half, 1},
    {"odd_tail_interleaved", {1, 3, 2, 7}, 2, RopeLayout::interleaved},
    {"shared_positions", {2, 4, 1, 16}, 8, RopeLayout::half, 0, {7, 0, 3, 3}},
    {"positions_per_batch", {2, 3, 1, 16}, 8, RopeLayout::interleaved, 0, {0, 5, 2, 7, 1, 6}},
    {"nothing", {2, 0, 3, 8}, 4},
};

constexpr std::int64_t kPositions = 8;

Array naive_rope(const Array& x, const Case& c) {
  const TableValues t = table_values(kPositions, c.pairs);
  Array y = x;
  for_each_index({c.shape[0], c.shape[1], c.shape[2], c.pairs}, [&](Dims at) {
    std::int64_t position = c.first + at[1];
    if (!c.positions.empty()) {
      const bool shared = static_cast<std::int64_t>(c.positions.size()) == c.shape[1];
      position = c.positions[static_cast<std::size_t>((shared ? 0 : at[0] * c.shape[1]) + at[1])];
    }
    const std::int64_t pair = at[3];
    const auto entry = static_cast<std::size_t>(position * c.pairs + pair);
    const double cos = t.cos[entry], sin = t.sin[entry];
    const bool half = c.layout == RopeLayout::half;
    at[3] = half ? pair : 2 * pair;
    const std::size_t a = flat(x.shape, at);
    at[3] = half ? pair + c.pairs : 2 * pair + 1;
    const std::size_t b = flat(x.shape, at);
    y[a] = x[a] * cos - x[b] * sin;
    y[b] = x[b] * cos + x[a] * sin;
  });
  return y;
}

RopeOptions options_of(const Case& c, KernelChoice kernel, Device device) {
  RopeOptions o{.layout = c.layout, .first_position = c.first, .kernel = kernel};
  if (c.positions.empty()) return o;
  const bool shared = static_cast<std::int64_t>(c.positions.size()) == c.shape[1];
  o.positions = trinix::from_vector(c.positions, shared ? Shape{c.shape[1]} : Shape{c.shape[0], c.shape[1]}).to(device);
  if (shared) o.positions = o.positions.to(DType::i32);
  return o;
}

std::pair<Tensor, Tensor> tables_of(std::int64_t pairs, Device device) {
  const TableValues t = table_values(kPositions, pairs);
  return {trinix::from_vector(t.cos, {kPositions, pairs}).to(device),
          trinix::from_vector(t.sin, {kPositions, pairs}).to(device)};
}

std::vector<OpCase> rope_cases() {
  std::vector<OpCase> list;
  for (const Case& c : kCases) {
    for (const bool in_place : {false, true}) {
      OpCase op{.name = std::string(c.name) + (in_place ? "_in_place" : ""),
                .inputs = {c.shape},
                .function =
                    [c, in_place](const auto& x, KernelChoice kernel) {
                      const auto [cos, sin] = tables_of(c.pairs, x[0].device());
                      const RopeOptions o = options_of(c, kernel, x[0].device());
                      if (!in_place) return rope(x[0], cos, sin, o);
                      const Tensor y = x[0] * 1;
                      return rope_(y, cos, sin, o);
                    },
                .reference = [c](const auto& x) { return naive_rope(x[0], c); },
                .has_kernels = true};
      if (in_place || numel(c.shape) == 0) op.layouts = {Layout::contiguous, Layout::transposed};
      list.push_back(op);
    }
  }
  return list;
}

class RopeOps : public ::testing::TestWithParam<OpCase> {};
TEST_P(RopeOps, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, RopeOps, ::testing::ValuesIn(rope_cases()),
                         [](const auto& info) { return info.param.name; });

class RopeOnDevice : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, RopeOnDevice, ::testing::ValuesIn(test_devices()), device_name);

/// q and k as they would be without packing, v untouched; forward and gradient.
TEST_P(RopeOnDevice, PackedTurnsQueriesAndKeysOnly) {
  for (const Kernel kernel : {Kernel::automatic, Kernel::reference}) {
    for (const std::int64_t kv_heads : {1, 4}) {
      constexpr std::int64_t heads = 4, depth = 16;
      const auto [cos, sin] = tables_of(depth / 2, device());
      Tensor x = randn({2, 3, (heads + 2 * kv_heads) * depth}).requires_grad_();
      const Tensor qkv = x * 1;
      const Tensor same = rope_packed_(qkv, heads, kv_heads, cos, sin, {.first_position = 2, .kernel = kernel});
      EXPECT_TRUE(same.same(qkv));
      const Tensor w = randn(x.shape());
      qkv.backward(w);

      Tensor apart = x.detach().clone().requires_grad_();
      const std::int64_t turned = (heads + kv_heads) * depth;
      const Tensor qk = apart.narrow(-1, 0, turned).reshape({2, 3, heads + kv_heads, depth});
      const Tensor expected = cat({rope(qk, cos, sin, {.first_position = 2, .kernel = Kernel::reference}).flatten(2, 3),
                                   apart.narrow(-1, turned, kv_heads * depth)},
                                  -1);
      expected.backward(w);
      EXPECT_LT(relative_error(qkv.to_doubles(), expected.to_doubles()), 1e-6);
      EXPECT_LT(relative_error(x.grad().to_doubles(), apart.grad().to_doubles()), 1e-6);
    }
  }
}

/// The gradient that somebody holds is not written over; one that nobody holds is.
TEST_P(RopeOnDevice, BackwardLeavesOthersGradientsAlone) {
  const auto [cos, sin] = tables_of(4, device());
  Tensor x = randn({1, 2, 2, 8}).requires_grad_();
  const Tensor given = ones({1, 2, 2, 8});
  rope(x, cos, sin).backward(given);
  EXPECT_EQ(given.to_doubles(), std::vector<double>(32, 1));
  const std::vector<double> once = x.grad().to_doubles();

  x.zero_grad();
  const Tensor y = x * 1;
  const Tensor z = rope(y, cos, sin);
  z.retain_grad();
  (z + y * 0).backward(given);  // one gradient goes two ways
  EXPECT_EQ(given.to_doubles(), std::vector<double>(32, 1));
  EXPECT_EQ(z.grad().to_doubles(), std::vector<double>(32, 1));
  EXPECT_EQ(x.grad().to_doubles(), once);
}

TEST_P(RopeOnDevice, TurningBackRestores) {
  const auto [cos, sin] = tables_of(4, device());
  const Tensor x = randn({1, 3, 2, 8});
  EXPECT_LT(relative_error(rope(rope(x, cos, sin), cos, sin * -1).to_doubles(), x.to_doubles()), 1e-6);
}

TEST(RopeErrors, NameShapesAndPositions) {
  const auto [c, s] = tables_of(4, {});
  const Tensor cos = c, sin = s;
  const Tensor x = ones({2, 3, 2, 8});
  const auto call = [&](const Tensor& x, const Tensor& cos, const RopeOptions& o = {}) {
    static_cast<void>(rope(x, cos, sin, o));
  };
  EXPECT_EQ(message_of<ShapeError>([&] {
              call(ones({2, 3}), cos);
            }),
            "[rope] x must be (batch, length, heads, depth), got [2, 3]");
  EXPECT_EQ(message_of<ShapeError>([&] {
              call(ones({2, 3, 2, 6}), cos);
            }),
            "[rope] tables of shape [8, 4] rotate 8 columns, but a head has 6 (x of shape [2, 3, 2, 6])");
  EXPECT_EQ(message_of<DtypeError>([&] { call(x, cos.to(DType::bf16)); }), "[rope] cos and sin must be f32, got bf16");
  EXPECT_EQ(message_of<ShapeError>([&] {
              call(x, ones({8, 3}));
            }),
            "[rope] cos and sin must both be (positions, rotated columns / 2), got [8, 3] and [8, 4]");
  EXPECT_EQ(message_of<IndexError>([&] { call(x, cos, {.first_position = 6}); }),
            "[rope] positions 6 to 8 are asked for; the tables hold 0 to 7");
  EXPECT_EQ(message_of<IndexError>([&] {
              call(x, cos, {.positions = from_vector<std::int64_t>({0, 8, 1})});
            }),
            "[rope] index 8 at position 1 is out of range for 8 positions");
  EXPECT_EQ(message_of<ShapeError>([&] { call(x, cos, {.positions = arange(2)}); }),
            "[rope] positions have shape [2]; x of shape [2, 3, 2, 8] asks for [3] or [2, 3]");
  EXPECT_EQ(message_of<ConfigError>([&] { call(x, cos, {.first_position = 1, .positions = arange(3)}); }),
            "[rope] both first_position 1 and positions of shape [3] are given; give one of them");
  EXPECT_EQ(message_of<AutogradError>([&] { call(x, cos.clone().requires_grad_()); }),
            "[rope] cos and sin are tables that get no gradient, but one requires grad; detach() it");
  EXPECT_EQ(message_of<ShapeError>([&] {
              rope_packed_(ones({2, 3, 50}), 4, 1, cos, sin);
            }),
            "[rope_packed_] shape [2, 3, 50] is not (B, S, (heads + 2 kv_heads) * D) with 4 query and 1 key heads");
  Tensor leaf = ones({2, 3, 2, 8}).requires_grad_();
  EXPECT_NE(message_of<AutogradError>([&] { rope_(leaf, cos, sin); }).find("[rope_] a leaf"), std::string::npos);
}

}  // namespace
}  // namespace trinix::testing
