// The texts that users get for their mistakes with attention, word for word.
#include "support/errors.h"

#include <functional>
#include <gtest/gtest.h>
#include <limits>

#include <trinix/trinix.h>

namespace trinix {
namespace {

using namespace trinix::testing;

struct AttentionMistake {
  std::string message;
  std::string expected;
};

void expect(const std::vector<AttentionMistake>& mistakes) {
  for (const AttentionMistake& m : mistakes) EXPECT_EQ(m.message, m.expected);
}

/// Attention of 5 queries to 7 keys with 4 heads in a batch of 2.
template <class E>
std::string with(const AttentionOptions& options) {
  const Tensor q = zeros({2, 5, 4, 8}), k = zeros({2, 7, 2, 8});
  return message_of<E>([&] { static_cast<void>(scaled_dot_product_attention(q, k, k, options)); });
}

TEST(AttentionMistakes, Numbers) {
  const std::string op = "[scaled_dot_product_attention] ";
  expect({
      {with<ConfigError>({.window_left = -2}),
       op + "the window is -2 keys to the left and -1 to the right; both must be -1 (no limit) or more"},
      {with<ConfigError>({.window_left = 3, .window_right = -7}),
       op + "the window is 3 keys to the left and -7 to the right; both must be -1 (no limit) or more"},
      {with<ConfigError>({.dropout = 1.5}), op + "dropout is 1.5; it must be in [0, 1]"},
      {with<ConfigError>({.dropout = std::numeric_limits<double>::quiet_NaN()}),
       op + "dropout is nan; it must be in [0, 1]"},
      {with<ConfigError>({.scale = std::numeric_limits<double>::infinity()}), op + "scale is inf; it must be finite"},
  });
}

TEST(AttentionMistakes, Masks) {
  const std::string op = "[scaled_dot_product_attention] ";
  const auto wrong = [&](const std::string& shape) {
    return op + "the mask has shape " + shape +
           "; for q [2, 5, 4, 8] and k [2, 7, 2, 8] it must be [5, 7] (Sq, Sk), [2, 5, 7] (B, Sq, Sk) or [2, 4, 5, 7] "
           "(B, H, Sq, Sk), where sizes of 1 are shared";
  };
  expect({
      {with<ShapeError>({.mask = zeros({7})}), wrong("[7]")},
      {with<ShapeError>({.mask = zeros({5, 6})}), wrong("[5, 6]")},
      {with<ShapeError>({.mask = zeros({4, 5, 7})}), wrong("[4, 5, 7]")},
      {with<ShapeError>({.mask = zeros({2, 2, 5, 7})}), wrong("[2, 2, 5, 7]")},
      {with<ShapeError>({.mask = zeros({1, 2, 4, 5, 7})}), wrong("[1, 2, 4, 5, 7]")},
      {with<DtypeError>({.mask = zeros({5, 7}, {DType::i64})}),
       op + "the mask is i64; it must be bool (true: may be seen), f32 or the dtype of q, f32"},
      {with<DtypeError>({.mask = zeros({5, 7}, {DType::bf16})}),
       op + "the mask is bf16; it must be bool (true: may be seen), f32 or the dtype of q, f32"},
  });
}

TEST(AttentionMistakes, Slopes) {
  const std::string op = "[scaled_dot_product_attention] ";
  expect({
      {with<ShapeError>({.alibi_slopes = ones({2})}),
       op + "the ALiBi slopes have shape [2]; it must be [4] (heads) or [2, 4] (batch, heads)"},
      {with<ShapeError>({.alibi_slopes = ones({3, 4})}),
       op + "the ALiBi slopes have shape [3, 4]; it must be [4] (heads) or [2, 4] (batch, heads)"},
      {with<DtypeError>({.alibi_slopes = ones({4}, {DType::f64})}), op + "the ALiBi slopes are f64; they must be f32"},
      {with<AutogradError>({.alibi_slopes = ones({4}).requires_grad_()}),
       op + "the ALiBi slopes require a gradient, but none is computed for them; detach() them"},
  });
}

TEST(AttentionMistakes, Sequences) {
  const std::string op = "[scaled_dot_product_attention_varlen] ";
  const auto starts = [](const std::vector<std::int32_t>& values) { return from_vector(values); };
  const Tensor q = zeros({9, 4, 8}), k = zeros({11, 2, 8});
  const Tensor good_q = starts({0, 4, 9}), good_k = starts({0, 6, 11});
  const auto call = [&]<class E>(const Tensor& query_starts, const Tensor& key_starts, std::int64_t longest_query,
                                 std::int64_t longest_key, const AttentionOptions& options = {}) {
    return message_of<E>([&] {
      static_cast<void>(
          scaled_dot_product_attention_varlen(q, k, k, query_starts, key_starts, longest_query, longest_key, options));
    });
  };
  expect({
      {call.operator()<DtypeError>(from_vector(std::vector<std::int64_t>{0, 4, 9}), good_k, 5, 6),
       op + "the query starts are i64; they must be i32"},
      {call.operator()<ShapeError>(good_q, zeros({1, 3}, {DType::i32}), 5, 6),
       op + "the key starts have shape [1, 3]; it must be [sequences + 1]"},
      {call.operator()<ShapeError>(good_q, starts({0, 11}), 5, 11),
       op + "there are 3 query starts and 2 key starts; both must be one more than the sequences"},
      {call.operator()<ConfigError>(starts({0, 4, 8}), good_k, 5, 6),
       op + "the query starts go from 0 to 8; they must go from 0 to 9, the number of query positions"},
      {call.operator()<ConfigError>(starts({1, 4, 9}), good_k, 5, 6),
       op + "the query starts go from 1 to 9; they must go from 0 to 9, the number of query positions"},
      {call.operator()<ConfigError>(good_q, starts({0, 12, 11}), 5, 12),
       op + "the key starts fall from 12 to 11 at sequence 1; they must never fall"},
      {call.operator()<ConfigError>(good_q, good_k, 4, 6),
       op + "sequence 1 has 5 query positions, more than the longest length given, 4"},
      {call.operator()<ConfigError>(good_q, good_k, 5, -1),
       op + "the longest lengths are 5 queries and -1 keys; neither can be negative"},
      {call.operator()<ConfigError>(good_q, good_k, 5, 6, {.mask = zeros({9, 11})}),
       op + "sequences of several lengths take no mask"},
      {call.operator()<ShapeError>(good_q, good_k, 5, 6, {.alibi_slopes = zeros({3, 4})}),
       op + "the ALiBi slopes have shape [3, 4]; it must be [4] (heads) or [2, 4] (batch, heads)"},
      {message_of<ShapeError>([&] {
         static_cast<void>(scaled_dot_product_attention_varlen(zeros({1, 9, 4, 8}), k, k, good_q, good_k, 5, 6));
       }),
       op + "q, k and v must be (total, heads, depth), got [1, 9, 4, 8], [11, 2, 8] and [11, 2, 8]"},
      {message_of<ShapeError>([&] {
         static_cast<void>(scaled_dot_product_attention_varlen(q, k, zeros({10, 2, 8}), good_q, good_k, 5, 6));
       }),
       op + "shapes [9, 4, 8], [11, 2, 8] and [10, 2, 8] do not fit: q (total, H, D), k (total, Hkv, D), v (total, "
            "Hkv, Dv)"},
  });
}

TEST(AttentionMistakes, PackedProjections) {
  const auto call = [](const Shape& shape, std::int64_t heads, std::int64_t kv_heads) {
    return message_of<ShapeError>(
        [&] { static_cast<void>(packed_self_attention(zeros(shape), heads, kv_heads, AttentionOptions{})); });
  };
  expect({
      {call({2, 5, 64}, 6, 4), "[packed_self_attention] 6 query heads cannot share 4 key heads evenly"},
      {call({2, 5, 64}, 4, 0), "[packed_self_attention] 4 query heads cannot share 0 key heads evenly"},
      {call({2, 5, 60}, 4, 2),
       "[packed_self_attention] shape [2, 5, 60] is not (B, S, (H + 2*Hkv) * D) with 4 query heads and 2 key heads"},
      {call({5, 64}, 4, 2),
       "[packed_self_attention] shape [5, 64] is not (B, S, (H + 2*Hkv) * D) with 4 query heads and 2 key heads"},
  });
}

TEST(AttentionMistakes, AMaskChangedSinceIsNoticed) {
  Tensor q = ones({1, 3, 1, 4}).requires_grad_();
  const Tensor mask = zeros({3, 3});
  const Tensor out = scaled_dot_product_attention(q, q, q, {.mask = mask});
  add_(mask, 1);
  EXPECT_THROW(sum(out).backward(), AutogradError);
}

}  // namespace
}  // namespace trinix
