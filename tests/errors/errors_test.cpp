// The texts that users get for their mistakes, word for word: type, op in brackets, both shapes or dtypes, what to do.
// Errors of file formats, of options of the program and of damaged checkpoints stand with their own tests.
#include "support/errors.h"

#include "support/values.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/autograd/record.h>
#include <trinix/trinix.h>

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
      mistake<ShapeError>(
          "broadcast",
          [] {
            return ones({2, 3}) + ones({4});
          },
          "[add] shapes [2, 3] and [4] do not broadcast: dimension 1 is 3 in one and 4 in the other; they must be "
          "equal or 1"),
      mistake<ShapeError>(
          "matmul_inner",
          [] {
            return matmul(ones({2, 3}), ones({4, 5}));
          },
          "[matmul] shapes [2, 3] and [4, 5] do not fit: the last dim of the first must equal the second last dim of "
          "the second"),
      mistake<ShapeError>(
          "matmul_rank_0", [] { return matmul(ones({}), ones({2})); },
          "[matmul] shapes [] and [2]: both operands need at least one dim; use * for a product with a number"),
      mistake<ShapeError>(
          "matmul_batch",
          [] {
            return matmul(ones({2, 3, 4}), ones({3, 4, 5}));
          },
          "[matmul] shapes [2, 3, 4] and [3, 4, 5] do not fit: the batch dims 2 and 3 must be equal or 1"),
      mistake<ShapeError>(
          "linear_features",
          [] {
            return linear(ones({2, 3}), ones({5, 4}));
          },
          "[linear] an input of shape [2, 3] does not fit a weight of shape [5, 4]: the input's last dim must equal "
          "the weight's dim 1, of shape (out, in)"),
      mistake<ShapeError>(
          "linear_bias",
          [] {
            return linear(ones({2, 3}), ones({5, 3}), ones({4}));
          },
          "[linear] the bias has shape [4], but the weight of shape [5, 3] makes 5 outputs"),
      mistake<ShapeError>(
          "cat",
          [] {
            return cat({ones({2, 3}), ones({2, 4})}, 0);
          },
          "[cat] tensor 1 has shape [2, 4], tensor 0 has [2, 3]; along dim 0 they may differ, elsewhere not"),
      mistake<ShapeError>(
          "cat_nothing", [] { return cat({}); }, "[cat] takes at least one tensor, got none"),
      mistake<ShapeError>(
          "stack",
          [] {
            return stack({ones({2}), ones({3})});
          },
          "[stack] tensor 1 has shape [3], tensor 0 has [2]; all shapes must be equal"),
      mistake<ShapeError>(
          "split_sizes",
          [] {
            return split(ones({5}), {2, 2});
          },
          "[split] sizes [2, 2] do not add up to 5, the size of dim 0 of shape [5]"),
      mistake<ShapeError>(
          "reshape",
          [] {
            return ones({2, 3}).reshape({4});
          },
          "[reshape] shape [2, 3] has 6 elements, but [4] has 4"),
      mistake<ShapeError>(
          "reshape_two_unknowns",
          [] {
            return ones({2, 3}).reshape({-1, -1});
          },
          "[reshape] [-1, -1] has more than one -1"),
      mistake<ShapeError>(
          "reshape_uneven",
          [] {
            return ones({2, 3}).reshape({4, -1});
          },
          "[reshape] 6 elements of shape [2, 3] cannot be arranged as [4, -1]"),
      mistake<ShapeError>(
          "view_of_transposed",
          [] {
            return ones({2, 3}).transpose(0, 1).view({6});
          },
          "[view] shape [3, 2] with strides [1, 3] cannot be seen as [6] without a copy; use reshape()"),
      mistake<ShapeError>(
          "expand",
          [] {
            return ones({2, 3}).expand({4, 3});
          },
          "[expand] shape [2, 3] cannot become [4, 3]: dim 0 is 2 and only dims of size 1 are repeated"),
      mistake<ShapeError>(
          "permute_count",
          [] {
            return ones({2, 3}).permute({0});
          },
          "[permute] [0] names 1 dims, the tensor of shape [2, 3] has 2"),
      mistake<ShapeError>(
          "slice_step", [] { return ones({4}).slice(0, 0, 4, 0); }, "[slice] the step must be at least 1, got 0"),
      mistake<ShapeError>(
          "negative_size",
          [] {
            return zeros({2, -3});
          },
          "[shape] negative dimension in [2, -3]"),
      mistake<ShapeError>(
          "too_many_elements",
          [] {
            return zeros({1LL << 32, 1LL << 32});
          },
          "[shape] the number of elements of [4294967296, 4294967296] does not fit in 63 bits"),
      mistake<ShapeError>(
          "too_many_bytes",
          [] {
            return zeros({1LL << 31, 1LL << 31});
          },
          "[empty] 4611686018427387904 elements of f32 do not fit in 63 bits of bytes"),
      mistake<ShapeError>(
          "item_of_many",
          [] {
            return ones({2, 3}).item<float>();
          },
          "[item] the tensor of shape [2, 3] has 6 elements, not one; index it first"),
      mistake<ShapeError>(
          "values_do_not_fill_shape",
          [] {
            return from_vector<float>({1, 2, 3}, {2, 2});
          },
          "[from_span] 3 values were given for shape [2, 2], which has 4"),
      mistake<ShapeError>(
          "in_place_would_grow",
          [] {
            add_(ones({3}), ones({2, 3}));
          },
          "[add_] shape [2, 3] does not broadcast to [3], the shape of the tensor that is changed in place"),
      mistake<ShapeError>(
          "copy_", [] { ones({2}).copy_(ones({3})); },
          "[copy_] shapes [2] and [3] do not broadcast: dimension 0 is 2 in one and 3 in the other; they must be equal "
          "or 1"),
      mistake<ShapeError>(
          "max_of_nothing", [] { return max(zeros({0})); },
          "[max] shape [0] has no elements along the reduced dims to choose from"),
      mistake<ShapeError>(
          "layer_norm_weight",
          [] {
            return layer_norm(ones({2, 4}), ones({3}));
          },
          "[layer_norm] the weight has shape [3], but the last dim of the input of shape [2, 4] asks for [4]"),
      mistake<ShapeError>(
          "layer_norm_rank_0", [] { return layer_norm(ones({})); },
          "[layer_norm] the input has no dims; the last dim is normalised, so give it one"),
      mistake<ShapeError>(
          "cross_entropy_targets",
          [] {
            return cross_entropy(ones({4, 7}), ints({1, 2}));
          },
          "[cross_entropy] logits of shape [4, 7] and targets of shape [2] do not fit: for targets (...) the logits "
          "must be (..., V) with V > 0"),
      mistake<ShapeError>(
          "mse_loss",
          [] {
            return mse_loss(ones({2, 1}), ones({2}));
          },
          "[mse_loss] shapes [2, 1] and [2] differ; broadcasting here would hide a mistake, so expand() one of them if "
          "that is meant"),
      mistake<ShapeError>(
          "attention_rank",
          [] {
            return scaled_dot_product_attention(ones({2, 3}), ones({2, 3}), ones({2, 3}));
          },
          "[scaled_dot_product_attention] q, k and v must be (batch, length, heads, depth), got [2, 3], [2, 3] and [2, "
          "3]"),
      mistake<ShapeError>(
          "attention_head_dims",
          [] {
            return scaled_dot_product_attention(ones({1, 4, 2, 8}), ones({1, 4, 2, 6}), ones({1, 4, 2, 8}));
          },
          "[scaled_dot_product_attention] shapes [1, 4, 2, 8], [1, 4, 2, 6] and [1, 4, 2, 8] do not fit: q (B, Sq, H, "
          "D), k (B, Sk, Hkv, D), v (B, Sk, Hkv, Dv)"),
      mistake<ShapeError>(
          "attention_heads",
          [] {
            return scaled_dot_product_attention(ones({1, 4, 4, 8}), ones({1, 4, 3, 8}), ones({1, 4, 3, 8}));
          },
          "[scaled_dot_product_attention] 4 query heads cannot share 3 key heads evenly (shapes [1, 4, 4, 8] and [1, "
          "4, 3, 8])"),
      mistake<ShapeError>(
          "tril_of_vector", [] { return tril(ones({3})); },
          "[tril] takes a matrix or a batch of them, got a tensor of shape [3]"),
      mistake<ShapeError>(
          "topk_too_many", [] { return topk(ones({3}), 4); },
          "[topk] 4 elements were asked for along dim 0 of shape [3]"),
      mistake<ShapeError>(
          "gather_rank",
          [] {
            return gather(ones({2, 3}), 0, ints({0}));
          },
          "[gather] an index of shape [1] does not fit a tensor of shape [2, 3]: it needs as many dims, and no dim but "
          "0 may be larger"),
  };
}

