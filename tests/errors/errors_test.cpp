// The texts that users get for their mistakes, word for word: type, op in brackets, both shapes or dtypes, what to do.
// Errors of file formats, of options of the program and of damaged checkpoints stand with their own tests.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/trinix.h>

#include "support/errors.h"
#include "support/values.h"

namespace trinix {
namespace {

using namespace trinix::testing;

struct Mistake {
  std::string name;
  std::function<std::string()> message;
  std::string expected;
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

/// A function whose result does not matter, as it must throw an E.
template <class E, class F>
Mistake mistake(const char* name, F f, const char* expected) {
  const auto call = [f] {
    if constexpr (std::is_void_v<decltype(f())>) {
      f();
    } else {
      static_cast<void>(f());
    }
  };
  return {name, [call] { return message_of<E>(call); }, expected};
}

class Mistakes : public ::testing::TestWithParam<Mistake> {};

TEST_P(Mistakes, AreExplained) { EXPECT_EQ(GetParam().message(), GetParam().expected); }

std::string name_of(const ::testing::TestParamInfo<Mistake>& info) { return info.param.name; }

Tensor ints(const std::vector<std::int64_t>& values) { return from_vector(values); }

std::vector<Mistake> shapes() {
  return {
      mistake<ShapeError>("broadcast", [] { return ones({2, 3}) + ones({4}); }, ""),
      mistake<ShapeError>("matmul_inner", [] { return matmul(ones({2, 3}), ones({4, 5})); }, ""),
      mistake<ShapeError>("matmul_rank_0", [] { return matmul(ones({}), ones({2})); }, ""),
      mistake<ShapeError>("matmul_batch", [] { return matmul(ones({2, 3, 4}), ones({3, 4, 5})); }, ""),
      mistake<ShapeError>("linear_features", [] { return linear(ones({2, 3}), ones({5, 4})); }, ""),
      mistake<ShapeError>("linear_bias", [] { return linear(ones({2, 3}), ones({5, 3}), ones({4})); }, ""),
      mistake<ShapeError>("cat", [] { return cat({ones({2, 3}), ones({2, 4})}, 0); }, ""),
      mistake<ShapeError>("cat_nothing", [] { return cat({}); }, ""),
      mistake<ShapeError>("stack", [] { return stack({ones({2}), ones({3})}); }, ""),
      mistake<ShapeError>("split_sizes", [] { return split(ones({5}), {2, 2}); }, ""),
      mistake<ShapeError>("reshape", [] { return ones({2, 3}).reshape({4}); }, ""),
      mistake<ShapeError>("reshape_two_unknowns", [] { return ones({2, 3}).reshape({-1, -1}); }, ""),
      mistake<ShapeError>("reshape_uneven", [] { return ones({2, 3}).reshape({4, -1}); }, ""),
      mistake<ShapeError>("view_of_transposed", [] { return ones({2, 3}).transpose(0, 1).view({6}); }, ""),
      mistake<ShapeError>("expand", [] { return ones({2, 3}).expand({4, 3}); }, ""),
      mistake<ShapeError>("permute_count", [] { return ones({2, 3}).permute({0}); }, ""),
      mistake<ShapeError>("slice_step", [] { return ones({4}).slice(0, 0, 4, 0); }, ""),
      mistake<ShapeError>("negative_size", [] { return zeros({2, -3}); }, ""),
      mistake<ShapeError>("too_many_elements", [] { return zeros({1LL << 32, 1LL << 32}); }, ""),
      mistake<ShapeError>("too_many_bytes", [] { return zeros({1LL << 31, 1LL << 31}); }, ""),
      mistake<ShapeError>("item_of_many", [] { return ones({2, 3}).item<float>(); }, ""),
      mistake<ShapeError>("values_do_not_fill_shape", [] { return from_vector<float>({1, 2, 3}, {2, 2}); }, ""),
      mistake<ShapeError>("in_place_would_grow", [] { add_(ones({3}), ones({2, 3})); }, ""),
      mistake<ShapeError>("copy_", [] { ones({2}).copy_(ones({3})); }, ""),
      mistake<ShapeError>("max_of_nothing", [] { return max(zeros({0})); }, ""),
      mistake<ShapeError>("layer_norm_weight", [] { return layer_norm(ones({2, 4}), ones({3})); }, ""),
      mistake<ShapeError>("layer_norm_rank_0", [] { return layer_norm(ones({})); }, ""),
      mistake<ShapeError>("cross_entropy_targets", [] { return cross_entropy(ones({4, 7}), ints({1, 2})); }, ""),
      mistake<ShapeError>("mse_loss", [] { return mse_loss(ones({2, 1}), ones({2})); }, ""),
      mistake<ShapeError>("attention_rank",
                          [] { return scaled_dot_product_attention(ones({2, 3}), ones({2, 3}), ones({2, 3})); }, ""),
      mistake<ShapeError>(
          "attention_head_dims",
          [] { return scaled_dot_product_attention(ones({1, 4, 2, 8}), ones({1, 4, 2, 6}), ones({1, 4, 2, 8})); }, ""),
      mistake<ShapeError>(
          "attention_heads",
          [] { return scaled_dot_product_attention(ones({1, 4, 4, 8}), ones({1, 4, 3, 8}), ones({1, 4, 3, 8})); }, ""),
      mistake<ShapeError>("tril_of_vector", [] { return tril(ones({3})); }, ""),
      mistake<ShapeError>("topk_too_many", [] { return topk(ones({3}), 4); }, ""),
      mistake<ShapeError>("gather_rank", [] { return gather(ones({2, 3}), 0, ints({0})); }, ""),
  };
}

std::vector<Mistake> indices() {
  return {
      mistake<IndexError>("select", [] { return ones({2, 3})[2]; }, ""),
      mistake<IndexError>("narrow", [] { return ones({2, 3}).narrow(1, 2, 2); }, ""),
      mistake<IndexError>("dim", [] { return sum(ones({2, 3}), {2}); }, ""),
      mistake<IndexError>("negative_dim", [] { return softmax(ones({2, 3}), -3); }, ""),
      mistake<IndexError>("dim_of_rank_0", [] { return ones({}).size(0); }, ""),
      mistake<IndexError>("dim_twice", [] { return sum(ones({2, 3}), {0, -2}); }, ""),
      mistake<IndexError>("permute_twice", [] { return ones({2, 3}).permute({1, 1}); }, ""),
      mistake<IndexError>("gather", [] { return gather(ones({3}), 0, ints({0, 3})); }, ""),
      mistake<IndexError>("index_select_negative", [] { return index_select(ones({3, 2}), 0, ints({-1})); }, ""),
      mistake<IndexError>("embedding_token", [] { return embedding(ints({1, 50300, 2}), ones({50257, 1})); }, ""),
      mistake<IndexError>("one_hot", [] { return one_hot(ints({0, 5}), 5); }, ""),
      mistake<IndexError>("cross_entropy_label", [] { return cross_entropy(ones({2, 3}), ints({0, 7})); }, ""),
  };
}

std::vector<Mistake> dtypes() {
  return {
      mistake<DtypeError>("data_of_another_type", [] { return ones({2}).data<double>(); }, ""),
      mistake<DtypeError>("to_vector_of_another_type", [] { return arange(3).to_vector<float>(); }, ""),
      mistake<DtypeError>("integer_leaf", [] { return arange(3).requires_grad_(); }, ""),
      mistake<DtypeError>("integer_leaf_from_a_factory", [] { return zeros({2}, {DType::i64, {}, true}); }, ""),
      mistake<DtypeError>("float_index", [] { return index_select(ones({3, 2}), 0, ones({1})); }, ""),
      mistake<DtypeError>("float_tokens", [] { return embedding(ones({1}), ones({3, 2})); }, ""),
      mistake<DtypeError>("float_labels", [] { return cross_entropy(ones({2, 3}), ones({2})); }, ""),
      mistake<DtypeError>("integer_logits", [] { return cross_entropy(arange(6).reshape({2, 3}), ints({0, 1})); }, ""),
      mistake<DtypeError>("condition", [] { return where(ones({2}), ones({2}), ones({2})); }, ""),
      mistake<DtypeError>("linear_mixed", [] { return linear(ones({2, 3}), ones({5, 3}, {DType::f64})); }, ""),
      mistake<DtypeError>("attention_mixed",
                          [] {
                            const Tensor q = ones({1, 2, 1, 4});
                            return scaled_dot_product_attention(q, q.to(DType::f64), q);
                          },
                          ""),
      mistake<DtypeError>("float_into_integers", [] { add_(arange(3), ones({3})); }, ""),
      mistake<DtypeError>("fraction_into_integers", [] { mul_(arange(3), 0.5); }, ""),
      mistake<DtypeError>("sqrt_of_bool", [] { return abs(ones({2}, {DType::boolean})); }, ""),
      mistake<DtypeError>("parameters_as_integers", [] { nn::Linear({.in_features = 2, .out_features = 2}).to(DType::i64); }, ""),
  };
}

std::vector<Mistake> devices() {
  return {
      mistake<DeviceError>("name", [] { return Device::parse("gpu"); }, ""),
      mistake<DeviceError>("cpu_ordinal", [] { return zeros({1}, {.device = {DeviceType::cpu, 1}}); }, ""),
  };
}

std::vector<Mistake> graph() {
  return {
      mistake<AutogradError>("non_scalar", [] { exp(leaf({1, 2})).backward(); }, ""),
      mistake<AutogradError>("no_history", [] { sum(ones({2})).backward(); }, ""),
      mistake<AutogradError>("twice",
                             [] {
                               const Tensor y = sum(exp(leaf({1, 2})));
                               y.backward();
                               y.backward();
                             },
                             ""),
      mistake<AutogradError>("freed_graph",
                             [] {
                               const Tensor h = exp(leaf({1, 2}));
                               sum(h).backward();
                               return grad(sum(h * 2), {h});
                             },
                             ""),
      mistake<AutogradError>("saved_tensor_changed",
                             [] {
                               const Tensor x = leaf({1, 2});
                               const Tensor h = tanh(x);
                               mul_(h, 2);
                               sum(h).backward();
                             },
                             ""),
      mistake<AutogradError>("leaf_in_place", [] { zero_(leaf({1})); }, ""),
      mistake<AutogradError>("optimizing_a_result",
                             [] { return optim::AdamW(std::vector<NamedTensor>{{"h", leaf({1}) * 2}}); }, ""),
      mistake<AutogradError>("op_without_backward", [] { return argmax(leaf({1, 2}), 0); }, ""),
  };
}

std::vector<Mistake> options() {
  return {
      mistake<ConfigError>("dropout", [] { return dropout(ones({2}), 1.5); }, ""),
      mistake<ConfigError>("dropout_nan", [] { return dropout(ones({2}), std::nan("")); }, ""),
      mistake<ConfigError>("label_smoothing",
                           [] { return cross_entropy(ones({2, 3}), ints({0, 1}), {.label_smoothing = 1}); }, ""),
      mistake<ConfigError>("arange_step", [] { return arange(0, 3, 0); }, ""),
      mistake<ConfigError>("randint_range", [] { return randint(3, 3, {2}); }, ""),
      mistake<ConfigError>("norm_order", [] { return norm(ones({2}), 0); }, ""),
      mistake<ConfigError>("kernel_name", [] { return parse_kernel("fast"); }, ""),
      mistake<ConfigError>("threads", [] { set_num_threads(-1); }, ""),
      mistake<ConfigError>("heads", [] { return nn::CausalSelfAttention({.width = 10, .heads = 3}); }, ""),
      mistake<ConfigError>("clip", [] { return optim::clip_grad_norm_({leaf({1})}, -1); }, ""),
      mistake<ConfigError>("parameter_twice",
                           [] {
                             const Tensor w = leaf({1});
                             return optim::AdamW(std::vector<NamedTensor>{{"a", w}, {"b", w}});
                           },
                           ""),
  };
}

std::vector<Mistake> others() {
  return {
      mistake<Error>("undefined_tensor", [] { return Tensor().shape(); }, ""),
      mistake<KernelUnavailable>(
          "kernel_that_does_not_exist",
          [] { return layer_norm(ones({2, 4}), {}, {}, 1e-5, Kernel::flash); }, ""),
      mistake<IoError>("missing_file", [] { return SafetensorsFile::open("/nonexistent/model.safetensors"); }, ""),
  };
}

INSTANTIATE_TEST_SUITE_P(Shapes, Mistakes, ::testing::ValuesIn(shapes()), name_of);
INSTANTIATE_TEST_SUITE_P(Indices, Mistakes, ::testing::ValuesIn(indices()), name_of);
INSTANTIATE_TEST_SUITE_P(Dtypes, Mistakes, ::testing::ValuesIn(dtypes()), name_of);
INSTANTIATE_TEST_SUITE_P(Devices, Mistakes, ::testing::ValuesIn(devices()), name_of);
INSTANTIATE_TEST_SUITE_P(Graph, Mistakes, ::testing::ValuesIn(graph()), name_of);
INSTANTIATE_TEST_SUITE_P(Options, Mistakes, ::testing::ValuesIn(options()), name_of);
INSTANTIATE_TEST_SUITE_P(Others, Mistakes, ::testing::ValuesIn(others()), name_of);

}  // namespace
}  // namespace trinix
