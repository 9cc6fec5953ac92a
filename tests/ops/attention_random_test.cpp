#include "attention_configuration.h"

#include <gtest/gtest.h>

/// Random configurations of attention, results and all gradients, against the definition in f64: every kernel's error
/// is at most twice that of the composed form in the same dtype.

namespace trinix::testing {
namespace {

AttentionConfig draw_config(std::uint64_t seed) {
  Draw d(seed);
  AttentionConfig c{};
  constexpr DType dtypes[] = {DType::f32, DType::bf16, DType::f16, DType::f64};
  c.dtype = dtypes[d.between(0, 9) % 4];
  c.placement = static_cast<AttentionConfig::Placement>(d.between(0, 2));
  const bool long_rows = d.one_in(8);  // several blocks of any kernel
  c.batch = d.between(1, 3);
  c.queries = d.one_in(4) ? d.between(1, 3) : d.between(1, long_rows ? 150 : 40);
  c.keys = d.one_in(3) ? c.queries : d.between(1, long_rows ? 330 : 40);
  c.key_heads = d.between(1, 2);
  c.group = d.one_in(2) ? 1 : d.between(2, 3);
  // A small part of the head dims that are allowed, so that the definition stays quick; tensor cores want multiples.
  c.depth = d.one_in(3) ? d.between(1, 30) : 8 * d.between(1, 5);
  c.value_depth = d.one_in(3) ? 8 * d.between(1, 4) : c.depth;
  if (d.one_in(20)) c.depth = c.value_depth = 256;
  draw_attention_options(d, seed, c, 30, 20);
  return c;
}

TEST(AttentionConfigurations, EveryKernelIsAsExactAsTheComposedForm) {
  int by_kernels = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const AttentionConfig c = draw_config(seed);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + c.text());
    const AttentionOperands x = draw_attention_operands(c, seed);
    const AttentionValues expected = exact_attention(c, x);
    for (const Device device : test_devices()) {
      const AttentionValues composed = run_attention(c, x, Kernel::reference, device);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double limit = 20 * (attention_error_floor(c, expected, i) + unit_of(c.dtype) * norm_of(expected[i]));
        EXPECT_LE(distance(composed[i], expected[i]), limit)
            << kAttentionValueNames[i] << ", composed, " << device.to_string();
      }
      for (const Kernel kernel : {Kernel::fused, Kernel::flash}) {
        AttentionValues got;
        try {
          got = run_attention(c, x, kernel, device);
        } catch (const KernelUnavailable&) {
          EXPECT_TRUE(kernel == Kernel::fused || c.dtype == DType::f64 || !device.is_cpu());
          continue;
        }
        ++by_kernels;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          const double limit = std::max(2 * distance(composed[i], expected[i]), attention_error_floor(c, expected, i));
          EXPECT_LE(distance(got[i], expected[i]), limit)
              << kAttentionValueNames[i] << ", " << name(kernel) << ", " << device.to_string();
        }
      }
    }
  }
  EXPECT_GT(by_kernels, 200);
}

}  // namespace
}  // namespace trinix::testing