std::vector<Mistake> indices() {
  return {
      mistake<IndexError>(
          "select",
          [] {
            return ones({2, 3})[2];
          },
          "[select] index 2 is out of range in dim 0 of shape [2, 3]"),
      mistake<IndexError>(
          "narrow",
          [] {
            return ones({2, 3}).narrow(1, 2, 2);
          },
          "[narrow] 2 elements from 2 are not in dim 1 of shape [2, 3]"),
      mistake<IndexError>(
          "dim",
          [] {
            return sum(ones({2, 3}), {2});
          },
          "[sum] dim 2 is out of range for a tensor of rank 2: expected -2 to 1"),
      mistake<IndexError>(
          "negative_dim",
          [] {
            return softmax(ones({2, 3}), -3);
          },
          "[softmax] dim -3 is out of range for a tensor of rank 2: expected -2 to 1"),
      mistake<IndexError>(
          "dim_of_rank_0", [] { return ones({}).size(0); }, "[size] dim 0 was asked for, but the tensor has no dims"),
      mistake<IndexError>(
          "dim_twice",
          [] {
            return sum(ones({2, 3}), {0, -2});
          },
          "[sum] dim -2 is given twice in [0, -2]"),
      mistake<IndexError>(
          "permute_twice",
          [] {
            return ones({2, 3}).permute({1, 1});
          },
          "[permute] dim 1 is given twice in [1, 1]"),
      mistake<IndexError>(
          "gather",
          [] {
            return gather(ones({3}), 0, ints({0, 3}));
          },
          "[gather] index 3 at position 1 is out of range for 3 elements of dim 0"),
      mistake<IndexError>(
          "index_select_negative",
          [] {
            return index_select(ones({3, 2}), 0, ints({-1}));
          },
          "[index_select] index -1 at position 0 is out of range for 3 elements of dim 0"),
      mistake<IndexError>(
          "embedding_token",
          [] {
            return embedding(ints({1, 50300, 2}), ones({50257, 1}));
          },
          "[embedding] index 50300 at position 1 is out of range for 50257 rows"),
      mistake<IndexError>(
          "one_hot",
          [] {
            return one_hot(ints({0, 5}), 5);
          },
          "[one_hot] index 5 at position 1 is out of range for 5 classes"),
      mistake<IndexError>(
          "cross_entropy_label",
          [] {
            return cross_entropy(ones({2, 3}), ints({0, 7}));
          },
          "[cross_entropy] target 7 at [1] is not in [0, 3), the classes of the logits, nor is it ignore_index (-100)"),
  };
}

