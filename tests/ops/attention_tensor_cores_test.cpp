#include "op_case.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <sstream>

#include <trinix/core/philox.h>

/// The tiled 16-bit kernel on a card, against f64 on the CPU.

namespace trinix::testing {
namespace {

/// Small whole numbers, a function of the seed.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : seed_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + philox(seed_, count_++).x[0] % static_cast<std::uint32_t>(high - low + 1);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t count_ = 0;
};

enum class Placement { contiguous, packed, heads_first };

struct Config {
  std::int64_t batch, queries, keys, key_heads, group, depth;
  bool causal;
  std::int64_t left, right;
  double dropout;
  DType dtype;
  Placement placement;
  bool deterministic;

  [[nodiscard]] std::string text() const {
    std::ostringstream text;
    text << "B " << batch << " Sq " << queries << " Sk " << keys << " Hkv " << key_heads << " x " << group << " D "
         << depth << (causal ? " causal" : "") << " window " << left << ", " << right << " dropout " << dropout << ' '
         << name(dtype) << " placement " << static_cast<int>(placement) << (deterministic ? " deterministic" : "");
    return text.str();
  }
};

Config draw_config(std::uint64_t seed) {
  Draw d(seed);
  Config c{};
  c.dtype = seed % 2 == 0 ? DType::bf16 : DType::f16;
  c.deterministic = seed % 4 >= 2;
  c.batch = d.between(1, 2);
  c.queries = d.between(0, 3) == 0 ? d.between(1, 20) : d.between(30, 330);
  c.keys = d.between(0, 2) == 0 ? c.queries + 8 : d.between(9, 330);
  c.key_heads = d.between(1, 3);
  c.group = d.between(0, 1) == 0 ? 1 : d.between(2, 3);
  c.depth = 8 * d.between(1, 16);
  c.causal = d.between(0, 1) == 0;
  // At least a few keys per row: one key alone has a gradient of exactly zero, to which no error is relative.
  c.left = d.between(0, 2) == 0 ? d.between(4, 150) : -1;
  c.right = d.between(0, 2) == 0 ? d.between(0, 150) : -1;
  c.dropout = d.between(0, 2) == 0 ? 0.05 * static_cast<double>(d.between(1, 10)) : 0;
  c.placement = static_cast<Placement>(d.between(0, 2));
  if (c.placement == Placement::packed) c.keys = c.queries = std::max(c.queries, c.keys);
  return c;
}

/// (q, k, v) on the device, lying as the placement says.
std::vector<Tensor> place(const std::vector<Tensor>& values, Placement placement, Device device) {
  std::vector<Tensor> placed;
  if (placement == Placement::packed) {
    const Tensor whole = cat({values[0], values[1], values[2]}, 2).to(device);
    std::int64_t at = 0;
    for (const Tensor& t : values) {
      placed.push_back(whole.narrow(2, at, t.size(2)).detach());
      at += t.size(2);
    }
    return placed;
  }
  for (const Tensor& t : values) {
    placed.push_back(placement == Placement::contiguous
                         ? t.to(device)
                         : t.permute({0, 2, 1, 3}).contiguous().to(device).permute({0, 2, 1, 3}).detach());
  }
  return placed;
}

/// Output and the three gradients, as doubles.
std::vector<std::vector<double>> run(const Config& c, std::vector<Tensor> leaves, const Tensor& direction,
                                     Kernel kernel) {
  for (Tensor& t : leaves) t.requires_grad_();
  Generator generator(7);
  const Tensor out = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2],
                                                  {.causal = c.causal,
                                                   .window_left = c.left,
                                                   .window_right = c.right,
                                                   .dropout = c.dropout,
                                                   .kernel = kernel,
                                                   .generator = &generator});
  note_kernels_run();
  std::vector<std::vector<double>> result = {out.to_doubles()};
  for (const Tensor& g : grad(out, leaves, direction.to(out.dtype()).to(out.device()))) {
    result.push_back(g.to_doubles());
  }
  return result;
}

Tensor uniform(const Shape& shape, std::uint64_t seed, double low = -2, double high = 2) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed, low, high), shape);
}

class AttentionOnTensorCores : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!is_available(Device::cuda())) GTEST_SKIP() << "needs a card";
  }
  void TearDown() override { set_deterministic(false); }
};

