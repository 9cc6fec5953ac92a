#include "attention_naive.h"

#include <gtest/gtest.h>

#include <trinix/core/philox.h>

/// Biases, masks, the log-sum-exp, and combinations of options.

namespace trinix::testing {
namespace {

enum class OptionMask { none, boolean, floating };

struct Variant {
  const char* name;
  std::int64_t batch, queries, keys, heads, key_heads, depth, value_depth;
  NaiveAttention options;
  OptionMask mask = OptionMask::none;
  Shape mask_shape = {};
  bool with_lse = false;
  bool small = true;  ///< finite differences take too long on the large ones
};

/// Hides about a third, never a row's whole neighbourhood of its diagonal.
std::vector<bool> pattern(const Shape& shape) {
  std::vector<bool> visible;
  const std::int64_t keys = shape[shape.size() - 1];
  const std::int64_t queries = shape[shape.size() - 2];
  for (std::int64_t n = 0; n < numel(shape); ++n) {
    const std::int64_t diagonal = n / keys % queries + keys - queries;
    const std::int64_t away = n % keys - diagonal;
    visible.push_back((away >= -1 && away <= 0) || philox(3, static_cast<std::uint64_t>(n)).x[0] % 3 != 0);
  }
  return visible;
}

/// (B or 1, H or 1, Sq, Sk) of any of the shapes that the option takes.
Shape four_dims(const Shape& shape) {
  if (shape.size() == 4) return shape;
  if (shape.size() == 3) return {shape[0], 1, shape[1], shape[2]};
  return {1, 1, shape[0], shape[1]};
}

Tensor slopes_of(const Variant& c, Device device) {
  if (c.options.slopes.empty()) return {};
  const auto count = static_cast<std::int64_t>(c.options.slopes.size());
  const Tensor flat = from_vector(std::vector<float>(c.options.slopes.begin(), c.options.slopes.end()));
  return (count == c.heads ? flat : flat.reshape({c.batch, c.heads})).to(device);
}

OpCase case_of(const Variant& c) {
  OpCase op{.name = c.name,
            .inputs = {{c.batch, c.queries, c.heads, c.depth},
                       {c.batch, c.keys, c.key_heads, c.depth},
                       {c.batch, c.keys, c.key_heads, c.value_depth}},
            .has_kernels = true,
            .dtypes = c.small ? std::vector{DType::f64, DType::f32, DType::bf16, DType::f16}
                              : std::vector{DType::f32, DType::bf16},
            .tolerance = {1e-12, 4e-6, 1e-2, 2e-3},
            .layouts = c.small ? std::vector{Layout::contiguous, Layout::transposed, Layout::sliced}
                               : std::vector{Layout::sliced}};
  if (c.mask == OptionMask::floating) op.inputs.push_back(c.mask_shape);
  op.function = [c](const std::vector<Tensor>& x, KernelChoice kernel) {
    Generator generator(c.options.seed);
    AttentionOptions options{.causal = c.options.causal,
                             .window_left = c.options.left,
                             .window_right = c.options.right,
                             .alibi_slopes = slopes_of(c, x[0].device()),
                             .dropout = c.options.dropout,
                             .scale = c.options.scale,
                             .kernel = kernel,
                             .generator = &generator};
    if (c.mask == OptionMask::floating) options.mask = x[3];
    if (c.mask == OptionMask::boolean) {
      options.mask = from_vector(pattern(c.mask_shape), c.mask_shape).to(x[0].device());
    }
    if (!c.with_lse) return scaled_dot_product_attention(x[0], x[1], x[2], options);
    const AttentionResult both = attention_with_lse(x[0], x[1], x[2], options);
    return cat({both.out.to(both.lse.dtype()).flatten(), both.lse.flatten()});
  };
  op.reference = [c](const std::vector<Array>& x) {
    NaiveAttention options = c.options;
    for (double& s : options.slopes) s = static_cast<float>(s);
    if (c.mask == OptionMask::boolean) options.mask = added_mask(four_dims(c.mask_shape), pattern(c.mask_shape));
    if (c.mask == OptionMask::floating) options.mask = {four_dims(c.mask_shape), x[3].values};
    const auto result = options.run(x[0], x[1], x[2]);
    if (!c.with_lse) return result.out;
    Array both{{numel(result.out.shape) + numel(result.lse.shape)}, result.out.values};
    both.values.insert(both.values.end(), result.lse.values.begin(), result.lse.values.end());
    return both;
  };
  return op;
}

std::vector<OpCase> attention_options_cases() {
  const std::vector<double> slopes{0.5, 0.1};
  const Variant variants[] = {
      // Alone.
      {"alibi", 2, 5, 7, 2, 2, 4, 3, {.slopes = slopes}},
      {"alibi_per_batch", 2, 6, 4, 2, 1, 3, 4, {.slopes = {0.5, 0.1, 1.5, 0.0}}},
      {"mask_of_pairs", 2, 5, 6, 2, 2, 4, 4, {}, OptionMask::floating, {5, 6}},
      {"mask_per_batch", 2, 4, 6, 2, 1, 4, 4, {}, OptionMask::floating, {2, 4, 6}},
      {"mask_per_head", 2, 4, 6, 2, 2, 4, 5, {}, OptionMask::floating, {2, 2, 4, 6}},
      {"mask_of_the_heads", 2, 4, 5, 4, 2, 4, 4, {}, OptionMask::floating, {1, 4, 4, 5}},
      {"mask_over_heads", 2, 4, 5, 4, 2, 4, 4, {}, OptionMask::floating, {2, 1, 4, 5}},
      {"visible_pairs", 2, 5, 6, 2, 1, 4, 4, {}, OptionMask::boolean, {5, 6}},
      {"visible_per_batch", 2, 4, 6, 2, 2, 4, 4, {}, OptionMask::boolean, {2, 4, 6}},
      {"visible_per_head", 2, 4, 6, 2, 2, 4, 3, {}, OptionMask::boolean, {2, 2, 4, 6}},
      {"lse", 2, 5, 7, 2, 1, 4, 3, {}, OptionMask::none, {}, true},
      // Together.
      {"alibi_causal_dropout", 2, 5, 7, 2, 2, 4, 4, {.causal = true, .dropout = 0.3, .slopes = slopes}},
      {"alibi_window_lse", 1, 6, 8, 2, 1, 4, 4, {.left = 3, .right = 1, .slopes = slopes}, OptionMask::none, {}, true},
      {"window_mask", 2, 6, 7, 2, 1, 4, 4, {.left = 3, .right = 2}, OptionMask::floating, {6, 7}},
      {"causal_visible_dropout", 2, 6, 8, 2, 2, 4, 4, {.causal = true, .dropout = 0.2}, OptionMask::boolean, {2, 6, 8}},
      {"everything",
       2,
       5,
       8,
       4,
       2,
       4,
       6,
       {.causal = true, .left = 4, .dropout = 0.25, .scale = 0.7, .slopes = {0.5, 0.25, 0.125, 1}},
       OptionMask::floating,
       {1, 4, 5, 8},
       true},
      {"one_query_of_a_cache",
       2,
       1,
       9,
       4,
       2,
       6,
       5,
       {.causal = true, .left = 5, .slopes = {0.5, 0.25, 0.125, 1}},
       OptionMask::boolean,
       {2, 1, 9},
       true},
      // Several blocks of any kernel.
      {"large_alibi",
       1,
       90,
       310,
       2,
       1,
       40,
       24,
       {.causal = true, .slopes = {0.02, 0.1}},
       OptionMask::none,
       {},
       true,
       false},
      {"large_window_mask",
       2,
       130,
       200,
       2,
       1,
       32,
       32,
       {.left = 60, .right = 20},
       OptionMask::floating,
       {1, 2, 130, 200},
       false,
       false},
      {"large_visible_dropout",
       2,
       70,
       300,
       1,
       1,
       64,
       64,
       {.causal = true, .dropout = 0.1},
       OptionMask::boolean,
       {2, 70, 300},
       true,
       false},
      {"large_everything",
       1,
       100,
       290,
       2,
       1,
       80,
       48,
       {.causal = true, .left = 100, .dropout = 0.1, .slopes = {0.02, 0.1}},
       OptionMask::floating,
       {100, 290},
       true,
       false},
  };
  std::vector<OpCase> list;
  for (const Variant& c : variants) list.push_back(case_of(c));
  return list;
}

class AttentionWithOptions : public ::testing::TestWithParam<OpCase> {};
TEST_P(AttentionWithOptions, MatchesReference) { run_op_case(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Ops, AttentionWithOptions, ::testing::ValuesIn(attention_options_cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace trinix::testing