std::vector<Mistake> dtypes() {
  return {
      mistake<DtypeError>(
          "data_of_another_type", [] { return ones({2}).data<double>(); },
          "[data] the tensor holds f32 but was read as f64: convert it with to()"),
      mistake<DtypeError>(
          "to_vector_of_another_type", [] { return arange(3).to_vector<float>(); },
          "[to_vector] the tensor holds i64 but was read as f32: convert it with to()"),
      mistake<DtypeError>(
          "integer_leaf", [] { return arange(3).requires_grad_(); },
          "[requires_grad_] a tensor of i64 cannot require grad: only floating-point tensors can"),
      mistake<DtypeError>(
          "integer_leaf_from_a_factory",
          [] {
            return zeros({2}, {DType::i64, {}, true});
          },
          "[requires_grad_] a tensor of i64 cannot require grad: only floating-point tensors can"),
      mistake<DtypeError>(
          "float_index",
          [] {
            return index_select(ones({3, 2}), 0, ones({1}));
          },
          "[index_select] the index must be i64 or i32, got f32 of shape [1]; convert it with to()"),
      mistake<DtypeError>(
          "float_tokens",
          [] {
            return embedding(ones({1}), ones({3, 2}));
          },
          "[embedding] the index must be i64 or i32, got f32 of shape [1]; convert it with to()"),
      mistake<DtypeError>(
          "float_labels",
          [] {
            return cross_entropy(ones({2, 3}), ones({2}));
          },
          "[cross_entropy] the targets are f32 of shape [2]; class indices must be i64 or i32"),
      mistake<DtypeError>(
          "integer_logits",
          [] {
            return cross_entropy(arange(6).reshape({2, 3}), ints({0, 1}));
          },
          "[cross_entropy] takes floating-point tensors, got i64 of shape [2, 3]; convert it with to()"),
      mistake<DtypeError>(
          "condition", [] { return where(ones({2}), ones({2}), ones({2})); },
          "[where] the condition must be bool, got f32 of shape [2]; compare it with a number first"),
      mistake<DtypeError>(
          "linear_mixed",
          [] {
            return linear(ones({2, 3}), ones({5, 3}, {DType::f64}));
          },
          "[linear] the input is f32, but the weight is f64; convert one with to()"),
      mistake<DtypeError>(
          "attention_mixed",
          [] {
            const Tensor q = ones({1, 2, 1, 4});
            return scaled_dot_product_attention(q, q.to(DType::f64), q);
          },
          "[scaled_dot_product_attention] q is f32, k is f64; convert one with to()"),
      mistake<DtypeError>(
          "float_into_integers", [] { add_(arange(3), ones({3})); },
          "[add_] a f32 result does not fit in place into a tensor of i64"),
      mistake<DtypeError>(
          "fraction_into_integers", [] { mul_(arange(3), 0.5); },
          "[mul_] a floating-point number does not fit in place into a tensor of i64"),
      mistake<DtypeError>(
          "sqrt_of_bool", [] { return abs(ones({2}, {DType::boolean})); },
          "[abs] takes numbers, got bool of shape [2]; convert it with to()"),
      mistake<DtypeError>(
          "parameters_as_integers", [] { nn::Linear({.in_features = 2, .out_features = 2}).to(DType::i64); },
          "[module] parameters cannot be converted to i64: only to f64, f32, bf16 and f16"),
  };
}