TEST_F(AttentionOnTensorCores, RandomConfigurationsAreAsExactAsTheComposedForm) {
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    const Config c = draw_config(seed);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
    const std::int64_t heads = c.key_heads * c.group;
    const Shape query_shape{c.batch, c.queries, heads, c.depth};
    const Shape key_shape{c.batch, c.keys, c.key_heads, c.depth};
    std::vector<Tensor> rounded;
    std::vector<Tensor> exact;
    for (std::uint64_t i = 0; i < 3; ++i) {
      rounded.push_back(uniform(i == 0 ? query_shape : key_shape, 10 * seed + i).to(c.dtype));
      exact.push_back(rounded.back().to(DType::f64));
    }
    const Tensor direction = (uniform(query_shape, 10 * seed + 3, -1, 1)).to(c.dtype);
    set_deterministic(c.deterministic);
    const auto expected = run(c, exact, direction, Kernel::reference);
    const auto composed = run(c, rounded, direction, Kernel::reference);
    const auto got = run(c, place(rounded, c.placement, Device::cuda()), direction, Kernel::fused);
    const char* names[] = {"out", "dq", "dk", "dv"};
    for (std::size_t i = 0; i < 4; ++i) {
      const double limit = 2 * relative_error(composed[i], expected[i]);
      EXPECT_LE(relative_error(got[i], expected[i]), limit) << names[i];
    }
  }
}

TEST_F(AttentionOnTensorCores, RepeatsGiveTheSameBits) {
  for (const std::int64_t depth : {64, 128}) {
    const Config c{.batch = 2,
                   .queries = 300,
                   .keys = 700,
                   .key_heads = 2,
                   .group = 2,
                   .depth = depth,
                   .causal = true,
                   .left = -1,
                   .right = -1,
                   .dropout = depth == 64 ? 0.1 : 0,
                   .dtype = DType::bf16,
                   .placement = Placement::contiguous,
                   .deterministic = true};
    std::vector<Tensor> leaves;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Shape shape{c.batch, i == 0 ? c.queries : c.keys, i == 0 ? c.key_heads * c.group : c.key_heads, depth};
      leaves.push_back(uniform(shape, i).to(c.dtype).to(Device::cuda()));
    }
    const Tensor direction = uniform(leaves[0].shape(), 3);
    set_deterministic(true);
    const auto first = run(c, leaves, direction, Kernel::fused);
    for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(run(c, leaves, direction, Kernel::fused), first);
  }
}

TEST_F(AttentionOnTensorCores, GradientsArriveForTheOutputsOfAnyLayout) {
  // sum() gives a gradient that repeats one number; the transposed output one whose rows do not lie together.
  const Shape shape{1, 70, 2, 16};
  std::vector<Tensor> leaves;
  for (std::uint64_t i = 0; i < 3; ++i) {
    leaves.push_back(uniform(shape, i).to(DType::bf16).to(Device::cuda()).requires_grad_());
  }
  const Tensor weights = uniform({16, 2, 70, 1}, 4).to(DType::bf16).to(Device::cuda());
  const auto gradients = [&](Kernel kernel, bool turned) {
    const Tensor out = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.kernel = kernel});
    const Tensor loss = turned ? sum(out.permute({3, 2, 1, 0}) * weights) : sum(out);
    std::vector<std::vector<double>> result;
    for (const Tensor& g : grad(loss, leaves)) result.push_back(g.to_doubles());
    return result;
  };
  EXPECT_LE(relative_error(gradients(Kernel::fused, false)[2], gradients(Kernel::reference, false)[2]), 1e-2);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_LE(relative_error(gradients(Kernel::fused, true)[i], gradients(Kernel::reference, true)[i]), 2e-2);
  }
}

TEST_F(AttentionOnTensorCores, RefusalsSayWhy) {
  const auto message = [](std::int64_t depth, DType dtype, std::optional<double> scale = {}) -> std::string {
    const Tensor x = zeros({1, 4, 2, depth}, {dtype, Device::cuda()});
    try {
      static_cast<void>(scaled_dot_product_attention(x, x, x, {.scale = scale, .kernel = Kernel::fused}));
    } catch (const KernelUnavailable& e) {
      return e.what();
    }
    return "no exception";
  };
  EXPECT_NE(message(64, DType::f32).find("takes bf16 and f16"), std::string::npos);
  EXPECT_NE(message(20, DType::bf16).find("multiples of 8"), std::string::npos);
  EXPECT_NE(message(136, DType::bf16).find("head dims up to 128"), std::string::npos);
  EXPECT_NE(message(64, DType::bf16, -1.0).find("a positive scale"), std::string::npos);
  EXPECT_EQ(message(64, DType::bf16), "no exception");
}

}  // namespace
}  // namespace trinix::testing