std::vector<Mistake> devices() {
  return {
      mistake<DeviceError>(
          "name", [] { return Device::parse("gpu"); }, "[device] unknown device 'gpu': write cpu, cuda or cuda:N"),
      mistake<DeviceError>(
          "cpu_ordinal",
          [] {
            return zeros({1}, {.device = {DeviceType::cpu, 1}});
          },
          "[device] cpu:1 was asked for, but there is 1, numbered from 0"),
  };
}

std::vector<Mistake> graph() {
  return {
      mistake<AutogradError>(
          "non_scalar",
          [] {
            exp(leaf({1, 2})).backward();
          },
          "[backward] the tensor has shape [2]; without a gradient argument only a one-element tensor can be "
          "differentiated: reduce it first, or pass a gradient"),
      mistake<AutogradError>(
          "no_history", [] { sum(ones({2})).backward(); },
          "[backward] the tensor of shape [] does not require grad and was not computed from one that does, so there "
          "is nothing to differentiate"),
      mistake<AutogradError>(
          "twice",
          [] {
            const Tensor y = sum(exp(leaf({1, 2})));
            y.backward();
            y.backward();
          },
          "[backward] the graph through 'sum' was already used by an earlier backward, which freed what it had saved; "
          "pass retain_graph = true to the first one"),
      mistake<AutogradError>(
          "freed_graph",
          [] {
            const Tensor x = leaf({1, 2});
            const Tensor h = exp(x);
            sum(h).backward();
            return grad(sum(h * 2), {x});
          },
          "[grad] the graph through 'exp' was already used by an earlier backward, which freed what it had saved; pass "
          "retain_graph = true to the first one"),
      mistake<AutogradError>(
          "saved_tensor_changed",
          [] {
            const Tensor x = leaf({1, 2});
            const Tensor h = exp(x);
            mul_(h, 2);
            sum(h).backward();
          },
          "[backward] a tensor of shape [2] saved by 'exp' for its backward was changed in place by 'mul_' since; use "
          "the form that is not in place, or clone() first"),
      mistake<AutogradError>(
          "leaf_in_place", [] { zero_(leaf({1})); },
          "[zero_] a leaf that requires grad cannot be changed in place while gradients are recorded; use NoGrad if "
          "that is what you want"),
      mistake<AutogradError>(
          "optimizing_a_result",
          [] {
            return optim::AdamW(std::vector<NamedTensor>{{"h", leaf({1}) * 2}});
          },
          "[AdamW] the parameter 'h' was computed by an op: only leaves can be optimized"),
      mistake<AutogradError>(
          "op_without_backward",
          [] {
            record_no_backward("argmax", {leaf({1, 2})});
          },
          "[argmax] an input requires grad, but 'argmax' has no backward; detach() the input or use NoGrad if its "
          "gradient is not wanted"),
      mistake<AutogradError>(
          "gradient_of_an_unused_tensor",
          [] {
            return grad(sum(leaf({1})), {leaf({1, 2})});
          },
          "[grad] the outputs do not depend on input 0 of shape [2]; pass allow_unused = true if that is expected"),
  };
}

std::vector<Mistake> options() {
  return {
      mistake<ConfigError>(
          "dropout", [] { return dropout(ones({2}), 1.5); },
          "[dropout] the probability of dropping must be between 0 and 1, got 1.5"),
      mistake<ConfigError>(
          "dropout_nan", [] { return dropout(ones({2}), std::numeric_limits<double>::quiet_NaN()); },
          "[dropout] the probability of dropping must be between 0 and 1, got nan"),
      mistake<ConfigError>(
          "label_smoothing",
          [] {
            return cross_entropy(ones({2, 3}), ints({0, 1}), {.label_smoothing = 1});
          },
          "[cross_entropy] label_smoothing is 1; it must be in [0, 1)"),
      mistake<ConfigError>(
          "arange_step", [] { return arange(0, 3, 0); }, "[arange] the step must not be 0"),
      mistake<ConfigError>(
          "randint_range", [] { return randint(3, 3, {2}); }, "[randint] the range from 3 to 3 (excluded) is empty"),
      mistake<ConfigError>(
          "norm_order", [] { return norm(ones({2}), 0); }, "[norm] p must be positive, got 0"),
      mistake<ConfigError>(
          "kernel_name", [] { return parse_kernel("fast"); },
          "[kernel] unknown kernel 'fast': one of automatic, flash, fused, reference"),
      mistake<ConfigError>(
          "threads", [] { set_num_threads(-1); }, "[set_num_threads] -1 threads were asked for; 0 means the default"),
      mistake<ConfigError>(
          "heads", [] { return nn::CausalSelfAttention({.embed_dim = 10, .num_heads = 3}); },
          "[CausalSelfAttention] 3 heads do not divide an embed_dim of 10: choose other numbers, or give head_dim"),
      mistake<ConfigError>(
          "clip", [] { return optim::clip_grad_norm_({leaf({1})}, -1); },
          "[clip_grad_norm_] max_norm is -1, but must be positive"),
      mistake<ConfigError>(
          "parameter_twice",
          [] {
            const Tensor w = leaf({1});
            return optim::AdamW(std::vector<NamedTensor>{{"a", w}, {"b", w}});
          },
          "[AdamW] the parameter 'b' is given twice: it is 'a' of group 0 too"),
  };
}

std::vector<Mistake> others() {
  return {
      mistake<Error>(
          "undefined_tensor", [] { return Tensor().shape(); },
          "[tensor] an undefined tensor was used; give it a value first (for example with zeros())"),
      mistake<KernelUnavailable>(
          "kernel_that_does_not_exist",
          [] {
            return layer_norm(ones({2, 4}), {}, {}, 1e-5, Kernel::flash);
          },
          "[layer_norm] no flash kernel on cpu takes these arguments\n  cpu (fused): is of another kind"),
      mistake<FormatError>(
          "text_instead_of_weights",
          [] {
            const auto path = std::filesystem::temp_directory_path() / "trinix-errors-test.safetensors";
            std::ofstream(path) << "no";
            return SafetensorsFile::open(path);
          },
          "[safetensors] '/tmp/trinix-errors-test.safetensors': header length missing: the file has 2 bytes, the "
          "length alone takes 8"),
      mistake<IoError>(
          "missing_file", [] { return SafetensorsFile::open("/nonexistent/model.safetensors"); },
          "[safetensors] cannot open '/nonexistent/model.safetensors': No such file or directory"),
  };
}

TEST(OutOfMemoryError, SaysWhatWasAskedForAndTheProcessGoesOn) {
  const std::string text = message_of<OutOfMemory>([] { static_cast<void>(empty({1LL << 50})); });
  EXPECT_THAT(text, ::testing::MatchesRegex("\\[allocate\\] 4503599627370496 bytes were asked for on cpu; about [0-9]+ "
                                            "bytes are free, [0-9]+ are in use by tensors and [0-9]+ were at the peak; "
                                            "use a smaller batch"));
  EXPECT_EQ(floats(ones({2}) + 1), (Floats{2, 2}));
}

TEST(DeviceErrorText, DeviceThatThisBuildOrMachineLacks) {
  if (is_available({DeviceType::cuda, 0})) GTEST_SKIP() << "this machine has a CUDA device";
  const std::string text = message_of<DeviceError>([] {
    static_cast<void>(zeros({1}, {.device = {DeviceType::cuda, 0}}));
  });
  EXPECT_THAT(text,
              ::testing::AnyOf("[device] cuda:0 was asked for, but this build has no backend for it: build with "
                               "TRINIX_CUDA=ON",
                               "[device] cuda:0 was asked for, but the machine has no CUDA card",
                               ::testing::MatchesRegex("\\[device\\] cuda:0 was asked for, but the machine has no "
                                                       "NVIDIA driver, or one older than CUDA [0-9.]+ needs")));
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
